#include "train/trained_parameters.h"

namespace ospnext {
namespace {

// Sums tensors over the processes of a group, in place, in buckets of one dtype (float32), which
// are on the device.
void sum_over(const ProcessGroup& group, const std::vector<at::Tensor>& tensors,
              at::Device device) {
  constexpr int64_t kBucket = int64_t{1} << 26;  // elements
  if (group.alone()) {
    return;
  }
  size_t begin = 0;
  while (begin < tensors.size()) {
    std::vector<at::Tensor> flat;
    int64_t count = 0;
    size_t end = begin;
    for (; end < tensors.size() && (end == begin || count + tensors[end].numel() <= kBucket);
         ++end) {
      flat.push_back(tensors[end].flatten());  // [n]
      count += tensors[end].numel();
    }
    const at::Tensor sum = group.all_sum(at::cat(flat).to(device), "gradients");
    int64_t next = 0;
    for (; begin < end; ++begin) {
      at::Tensor into = tensors[begin].view({-1});  // [n]
      into.copy_(sum.narrow(0, next, into.numel()));
      next += into.numel();
    }
  }
}

at::Device device_of(const NamedTensors& whole, const ShardedWeights* shards) {
  return shards != nullptr && shards->size() > 0 ? shards->device()
         : whole.empty()                         ? at::Device(at::kCPU)
                                                 : whole.front().second.device();
}

}  // namespace

TrainedParameters::TrainedParameters(const NamedTensors& whole, const TrainingRanks& ranks,
                                     ShardedWeights* shards, const std::string& prefix)
    : shards_(shards), ranks_(ranks), device_(device_of(whole, shards)), update_(device_) {
  for (const auto& [name, tensor] : whole) {
    parts_.push_back({name, tensor, tensor.sizes().vec()});
  }
  if (shards == nullptr) {
    return;
  }
  shards->begin_training();
  for (size_t i = 0; i < shards->size(); ++i) {
    for (const auto& [name, shard] : shards->shards()[i]) {
      if (shard.gradient.defined()) {
        parts_.push_back({prefix + "blocks." + std::to_string(i) + "." + name, shard.kept,
                          shard.shape, shard.first, /*is_shard=*/true, shards->offloaded()});
      }
    }
  }
}

std::vector<TrainedTensor> TrainedParameters::tensors() const {
  std::vector<TrainedTensor> tensors;
  for (const TrainedPart& part : parts_) {
    if (part.tensor.numel() > 0) {
      tensors.push_back(
          {part.name, part.tensor, /*decays=*/part.shape.size() >= 2, part.offloaded});
    }
  }
  return tensors;
}

UpdatedTensors TrainedParameters::gradients(bool of_shards) const {
  UpdatedTensors gradients{.tensors = {},
                           .offloaded = of_shards && shards_ != nullptr && shards_->offloaded()};
  for (const TrainedPart& part : parts_) {
    if (part.is_shard == of_shards && part.tensor.numel() > 0) {
      if (!part.tensor.grad().defined()) {
        part.tensor.mutable_grad() = at::zeros_like(part.tensor);
      }
      gradients.tensors.push_back(part.tensor.grad());
    }
  }
  return gradients;
}

void TrainedParameters::average_gradients(int64_t passes) {
  const torch::NoGradGuard no_grad;
  if (shards_ != nullptr) {
    shards_->finish_gradients();
  }
  sum_over(ranks_.all(), gradients(/*of_shards=*/false).tensors, device_);
  sum_over(ranks_.replicas, gradients(/*of_shards=*/true).tensors, device_);
  if (const int64_t losses = passes * ranks_.all().size(); losses > 1) {
    scale_gradients(at::scalar_tensor(1 / static_cast<double>(losses), at::kFloat));
  }
}

// The sum of squares in float64: its order, which depends on who keeps what, is not seen in the
// float32 result.
at::Tensor TrainedParameters::gradient_norm() const {
  const torch::NoGradGuard no_grad;
  const auto sum_of_squares = [&](const UpdatedTensors& tensors) {
    std::vector<at::Tensor> norms;
    update_.run({tensors}, [&](const UpdatedParts& parts) {
      const std::vector<at::Tensor> some = at::_foreach_norm(parts[0]);
      norms.insert(norms.end(), some.begin(), some.end());
    });
    return norms.empty() ? at::zeros({}, at::TensorOptions(device_).dtype(at::kDouble))
                         : at::stack(norms).to(at::kDouble).square().sum();
  };
  const at::Tensor of_shards =
      ranks_.shards.all_sum(sum_of_squares(gradients(/*of_shards=*/true)), "norm");
  return (sum_of_squares(gradients(/*of_shards=*/false)) + of_shards).sqrt().to(at::kFloat);
}

void TrainedParameters::scale_gradients(const at::Tensor& factor) {
  const torch::NoGradGuard no_grad;
  for (const bool of_shards : {false, true}) {
    UpdatedTensors all = gradients(of_shards);
    all.written = true;
    if (all.offloaded && factor.item<double>() == 1) {
      continue;  // saves moving them all to the device and back
    }
    update_.run({all}, [&](const UpdatedParts& parts) { at::_foreach_mul_(parts[0], factor); });
  }
}

at::Tensor TrainedParameters::clip_gradients(double limit) {
  constexpr double kFloor = 1e-6;
  const torch::NoGradGuard no_grad;
  at::Tensor norm = gradient_norm();
  scale_gradients((limit / (norm + kFloor)).clamp_max(1.0));
  return norm;
}

std::map<std::string, at::Tensor> TrainedParameters::whole(
    const std::map<std::string, at::Tensor>& tensors) const {
  const torch::NoGradGuard no_grad;
  std::map<std::string, at::Tensor> result;
  for (const TrainedPart& part : parts_) {
    const at::Tensor own = part.tensor.numel() == 0 ? part.tensor : tensors.at(part.name);
    at::Tensor all = own;
    if (part.is_shard) {
      const at::Tensor flat =
          at::zeros({c10::multiply_integers(part.shape)}, own.options().device(device_));
      flat.narrow(0, part.first, own.numel()).copy_(own);
      all = ranks_.shards.all_sum(flat, "whole tensors").view(part.shape);  // [part.shape]
    }
    if (ranks_.work.leads()) {
      result[part.name] = all.to(at::kCPU);
    }
  }
  return result;
}

NamedTensors whole_parameters(Transformer& transformer, const std::string& prefix) {
  NamedTensors whole;
  const bool sharded = transformer->sharded_weights().size() > 0;
  for (const auto& [name, tensor] : named_parameters(*transformer, "")) {
    if (!sharded || !name.starts_with("blocks.")) {
      whole.emplace_back(prefix + name, tensor);
    }
  }
  return whole;
}

}  // namespace ospnext
