#include "rl/file_scores.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <set>

#include "core/error.h"
#include "core/number_check.h"
#include "data/clip_folder.h"
#include "engine/prompts.h"
#include "io/video_reader.h"

namespace ospnext {
namespace {

using nlohmann::ordered_json;

std::vector<CaptionedVideo> videos_of(const FileScoringConfig& config) {
  if (config.videos.empty()) {
    throw InputError("`videos`: missing, expected a video or a folder of videos");
  }
  if (config.prompts.empty()) {
    if (config.videos.size() > 1) {
      throw InputError("`prompts`: missing, expected a file with a prompt for each video");
    }
    return list_clip_folder(config.videos.front());
  }
  std::vector<CaptionedVideo> videos;
  for (const std::string& place : config.videos) {
    for (const auto& file : list_videos(place)) {
      videos.push_back({.name = file.string(), .file = file, .caption = ""});
    }
  }
  const std::vector<std::string> prompts = read_prompts(config.prompts);
  if (prompts.size() != videos.size()) {
    throw InputError("`prompts`: found " + std::to_string(prompts.size()) + " in " +
                     config.prompts + ", expected " + std::to_string(videos.size()) +
                     ", one for each video");
  }
  for (size_t i = 0; i < videos.size(); ++i) {
    videos[i].caption = prompts[i];
  }
  return videos;
}

std::string number_text(double number) {
  return nlohmann::json(number).dump();
}

std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == text.npos) {
    return text;
  }
  std::string cell = "\"";
  for (const char c : text) {
    cell += c == '"' ? "\"\"" : std::string(1, c);
  }
  return cell + "\"";
}

std::string csv_line(const std::vector<std::string>& cells) {
  std::string line;
  for (const std::string& cell : cells) {
    line += (line.empty() ? "" : ",") + csv_cell(cell);
  }
  return line + "\r\n";
}

// The first column to the left, the others to the right.
std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths(rows.front().size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string blanks(widths[i] - row[i].size(), ' ');
      text += i == 0 ? row[i] + blanks : "  " + blanks + row[i];
    }
    text += "\n";
  }
  return text;
}

std::string total_text(double total) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", total);
  return text;
}

}  // namespace

void FileScoringConfig::check() const {
  constexpr int64_t kMost = 1'000'000'000;
  parse_rewards(reward, scoring);
  check_range("`fps`", fps, 0.0, 1000.0);
  check_range("`num_frames`", num_frames, int64_t{0}, kMost);
}

FileScores score_files(const FileScoringConfig& config, Progress& progress,
                       const CancellationToken& cancel) {
  config.check();
  const auto rewards = parse_rewards(config.reward, config.scoring);
  const std::vector<CaptionedVideo> videos = videos_of(config);
  const int64_t most =
      config.num_frames > 0 ? config.num_frames : std::numeric_limits<int64_t>::max();
  FileScores result;
  for (const WeightedReward& reward : rewards) {
    result.rewards.push_back(reward.name);
  }
  std::string first_error;
  bool has_score = false;
  progress.begin("scoring", static_cast<int64_t>(videos.size()));
  for (const CaptionedVideo& video : videos) {
    cancel.check();
    const at::Tensor frames = read_frames(video.file, {.fps = config.fps}, most);  // [F, H, W, 3]
    const at::Tensor pixels =
        frames.permute({3, 0, 1, 2}).unsqueeze(0).to(at::kFloat) / 255;  // [1, 3, F, H, W]
    ScoredFile file{.video = video.name, .prompt = video.caption, .scores = {}};
    for (const WeightedReward& reward : rewards) {
      file.scores.push_back(reward.reward->score(pixels, {video.caption}, cancel).front());
      VideoScore& score = file.scores.back();
      if (score.error.empty()) {
        has_score = true;
        score.parts["total"] = score.parts.at(reward.part);
      } else if (first_error.empty()) {
        first_error = reward.name + ": " + score.error;
      }
    }
    result.files.push_back(std::move(file));
    progress.step();
  }
  progress.end();
  if (!has_score) {
    throw RunError("none of the videos got a score: " + first_error);
  }
  return result;
}

ordered_json scores_to_json(const FileScores& scores) {
  const auto& [names, files] = scores;
  ordered_json list = ordered_json::array();
  for (const ScoredFile& file : files) {
    ordered_json entry = {{"video", file.video}, {"prompt", file.prompt}};
    for (size_t k = 0; k < names.size(); ++k) {
      const VideoScore& score = file.scores[k];
      entry[names[k]] =
          score.error.empty() ? ordered_json(score.parts) : ordered_json{{"error", score.error}};
    }
    list.push_back(std::move(entry));
  }
  return {{"scores", list}};
}

std::string scores_to_csv(const FileScores& scores) {
  const auto& [names, files] = scores;
  std::vector<std::pair<size_t, std::string>> columns;  // which reward, which part
  for (size_t k = 0; k < names.size(); ++k) {
    std::set<std::string> parts;
    for (const ScoredFile& file : files) {
      for (const auto& [part, number] : file.scores[k].parts) {
        parts.insert(part);
      }
    }
    for (const std::string& part : parts) {
      columns.emplace_back(k, part);
    }
  }
  std::vector<std::string> cells = {"video", "prompt"};
  for (const auto& [k, part] : columns) {
    cells.push_back(names[k] + "." + part);
  }
  cells.emplace_back("error");
  std::string text = csv_line(cells);
  for (const ScoredFile& file : files) {
    cells = {file.video, file.prompt};
    for (const auto& [k, part] : columns) {
      const auto found = file.scores[k].parts.find(part);
      cells.push_back(found == file.scores[k].parts.end() ? "" : number_text(found->second));
    }
    std::string errors;
    for (size_t k = 0; k < names.size(); ++k) {
      const std::string& error = file.scores[k].error;
      errors += error.empty() ? "" : (errors.empty() ? "" : "; ") + names[k] + ": " + error;
    }
    cells.push_back(errors);
    text += csv_line(cells);
  }
  return text;
}

std::string score_table(const FileScores& scores) {
  const auto& [names, files] = scores;
  std::vector<std::vector<std::string>> rows = {{"video"}};
  rows.front().insert(rows.front().end(), names.begin(), names.end());
  std::vector<double> sums(names.size()), counts(names.size());
  for (const ScoredFile& file : files) {
    rows.push_back({file.video});
    for (size_t k = 0; k < names.size(); ++k) {
      const VideoScore& score = file.scores[k];
      const bool has_score = score.error.empty();
      rows.back().push_back(has_score ? total_text(score.parts.at("total")) : "-");
      sums[k] += has_score ? score.parts.at("total") : 0;
      counts[k] += has_score ? 1 : 0;
    }
  }
  rows.push_back({"mean"});
  for (size_t k = 0; k < names.size(); ++k) {
    rows.back().push_back(counts[k] > 0 ? total_text(sums[k] / counts[k]) : "-");
  }
  return aligned(rows);
}

}  // namespace ospnext
