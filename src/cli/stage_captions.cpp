// ospnext stage captions: captions of the procedural world, as prompts of an evaluation or a
// training.
#include <array>

#include "cli/stage.h"
#include "core/choice.h"
#include "core/error.h"
#include "core/number_check.h"
#include "core/torch/random.h"
#include "data/tiny_world/captions.h"
#include "io/output_file.h"

namespace ospnext {
namespace {

struct CaptionsStage {
  int64_t count = 100;
  int64_t objects = 1;
  std::string split = "train";
  uint64_t seed = 0;
  std::string output;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("count", count, "number of captions");
    field("objects", objects, "objects of each clip, 1 or 2");
    field("split", split,
          "train or seen: pairs of attributes that trainings show; held-out: others");
    field("seed", seed, "seed of the clips");
    field("output", output, "text file to write, a caption a line");
  }
};

}  // namespace

void run_stage_captions(const Arguments& arguments, const CancellationToken&) {
  CaptionsStage config;
  if (!parse_flags("stage captions", "Write captions of the procedural world.", arguments,
                   config)) {
    return;
  }
  check_range("--count", config.count, int64_t{1}, int64_t{10'000'000});
  check_range("--objects", config.objects, int64_t{1}, int64_t{2});
  const ClipSplit split =
      one_of("--split", config.split,
             std::array{std::pair{"train", ClipSplit::kTrain}, std::pair{"seen", ClipSplit::kSeen},
                        std::pair{"held-out", ClipSplit::kHeldOut}});
  if (config.output.empty()) {
    throw InputError("--output: found nothing, expected a text file to write");
  }
  const ClipOptions options{.two_objects = config.objects == 2 ? 1.0 : 0.0};
  const uint64_t seed = derived_seed(config.seed, "captions");
  std::string text;
  for (int64_t i = 0; i < config.count; ++i) {
    const ClipSpec clip = sample_clip(seed, static_cast<uint64_t>(i), split, options);
    text += caption(clip, i % num_caption_forms(clip.objects.size())) + "\n";
  }
  write_text_file(config.output, text);
}

}  // namespace ospnext
