// ospnext plan: what several GPUs would take, before one has them.
#include <algorithm>
#include <array>
#include <cstdio>

#include "cli/commands.h"
#include "core/choice.h"
#include "core/number_check.h"
#include "pipeline/plan.h"
#include "pipeline/random_model.h"
#include "pipeline/work_ranks.h"

namespace ospnext {
namespace {

struct Resolution {
  int64_t height, width;
};

struct PlanFlags {
  int64_t gpus = 8;
  std::string size = "14b";
  std::string resolution = "720p";
  int64_t num_frames = 81;
  std::string model_type = "dual_end";
  int64_t num_full_blocks = 8;
  std::string precision = "bf16";
  double full_block_ms = 0;
  double sparse_block_ms = 0;
  double link = 203;
  double latency = 30;
  int64_t videos = 1;
  MeshFlags mesh;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("gpus", gpus, "how many there are");
    field("size", size, "14b or 1.3b, as Wan2.1's");
    field("resolution", resolution, "720p (1280x720), 768p (1280x768) or 480p (832x480)");
    field("num_frames", num_frames, "frames, 4k + 1");
    field("model_type", model_type, "full, dual_end or uniform");
    field("num_full_blocks", num_full_blocks, "full blocks of dual_end");
    field("precision", precision, "bf16 or hif8");
    field("full_block_ms", full_block_ms,
          "milliseconds of a full block of the 14B model at 720P on one GPU (ospnext bench block); "
          "0: "
          "of an H200");
    field("sparse_block_ms", sparse_block_ms, "the same of a sparse block");
    field("link", link, "GB that a GPU sends to the others in a second");
    field("latency", latency, "microseconds of an exchange of nothing");
    field("videos", videos, "videos to make");
    mesh.visit(field);
  }
};

PlanSubject subject_of(const PlanFlags& flags) {
  constexpr double kMilli = 1e-3, kMicro = 1e-6, kGiga = 1e9;
  check_range<int64_t>("--gpus", flags.gpus, 1, 1024);
  check_range<int64_t>("--videos", flags.videos, 1, 10000);
  check_range<int64_t>("--num-frames", flags.num_frames, 1, 10001);
  check_range("--link", flags.link, 1e-6, 1e6);
  check_range("--latency", flags.latency, 0.0, 1e6);
  check_range("--full-block-ms", flags.full_block_ms, 0.0, 1e9);
  check_range("--sparse-block-ms", flags.sparse_block_ms, 0.0, 1e9);
  const Resolution frame = one_of(
      "--resolution", flags.resolution,
      std::array{std::pair{"720p", Resolution{720, 1280}}, std::pair{"768p", Resolution{768, 1280}},
                 std::pair{"480p", Resolution{480, 832}}});
  // Milliseconds in whole passes of the 14B model at 720P on one H200 (docs/performance.md).
  const auto [full, sparse] = one_of("--precision", flags.precision,
                                     std::array{std::pair{"bf16", std::pair{236.2, 107.0}},
                                                std::pair{"hif8", std::pair{183.4, 81.1}}});
  constexpr int64_t kPixels = 16, kFrames = 4;  // of a token
  PlanSubject subject;
  subject.transformer = released_transformer(flags.size, "--size");
  subject.transformer.skiparse_model_type = flags.model_type;
  subject.transformer.num_full_blocks = flags.model_type == "dual_end" ? flags.num_full_blocks : 0;
  subject.transformer.check("plan");
  subject.grid = {(flags.num_frames - 1) / kFrames + 1, frame.height / kPixels,
                  frame.width / kPixels};
  subject.weight_bytes = flags.precision == "hif8" ? 1 : 2;
  subject.shard_weights = flags.mesh.shard_weights;
  subject.costs = block_costs(
      kMilli * (flags.full_block_ms > 0 ? flags.full_block_ms : full),
      kMilli * (flags.sparse_block_ms > 0 ? flags.sparse_block_ms : sparse), {21, 45, 80},
      /*ratio=*/2, released_transformer("14b", "--size"), subject.transformer);
  subject.link_bytes = kGiga * flags.link;
  subject.latency = kMicro * flags.latency;
  return subject;
}

void print(const Plan& plan, double alone, int videos) {
  constexpr double kMega = 1e6, kGibi = 1 << 30;
  std::printf("%8.3f %9.3f %9.3f %8.2f %10.1f %6ld %8.1f  %s\n", plan.seconds(), plan.compute,
              plan.exchange, alone * videos / plan.seconds(),
              static_cast<double>(plan.bytes) / kMega, plan.exchanges,
              static_cast<double>(plan.memory) / kGibi, plan.mesh.text().c_str());
}

}  // namespace

void run_plan(const Arguments& arguments, const CancellationToken& /*cancel*/) {
  PlanFlags flags;
  if (!parse_flags("plan",
                   "Predict seconds a step of meshes of GPUs, from measured blocks, counted bytes "
                   "and the speed of a link.",
                   arguments, flags)) {
    return;
  }
  const PlanSubject subject = subject_of(flags);
  const auto gpus = static_cast<int>(flags.gpus);
  const MeshSubject meshes = mesh_subject(subject.transformer, flags.videos, subject.two_passes);
  const Mesh chosen = choose_mesh(gpus, flags.mesh, meshes);
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
}

}  // namespace ospnext
