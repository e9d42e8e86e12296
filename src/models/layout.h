// Layouts: the orders in which a video's tokens can lie in memory, and which block uses which.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

// Tokens of a video: T latent frames of H x W patches.
struct Grid {
  int64_t T = 0, H = 0, W = 0;
  int64_t tokens() const { return T * H * W; }
  auto operator<=>(const Grid&) const = default;
};

// Which tokens share a segment, that is, see each other in attention (Skiparse-2D of OSP-Next).
enum class Pattern {
  kFull,   // all of them: one segment, row-major
  kToken,  // those of equal (row mod P, column mod P)
  kGroup,  // P x P tiles stay together: those of equal (row div P mod P, column div P mod P)
};

// "full", "token", "group"
std::string pattern_name(Pattern pattern);
// Its inverse. Throws InputError naming `origin`.
Pattern pattern_from_name(const std::string& name, const std::string& origin);

// Over how many ranks the tokens of a layout lie: `owners` have whole segments each, and the tokens of an
// owner are cut into even pieces for `sharers` ranks. Rank owner·sharers + i holds the owner's piece i.
struct Spread {
  int64_t owners = 1, sharers = 1;
  int64_t ranks() const { return owners * sharers; }
  bool operator==(const Spread&) const = default;
};

// An order of a grid's tokens, segment after segment. A token (t, r, c) lies in segment
// (r mod P)·P + c mod P (token) or (r div P mod P)·P + c div P mod P (group); inside a segment tokens
// ascend in row-major (t, r, c). There are always P² segments (one when full); they may differ in
// length and may be empty. They come in this order, or that of their owners where there are several: then
// each rank holds a range of places. Immutable; copies share their tensors.
class Layout {
 public:
  // `ratio` is the paper's P, at least 1; its tensors are made on `device`. At most one owner a segment.
  Layout(const Grid& grid, Pattern pattern, int64_t ratio, at::Device device = at::kCPU,
         const Spread& spread = {});

  const Grid& grid() const { return grid_; }
  Pattern pattern() const { return pattern_; }
  // P; 1 when full.
  int64_t ratio() const { return ratio_; }
  // [L] int64: row-major index of the token at each place.
  const at::Tensor& order() const { return order_; }
  // [L] int64: place of each row-major token; the inverse of order().
  const at::Tensor& places() const { return places_; }
  // [S+1]: segment s is the places offsets()[s] to offsets()[s+1].
  const std::vector<int64_t>& offsets() const { return offsets_; }
  // [S]
  const std::vector<int64_t>& lengths() const { return lengths_; }

  const Spread& spread() const { return spread_; }
  // [R+1]: rank r holds the places cuts()[r] to cuts()[r+1].
  const std::vector<int64_t>& cuts() const { return cuts_; }
  int64_t tokens_of(int64_t rank) const { return cuts_[rank + 1] - cuts_[rank]; }
  // What ranks `first` to `last`, of one owner, hold of each of its segments: lengths that add up to theirs.
  std::vector<int64_t> pieces(int64_t first, int64_t last) const;

  bool operator==(const Layout& other) const {
    return grid_ == other.grid_ && pattern_ == other.pattern_ && ratio_ == other.ratio_ &&
           spread_ == other.spread_;
  }

 private:
  Grid grid_;
  Pattern pattern_;
  int64_t ratio_;
  Spread spread_;
  at::Tensor order_, places_;
  std::vector<int64_t> offsets_, lengths_;
  std::vector<int64_t> cuts_;
  std::vector<int64_t> first_segment_;  // [owners+1]
};

// The owner of each of P x P segments of these lengths: the longest go first, each to the owner with the fewest
// tokens (then the fewest segments), so at two owners and P = 2 segment p·P + q belongs to (p + q) mod 2.
std::vector<int64_t> segment_owners(const std::vector<int64_t>& lengths, int64_t ratio,
                                    int64_t owners);

// Moves tokens from one layout of a grid into another: a permutation; x itself when they are equal.
// x [B, L, C] on the layouts' device -> [B, L, C]. Differentiable. Across ranks: token_exchange.h.
at::Tensor switch_layout(const at::Tensor& x, const Layout& from, const Layout& to);

enum class SkiparseType { kFull, kDualEnd, kUniform };

// How one block runs: `pattern` bounds its attention, `layout` is the order its tokens lie in. Full
// attention does not care about order, so a full block lies as its nearest sparse block does.
struct BlockPlan {
  Pattern pattern;
  Pattern layout;
  bool operator==(const BlockPlan&) const = default;
};

// One entry a block. dual_end: the first and last num_full_blocks/2 blocks are full, of the others
// the even ones take the token pattern and the odd ones the group pattern; uniform: no block is full;
// full: all are. Source: OSP-Next's modeling file; paper section on Skiparse-2D.
std::vector<BlockPlan> plan_blocks(SkiparseType type, int64_t num_layers, int64_t num_full_blocks);

}  // namespace ospnext
