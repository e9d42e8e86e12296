#include "engine/plan.h"

#include <algorithm>

#include "engine/pass_work.h"
#include "packages/random_model.h"

namespace ospnext {
namespace {

// Sums up one forward pass, block by block.
class Pass {
 public:
  Pass(const PlanSubject& subject, const SequenceMesh& mesh)
      : subject_(subject), sent_(mesh.size()) {
    const int64_t row = subject.transformer.dim * subject.value_bytes;
    const std::vector<BlockWork> blocks = pass_work(subject.transformer, subject.grid, mesh);
    for (const BlockWork& block : blocks) {
      if (!block.switched.empty()) {
        sent_.add(block.switched, row);
      }
      add_block(block, row);
    }
    RankCounts gathered = blocks.back().tokens;  // the output of the head
    for (int64_t& count : gathered) {
      count *= mesh.size() - 1;
    }
    sent_.add(gathered, subject.transformer.out_dim * kPatchRows * kPatchColumns *
                            static_cast<int64_t>(sizeof(float)));
  }

  double compute() const { return compute_; }
  // Seconds of exchanges that overlap with computation.
  double hidden() const { return hidden_; }
  int64_t bytes() const { return sent_.bytes(); }
  int64_t exchanges() const { return sent_.exchanges(); }

 private:
  void add_block(const BlockWork& block, int64_t row) {
    const auto tokens = static_cast<double>(block.most_tokens());
    const BlockCosts& costs = subject_.costs;
    compute_ += costs.token * tokens + costs.pair * block.pairs;
    if (block.ulysses > 1) {
      sent_.add(block.to_heads(), 3 * row / block.ulysses);
      sent_.add(block.to_tokens(), row / block.ulysses);
    }
    if (block.ring > 1) {
      const RankCounts held = block.held();
      const int64_t bytes = *std::max_element(held.begin(), held.end()) * 2 * row / block.ulysses;
      compute_ += costs.turn * block.ring * tokens;
      sent_.add(held, 2 * row / block.ulysses, block.ring - 1);
      hidden_ += (block.ring - 1) *
                 std::min(subject_.seconds(bytes, 1), costs.pair * block.pairs / block.ring);
    }
  }

  const PlanSubject& subject_;
  SentBytes sent_;
  double compute_ = 0, hidden_ = 0;
};

// Bytes of the weights of one block.
int64_t block_bytes(const PlanSubject& subject) {
  const int64_t C = subject.transformer.dim;
  return (8 * C * C + 2 * C * subject.transformer.ffn_dim) * subject.weight_bytes + C * 6 * 4;
}

// Bytes of the blocks' weights that each of `sharers` ranks keeps.
int64_t own_blocks(const PlanSubject& subject, int64_t sharers) {
  return block_bytes(subject) * subject.transformer.num_layers / sharers;
}

// Weights on the GPU, plus for each token: queries, keys, values, two residuals, and the hidden
// layer of the feed-forward network.
int64_t memory_of(const PlanSubject& subject, int64_t tokens, int64_t sharers) {
  constexpr int64_t kStreams = 8, kWhole = 3;  // blocks: one in use, two prefetched
  const TransformerConfig& model = subject.transformer;
  const int64_t C = model.dim;
  const int64_t own = subject.offload ? 0 : own_blocks(subject, sharers);
  const bool comes = sharers > 1 || subject.offload;
  const int64_t blocks = own + (comes ? kWhole * block_bytes(subject) : 0);
  const int64_t around = 6 * C * C + C * (model.text_dim + C + model.freq_dim + C);
  return blocks + around * 4 + tokens * (kStreams * C + model.ffn_dim) * subject.value_bytes;
}

}  // namespace

double linear_flops(const TransformerConfig& config) {
  constexpr double kSquare = 6;  // q, k, v, o, and q and o of cross-attention
  const auto C = static_cast<double>(config.dim), hidden = static_cast<double>(config.ffn_dim);
  return 2 * (kSquare * C * C + 2 * C * hidden);
}

double pair_flops(const TransformerConfig& config) {
  return 4 * static_cast<double>(config.dim);  // two products of the head width, for each head
}

BlockCosts block_costs(double full_seconds, double sparse_seconds, const Grid& grid,
                       const TransformerConfig& transformer) {
  const auto L = static_cast<double>(grid.tokens());
  const Layout sparse(grid, Pattern::kToken, transformer.sparse_ratio);
  const auto sparse_pairs = static_cast<double>(pairs_in(sparse.lengths()));
  const double pair = (full_seconds - sparse_seconds) / (L * L - sparse_pairs);
  return {.token = (full_seconds - pair * L * L) / L, .pair = pair};
}

double turn_cost(double longer_seconds, const Grid& grid) {
  return longer_seconds / static_cast<double>(2 * grid.tokens());
}

BlockCosts h200_block_costs(const TransformerConfig& transformer, bool hif8) {
  const Grid hd{21, 45, 80};
  const TransformerConfig large = released_transformer("14b", "plan");
  const TransformerConfig narrow = released_transformer("1.3b", "plan");
  const BlockCosts bf16 = block_costs(0.2362, 0.1070, hd, large);
  const BlockCosts costs = hif8 ? block_costs(0.1834, 0.0811, hd, large) : bf16;
  // Seconds per token are operation·linear_flops + channel·dim; two measured widths give both.
  constexpr double kNarrowToken = 1.57e-7;
  const double ratio = linear_flops(narrow) / linear_flops(large);
  const double channel = (kNarrowToken - ratio * bf16.token) /
                         (static_cast<double>(narrow.dim) - ratio * static_cast<double>(large.dim));
  const double operation =
      (costs.token - channel * static_cast<double>(large.dim)) / linear_flops(large);
  return {.token = operation * linear_flops(transformer) +
                   channel * static_cast<double>(transformer.dim),
          .pair = costs.pair * pair_flops(transformer) / pair_flops(large),
          .turn = turn_cost(0.0033, hd) * static_cast<double>(transformer.dim) /
                  static_cast<double>(large.dim)};
}

double PlanSubject::seconds(int64_t bytes, int64_t exchanges) const {
  return static_cast<double>(bytes) / link_bytes + static_cast<double>(exchanges) * latency;
}

Plan predict(const Mesh& mesh, const PlanSubject& subject) {
  const Pass pass(subject, mesh.sequence);
  const int passes = (subject.two_passes ? 2 : 1) / mesh.cfg;
  const TransformerConfig& model = subject.transformer;
  const int64_t velocity = subject.grid.tokens() * model.out_dim * kPatchRows * kPatchColumns *
                           static_cast<int64_t>(sizeof(float));
  Plan plan{.mesh = mesh};
  plan.compute = passes * pass.compute();
  plan.bytes = passes * pass.bytes() + (mesh.cfg - 1) * velocity;
  plan.exchanges = passes * pass.exchanges() + (mesh.cfg - 1);
  plan.exchange = subject.seconds(plan.bytes, plan.exchanges) - passes * pass.hidden();
  const int sharers = subject.shard_weights ? mesh.size() : 1;
  double travel = 0;  // seconds of weights
  if (sharers > 1) {
    const int64_t gathered = passes * model.num_layers;
    const int64_t bytes = gathered * (block_bytes(subject) / sharers) * (sharers - 1);
    plan.bytes += bytes;
    plan.exchanges += gathered;
    travel = subject.seconds(bytes, gathered);
  }
  if (subject.offload) {
    plan.host_memory = own_blocks(subject, sharers);
    travel = std::max(travel, passes * static_cast<double>(plan.host_memory) / subject.host_link);
  }
  plan.exchange += std::max(0.0, travel - plan.compute);
  const int64_t ranks = mesh.sequence.size();
  plan.memory = memory_of(subject, (subject.grid.tokens() + ranks - 1) / ranks, sharers);
  return plan;
}

Mesh fastest_mesh(int ranks, const MeshFields& flags, const MeshSubject& meshes,
                  const PlanSubject& subject) {
  return choose_mesh(ranks, flags, meshes,
                     [&](const Mesh& mesh) { return predict(mesh, subject).seconds(); });
}

}  // namespace ospnext
