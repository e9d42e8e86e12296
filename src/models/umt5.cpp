// The layers of the UMT5 encoder and their initialisation.
#include "models/umt5.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/torch/shape_check.h"
#include "kernels/norm.h"

namespace ospnext {
namespace {

// The smallest distance in each logarithmic bucket except the first, which starts at `max_exact`.
// Computed on the host in the float32 arithmetic of the original formula, so that the borders do
// not depend on the logarithm of a device.
std::vector<int64_t> logarithmic_bucket_starts(int64_t max_exact, int64_t max_distance) {
  const auto range = static_cast<float>(std::log(static_cast<double>(max_distance) / max_exact));
  std::vector<int64_t> starts;
  const auto last = static_cast<size_t>(max_exact - 1);
  for (int64_t distance = max_exact; starts.size() < last; ++distance) {
    const float ratio =
        std::log(static_cast<float>(distance) / static_cast<float>(max_exact)) / range;
    const auto steps = static_cast<size_t>(ratio * static_cast<float>(max_exact));
    starts.resize(std::max(starts.size(), std::min(steps, last)), distance);
  }
  return starts;
}

}  // namespace

at::Tensor relative_position_buckets(int64_t num_tokens, int64_t num_buckets, int64_t max_distance,
                                     at::Device device) {
  const at::Tensor position = at::arange(num_tokens, at::TensorOptions(at::kLong).device(device));
  const at::Tensor relative = position.unsqueeze(0) - position.unsqueeze(1);  // [T, T] key - query
  const int64_t half = num_buckets / 2;
  const int64_t max_exact = half / 2;
  const at::Tensor distance = relative.abs();
  at::Tensor bucket = distance.clamp_max(max_exact);
  for (const int64_t start : logarithmic_bucket_starts(max_exact, max_distance)) {
    bucket = bucket + distance.ge(start);
  }
  return bucket + relative.gt(0) * half;
}

Umt5WeightImpl::Umt5WeightImpl(at::IntArrayRef shape, const at::TensorOptions& options)
    : weight(register_parameter("weight", torch::empty(shape, options))) {}

at::Tensor Umt5WeightImpl::project(const at::Tensor& x) const {
  return at::linear(x, weight.to(x.scalar_type()));
}

at::Tensor Umt5WeightImpl::embed(const at::Tensor& ids, at::ScalarType dtype) const {
  return at::embedding(weight, ids).to(dtype);
}

at::Tensor Umt5WeightImpl::normalise(const at::Tensor& x, double epsilon) const {
  return rms_norm(x, weight, epsilon);
}

Umt5PositionBiasImpl::Umt5PositionBiasImpl(const Umt5Config& config,
                                           const at::TensorOptions& options) {
  const std::vector<int64_t> shape{config.relative_attention_num_buckets, config.num_heads};
  embedding = register_module("embedding", Umt5Weight(shape, options));
}

at::Tensor Umt5PositionBiasImpl::forward(const at::Tensor& buckets, at::ScalarType dtype) const {
  return embedding->embed(buckets, dtype).permute({2, 0, 1});  // [H, T, T]
}

Umt5AttentionImpl::Umt5AttentionImpl(const Umt5Config& config, const at::TensorOptions& options)
    : num_heads(config.num_heads) {
  const int64_t inner = config.num_heads * config.d_kv;
  const std::vector<int64_t> in{inner, config.d_model};
  const std::vector<int64_t> out{config.d_model, inner};
  q = register_module("q", Umt5Weight(in, options));
  k = register_module("k", Umt5Weight(in, options));
  v = register_module("v", Umt5Weight(in, options));
  o = register_module("o", Umt5Weight(out, options));
}

at::Tensor Umt5AttentionImpl::forward(const at::Tensor& x, const at::Tensor& position_bias,
                                      const at::Tensor& hidden_keys) const {
  const auto heads = [&](const Umt5Weight& layer) {
    return layer->project(x).unflatten(-1, {num_heads, -1}).transpose(1, 2);  // [B, H, T, D]
  };
  const at::Tensor logits = at::matmul(heads(q), heads(k).transpose(-1, -2));  // [B, H, T, T]
  const double lowest = x.scalar_type() == at::kBFloat16
                            ? static_cast<double>(std::numeric_limits<at::BFloat16>::lowest())
                            : static_cast<double>(std::numeric_limits<float>::lowest());
  const at::Tensor weights =
      at::softmax((logits + position_bias).masked_fill(hidden_keys, lowest), -1, at::kFloat)
          .to(x.scalar_type());                            // [B, H, T, T]
  const at::Tensor mixed = at::matmul(weights, heads(v));  // [B, H, T, D]
  return o->project(mixed.transpose(1, 2).flatten(2));     // [B, T, C]
}

Umt5FeedForwardImpl::Umt5FeedForwardImpl(const Umt5Config& config,
                                         const at::TensorOptions& options) {
  const std::vector<int64_t> in{config.d_ff, config.d_model};
  const std::vector<int64_t> out{config.d_model, config.d_ff};
  gate = register_module("gate", torch::nn::ModuleList());
  gate->push_back(Umt5Weight(in, options));
  fc1 = register_module("fc1", Umt5Weight(in, options));
  fc2 = register_module("fc2", Umt5Weight(out, options));
}

at::Tensor Umt5FeedForwardImpl::forward(const at::Tensor& x) const {
  const auto& gate_layer = gate->at<Umt5WeightImpl>(0);
  return fc2->project(fc1->project(x) * at::gelu(gate_layer.project(x), "tanh"));
}

Umt5BlockImpl::Umt5BlockImpl(const Umt5Config& config, const at::TensorOptions& options)
    : epsilon(config.layer_norm_epsilon) {
  const std::vector<int64_t> width{config.d_model};
  norm1 = register_module("norm1", Umt5Weight(width, options));
  attn = register_module("attn", Umt5Attention(config, options));
  pos_embedding = register_module("pos_embedding", Umt5PositionBias(config, options));
  norm2 = register_module("norm2", Umt5Weight(width, options));
  ffn = register_module("ffn", Umt5FeedForward(config, options));
}

at::Tensor Umt5BlockImpl::forward(const at::Tensor& x, const at::Tensor& buckets,
                                  const at::Tensor& hidden_keys) const {
  const at::Tensor position_bias = pos_embedding->forward(buckets, x.scalar_type());
  const at::Tensor y =
      x + attn->forward(norm1->normalise(x, epsilon), position_bias, hidden_keys);  // [B, T, C]
  return y + ffn->forward(norm2->normalise(y, epsilon));                            // [B, T, C]
}

Umt5EncoderImpl::Umt5EncoderImpl(const Umt5Config& config, const at::TensorOptions& options)
    : config_(config) {
  config.check();
  const std::vector<int64_t> table{config.vocab_size, config.d_model};
  const std::vector<int64_t> width{config.d_model};
  token_embedding = register_module("token_embedding", Umt5Weight(table, options));
  blocks = register_module("blocks", torch::nn::ModuleList());
  for (int64_t i = 0; i < config.num_layers; ++i) {
    blocks->push_back(Umt5Block(config, options));
  }
  norm = register_module("norm", Umt5Weight(width, options));
}

at::Tensor Umt5EncoderImpl::forward(const at::Tensor& ids, const at::Tensor& mask) const {
  TORCH_CHECK(ids.dim() == 2 && ids.scalar_type() == at::kLong, "ids: expected [B, T] int64, got ",
              shape_text(ids.sizes()), " ", ids.scalar_type());
  const at::ScalarType dtype = compute_dtype_.value_or(token_embedding->weight.scalar_type());
  TORCH_CHECK(dtype != at::kHalf, "UMT5: its values overflow float16, use float32 or bf16");
  const int64_t B = ids.size(0);
  const int64_t T = ids.size(1);
  CHECK_SHAPE(mask, B, T);
  const at::Tensor padding = mask.eq(0);                      // [B, T]
  const at::Tensor hidden_keys = padding.view({B, 1, 1, T});  // [B, 1, 1, T]
  const at::Tensor buckets =
      relative_position_buckets(T, config_.relative_attention_num_buckets,
                                config_.relative_attention_max_distance, ids.device());  // [T, T]
  at::Tensor x = token_embedding->embed(ids, dtype);  // [B, T, C]
  for (const auto& block : *blocks) {
    x = block->as<Umt5BlockImpl>()->forward(x, buckets, hidden_keys);
  }
  return norm->normalise(x, config_.layer_norm_epsilon)
      .masked_fill(padding.unsqueeze(-1), 0);  // [B, T, C]
}

void Umt5EncoderImpl::reset_parameters(at::Generator generator) {
  const torch::NoGradGuard no_grad;
  const auto draw = [&](const Umt5Weight& layer, double variance) {
    layer->weight.copy_(at::normal(0.0, std::sqrt(variance), layer->weight.sizes(), generator));
  };
  const double width = 1.0 / static_cast<double>(config_.d_model);
  const double head = 1.0 / static_cast<double>(config_.d_kv);
  draw(token_embedding, 1.0);
  for (const auto& module : *blocks) {
    auto& block = *module->as<Umt5BlockImpl>();
    block.norm1->weight.fill_(1);
    draw(block.attn->q, width * head);
    draw(block.attn->k, width);
    draw(block.attn->v, width);
    draw(block.attn->o, head / static_cast<double>(config_.num_heads));
    draw(block.pos_embedding->embedding, width);
    block.norm2->weight.fill_(1);
    draw(Umt5Weight(block.ffn->gate->ptr<Umt5WeightImpl>(0)), width);
    draw(block.ffn->fc1, width);
    draw(block.ffn->fc2, 1.0 / static_cast<double>(config_.d_ff));
  }
  norm->weight.fill_(1);
}

}  // namespace ospnext
