#include "train/training_plan.h"

#include <algorithm>

#include "engine/model_flops.h"

namespace ospnext {
namespace {

// Passes of a block in training, in multiples of its forward pass in inference, where products have
// epilogues. Per token: 2·forward + backward = 4.65 in the steps of docs/training.md that compute
// all but attention again (4.5 with the 1.3B model, 4.7 with 14B); 1.1 is the count of bytes that
// epilogues save. Per pair: 2.5 times the operations at 535 instead of 679 TFLOP/s.
constexpr double kForward = 1.1, kBackward = 2.45, kPairBackward = 3.17;
// A turn of a ring joins partial results; its gradient adds up those of queries, keys and values in
// float32: 46 instead of 18 bytes for a channel.
constexpr double kBackwardTurn = 2.6;
// The products that give gradients of weights: a third of a pass that trains them.
constexpr double kWeightGradients = 1.0;

constexpr double kFloat = 4;  // bytes

// How often a block runs forward in a step's pass: tokens and exchanges between heads, pairs and
// keys of a ring, gathers of its weights.
struct Runs {
  double tokens, pairs;
  int64_t gathers;
};

Runs runs_of(const Checkpointing& checkpointing, bool is_free) {
  if (is_free) {
    return {1, 1, 1};
  }
  return {2, checkpointing.kept == Checkpointing::Kept::kAttention ? 1.0 : 2.0, 2};
}

// Sums up the forward and backward passes of the clips of one process.
class TrainingPass {
 public:
  TrainingPass(const TrainingSetting& setting, const TrainingSubject& subject,
               const std::vector<BlockWork>& blocks)
      : setting_(setting),
        subject_(subject),
        clips_(subject.batch_size / setting.mesh.data),
        row_(subject.model.transformer.dim * subject.model.value_bytes * clips_),
        sent_(setting.mesh.sequence.size()) {
    const auto count = static_cast<int64_t>(blocks.size());
    const int64_t free = free_blocks(setting.checkpointing, count);
    for (int64_t i = 0; i < count; ++i) {
      const Runs runs = runs_of(setting.checkpointing, i >= count - free);
      gathers_ += runs.gathers;
      add_block(blocks[i], runs);
    }
    add_gather(blocks.back().tokens);
  }

  double compute() const { return compute_; }
  double exchange() const {
    return subject_.model.seconds(sent_.bytes(), sent_.exchanges()) - hidden_;
  }
  int64_t bytes() const { return sent_.bytes(); }
  int64_t gathers() const { return gathers_; }  // of one block's weights

 private:
  void add_block(const BlockWork& block, const Runs& runs) {
    const BlockCosts& costs = subject_.model.costs;
    const auto clips = static_cast<double>(clips_);
    const double token = costs.token * static_cast<double>(block.most_tokens()) * clips;
    const double pair = costs.pair * block.pairs * clips;
    const double backward = kBackward - (subject_.state.lora_rank > 0 ? kWeightGradients : 0.0);
    compute_ += (kForward * runs.tokens + backward) * token + (runs.pairs + kPairBackward) * pair;
    if (!block.switched.empty()) {
      sent_.add(block.switched, row_, 2);
    }
    if (block.ulysses > 1) {
      const auto times = static_cast<int64_t>(runs.tokens) + 1;
      sent_.add(block.to_heads(), 3 * row_ / block.ulysses, times);
      sent_.add(block.to_tokens(), row_ / block.ulysses, times);
    }
    if (block.ring > 1) {
      add_ring(block, runs, pair);
    }
  }

  // Keys and values go round in each pass; in the backward pass their gradients too, in float32.
  void add_ring(const BlockWork& block, const Runs& runs, double pair) {
    const double turn = subject_.model.costs.turn * static_cast<double>(block.most_tokens()) *
                        static_cast<double>(clips_);
    compute_ += (runs.pairs + kBackwardTurn) * turn * block.ring;
    const int64_t keys = 2 * row_ / block.ulysses;
    const int64_t gradients = keys * static_cast<int64_t>(kFloat) / subject_.model.value_bytes;
    const auto forward = static_cast<int64_t>(runs.pairs);
    add_hidden(block, keys, forward * (block.ring - 1), pair / block.ring);
    add_hidden(block, keys, block.ring - 1, kPairBackward * pair / block.ring);
    add_hidden(block, gradients, block.ring, kPairBackward * pair / block.ring);
  }

  // Exchanges of held keys beside `beside` seconds of attention each.
  void add_hidden(const BlockWork& block, int64_t row_bytes, int64_t times, double beside) {
    const RankCounts held = block.held();
    const int64_t most = *std::max_element(held.begin(), held.end());
    sent_.add(held, row_bytes, times);
    hidden_ +=
        static_cast<double>(times) * std::min(subject_.model.seconds(most * row_bytes, 1), beside);
  }

  // The velocity of all tokens, and its gradient back to the tokens' ranks.
  void add_gather(const RankCounts& tokens) {
    const int64_t velocity = subject_.model.transformer.out_dim * kPatchRows * kPatchColumns *
                             static_cast<int64_t>(kFloat) * clips_;
    RankCounts others, back;
    for (const int64_t own : tokens) {
      others.push_back(own * (std::ssize(tokens) - 1));
      back.push_back(subject_.model.grid.tokens() - own);
    }
    sent_.add(others, velocity);
    sent_.add(back, velocity);
  }

  const TrainingSetting& setting_;
  const TrainingSubject& subject_;
  int64_t clips_, row_;
  SentBytes sent_;
  double compute_ = 0, hidden_ = 0;
  int64_t gathers_ = 0;
};

// Bytes that each of n processes sends to sum up `bytes` on all of them.
double summed(double bytes, int n) {
  return 2 * bytes * (n - 1) / n;
}

struct Beside {
  double seconds = 0, bytes = 0;  // bytes: sent by a process
};

// Gathers of sharded blocks and exchanges of their gradients, in one pass.
Beside sharded_traffic(const TrainingPlan& plan, const TrainingSubject& subject,
                       const ParameterCounts& counts, int64_t gathers) {
  const int n = plan.setting.shard_group;
  if (n == 1) {
    return {};
  }
  const int64_t gradients = subject.state.lora_rank > 0 ? 0 : subject.model.transformer.num_layers;
  const double part = static_cast<double>(counts.block * subject.model.value_bytes) / n * (n - 1);
  const double bytes = static_cast<double>(gathers + gradients) * part;
  return {subject.model.seconds(static_cast<int64_t>(bytes), gathers + gradients), bytes};
}

// The sums of gradients of a step over processes that hold the same part.
Beside gradient_sums(const TrainingSetting& setting, const TrainingSubject& subject,
                     const ParameterCounts& counts) {
  const auto layers = static_cast<double>(subject.model.transformer.num_layers);
  const double n = setting.shard_group;
  const bool is_lora = subject.state.lora_rank > 0;
  const double whole = is_lora ? layers * static_cast<double>(counts.pairs)
                               : static_cast<double>(counts.around) +
                                     (n == 1 ? layers * static_cast<double>(counts.block) : 0.0);
  const double shards = is_lora || n == 1 ? 0 : layers * static_cast<double>(counts.block) / n;
  const int all = setting.mesh.size();
  const double bytes = kFloat * (summed(whole, all) + summed(shards, all / setting.shard_group));
  return {subject.model.seconds(static_cast<int64_t>(bytes), 0), bytes};
}

// Seconds of passes over weights and state in the GPU's memory.
double optimizer_seconds(const TrainingSetting& setting, const TrainingSubject& subject) {
  // Bytes for a trained parameter and step: zeros 4, norm 4, scaling 8, AdamW 28, average 12; over
  // several processes a second scaling, and copies to and from buckets 16.
  constexpr double kStep = 44, kAverage = 12, kSums = 24;
  // For a parameter and pass: each cast of a weight 6, of its gradient 6, and its addition 12.
  constexpr double kCast = 6, kAdd = 12;
  const TransformerConfig& transformer = subject.model.transformer;
  const int64_t rank = subject.state.lora_rank;
  const auto own = static_cast<double>(own_trained(transformer, rank, setting.shard_group));
  const double step =
      own * (kStep + (subject.state.ema ? kAverage : 0) + (setting.mesh.size() > 1 ? kSums : 0));
  const int64_t layers = transformer.num_layers;
  const double runs = 2 - static_cast<double>(free_blocks(setting.checkpointing, layers)) /
                              static_cast<double>(layers);
  const bool casts = subject.model.value_bytes < kFloat && rank == 0;
  const double pass = static_cast<double>(own_trained(transformer, rank, 1)) *
                      (kAdd + (casts ? kCast * (runs + 1) : 0));
  return (step + static_cast<double>(subject.accumulate) * pass) / subject.memory_bandwidth;
}

// Seconds that the GPU waits for host memory in a step. Inputs of blocks are waited for, there and
// back. At the step, the way to the GPU runs beside the way back, and both are slower for it: 12
// bytes of moments and averages for a parameter; of weights and gradients 20, for norm, scaling,
// AdamW and averages. Beside the computation of a pass, weights come for each run of a block, and
// sums of gradients.
double host_seconds(const TrainingPlan& plan, const TrainingSubject& subject,
                    const ParameterCounts& counts, int64_t gathers) {
  const TrainedState& state = subject.state;
  const TransformerConfig& transformer = subject.model.transformer;
  const auto passes = static_cast<double>(subject.accumulate);
  const int shards = plan.setting.shard_group;
  // Of the link's rate, from the measured step with --offload-optimizer in docs/training.md.
  constexpr double kBothWays = 0.77;
  const double activations = 2 * passes * static_cast<double>(plan.memory.host_activations);
  double waited = 0;  // bytes, as `activations` and `beside`
  if (state.offload_optimizer) {
    const auto own = static_cast<double>(own_trained(transformer, state.lora_rank, shards));
    waited += own * (2 * kFloat + (state.ema ? kFloat : 0));
  }
  double beside = 0;
  if (state.offload_weights) {
    constexpr double kStep = 20;
    const bool is_lora = state.lora_rank > 0;
    const double own = static_cast<double>(counts.block) / shards;
    const auto layers = static_cast<double>(transformer.num_layers);
    const double weight = is_lora ? static_cast<double>(subject.model.value_bytes) : kFloat;
    beside =
        passes * own * (static_cast<double>(gathers) * weight + (is_lora ? 0 : kFloat * layers));
    waited += is_lora ? 0 : kStep * own * layers;
  }
  const double both_ways = kBothWays * subject.model.host_link;
  return activations / subject.model.host_link + waited / both_ways +
         std::max(0.0, beside / both_ways - plan.compute);
}

}  // namespace

TrainingPlan predict_training(const TrainingSetting& setting, const TrainingSubject& subject,
                              const std::vector<BlockWork>& blocks) {
  const TransformerConfig& transformer = subject.model.transformer;
  const ParameterCounts counts = count_parameters(transformer, subject.state.lora_rank);
  const TrainingPass pass(setting, subject, blocks);
  const auto passes = static_cast<double>(subject.accumulate);
  int64_t tokens = 0;
  for (const BlockWork& block : blocks) {
    tokens = std::max(tokens, block.most_tokens());
  }
  const int64_t clips = subject.batch_size / setting.mesh.data;
  TrainingPlan plan;
  plan.setting = setting;
  plan.memory = training_memory(transformer, subject.state, setting.checkpointing,
                                setting.shard_group, tokens * clips, clips);
  plan.compute = passes * pass.compute();
  plan.optimizer = optimizer_seconds(setting, subject);
  const Beside shards = sharded_traffic(plan, subject, counts, pass.gathers());
  const Beside sums = gradient_sums(setting, subject, counts);
  plan.exchange =
      passes * (pass.exchange() + std::max(0.0, shards.seconds - pass.compute())) + sums.seconds;
  plan.transfer = host_seconds(plan, subject, counts, pass.gathers());
  plan.bytes = static_cast<int64_t>(passes * (static_cast<double>(pass.bytes()) + shards.bytes) +
                                    sums.bytes);
  return plan;
}

double training_flops(const TrainingSubject& subject) {
  return 3 * forward_flops(subject.model.transformer, subject.model.grid) *
         static_cast<double>(subject.batch_size * subject.accumulate);
}

}  // namespace ospnext
