#include "models/token_tables.h"

#include "models/rope.h"

namespace ospnext {

TokenTables::TokenTables(const TransformerConfig& config, const Grid& grid, at::Device device,
                         const SequenceRanks& ranks, int64_t first_frame)
    : grid_(grid), ranks_(ranks), exchange_(ranks) {
  const auto plan = plan_blocks(config.skiparse_type(), config.num_layers, config.num_full_blocks);
  TORCH_CHECK(ranks.mesh.ssp == 1 || plan.front().layout != Pattern::kFull,
              "ranks: a dense model has one segment, got ", ranks.mesh.ssp, " owners");
  const Spread spread{ranks.mesh.ssp, ranks.mesh.sharers()};
  const int rank = ranks.all.rank();
  for (const BlockPlan& block : plan) {
    if (places_.contains(block.layout)) {
      continue;
    }
    const Layout layout(grid, block.layout, config.sparse_ratio, device, spread);
    const auto own = [&](const at::Tensor& rows) {
      return rows.narrow(0, layout.cuts()[rank], layout.tokens_of(rank));
    };
    places_.emplace(block.layout,
                    Placement{layout, own(rope_table(config.head_dim(), layout, first_frame)),
                              own(layout.order().div(grid.H * grid.W, "floor")), ranks.all,
                              attention_shards(layout, block.layout, ranks),
                              attention_shards(layout, Pattern::kFull, ranks)});
  }
  for (size_t i = 0; i + 1 < plan.size(); ++i) {
    exchange_.add_switch(place(plan[i].layout).layout, place(plan[i + 1].layout).layout);
  }
}

const TokenTables& TokenTablesByGrid::of(const Grid& grid) {
  const auto found = tables_.find(grid);
  if (found != tables_.end()) {
    return found->second;
  }
  if (tables_.size() == kMost) {
    tables_.clear();
  }
  return tables_.emplace(grid, TokenTables(config_, grid, device_, ranks_)).first->second;
}

}  // namespace ospnext
