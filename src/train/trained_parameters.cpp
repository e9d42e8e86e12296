#include "train/trained_parameters.h"

namespace ospnext {
namespace {

// Sums tensors over the processes of a group, in place, in buckets of one dtype (float32).
void sum_over(const ProcessGroup& group, const std::vector<at::Tensor>& tensors) {
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
    const at::Tensor sum = group.all_sum(at::cat(flat), "gradients");
    int64_t next = 0;
    for (; begin < end; ++begin) {
      at::Tensor into = tensors[begin].view({-1});  // [n]
      into.copy_(sum.narrow(0, next, into.numel()));
      next += into.numel();
    }
  }
}

}  // namespace

TrainedParameters::TrainedParameters(const NamedTensors& whole, const TrainingRanks& ranks,
                                     ShardedWeights* shards, const std::string& prefix)
    : shards_(shards), ranks_(ranks) {
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
                          shard.shape, shard.first, /*is_shard=*/true});
      }
    }
  }
}

std::vector<TrainedTensor> TrainedParameters::tensors() const {
  std::vector<TrainedTensor> tensors;
  for (const TrainedPart& part : parts_) {
    if (part.tensor.numel() > 0) {
      tensors.push_back({part.name, part.tensor, /*decays=*/part.shape.size() >= 2});
    }
  }
  return tensors;
}

NamedTensors TrainedParameters::named() const {
  NamedTensors named;
  for (const TrainedTensor& one : tensors()) {
    named.emplace_back(one.name, one.tensor);
  }
  return named;
}

std::vector<at::Tensor> TrainedParameters::gradients(bool of_shards) const {
  std::vector<at::Tensor> gradients;
  for (const TrainedPart& part : parts_) {
    if (part.is_shard == of_shards && part.tensor.numel() > 0) {
      if (!part.tensor.grad().defined()) {
        part.tensor.mutable_grad() = at::zeros_like(part.tensor);
      }
      gradients.push_back(part.tensor.grad());
    }
  }
  return gradients;
}

void TrainedParameters::average_gradients(int64_t passes) {
  const torch::NoGradGuard no_grad;
  if (shards_ != nullptr) {
    shards_->finish_gradients();
  }
  sum_over(ranks_.all(), gradients(/*of_shards=*/false));
  sum_over(ranks_.replicas, gradients(/*of_shards=*/true));
  if (const int64_t losses = passes * ranks_.all().size(); losses > 1) {
    scale_gradients(at::scalar_tensor(1 / static_cast<double>(losses), at::kFloat));
  }
}

at::Tensor TrainedParameters::gradient_norm() const {
  const torch::NoGradGuard no_grad;
  std::vector<at::Tensor> norms;
  if (const auto whole = gradients(/*of_shards=*/false); !whole.empty()) {
    norms = at::_foreach_norm(whole);
  }
  if (!ranks_.shards.alone()) {
    const auto own = gradients(/*of_shards=*/true);
    const at::Tensor squares = own.empty() ? at::zeros({}, parts_.front().tensor.options())
                                           : at::stack(at::_foreach_norm(own)).square().sum();
    norms.push_back(ranks_.shards.all_sum(squares, "norm").sqrt());
  }
  return at::stack(norms).norm();
}

void TrainedParameters::scale_gradients(const at::Tensor& factor) {
  const torch::NoGradGuard no_grad;
  for (const bool of_shards : {false, true}) {
    if (const auto all = gradients(of_shards); !all.empty()) {
      at::_foreach_mul_(all, factor);
    }
  }
}

at::Tensor TrainedParameters::clip_gradients(double limit) {
  constexpr double kFloor = 1e-6;
  const torch::NoGradGuard no_grad;
  const at::Tensor norm = gradient_norm();
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
      const at::Tensor flat = at::zeros({c10::multiply_integers(part.shape)}, own.options());
      flat.narrow(0, part.first, own.numel()).copy_(own);
      all = ranks_.shards.all_sum(flat, "whole tensors").view(part.shape);  // [part.shape]
    }
    if (ranks_.work.leads()) {
      result[part.name] = all;
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
