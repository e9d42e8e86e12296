#include "engine/model_flops.h"

#include <map>

#include "engine/plan.h"

namespace ospnext {

double attention_flops(const TransformerConfig& config, const Layout& layout) {
  double pairs = 0;
  for (const int64_t length : layout.lengths()) {
    pairs += static_cast<double>(length) * static_cast<double>(length);
  }
  return pairs * pair_flops(config);
}

double text_flops(const TransformerConfig& config, int64_t tokens) {
  return static_cast<double>(tokens * config.text_len) * pair_flops(config);
}

double block_flops(const TransformerConfig& config, const Grid& grid, Pattern pattern) {
  const int64_t tokens = grid.tokens();
  return attention_flops(config, Layout(grid, pattern, config.sparse_ratio)) +
         text_flops(config, tokens) + static_cast<double>(tokens) * linear_flops(config);
}

double forward_flops(const TransformerConfig& config, const Grid& grid) {
  std::map<Pattern, double> of_pattern;
  double flops = 0;
  for (const BlockPlan& plan :
       plan_blocks(config.skiparse_type(), config.num_layers, config.num_full_blocks)) {
    const auto [entry, is_new] = of_pattern.try_emplace(plan.pattern);
    if (is_new) {
      entry->second = block_flops(config, grid, plan.pattern);
    }
    flops += entry->second;
  }
  return flops;
}

}  // namespace ospnext
