// The denoising transformer of Wan2.1 and OSP-Next: latent, text and time to velocity.
#pragma once

#include <torch/nn/modules/container/modulelist.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/torch/spans.h"
#include "core/torch/torch.h"
#include "models/layout.h"
#include "models/token_exchange.h"
#include "models/transformer_config.h"
#include "models/transformer_layers.h"
#include "models/transformer_text.h"
#include "parallel/sharded_weights.h"

namespace ospnext {

// What a forward pass takes of a prompt: one entry a block. Made once, it serves every step.
using TextVectors = std::vector<TextKeys>;
// What it takes of a noise level.
struct TimeVectors {
  at::Tensor embedding, modulation;  // [B, C], [B, 6, C] float32
};

// Parameters carry exactly the names of Wan's checkpoints. New ones are not initialised: load them or
// call reset_parameters().
//
// Precision: linears, attention and the residual stream run in the compute dtype (float32 at first);
// norms, softmax, modulation, residual additions, time embedding and head in float32 inside.
// Parameters may be of another dtype than the compute dtype: a layer casts them to its input's.
//
// Tables of layouts and rotations are kept per grid, so a second forward of a grid synchronises with
// nothing and can be captured in a CUDA graph. Not for use by several threads at once.
struct TransformerImpl : torch::nn::Module {
  // Throws InputError for a config that breaks a rule. `options` gives the device, and the dtype of
  // the linears that run in the compute dtype; all else is made in float32. Blocks kWithoutMemory wait for
  // shard_blocks().
  enum class Blocks { kWhole, kWithoutMemory };
  explicit TransformerImpl(const TransformerConfig& config, at::TensorOptions options = at::kFloat,
                           Blocks kept = Blocks::kWhole);

  // latent [B, in_dim, F, H, W], H and W even; text of embed_text(), time of embed_time() -> velocity
  // [B, out_dim, F, H, W] float32. Differentiable. Its blocks go to `spans`.
  at::Tensor forward(const at::Tensor& latent, const TextVectors& text, const TimeVectors& time,
                     Spans* spans = nullptr);
  // Rows [B, T, text_dim], all of which are attended.
  TextVectors embed_text(const TextRows& text);
  // timestep [B], sigma·1000.
  TimeVectors embed_time(const at::Tensor& timestep);
  // The three together.
  at::Tensor forward(const at::Tensor& latent, const TextRows& text, const at::Tensor& timestep);

  // Shares the tokens of each video among ranks from now on: all of them call forward() with the same arguments
  // and get the same velocity. Not differentiable then. More than one owner needs a sparse model.
  void set_ranks(const SequenceRanks& ranks);

  // Divides the parameters of the blocks among ranks, which from now on call embed_text() and forward() equally often, in
  // the same order, for whatever videos. A block has its parameters while it runs, and NaN at other times. Each rank
  // keeps its part of what the blocks hold; what they shall hold instead is written to the shards that are returned,
  // by the parameters' names. `ranks` as ShardedWeights takes them; with one nothing changes, and nothing is returned.
  std::map<std::string, WeightShard> shard_blocks(const ProcessGroup& ranks);

  void set_compute_dtype(at::ScalarType dtype);
  at::ScalarType compute_dtype() const { return compute_dtype_; }

  // Casts the weights of the linears that run in the compute dtype; norms, modulation, time embedding
  // and head stay in float32.
  void to_inference_precision(at::ScalarType dtype);

  // Initialisation for training from nothing: Xavier-uniform linears and patch embedding, normal 0.02
  // in the text and time embeddings, modulation normal / √C, norms 1 and 0, biases and head 0. Drawn
  // on the generator's device in parameter order. Source: Wan2.1 wan/modules/model.py:init_weights.
  void reset_parameters(at::Generator generator);

  const TransformerConfig& config() const { return config_; }
  // One entry a block: its pattern and the layout it runs in.
  const std::vector<BlockPlan>& plan() const { return plan_; }

  PatchEmbedding patch_embedding{nullptr};
  Mlp text_embedding{nullptr}, time_embedding{nullptr};
  TimeProjection time_projection{nullptr};
  torch::nn::ModuleList blocks;
  Head head{nullptr};

 private:
  struct Tokens {
    TokenExchange exchange;
    std::map<Pattern, Placement> places;
  };
  Tokens& tokens_of(const Grid& grid, at::Device device);

  TransformerConfig config_;
  std::vector<BlockPlan> plan_;
  at::ScalarType compute_dtype_ = at::kFloat;
  SequenceRanks ranks_;
  ShardedWeights weights_;
  std::map<std::pair<Grid, std::string>, Tokens> tokens_;  // by grid and device
};
TORCH_MODULE(Transformer);

// [B, C, F, 2h, 2w] -> [B, F·h·w, C·2·2], tokens row-major, a patch as the embedding's weight has it.
at::Tensor patchify(const at::Tensor& latent);
// [B, F·h·w, 2·2·C] (channels fastest) -> [B, C, F, 2h, 2w]
at::Tensor unpatchify(const at::Tensor& patches, const Grid& grid);

}  // namespace ospnext
