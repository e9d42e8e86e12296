// Scores video files by rewards.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/progress.h"
#include "rl/rewards/reward_list.h"

namespace ospnext {

struct FileScoringConfig {
  std::vector<std::string> reward;
  RewardSettings scoring;
  std::vector<std::string> videos;
  std::string prompts;
  double fps = 0;
  int64_t num_frames = 0;

  // Throws InputError naming field, value and rule.
  void check() const;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("reward", reward, reward_help().c_str());
    scoring.visit(field);
    field(
        "videos", videos,
        "video, folder of PNG images, or folder of such videos, ordered by name; may be repeated");
    field(
        "prompts", prompts,
        "file of prompts, one a line, one for each video; without it, `videos` is one folder with "
        "NAME.txt beside NAME.mp4 or with metadata.jsonl, .json or .csv, or such a list");
    field("fps", fps, "frames a second that are taken from a video; 0: all that it has");
    field("num_frames", num_frames, "the first so many of them; 0: all");
  }
};

struct ScoredFile {
  std::string video, prompt;
  std::vector<VideoScore> scores;  // by each reward
};

struct FileScores {
  std::vector<std::string> rewards;  // their names
  std::vector<ScoredFile> files;
};

// Reads and scores one video after the other. Throws InputError for files that cannot be read,
// before any video is scored where they can be told by their names; RunError if no video got a
// score; Cancelled. Memory: the frames of one video.
FileScores score_files(const FileScoringConfig& config, Progress& progress,
                       const CancellationToken& cancel);

// {"scores": [{"video": V, "prompt": P, REWARD: {PART: number, ...} or {"error": why}, ...}, ...]}
nlohmann::ordered_json scores_to_json(const FileScores& scores);
// A line of names, video, prompt, REWARD.PART, ..., error; then a line for each video. RFC 4180.
std::string scores_to_csv(const FileScores& scores);
// Aligned lines for people: each video with its `total` by each reward, then the means.
std::string score_table(const FileScores& scores);

}  // namespace ospnext
