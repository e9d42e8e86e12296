// Sample clips of a model that is being trained.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "engine/text_to_video.h"

namespace ospnext {

// The flags for them.
struct SampleFields {
  int64_t sample_interval = 0;  // steps; 0: none
  std::string sample_prompts = "configs/tiny/prompts.txt";
  std::string sample_format = "mp4";

  template <class Visitor>
  void visit(Visitor&& field) {
    field("sample_interval", sample_interval,
          "steps from one set of sample clips to the next (0: none); written to samples/ of "
          "`output`");
    field("sample_prompts", sample_prompts, "file of the sample clips' prompts, one a line");
    field("sample_format", sample_format, "ending of the sample clips' files, such as mp4 or y4m");
  }

  // Throws InputError naming the field, the value and the rule.
  void check() const;
};

// Makes a clip of each prompt every so many steps, the first from the same noise as `generate
// --prompts` starts from, and so on: always the same noise. All processes call it.
class SampleClips {
 public:
  // `ranks` are those of the training, with its shards as `weights`. `generation` says what the
  // clips are like, `folder` where they go. Throws InputError if the leader cannot write such clips
  // there, and for prompts that cannot be read. `source` and `cancel` must outlive the object.
  SampleClips(const SampleFields& fields, const ModelSource& source, const ComputeOptions& compute,
              WorkRanks ranks, GenerationConfig generation, std::filesystem::path folder,
              const CancellationToken& cancel);

  int64_t interval() const { return fields_.sample_interval; }
  size_t count() const { return samples_.size(); }
  // The file of a clip, from 0 on, that make() has written.
  std::filesystem::path file(int64_t step, size_t clip) const;
  const GenerationConfig& generation() const { return generation_; }
  // Writes `folder`/step-00000123/1.mp4, 2.mp4, ... A file that cannot be written is no reason to
  // end a training: a warning says so. Throws RunError (a result that is NaN) and Cancelled.
  void make(int64_t step) const;

 private:
  SampleFields fields_;
  const ModelSource& source_;
  ComputeOptions compute_;
  WorkRanks ranks_;
  GenerationConfig generation_;
  std::filesystem::path folder_;
  const CancellationToken& cancel_;
  std::vector<VideoSample> samples_;
};

}  // namespace ospnext
