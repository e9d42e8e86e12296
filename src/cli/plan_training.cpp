#include "cli/plan_training.h"

#include <cstdio>

#include "core/number_check.h"
#include "train/training_settings.h"

namespace ospnext {
namespace {

constexpr double kGibi = 1 << 30;
// Of a GPU's memory. The rest is for the CUDA context, NCCL and gaps between allocations.
constexpr double kUsable = 0.92;
constexpr size_t kMostRows = 12;

TrainingSubject subject_of(const TrainingPlanFlags& flags, PlanSubject model) {
  constexpr int64_t kMost = 1'000'000;
  check_range("--batch-size", flags.batch_size, int64_t{1}, int64_t{65'536});
  check_range("--accumulate", flags.accumulate, int64_t{1}, kMost);
  check_range("--layers", flags.layers, int64_t{0}, int64_t{1000});
  check_range("--lora-rank", flags.lora_rank, int64_t{0}, int64_t{65'536});
  check_range("--gpu-memory", flags.gpu_memory, 1.0, 1e6);
  if (flags.layers > 0) {
    model.transformer.num_layers = flags.layers;
    model.transformer.check("plan");
  }
  TrainingSubject subject;
  subject.state = {.value_bytes = model.value_bytes,
                   .lora_rank = flags.lora_rank,
                   .ema = flags.ema,
                   .offload_optimizer = flags.offload_optimizer,
                   .offload_weights = flags.offload_weights};
  subject.model = std::move(model);
  subject.batch_size = flags.batch_size;
  subject.accumulate = flags.accumulate;
  return subject;
}

std::string setting_text(const TrainingSetting& setting) {
  const SequenceMesh& sequence = setting.mesh.sequence;
  std::string text = "--recompute " + recompute_text(setting.checkpointing);
  const auto add = [&](const char* flag, int64_t value) {
    text += std::string(" --").append(flag).append(" ").append(std::to_string(value));
  };
  if (setting.mesh.size() > 1) {
    add("data-parallel", setting.mesh.data);
    add("ssp", sequence.ssp);
    add("ulysses", sequence.ulysses);
    add("ring", sequence.ring);
    add("shard-group", setting.shard_group);
  }
  return text;
}

void print_heading() {
  std::printf("%8s %9s %7s %7s | %7s %7s %7s %7s %7s %7s %7s | %7s  %s\n", "s/step", "samples/s",
              "TFLOP/s", "GiB", "weights", "grads", "moments", "EMA", "activ.", "gather", "buffers",
              "host", "flags");
}

void print(const TrainingPlan& plan, const TrainingSubject& subject) {
  constexpr double kTera = 1e12;
  const auto gibi = [](int64_t bytes) { return static_cast<double>(bytes) / kGibi; };
  const double seconds = plan.seconds();
  const auto samples = static_cast<double>(subject.batch_size * subject.accumulate);
  const TrainingMemory& memory = plan.memory;
  std::printf(
      "%8.3f %9.3f %7.0f %7.1f | %7.2f %7.2f %7.2f %7.2f %7.2f %7.2f %7.2f | %7.1f  %s\n", seconds,
      samples / seconds, training_flops(subject) / seconds / plan.setting.mesh.size() / kTera,
      gibi(memory.on_gpu()), gibi(memory.weights), gibi(memory.gradients), gibi(memory.moments),
      gibi(memory.averages), gibi(memory.activations), gibi(memory.gathered), gibi(memory.buffers),
      gibi(memory.on_host()), setting_text(plan.setting).c_str());
}

// What to change if `smallest` does not fit.
void print_changes(int gpus, const TrainingWishes& wishes, const TrainingSubject& subject,
                   const TrainingPlan& smallest) {
  std::printf("nothing fits; the smallest:\n");
  print_heading();
  print(smallest, subject);
  std::printf("with one change, the GiB of the smallest setting:\n");
  for (const SmallerTraining& other :
       smaller_trainings(gpus, wishes, subject, smallest.memory.on_gpu())) {
    std::printf("%8.1f  %s%s\n", static_cast<double>(other.bytes) / kGibi,
                with_flag_names(other.change).c_str(),
                other.bytes <= wishes.memory ? ", which fits" : "");
  }
  std::printf("Fewer frames, a smaller resolution or a smaller batch divide activations.\n");
}

}  // namespace

void plan_training(const TrainingPlanFlags& flags, PlanSubject model, const MeshFields& mesh,
                   int gpus) {
  const TrainingSubject subject = subject_of(flags, std::move(model));
  TrainingWishes wishes;
  wishes.mesh = mesh;
  wishes.shard_group = flags.shard_group;
  wishes.recompute = flags.recompute;
  wishes.offload_activations = flags.offload_activations;
  wishes.memory = static_cast<int64_t>(kUsable * flags.gpu_memory * kGibi);
  std::vector<TrainingPlan> plans = training_plans(gpus, wishes, subject);
  std::printf(
      "A prediction, of %ld clip(s) of %ld tokens a step. GiB of a GPU, at most %.1f of %.1f, by "
      "part; TFLOP/s of the model on a GPU.\n",
      subject.batch_size * subject.accumulate, subject.model.grid.tokens(),
      kUsable * flags.gpu_memory, flags.gpu_memory);
  const auto fits = [&](const TrainingPlan& plan) { return plan.memory.on_gpu() <= wishes.memory; };
  if (!fits(plans.front())) {
    print_changes(gpus, wishes, subject, plans.front());
    return;
  }
  print_heading();
  for (size_t i = 0; i < plans.size() && i < kMostRows && fits(plans[i]); ++i) {
    print(plans[i], subject);
  }
}

}  // namespace ospnext
