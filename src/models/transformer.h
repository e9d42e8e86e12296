// The denoising transformer of Wan2.1 and OSP-Next: latent, text and time to velocity.
// Letters: B batch, L video tokens, T text tokens, C width, F x H x W latent (F x h x w tokens).
#pragma once

#include <torch/nn/modules/container/modulelist.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/torch/torch.h"
#include "models/execution.h"
#include "models/token_tables.h"
#include "models/transformer_config.h"
#include "models/transformer_layers.h"
#include "models/transformer_text.h"
#include "parallel/sharded_weights.h"

namespace ospnext {

// The text input of a forward pass: keys and values for each block. Computed once per prompt.
using TextVectors = std::vector<TextKeys>;
// The time input of a forward pass: vectors of a noise level, one for the video or one for each of
// its F frames.
struct TimeVectors {
  at::Tensor embedding, modulation;  // [B, C] and [B, 6, C], or [B, F, C] and [B, F, 6, C]; float32
};
// The blocks begin, begin + 1, ..., end - 1.
struct BlockRange {
  size_t begin, end;
};

// Parameters have exactly the names of Wan's checkpoints. New parameters are not initialised: load
// them or call reset_parameters().
//
// What a pass computes is in its Execution: linears, attention and the residual stream run in
// numerics.dtype; norms, softmax, modulation, residual additions, time embedding and head compute
// in float32. Parameters may have another dtype than that: a layer casts them to its input's dtype.
//
// A pass changes nothing in the model: tables of layouts belong to the caller.
struct TransformerImpl : torch::nn::Module {
  // Throws InputError when the config breaks a rule. `options` gives the device, and the dtype of
  // the linears that run in the compute dtype; all other parameters are float32. With
  // kWithoutMemory the blocks get no memory until shard_blocks() is called.
  enum class Blocks { kWhole, kWithoutMemory };
  explicit TransformerImpl(const TransformerConfig& config, at::TensorOptions options = at::kFloat,
                           Blocks kept = Blocks::kWhole);

  // One denoising pass. latent [B, in_dim, F, H, W], H and W even, of tables.grid(); text from
  // embed_text(); time from embed_time() -> velocity [B, out_dim, F, H, W] float32. With several
  // ranks in the tables, all of them call it with the same arguments and get the same velocity.
  // Differentiable, unless run.overwrite; with several ranks the gradient is that of the sum of
  // what they make of the velocity. Each block is recorded in run.spans. It is embed(),
  // run_blocks() of all blocks, and velocity().
  at::Tensor forward(const at::Tensor& latent, const TextVectors& text, const TimeVectors& time,
                     const TokenTables& tables, const Execution& run);
  // The tokens of a latent: [B, l, C], of this rank's l tokens in the layout of block 0.
  at::Tensor embed(const at::Tensor& latent, const TokenTables& tables, const Execution& run);
  // x [B, l, C] in the layout of block range.begin -> [B, l, C] in the layout of block
  // range.end - 1. Between two ranges the caller switches layouts, with tables.exchange().
  at::Tensor run_blocks(at::Tensor x, BlockRange range, const TextVectors& text,
                        const TimeVectors& time, const TokenTables& tables, const Execution& run);
  // x [B, l, C] in the layout of the last block -> velocity [B, out_dim, F, H, W] float32.
  at::Tensor velocity(const at::Tensor& x, const TimeVectors& time, const TokenTables& tables,
                      const Execution& run);
  // text.rows [B, T, text_dim] -> the text input. Every row is attended to.
  TextVectors embed_text(const TextRows& text, const Execution& run);
  // The same, but each block makes its keys and values itself: a block then runs with all that its
  // weights are needed for, as training wants it.
  TextVectors embed_words(const TextRows& text, const Execution& run);
  // timestep [B], or [B, F] for each frame: sigma·1000 -> the time input.
  TimeVectors embed_time(const at::Tensor& timestep, Epilogue epilogue = Epilogue::kFused);
  // embed_text(), embed_time() and forward() in one call, with tables for this call alone and the
  // model's own numerics.
  at::Tensor forward(const at::Tensor& latent, const TextRows& text, const at::Tensor& timestep,
                     const SequenceRanks& ranks = {});

  // The numerics that the weights were prepared for; float32 by default. Passes may run in others
  // that the weights allow: another dtype or epilogue.
  const Numerics& numerics() const { return numerics_; }
  void set_numerics(const Numerics& numerics) { numerics_ = numerics; }
  // A pass without gradients in these numerics.
  Execution inference(Spans* spans = nullptr) const { return {numerics_, true, spans}; }

  // Shards the parameters of the blocks among ranks, offloads them to host memory, or both
  // (ShardedWeights). From now on, all ranks call embed_text() and forward() equally often and in
  // the same order; the videos may differ. A block has its weights while it runs; at other times
  // they are NaN. Each rank keeps its part of the current values. To load other values, write them
  // into the returned shards, a map from parameter name to shard. With one rank, unless blocks are
  // offloaded, nothing changes and the map is empty.
  // With `linears`, for training, ranks keep their parts in float32, and the weights and biases of
  // linears are gathered in this dtype.
  std::map<std::string, WeightShard> shard_blocks(const ProcessGroup& ranks,
                                                  std::optional<at::ScalarType> linears = {},
                                                  const WeightHome& home = {});
  ShardedWeights& sharded_weights() { return weights_; }

  // Casts the weights of the linears that run in the compute dtype. Norms, modulation, time
  // embedding and head stay in float32.
  void to_inference_precision(at::ScalarType dtype);

  // Initialises all parameters for training from scratch, drawn on the generator's device in the
  // order of the parameters:
  //   linears of blocks, time projection, patch embedding: Xavier-uniform
  //   text and time embeddings: normal with standard deviation 1/√(input width)
  //   modulation: normal with standard deviation 1/√C
  //   norms: weight 1, bias 0; all other biases and the weight of the head: 0
  // Source: Wan2.1 wan/modules/model.py:init_weights; the embeddings differ from its normal 0.02.
  void reset_parameters(at::Generator generator);

  const TransformerConfig& config() const { return config_; }
  // One entry per block.
  const std::vector<BlockPlan>& plan() const { return plan_; }

  PatchEmbedding patch_embedding{nullptr};
  Mlp text_embedding{nullptr}, time_embedding{nullptr};
  TimeProjection time_projection{nullptr};
  torch::nn::ModuleList blocks;
  Head head{nullptr};

 private:
  // Block i, whose input x lies in the layout of `place`.
  at::Tensor run_block(size_t i, const at::Tensor& x, const at::Tensor& modulation,
                       const TextKeys& text, const Placement& place, const Execution& run);
  // The blocks after i, which are used next.
  std::vector<size_t> next_blocks(size_t i) const;

  TransformerConfig config_;
  std::vector<BlockPlan> plan_;
  Numerics numerics_;
  ShardedWeights weights_;
};
TORCH_MODULE(Transformer);

// The grid of the tokens of a latent [..., F, H, W], H and W even (TORCH_CHECK).
Grid token_grid(const at::Tensor& latent);
// Cuts a latent into patches of 2 x 2: b c f (h 2) (w 2) -> b (f h w) (c 2 2).
// [B, C, F, 2h, 2w] -> [B, F·h·w, C·2·2]; tokens are row-major, the values of a patch are in the
// order of the patch embedding's weight. C: latent channels.
at::Tensor patchify(const at::Tensor& latent);
// Assembles a latent from patches: b (f h w) (2 2 c) -> b c f (h 2) (w 2). Unlike patchify(), the
// channel is the fastest axis of a patch. [B, F·h·w, 2·2·C] -> [B, C, F, 2h, 2w].
at::Tensor unpatchify(const at::Tensor& patches, const Grid& grid);

}  // namespace ospnext
