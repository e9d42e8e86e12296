#include "models/transformer.h"

#include <cmath>

#include "core/torch/shape_check.h"
#include "models/rope.h"

namespace ospnext {
namespace {

// Xavier-uniform (Glorot): variance 2/(in + out) for a matrix [out, in].
void fill_xavier_uniform(at::Tensor& weight, at::Generator& generator) {
  const auto out = static_cast<double>(weight.size(0));
  const double bound = std::sqrt(6.0 / (out + static_cast<double>(weight.numel()) / out));
  weight.copy_(at::empty(weight.sizes(), generator.device()).uniform_(-bound, bound, generator));
}

void fill_normal(at::Tensor& weight, double deviation, at::Generator& generator) {
  weight.copy_(at::empty(weight.sizes(), generator.device()).normal_(0, deviation, generator));
}

void cast_linears(torch::nn::Module& part, at::ScalarType dtype) {
  for (const auto& module : part.modules()) {
    if (auto* linear = module->as<LinearImpl>()) {
      linear->weight.set_data(linear->weight.to(dtype));
      linear->bias.set_data(linear->bias.to(dtype));
    }
  }
}

const char* block_kind(Pattern pattern) {
  return pattern == Pattern::kFull    ? "full"
         : pattern == Pattern::kToken ? "sparse token"
                                      : "sparse group";
}

}  // namespace

at::Tensor patchify(const at::Tensor& latent) {
  const auto parts = latent.unflatten(4, {-1, kPatchColumns})
                         .unflatten(3, {-1, kPatchRows});                // [B, C, F, h, 2, w, 2]
  return parts.permute({0, 2, 3, 5, 1, 4, 6}).flatten(4).flatten(1, 3);  // [B, F·h·w, C·2·2]
}

at::Tensor unpatchify(const at::Tensor& patches, const Grid& grid) {
  const auto parts = patches.view({patches.size(0), grid.T, grid.H, grid.W, kPatchRows,
                                   kPatchColumns, -1});                  // [B, F, h, w, 2, 2, C]
  return parts.permute({0, 6, 1, 2, 4, 3, 5}).flatten(5).flatten(3, 4);  // [B, C, F, 2h, 2w]
}

TransformerImpl::TransformerImpl(const TransformerConfig& config, at::TensorOptions options,
                                 Blocks kept)
    : config_(config) {
  config.check();
  plan_ = plan_blocks(config.skiparse_type(), config.num_layers, config.num_full_blocks);
  const at::TensorOptions float_options = options.dtype(at::kFloat);
  const int64_t C = config.dim;
  patch_embedding = register_module("patch_embedding", PatchEmbedding(config.in_dim, C, options));
  text_embedding =
      register_module("text_embedding", Mlp(config.text_dim, C, C, Activation::kGeluTanh, options));
  time_embedding = register_module("time_embedding",
                                   Mlp(config.freq_dim, C, C, Activation::kSilu, float_options));
  time_projection = register_module("time_projection", TimeProjection(C, float_options));
  blocks = register_module("blocks", torch::nn::ModuleList());
  for (int64_t i = 0; i < config.num_layers; ++i) {
    blocks->push_back(TransformerBlock(config, options));
    if (kept == Blocks::kWithoutMemory) {
      drop_memory(*blocks[i]);
    }
  }
  head = register_module("head", Head(config, float_options));
}

TextVectors TransformerImpl::embed_text(const TextRows& text) {
  CHECK_SHAPE(text.rows, -1, -1, config_.text_dim);
  const TextRows words{text_embedding(text.rows.to(compute_dtype_)), text.log_weight};  // [B, T, C]
  TextVectors keys;
  for (size_t i = 0; i < blocks->size(); ++i) {
    weights_.ready(i);
    keys.push_back(blocks->at<TransformerBlockImpl>(i).cross_attn->text_keys(words));
  }
  return keys;
}

TimeVectors TransformerImpl::embed_time(const at::Tensor& timestep) {
  CHECK_SHAPE(timestep, -1);
  const auto embedding = time_embedding(time_sinusoid(timestep, config_.freq_dim));  // [B, C]
  return {embedding, time_projection(embedding)};
}

at::Tensor TransformerImpl::forward(const at::Tensor& latent, const TextRows& text,
                                    const at::Tensor& timestep) {
  return forward(latent, embed_text(text), embed_time(timestep));
}

at::Tensor TransformerImpl::forward(const at::Tensor& latent, const TextVectors& text,
                                    const TimeVectors& time, Spans* spans) {
  const int64_t B = latent.size(0), C = config_.dim;
  CHECK_SHAPE(latent, B, config_.in_dim, -1, -1, -1);
  TORCH_CHECK(text.size() == plan_.size(), "text: expected keys for ", plan_.size(),
              " blocks, got ", text.size());
  CHECK_SHAPE(text.front().key, B, -1, config_.num_heads, config_.head_dim());
  CHECK_SHAPE(time.embedding, B, C);
  TORCH_CHECK(latent.size(3) % kPatchRows == 0 && latent.size(4) % kPatchColumns == 0,
              "latent: expected even rows and columns, got ", shape_text(latent.sizes()));
  const Grid grid{latent.size(2), latent.size(3) / kPatchRows, latent.size(4) / kPatchColumns};
  auto& [tokens, places] = tokens_of(grid, latent.device());

  Span embed(spans, SpanKind::kBlock, "embed");
  const Layout* layout = &places.at(plan_.front().layout).layout;
  // From here on each rank has only its own l of the L tokens; with one rank l = L.
  const auto patches = patchify(latent.to(compute_dtype_));           // [B, L, in_dim·2·2]
  at::Tensor x = patch_embedding(tokens.take_own(patches, *layout));  // [B, l, C]
  embed.end();
  for (size_t i = 0; i < plan_.size(); ++i) {
    ranks_.all.at_block(static_cast<int64_t>(i));
    weights_.ready(i);
    const Placement& place = places.at(plan_[i].layout);
    x = tokens.switch_layout(x, *layout, place.layout, spans);  // [B, l of the new layout, C]
    layout = &place.layout;
    const Span block(spans, SpanKind::kBlock, block_kind(plan_[i].pattern),
                     static_cast<int64_t>(i));
    x = blocks->at<TransformerBlockImpl>(i).forward(x, time.modulation, text[i], place,
                                                    plan_[i].pattern, spans);
  }
  ranks_.all.at_block(-1);
  const Span last(spans, SpanKind::kBlock, "head");
  return unpatchify(tokens.gather(head(x, time.embedding), *layout), grid);
}

void TransformerImpl::set_ranks(const SequenceRanks& ranks) {
  TORCH_CHECK(ranks.mesh.ssp == 1 || plan_.front().layout != Pattern::kFull,
              "ranks: a dense model has one segment, got ", ranks.mesh.ssp, " owners");
  ranks_ = ranks;
  tokens_.clear();
  for (const auto& module : blocks->modules()) {  // HiFloat8 scales by the amax of whole samples
    if (auto* linear = module->as<LinearImpl>(); linear != nullptr && linear->hif8) {
      linear->hif8->ranks = ranks.all;
    }
    if (auto* attention = module->as<AttentionImpl>(); attention != nullptr && attention->hif8) {
      attention->hif8->ranks = ranks.all;
    }
  }
}

std::map<std::string, WeightShard> TransformerImpl::shard_blocks(const ProcessGroup& ranks) {
  weights_ = ShardedWeights(ranks, {blocks->begin(), blocks->end()});
  std::map<std::string, WeightShard> shards;
  for (size_t i = 0; i < weights_.shards().size(); ++i) {
    for (const auto& [name, shard] : weights_.shards()[i]) {
      shards.emplace("blocks." + std::to_string(i) + "." + name, shard);
    }
  }
  return shards;
}

void TransformerImpl::set_compute_dtype(at::ScalarType dtype) {
  TORCH_CHECK(at::isFloatingType(dtype), "compute dtype: expected a floating type, got ", dtype);
  compute_dtype_ = dtype;
}

void TransformerImpl::to_inference_precision(at::ScalarType dtype) {
  torch::NoGradGuard no_grad;
  patch_embedding->weight.set_data(patch_embedding->weight.to(dtype));
  patch_embedding->bias.set_data(patch_embedding->bias.to(dtype));
  cast_linears(*text_embedding, dtype);
  cast_linears(*blocks, dtype);
}

void TransformerImpl::reset_parameters(at::Generator generator) {
  torch::NoGradGuard no_grad;
  for (auto& item : named_parameters()) {
    const std::string& name = item.key();
    at::Tensor& parameter = item.value();
    const bool is_norm = name.find(".norm") != std::string::npos;
    if (name.ends_with("modulation")) {
      fill_normal(parameter, 1 / std::sqrt(static_cast<double>(config_.dim)), generator);
    } else if (name.ends_with("bias") || name == "head.head.weight") {
      parameter.zero_();
    } else if (is_norm) {
      parameter.fill_(1);
    } else if (name.starts_with("text_embedding") || name.starts_with("time_embedding")) {
      // Keeps the scale of the input. Wan's fixed 0.02 would shrink narrow text vectors to a tenth.
      fill_normal(parameter, 1 / std::sqrt(static_cast<double>(parameter.size(1))), generator);
    } else {
      fill_xavier_uniform(parameter, generator);
    }
  }
}

TransformerImpl::Tokens& TransformerImpl::tokens_of(const Grid& grid, at::Device device) {
  constexpr size_t kMostGrids = 16;  // a CUDA graph needs the tables of its grid to stay
  const auto key = std::make_pair(grid, device.str());
  const auto found = tokens_.find(key);
  if (found != tokens_.end()) {
    return found->second;
  }
  if (tokens_.size() == kMostGrids) {
    tokens_.clear();
  }
  Tokens& made = tokens_.emplace(key, Tokens{TokenExchange(ranks_), {}}).first->second;
  const Spread spread{ranks_.mesh.ssp, ranks_.mesh.sharers()};
  const int rank = ranks_.all.rank();
  for (const BlockPlan& block : plan_) {
    if (!made.places.contains(block.layout)) {
      const Layout layout(grid, block.layout, config_.sparse_ratio, device, spread);
      const at::Tensor rotation = rope_table(config_.head_dim(), layout)
                                      .narrow(0, layout.cuts()[rank], layout.tokens_of(rank));
      made.places.emplace(
          block.layout, Placement{layout, rotation, attention_shards(layout, block.layout, ranks_),
                                  attention_shards(layout, Pattern::kFull, ranks_)});
    }
  }
  return made;
}

}  // namespace ospnext
