// ospnext plan: predicts the speed of a model on several GPUs, without these GPUs.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>

#include "bench/bench_config.h"
#include "cli/commands.h"
#include "cli/plan_training.h"
#include "core/choice.h"
#include "core/number_check.h"
#include "engine/plan.h"
#include "engine/work_ranks.h"

namespace ospnext {
namespace {

constexpr double kMilli = 1e-3, kGiga = 1e9, kGibi = 1 << 30;
constexpr double kMicros = 1e6;  // microseconds in a second

struct PlanFlags {
  int64_t gpus = 8;
  ModelSizeFields model_size;
  std::string resolution = "720p";
  int64_t num_frames = 81;
  std::string precision = "bf16";
  double full_block_ms = 0;
  double sparse_block_ms = 0;
  double parts_ms = -1;
  double link = PlanSubject().link_bytes / kGiga;
  double latency = PlanSubject().latency * kMicros;
  int64_t videos = 1;
  bool offload = false;
  MeshFields mesh;
  bool train = false;
  TrainingPlanFlags training;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("gpus", gpus, "number of GPUs");
    model_size.visit(field);
    field("resolution", resolution,
          "720p (1280x720), 768p (1280x768), 480p (832x480), or WIDTHxHEIGHT in pixels");
    field("num_frames", num_frames, "frames, 4k + 1");
    field("precision", precision, "bf16, hif8 or float32");
    field("full_block_ms", full_block_ms,
          "milliseconds of a full block of this model and video on one GPU (ospnext bench block); "
          "0: as measured on an H200");
    field("sparse_block_ms", sparse_block_ms, "the same for a sparse block");
    field("parts_ms", parts_ms,
          "additional milliseconds of its full attention when computed in 2 parts, as in a ring; "
          "-1: as measured on H100s, scaled to the number of tokens");
    field("link", link, "GB per second that a GPU sends to the others (ospnext bench exchange)");
    field("latency", latency, "microseconds of an exchange without data");
    field("videos", videos, "videos to make");
    field("offload", offload,
          "keep the weights of the transformer's blocks in host memory, as in generate");
    mesh.visit(field);
    field("train", train,
          "predict a step of training: which settings fit the GPUs' memory, and how fast they are");
    training.visit(field);
  }
};

// Refuses flags that the other kind of plan has.
void check_kind(const GivenFlags& given, bool train) {
  const auto refuse = [&](const std::string& name, const char* how) {
    if (given.has(name)) {
      throw InputError("`" + name + "`: found " + how + " `train`, expected it only " +
                       (train ? "without" : "with") + " that flag");
    }
  };
  if (train) {
    for (const char* const name : {"videos", "offload", "cfg_parallel", "shard_weights"}) {
      refuse(name, "with");
    }
    return;
  }
  TrainingPlanFlags().visit(
      [&](const char* name, const auto&, const char*) { refuse(name, "without"); });
}

struct Resolution {
  int64_t width, height;
};

// The resolution in "640x384"; nothing for any other text.
std::optional<Resolution> numbered_resolution(const std::string& text) {
  Resolution size{};
  const char* const end = text.data() + text.size();
  const auto width = std::from_chars(text.data(), end, size.width);
  if (width.ec != std::errc() || width.ptr == end || *width.ptr != 'x') {
    return std::nullopt;
  }
  const auto height = std::from_chars(width.ptr + 1, end, size.height);
  return height.ec == std::errc() && height.ptr == end ? std::optional(size) : std::nullopt;
}

// The grid of the video's tokens.
Grid grid_of(const PlanFlags& flags, const VaeConfig& vae) {
  auto size = numbered_resolution(flags.resolution);
  if (!size) {
    size = one_of("--resolution", flags.resolution,
                  std::array{std::pair{"720p", Resolution{1280, 720}},
                             std::pair{"768p", Resolution{1280, 768}},
                             std::pair{"480p", Resolution{832, 480}},
                             std::pair{"WIDTHxHEIGHT", Resolution{}}});
  }
  GenerationConfig video;
  video.width = size->width;
  video.height = size->height;
  video.num_frames = flags.num_frames;
  video.check(vae);
  return token_grid(latent_size(video, vae));
}

struct ValueBytes {
  int64_t exchanged, weight;
};

PlanSubject subject_of(const PlanFlags& flags) {
  check_range<int64_t>("--gpus", flags.gpus, 1, 1024);
  check_range<int64_t>("--videos", flags.videos, 1, 10000);
  check_range("--link", flags.link, 1e-6, 1e6);
  check_range("--latency", flags.latency, 0.0, 1e6);
  check_range("--full-block-ms", flags.full_block_ms, 0.0, 1e9);
  check_range("--sparse-block-ms", flags.sparse_block_ms, 0.0, 1e9);
  check_range("--parts-ms", flags.parts_ms, -1.0, 1e9);
  const auto bytes =
      one_of("--precision", flags.precision,
             std::array{std::pair{"bf16", ValueBytes{2, 2}}, std::pair{"hif8", ValueBytes{2, 1}},
                        std::pair{"float32", ValueBytes{4, 4}}});
  const PartConfigs parts = flags.model_size.parts("plan");
  const bool measured = flags.full_block_ms > 0 && flags.sparse_block_ms > 0;
  const bool needs_both = flags.full_block_ms > 0 || flags.sparse_block_ms > 0;
  if (!measured && (needs_both || flags.precision == "float32")) {
    throw InputError("--full-block-ms and --sparse-block-ms: found " +
                     std::string(needs_both ? "one of them" : "--precision float32 without them") +
                     ", expected both");
  }
  PlanSubject subject;
  subject.transformer = parts.transformer;
  subject.grid = grid_of(flags, parts.vae);
  subject.value_bytes = bytes.exchanged;
  subject.weight_bytes = bytes.weight;
  subject.shard_weights = flags.mesh.shard_weights;
  subject.offload = flags.offload;
  const BlockCosts usual = h200_block_costs(parts.transformer, flags.precision == "hif8");
  subject.costs = measured
                      ? block_costs(kMilli * flags.full_block_ms, kMilli * flags.sparse_block_ms,
                                    subject.grid, parts.transformer)
                      : usual;
  subject.costs.turn =
      flags.parts_ms < 0 ? usual.turn : turn_cost(kMilli * flags.parts_ms, subject.grid);
  subject.link_bytes = kGiga * flags.link;
  subject.latency = flags.latency / kMicros;
  return subject;
}

void print(const Plan& plan, double alone, int videos) {
  constexpr double kMega = 1e6;
  std::printf("%8.3f %9.3f %9.3f %8.2f %10.1f %6ld %8.1f  %s\n", plan.seconds(), plan.compute,
              plan.exchange, alone * videos / plan.seconds(),
              static_cast<double>(plan.bytes) / kMega, plan.exchanges,
              static_cast<double>(plan.memory) / kGibi, plan.mesh.text().c_str());
}

}  // namespace

void run_plan(const Arguments& arguments, const CancellationToken& /*cancel*/) {
  PlanFlags flags;
  const auto given = read_flags(
      "plan",
      "Predict the seconds per denoising step of meshes of GPUs, or with --train seconds and "
      "memory "
      "of a step of training, from measured blocks, counted bytes and the speed of a link.",
      flags_of(flags), arguments);
  if (!given) {
    return;
  }
  given->apply(flags);
  check_kind(*given, flags.train);
  const PlanSubject subject = subject_of(flags);
  if (flags.train) {
    if (flags.precision == "hif8") {
      throw InputError("--precision: found hif8 with --train, expected bf16 or float32");
    }
    plan_training(flags.training, subject, flags.mesh, static_cast<int>(flags.gpus));
    return;
  }
  const auto gpus = static_cast<int>(flags.gpus);
  const MeshSubject meshes = mesh_subject(subject.transformer, flags.videos, subject.two_passes);
  const Mesh chosen = fastest_mesh(gpus, flags.mesh, meshes, subject);
  std::vector<Plan> plans;
  for (const Mesh& mesh : possible_meshes(gpus, meshes)) {
    plans.push_back(predict(mesh, subject));
  }
  std::stable_sort(plans.begin(), plans.end(), [](const Plan& a, const Plan& b) {
    return a.seconds() / a.mesh.data < b.seconds() / b.mesh.data;
  });
  const double alone = predict(Mesh(), subject).seconds();
  std::printf("A prediction, of %ld tokens; exchange: the seconds that computation waits for.\n",
              subject.grid.tokens());
  std::printf("  s/step   compute  exchange  speedup    MB sent  calls  GiB/rank  mesh\n");
  print(predict(chosen, subject), alone, chosen.data);
  std::printf("the same and others, the fastest first:\n");
  for (const Plan& plan : plans) {
    print(plan, alone, plan.mesh.data);
  }
  if (subject.offload) {
    std::printf(
        "each rank keeps %.1f GiB of weights in host memory; waiting for them counts as exchange\n",
        static_cast<double>(plans.front().host_memory) / kGibi);
  }
}

}  // namespace ospnext
