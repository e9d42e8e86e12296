#include "train/step_costs.h"

#include <algorithm>

#include "engine/memory.h"

namespace ospnext {
namespace {

constexpr double kGibibyte = 1 << 30, kMega = 1e6, kTera = 1e12;

}  // namespace

StepCosts::StepCosts(const TrainingRanks& ranks, at::Device device)
    : ranks_(ranks), device_(device) {
  if (device.is_cuda()) {
    reset_peak_memory(device);
  }
  began_ = Clock::now();
  sent_before_ = sent();
}

void StepCosts::add(const Pass& pass) {
  samples_ += static_cast<double>(pass.samples);
  flops_ += pass.flops;
}

void StepCosts::aside(const std::function<void()>& work) {
  synchronize();
  const Clock::time_point then = Clock::now();
  const auto sent_then = sent();
  work();
  synchronize();
  began_ += Clock::now() - then;
  for (const auto& [kind, bytes] : sent()) {
    const auto before = sent_then.find(kind);
    sent_before_[kind] += bytes - (before == sent_then.end() ? 0 : before->second);
  }
}

Scalars StepCosts::take() {
  synchronize();
  const double seconds = std::chrono::duration<double>(Clock::now() - began_).count();
  const double steps = static_cast<double>(std::max<int64_t>(steps_, 1));
  Scalars costs{{"seconds_per_step", seconds / steps}, {"samples_per_second", samples_ / seconds}};
  if (flops_ > 0) {
    costs.emplace_back("model_tflops", flops_ / seconds / ranks_.all().size() / kTera);
  }
  std::map<std::string, double> sent_now = sent();
  aside([&] {
    const PeakMemory peak = peak_memory(device_);
    const auto bytes = static_cast<double>(device_.is_cuda() ? peak.cuda_bytes : peak.host_bytes);
    const at::Tensor own = at::full({1}, bytes / kGibibyte, at::kFloat).to(device_);
    costs.emplace_back("peak_gib", ranks_.all().all_max(own, "memory").item<double>());
  });
  for (const auto& [kind, bytes] : sent_now) {
    const double of_steps = bytes - sent_before_[kind];
    if (of_steps > 0) {
      costs.emplace_back("sent_mb/" + kind, of_steps / kMega / steps);
    }
  }
  began_ = Clock::now();
  sent_before_ = sent();
  samples_ = flops_ = 0;
  steps_ = 0;
  return costs;
}

std::map<std::string, double> StepCosts::sent() const {
  std::map<std::string, double> bytes;
  for (const auto& [kind, traffic] : ranks_.work.world->journal().traffic()) {
    bytes[kind] = static_cast<double>(traffic.bytes);
  }
  return bytes;
}

void StepCosts::synchronize() const {
  if (device_.is_cuda()) {
    torch::cuda::synchronize(device_.index());
  }
}

}  // namespace ospnext
