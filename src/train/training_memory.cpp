#include "train/training_memory.h"

#include <algorithm>

namespace ospnext {
namespace {

constexpr int64_t kFloat = 4;  // bytes of a master weight, a gradient, a moment, an average

// Whole blocks that are there at once: weights of the block in use and of two ahead; gradients that
// accumulate, that are sent, and that arrive.
constexpr int64_t kAhead = 2, kGradientBuffers = 3;

// Parameters that this process keeps, of the blocks and around them.
struct Kept {
  int64_t blocks, around;
};

TrainingMemory state_memory(const Kept& weights, const Kept& trained, const TrainedState& state) {
  const int64_t all = trained.blocks + trained.around;
  const int64_t weight_bytes = state.lora_rank > 0 ? state.value_bytes : kFloat;
  const int64_t pairs = state.lora_rank > 0 ? all * kFloat : 0;
  const int64_t moments = 2 * kFloat * all, averages = state.ema ? kFloat * all : 0;
  const int64_t block_weights = weights.blocks * weight_bytes;
  // Gradients of LoRA pairs stay, since the pairs do.
  const int64_t block_gradients = state.lora_rank > 0 ? 0 : trained.blocks * kFloat;
  TrainingMemory memory;
  memory.weights = weights.around * weight_bytes + pairs;
  memory.gradients = all * kFloat - block_gradients;
  (state.offload_weights ? memory.host_state : memory.weights) += block_weights;
  (state.offload_weights ? memory.host_state : memory.gradients) += block_gradients;
  (state.offload_optimizer ? memory.host_state : memory.moments) += moments;
  (state.offload_optimizer ? memory.host_state : memory.averages) += averages;
  return memory;
}

// Text: keys and values of a block, and keys before their norm. [T, C] each.
int64_t text_bytes(const TransformerConfig& transformer, int64_t value_bytes) {
  return 3 * transformer.text_len * transformer.dim * value_bytes;
}

}  // namespace

ParameterCounts count_parameters(const TransformerConfig& transformer, int64_t lora_rank) {
  constexpr int64_t kLinears = 8;  // q, k, v and o of both attentions
  const int64_t C = transformer.dim, F = transformer.ffn_dim;
  const auto linear = [](int64_t in, int64_t out) { return out * (in + 1); };
  const int64_t patch = kPatchRows * kPatchColumns;
  ParameterCounts counts;
  // The norms of queries and keys, the norm before text with its bias, and six vectors of
  // modulation: 12 vectors.
  counts.block = kLinears * linear(C, C) + linear(C, F) + linear(F, C) + 12 * C;
  // Patches, text, time and its projection to modulation; the head with two vectors of modulation.
  counts.around = linear(transformer.in_dim * patch, C) + linear(transformer.text_dim, C) +
                  linear(C, C) + linear(transformer.freq_dim, C) + linear(C, C) + linear(C, 6 * C) +
                  linear(C, transformer.out_dim * patch) + 2 * C;
  counts.pairs = kLinears * 2 * C * lora_rank;
  return counts;
}

int64_t own_trained(const TransformerConfig& transformer, int64_t lora_rank, int shard_group) {
  const ParameterCounts counts = count_parameters(transformer, lora_rank);
  const int64_t layers = transformer.num_layers;
  return lora_rank > 0 ? layers * counts.pairs
                       : layers * counts.block / shard_group + counts.around;
}

// The tensors of a token that transformer_layers.cpp leaves to autograd, each as wide as C:
//   self-attention: x, modulated x, q and k before their norms, q, k, v, result, projection    9
//   text attention: x, normed x, q before its norm, q, result                                  5
//   feed-forward:   x, modulated x, result                                                     3
// and as wide as ffn_dim, before and after GELU: 2. Frozen products keep no input: with LoRA on
// attention, the feed-forward keeps neither modulated x nor GELU; the projection has two parts.
// In float32: the log-sum-exp of both attentions, mean and deviation of the norm before text.
// At the peak, in the gradient of the second product of the feed-forward, there are also the
// block's result and its gradient, and gradients as wide as ffn_dim.
TokenBytes token_bytes(const TransformerConfig& transformer, const TrainedState& state) {
  constexpr int64_t kStreams = 17;
  const int64_t C = transformer.dim * state.value_bytes;
  const int64_t hidden = transformer.ffn_dim * state.value_bytes;
  const int64_t log_sum = transformer.num_heads * kFloat;
  const int64_t kept_hidden = state.lora_rank > 0 ? 1 : 2;
  constexpr int64_t kHiddenAtPeak = 3;
  TokenBytes bytes;
  bytes.input = C;
  bytes.attention = C + log_sum;
  bytes.everything = kStreams * C + kept_hidden * hidden + 2 * log_sum + 2 * kFloat;
  bytes.gradients = 2 * C + (kHiddenAtPeak - kept_hidden) * hidden;
  bytes.head = 3 * transformer.dim * kFloat;  // input, modulated input and one gradient
  return bytes;
}

int64_t free_blocks(const Checkpointing& checkpointing, int64_t blocks) {
  return checkpointing.kept == Checkpointing::Kept::kEverything
             ? blocks
             : std::min(blocks, checkpointing.free_blocks);
}

int64_t TrainingMemory::on_gpu() const {
  return weights + gradients + moments + averages + activations + gathered + buffers;
}

TrainingMemory training_memory(const TransformerConfig& transformer, const TrainedState& state,
                               const Checkpointing& checkpointing, int shard_group, int64_t tokens,
                               int64_t clips) {
  const ParameterCounts counts = count_parameters(transformer, state.lora_rank);
  const bool is_lora = state.lora_rank > 0;
  const int64_t layers = transformer.num_layers, v = state.value_bytes;
  const Kept weights{layers * counts.block / shard_group, counts.around};
  TrainingMemory memory =
      state_memory(weights, is_lora ? Kept{layers * counts.pairs, 0} : weights, state);

  const TokenBytes bytes = token_bytes(transformer, state);
  const int64_t free = free_blocks(checkpointing, layers), again = layers - free;
  const int64_t input = tokens * bytes.input;
  const int64_t everything =
      tokens * bytes.everything + clips * text_bytes(transformer, state.value_bytes);
  int64_t kept =
      checkpointing.kept == Checkpointing::Kept::kAttention ? tokens * bytes.attention : 0;
  if (checkpointing.in_host_memory) {
    memory.host_activations = again * input;
  } else {
    kept += input;
  }
  // The last block is whole when its gradient is computed, even if it computes again.
  const int64_t whole = std::max<int64_t>(free, 1);
  const int64_t at_block = (layers - whole) * kept + whole * everything + tokens * bytes.gradients;
  const int64_t at_head = again * kept + free * everything + tokens * bytes.head;
  memory.activations = std::max(at_block, at_head);

  const bool is_gathered = shard_group > 1 || state.offload_weights;
  if (is_gathered) {
    const int64_t blocks =
        std::min(layers, std::max(1 + kAhead, free + kAhead)) + (is_lora ? 0 : kGradientBuffers);
    memory.gathered = blocks * counts.block * v;
  } else if (v < kFloat && !is_lora) {
    memory.buffers += whole * counts.block * v;
  }
  if (!is_lora) {
    memory.buffers += transformer.dim * transformer.ffn_dim * (v + (is_gathered ? 0 : kFloat));
  }
  return memory;
}

}  // namespace ospnext
