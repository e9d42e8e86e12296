#include "models/transformer.h"

#include <cmath>
#include <utility>

#include "core/torch/shape_check.h"

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

Grid token_grid(const at::Tensor& latent) {
  const int64_t rows = latent.size(-2), columns = latent.size(-1);
  TORCH_CHECK(rows % kPatchRows == 0 && columns % kPatchColumns == 0,
              "latent: expected even rows and columns, got ", shape_text(latent.sizes()));
  return {latent.size(-3), rows / kPatchRows, columns / kPatchColumns};
}

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

TextVectors TransformerImpl::embed_words(const TextRows& text, const Execution& run) {
  CHECK_SHAPE(text.rows, -1, -1, config_.text_dim);
  const at::Tensor words =
      text_embedding->forward(text.rows.to(run.numerics.dtype), run);  // [B, T, C]
  return TextVectors(blocks->size(), TextKeys{{}, {}, text.log_weight, words});
}

TextVectors TransformerImpl::embed_text(const TextRows& text, const Execution& run) {
  TextVectors vectors = embed_words(text, run);
  for (size_t i = 0; i < blocks->size(); ++i) {
    const auto lease = weights_.lease(i, next_blocks(i));
    vectors[i] = blocks->at<TransformerBlockImpl>(i).cross_attn->text_keys(
        {vectors[i].words, vectors[i].log_weight}, run);
  }
  return vectors;
}

TimeVectors TransformerImpl::embed_time(const at::Tensor& timestep, Epilogue epilogue) {
  const Execution run{{.dtype = at::kFloat, .epilogue = epilogue}};
  const at::Tensor sinusoid = time_sinusoid(timestep.flatten(), config_.freq_dim);  // [n, freq_dim]
  at::Tensor embedding = time_embedding->forward(sinusoid, run);                    // [n, C]
  at::Tensor modulation = time_projection->forward(embedding, run.numerics);        // [n, 6, C]
  if (timestep.dim() == 2) {
    embedding = embedding.unflatten(0, timestep.sizes());    // [B, F, C]
    modulation = modulation.unflatten(0, timestep.sizes());  // [B, F, 6, C]
  }
  return {embedding, modulation};
}

at::Tensor TransformerImpl::forward(const at::Tensor& latent, const TextRows& text,
                                    const at::Tensor& timestep, const SequenceRanks& ranks) {
  CHECK_SHAPE(latent, -1, config_.in_dim, -1, -1, -1);
  Execution run{numerics_};
  run.numerics.noise_level = timestep.max().item<double>() / 1000;
  const TokenTables tables(config_, token_grid(latent), latent.device(), ranks);
  return forward(latent, embed_text(text, run), embed_time(timestep, numerics_.epilogue), tables,
                 run);
}

at::Tensor TransformerImpl::forward(const at::Tensor& latent, const TextVectors& text,
                                    const TimeVectors& time, const TokenTables& tables,
                                    const Execution& run) {
  at::Tensor x = embed(latent, tables, run);                                 // [B, l, C]
  x = run_blocks(std::move(x), {0, plan_.size()}, text, time, tables, run);  // [B, l, C]
  return velocity(x, time, tables, run);  // [B, out_dim, F, H, W]
}

at::Tensor TransformerImpl::embed(const at::Tensor& latent, const TokenTables& tables,
                                  const Execution& run) {
  const Grid& grid = tables.grid();
  CHECK_SHAPE(latent, -1, config_.in_dim, grid.T, grid.H * kPatchRows, grid.W * kPatchColumns);
  const Span span(run.spans, SpanKind::kBlock, "embed");
  const Layout& layout = tables.place(plan_.front().layout).layout;
  // From here on each rank has only its own l of the L tokens; with one rank l = L.
  const auto patches = patchify(latent.to(run.numerics.dtype));  // [B, L, in_dim·2·2]
  return patch_embedding->forward(tables.exchange().take_own(patches, layout));  // [B, l, C]
}

at::Tensor TransformerImpl::run_blocks(at::Tensor x, BlockRange range, const TextVectors& text,
                                       const TimeVectors& time, const TokenTables& tables,
                                       const Execution& run) {
  const int64_t B = x.size(0);
  TORCH_CHECK(text.size() == plan_.size() && range.end <= plan_.size(), "blocks: expected up to ",
              plan_.size(), " and keys of text for each, got ", range.end, " and ", text.size());
  if (text.front().key.defined()) {
    CHECK_SHAPE(text.front().key, B, -1, config_.num_heads, config_.head_dim());
  } else {
    CHECK_SHAPE(text.front().words, B, -1, config_.dim);
  }
  TORCH_CHECK(time.embedding.size(0) == B && time.embedding.size(-1) == config_.dim,
              "time: expected vectors of ", B, " sample(s), got ",
              shape_text(time.embedding.sizes()));
  const Layout* layout = &tables.place(plan_.at(range.begin).layout).layout;
  for (size_t i = range.begin; i < range.end; ++i) {
    tables.ranks().all.at_block(static_cast<int64_t>(i));
    const Placement& place = tables.place(plan_[i].layout);  // layout and its rotary table
    x = tables.exchange().switch_layout(x, *layout, place.layout,
                                        run.spans);  // [B, l of the new layout, C]
    layout = &place.layout;
    const Span block(run.spans, SpanKind::kBlock, block_kind(plan_[i].pattern),
                     static_cast<int64_t>(i));
    x = run_block(i, x, time.modulation, text[i], place, run);  // [B, l, C]
  }
  tables.ranks().all.at_block(-1);
  return x;
}

at::Tensor TransformerImpl::run_block(size_t i, const at::Tensor& x, const at::Tensor& modulation,
                                      const TextKeys& text, const Placement& place,
                                      const Execution& run) {
  auto& block = blocks->at<TransformerBlockImpl>(i);
  const Pattern pattern = plan_[i].pattern;
  if (run.blocks == nullptr) {
    const auto lease = weights_.lease(i, next_blocks(i));
    return block.forward(x, modulation, text, place, pattern, run);  // [B, l, C]
  }
  const BlockFunction function = [&block, &place, pattern, log_weight = text.log_weight](
                                     const std::vector<at::Tensor>& in, const Execution& how) {
    const TextKeys keys{in[2], in[3], log_weight, in[4]};
    return block.forward(in[0], in[1], keys, place, pattern, how);  // [B, l, C]
  };
  return run.blocks->run(i, function, {x, modulation, text.key, text.value, text.words}, run);
}

std::vector<size_t> TransformerImpl::next_blocks(size_t i) const {
  return {(i + 1) % plan_.size(), (i + 2) % plan_.size()};
}

at::Tensor TransformerImpl::velocity(const at::Tensor& x, const TimeVectors& time,
                                     const TokenTables& tables, const Execution& run) {
  const Span span(run.spans, SpanKind::kBlock, "head");
  const Placement& place = tables.place(plan_.back().layout);
  const at::Tensor patches =
      head->forward(x, time.embedding, place.frame, run.numerics.epilogue);  // [B, l, 2·2·out_dim]
  return unpatchify(tables.exchange().gather(patches, place.layout), tables.grid());
}

std::map<std::string, WeightShard> TransformerImpl::shard_blocks(
    const ProcessGroup& ranks, std::optional<at::ScalarType> linears, const WeightHome& home) {
  std::optional<ParameterTypes> gathered;
  if (linears) {
    gathered = types_of(*blocks[0]);
    for (const auto& item : blocks[0]->named_modules("", /*include_self=*/false)) {
      if (item.value()->as<LinearImpl>() != nullptr) {
        gathered->at(item.key() + ".weight") = *linears;
        gathered->at(item.key() + ".bias") = *linears;
      }
    }
  }
  weights_ = ShardedWeights(ranks, {blocks->begin(), blocks->end()}, gathered, home);
  std::map<std::string, WeightShard> shards;
  for (size_t i = 0; i < weights_.shards().size(); ++i) {
    for (const auto& [name, shard] : weights_.shards()[i]) {
      shards.emplace("blocks." + std::to_string(i) + "." + name, shard);
    }
  }
  return shards;
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

}  // namespace ospnext
