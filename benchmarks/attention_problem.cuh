// The problems of the attention benchmark: shapes, and tensors of these shapes on the device. L is
// the number of query tokens, T the number of key tokens.
#pragma once

#include <string>
#include <vector>

#include "attention_reference.cuh"
#include "device_memory.cuh"
#include "kernels/attention_launch.h"

namespace ospnext::cuda {
namespace {

enum class Data { kRandom, kOutliers, kZeroQueries, kOneValues };
enum class Codes {
  kNone,
  kScores,
  kAll
};  // which operands are E4M3: none; queries and keys; also values and weights

struct Case {
  std::string name;
  int64_t B, H;
  std::vector<int64_t> lengths;  // tokens of each segment; one segment for cross-attention
  int64_t keys = -1;             // key tokens of cross-attention, or -1 for self-attention
  bool packed = false;
  bool bias = false;
  Data data = Data::kRandom;
  Codes codes = Codes::kNone;  // with E4M3 operands, `packed` must be false
};

constexpr int64_t kGuard = 4096;  // elements after an output that no kernel may write

int64_t sum_of(const std::vector<int64_t>& lengths) {
  int64_t sum = 0;
  for (const int64_t length : lengths) {
    sum += length;
  }
  return sum;
}

// The tensors of a case on the device, and the arguments that describe them.
class Problem {
 public:
  explicit Problem(const Case& c, bool with_lse = true)
      : what(c),
        L(sum_of(c.lengths)),
        T(c.keys >= 0 ? c.keys : L),
        inputs_(c.B * (L + 2 * T) * c.H * kReferenceHead),
        out(c.B * L * c.H * kReferenceHead + kGuard),
        lse(c.B * c.H * L + kGuard),
        bias_(std::max<int64_t>(T, 1)),
        factors_(2 * c.B),
        columns_(c.codes == Codes::kAll ? c.B * c.H * kReferenceHead * columns_of(c) : 0),
        ranges_(2 * std::max<int64_t>(L, 1)) {
    args.B = c.B;
    args.L = L;
    args.T = T;
    args.H = c.H;
    args.lse = with_lse ? lse.get() : nullptr;
    args.bias = c.bias ? bias_.get() : nullptr;
    place_tensors();
    place_segments();
    fill_inputs();
    if (c.codes != Codes::kNone) {
      put_factors();
    }
    if (c.codes == Codes::kAll) {
      args.value_columns = columns_.get();
      columns_.fill(0xFF);  // NaN
      turn_values();
    }
    CHECK_CUDA(cudaGetLastError());
  }

  void turn_values() {
    CHECK_CUDA(launch_value_columns(args.v, columns_.get(), args.B, args.T, args.H, args.offsets,
                                    args.segments, nullptr));
  }

  void poison() {
    out.fill(0xFF);
    lse.fill(0xFF);
  }

  const Case what;
  const int64_t L, T;

 private:
  Memory<__nv_bfloat16> inputs_;

 public:
  Memory<__nv_bfloat16> out;
  Memory<float> lse;
  AttentionArgs args{};
  const int* ranges() const { return ranges_.get(); }

 private:
  static int64_t columns_of(const Case& c) {
    if (c.keys >= 0) {
      return value_columns(nullptr, 0, c.keys);
    }
    int64_t columns = 0;
    for (const int64_t length : c.lengths) {
      columns += value_columns(nullptr, 0, length);
    }
    return columns;
  }

  // Points args to q, k, v and o: views of one packed tensor, or one tensor after another.
  void place_tensors() {
    const int64_t width = what.H * kReferenceHead;
    const int64_t of_q = what.B * L * width, of_k = what.B * T * width;
    __nv_bfloat16* data = inputs_.get();
    const auto place = [](__nv_bfloat16* at, int64_t tokens, int64_t step) {
      return HeadsOfTokens{at, tokens * step, step, kReferenceHead};
    };
    if (what.packed) {
      args.q = place(data, L, 3 * width);
      args.k = place(data + width, L, 3 * width);
      args.v = place(data + 2 * width, L, 3 * width);
    } else {
      args.q = place(data, L, width);
      args.k = place(data + of_q, T, width);
      args.v = place(data + of_q + of_k, T, width);
    }
    args.o = place(out.get(), L, width);
  }

  // Sets the segments of args, and for each query the range of its keys.
  void place_segments() {
    const bool cross = what.keys >= 0;
    offsets_.push_back(0);
    for (const int64_t length : what.lengths) {
      offsets_.push_back(offsets_.back() + length);
    }
    args.offsets = cross ? nullptr : offsets_.data();
    args.segments = cross ? 0 : static_cast<int64_t>(what.lengths.size());
    std::vector<int> ranges;
    for (size_t s = 0; s + 1 < offsets_.size(); ++s) {
      for (int64_t l = offsets_[s]; l < offsets_[s + 1]; ++l) {
        ranges.push_back(cross ? 0 : static_cast<int>(offsets_[s]));
        ranges.push_back(static_cast<int>(cross ? T : offsets_[s + 1]));
      }
    }
    ranges_.put(ranges);
  }

  void fill_inputs() {
    const auto fill = [&](const HeadsOfTokens& x, int64_t tokens, int seed, Data special,
                          int mode) {
      mode = what.data == Data::kOutliers ? 1 : what.data == special ? mode : 0;
      const bool codes =
          what.codes == Codes::kAll || (what.codes == Codes::kScores && x.data != args.v.data);
      fill_tokens(x, what.B, tokens, what.H, seed, mode, codes);
    };
    fill(args.q, L, 7, Data::kZeroQueries, 2);
    fill(args.k, T, 20, Data::kOutliers, 1);
    fill(args.v, T, 33, Data::kOneValues, 3);
    fill_bias(bias_.get(), T);
  }

  // Sets score_factor and value_factor, which differ by sample.
  void put_factors() {
    std::vector<float> factors;
    for (const float one : {1 / 256.0F, what.codes == Codes::kAll ? 1 / 16.0F : 0.5F}) {
      for (int64_t b = 0; b < what.B; ++b) {
        factors.push_back(one / static_cast<float>(1 + b));
      }
    }
    factors_.put(factors);
    args.score_factor = factors_.get();
    args.value_factor = factors_.get() + what.B;
  }

  Memory<float> bias_, factors_;
  Memory<uint8_t> columns_;
  Memory<int> ranges_;
  std::vector<int64_t> offsets_;
};

}  // namespace
}  // namespace ospnext::cuda
