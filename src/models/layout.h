// Layouts: the orders in which the tokens of a video can lie in memory, and which block uses which.
// Letters: B batch, L video tokens, C width, P sparse ratio, S segments, R ranks.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

// The token grid of a video: T latent frames of H x W patches.
struct Grid {
  int64_t T = 0, H = 0, W = 0;
  int64_t tokens() const { return T * H * W; }
  auto operator<=>(const Grid&) const = default;
};

// Divides tokens into segments; attention runs inside each segment (Skiparse-2D of OSP-Next).
enum class Pattern {
  kFull,   // one segment with all tokens, row-major
  kToken,  // one segment for each pair (row mod P, column mod P)
  kGroup,  // one for each pair (row div P mod P, column div P mod P): P x P tiles stay together
};

// "full", "token", "group"
std::string pattern_name(Pattern pattern);
// The inverse of pattern_name(). Throws an InputError that begins with `origin`.
Pattern pattern_from_name(const std::string& name, const std::string& origin);

// How the tokens of a layout are divided among ranks. Each owner has whole segments. The tokens of
// one owner are cut into `sharers` parts, whose sizes differ by at most one token. Rank
// owner·sharers + i holds part i of its owner's tokens.
struct Spread {
  int64_t owners = 1, sharers = 1;
  int64_t ranks() const { return owners * sharers; }
  bool operator==(const Spread&) const = default;
};

// An order of the tokens of a grid, one segment after the other. Token (t, r, c) lies in segment
//   (r mod P)·P + c mod P               with the token pattern,
//   (r div P mod P)·P + c div P mod P   with the group pattern.
// Inside a segment, tokens are in row-major order of (t, r, c). There are always P² segments (one
// with the full pattern). They can differ in length and can be empty. With several owners, segments
// are sorted by owner first and then by number, so that each rank holds one contiguous range.
// A place is an index into the order. A Layout is immutable; copies share their tensors.
class Layout {
 public:
  // `ratio` is the paper's P, 1 to 1024. The tensors are made on `device`. `spread` has at most one
  // owner for each segment.
  Layout(const Grid& grid, Pattern pattern, int64_t ratio, at::Device device = at::kCPU,
         const Spread& spread = {});

  const Grid& grid() const { return grid_; }
  Pattern pattern() const { return pattern_; }
  // P; 1 with the full pattern.
  int64_t ratio() const { return ratio_; }
  // [L] int64: the row-major index of the token at each place.
  const at::Tensor& order() const { return order_; }
  // [L] int64: the place of each token, tokens in row-major order. The inverse of order().
  const at::Tensor& places() const { return places_; }
  // [S+1]: the s-th segment in this order holds the places offsets()[s] to offsets()[s+1] - 1.
  const std::vector<int64_t>& offsets() const { return offsets_; }
  // [S]: the number of tokens in the s-th segment.
  const std::vector<int64_t>& lengths() const { return lengths_; }

  const Spread& spread() const { return spread_; }
  // [R+1]: rank r holds the places cuts()[r] to cuts()[r+1] - 1.
  const std::vector<int64_t>& cuts() const { return cuts_; }
  int64_t tokens_of(int64_t rank) const { return cuts_[rank + 1] - cuts_[rank]; }
  // How many tokens of each segment of their owner the ranks first to last - 1 hold together. All
  // of them belong to one owner. One number per segment of that owner; they add up to these ranks'
  // tokens.
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

// The owner of each of the P² segments, given their lengths [P²] and P = `ratio`. The longest
// segments are assigned first, each to the owner with the fewest tokens, then the fewest segments.
// Ties are broken along diagonals: with two owners and P = 2, segment p·P + q belongs to owner
// (p + q) mod 2.
std::vector<int64_t> segment_owners(const std::vector<int64_t>& lengths, int64_t ratio,
                                    int64_t owners);

// Permutes tokens from one layout into another layout of the same grid. Returns x itself when the
// layouts are equal. x [B, L, C] on the layouts' device -> [B, L, C]. Differentiable.
// With several ranks, TokenExchange (token_exchange.h) does this.
at::Tensor switch_layout(const at::Tensor& x, const Layout& from, const Layout& to);

enum class SkiparseType { kFull, kDualEnd, kUniform };

// How one block runs: `pattern` is its attention pattern, `layout` the order of its tokens. Full
// attention gives the same result in every order, so a full block keeps the layout of the nearest
// sparse block and needs no switch.
struct BlockPlan {
  Pattern pattern;
  Pattern layout;
  bool operator==(const BlockPlan&) const = default;
};

// The plan of a model, one entry per block.
// kDualEnd: the first and the last num_full_blocks/2 blocks are full. Of the others, blocks with an
// even index use the token pattern, blocks with an odd index the group pattern.
// kUniform: the same with num_full_blocks = 0. kFull: all blocks are full.
// Source: OSP-Next's modeling file; paper section on Skiparse-2D.
std::vector<BlockPlan> plan_blocks(SkiparseType type, int64_t num_layers, int64_t num_full_blocks);

}  // namespace ospnext
