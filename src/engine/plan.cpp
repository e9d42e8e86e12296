#include "engine/plan.h"

#include <algorithm>
#include <numeric>

#include "packages/random_model.h"

namespace ospnext {
namespace {

using Counts = std::vector<int64_t>;

int64_t pairs_in(const Counts& lengths) {
  return std::inner_product(lengths.begin(), lengths.end(), lengths.begin(), int64_t{0});
}

int64_t largest(const Counts& counts) {
  return *std::max_element(counts.begin(), counts.end());
}

Counts tokens_by_rank(const Layout& layout) {
  Counts tokens;
  for (int64_t rank = 0; rank < layout.spread().ranks(); ++rank) {
    tokens.push_back(layout.tokens_of(rank));
  }
  return tokens;
}

// The number of tokens that each rank sends in a switch of layouts.
Counts leaving(const Layout& from, const Layout& to) {
  Counts counts;
  for (int64_t rank = 0; rank < from.spread().ranks(); ++rank) {
    const at::Tensor places = to.places().index_select(
        0, from.order().narrow(0, from.cuts()[rank], from.tokens_of(rank)));
    const at::Tensor stays = (places >= to.cuts()[rank]).logical_and(places < to.cuts()[rank + 1]);
    counts.push_back(from.tokens_of(rank) - stays.sum().item<int64_t>());
  }
  return counts;
}

// Sums up one forward pass, block by block.
class Pass {
 public:
  Pass(const PlanSubject& subject, const SequenceMesh& mesh)
      : subject_(subject), mesh_(mesh), bytes_(mesh.size(), 0) {
    const TransformerConfig& model = subject.transformer;
    const auto plan = plan_blocks(model.skiparse_type(), model.num_layers, model.num_full_blocks);
    const Spread spread{mesh.ssp, mesh.sharers()};
    const auto layout_of = [&](Pattern pattern) {
      return Layout(subject.grid, pattern, model.sparse_ratio, at::kCPU, spread);
    };
    const Layout first = layout_of(plan.front().layout);
    const Layout other = layout_of(first.pattern() == Pattern::kToken   ? Pattern::kGroup
                                   : first.pattern() == Pattern::kGroup ? Pattern::kToken
                                                                        : Pattern::kFull);
    const Counts there = leaving(first, other), back = leaving(other, first);
    Pattern at = first.pattern();
    for (const BlockPlan& block : plan) {
      if (block.layout != at) {
        send(block.layout == first.pattern() ? back : there, model.dim * subject.value_bytes);
        at = block.layout;
      }
      add_block(block.layout == first.pattern() ? first : other, block.pattern);
    }
    send_to_all(at == first.pattern() ? first : other);
  }

  double compute() const { return compute_; }
  // Seconds of exchanges that overlap with computation.
  double hidden() const { return hidden_; }
  int64_t bytes() const { return largest(bytes_); }
  int64_t exchanges() const { return exchanges_; }

 private:
  void send(const Counts& rows, int64_t row_bytes) {
    if (mesh_.size() == 1) {
      return;
    }
    ++exchanges_;
    for (size_t rank = 0; rank < rows.size(); ++rank) {
      bytes_[rank] += rows[rank] * row_bytes;
    }
  }

  // All-gathers the output of the head.
  void send_to_all(const Layout& layout) {
    Counts rows = tokens_by_rank(layout);
    for (int64_t& count : rows) {
      count *= mesh_.size() - 1;
    }
    send(rows, subject_.transformer.out_dim * kPatchRows * kPatchColumns *
                   static_cast<int64_t>(sizeof(float)));
  }

  void add_block(const Layout& layout, Pattern pattern) {
    const bool full = pattern == Pattern::kFull;
    const int ulysses = full ? full_ulysses(mesh_, subject_.transformer.num_heads) : mesh_.ulysses;
    const int ring = (full ? mesh_.size() : mesh_.sharers()) / ulysses;
    double pairs = 0;
    if (full) {
      const auto L = static_cast<double>(subject_.grid.tokens());
      pairs = L * L / mesh_.size();
    } else {
      Counts of_owner;
      for (int owner = 0; owner < mesh_.ssp; ++owner) {
        of_owner.push_back(
            pairs_in(layout.pieces(owner * mesh_.sharers(), (owner + 1) * mesh_.sharers())));
      }
      pairs = static_cast<double>(largest(of_owner)) / mesh_.sharers();
    }
    const Counts tokens = tokens_by_rank(layout);
    compute_ +=
        subject_.costs.token * static_cast<double>(largest(tokens)) + subject_.costs.pair * pairs;
    const int64_t row = subject_.transformer.dim * subject_.value_bytes;
    if (ulysses > 1) {
      Counts in, out;
      for (size_t rank = 0; rank < tokens.size(); ++rank) {
        const auto group = tokens.begin() + static_cast<int64_t>(rank) / ulysses * ulysses;
        in.push_back(tokens[rank] * (ulysses - 1));
        out.push_back(std::accumulate(group, group + ulysses, int64_t{0}) - tokens[rank]);
      }
      send(in, 3 * row / ulysses);
      send(out, row / ulysses);
    }
    if (ring > 1) {
      compute_ += subject_.costs.turn * ring * static_cast<double>(largest(tokens));
    }
    for (int turn = 1; turn < ring; ++turn) {
      Counts held;
      for (size_t rank = 0; rank < tokens.size(); ++rank) {  // about what each holds itself
        const auto group = tokens.begin() + static_cast<int64_t>(rank) / ulysses * ulysses;
        held.push_back(std::accumulate(group, group + ulysses, int64_t{0}));
      }
      send(held, 2 * row / ulysses);
      hidden_ += std::min(subject_.seconds(largest(held) * 2 * row / ulysses, 1),
                          subject_.costs.pair * pairs / ring);
    }
  }

  const PlanSubject& subject_;
  SequenceMesh mesh_;
  Counts bytes_;  // that each rank sends
  double compute_ = 0, hidden_ = 0;
  int64_t exchanges_ = 0;
};

// Bytes of the weights of one block.
int64_t block_bytes(const PlanSubject& subject) {
  const int64_t C = subject.transformer.dim;
  return (8 * C * C + 2 * C * subject.transformer.ffn_dim) * subject.weight_bytes + C * 6 * 4;
}

// Weights, plus for each token: queries, keys, values, two residuals, and the hidden layer of the
// feed-forward network.
int64_t memory_of(const PlanSubject& subject, int64_t tokens, int64_t sharers) {
  constexpr int64_t kStreams = 8, kWhole = 3;  // blocks: one in use, two prefetched
  const TransformerConfig& model = subject.transformer;
  const int64_t C = model.dim;
  const int64_t all_blocks = block_bytes(subject) * model.num_layers;
  const int64_t blocks =
      sharers == 1 ? all_blocks : all_blocks / sharers + kWhole * block_bytes(subject);
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
  const BlockCosts costs =
      hif8 ? block_costs(0.1834, 0.0811, hd, large) : block_costs(0.2362, 0.1070, hd, large);
  return {.token = costs.token * linear_flops(transformer) / linear_flops(large),
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
  if (sharers > 1) {
    const int64_t gathered = passes * model.num_layers;
    const int64_t bytes = gathered * (block_bytes(subject) / sharers) * (sharers - 1);
    plan.bytes += bytes;
    plan.exchanges += gathered;
    plan.exchange += std::max(0.0, subject.seconds(bytes, gathered) - plan.compute);
  }
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
