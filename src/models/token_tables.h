// The tables of one grid of tokens: layouts, rotations, and how tokens move between layouts and
// ranks. They belong to the caller of the transformer, which only reads them.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "models/layout.h"
#include "models/token_exchange.h"
#include "models/transformer_config.h"
#include "models/transformer_layers.h"

namespace ospnext {

class TokenTables {
 public:
  // The tables of videos on `grid`, for this rank of `ranks`, which share the tokens of each video.
  // Their frames are first_frame, first_frame + 1, ... of a longer video. More than one owner of
  // segments needs a sparse model (TORCH_CHECK). Making them synchronises with the host; using them
  // does not, so a forward pass can be recorded in a CUDA graph, which needs them to stay.
  TokenTables(const TransformerConfig& config, const Grid& grid, at::Device device,
              const SequenceRanks& ranks = {}, int64_t first_frame = 0);

  const Grid& grid() const { return grid_; }
  const SequenceRanks& ranks() const { return ranks_; }
  const TokenExchange& exchange() const { return exchange_; }
  // `layout` is that of a block of the model.
  const Placement& place(Pattern layout) const { return places_.at(layout); }

 private:
  Grid grid_;
  SequenceRanks ranks_;
  TokenExchange exchange_;
  std::map<Pattern, Placement> places_;
};

// Tables of several grids, made on first use. Keeps those of the last kMost new grids.
class TokenTablesByGrid {
 public:
  TokenTablesByGrid(const TransformerConfig& config, at::Device device,
                    const SequenceRanks& ranks = {})
      : config_(config), device_(device), ranks_(ranks) {}

  const TokenTables& of(const Grid& grid);

 private:
  static constexpr size_t kMost = 16;
  TransformerConfig config_;
  at::Device device_;
  SequenceRanks ranks_;
  std::map<Grid, TokenTables> tables_;
};

}  // namespace ospnext
