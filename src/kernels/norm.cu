// Root-mean-square norm alone, with the rotation of q or k, or with SiLU. Each activation is read
// once and written once.
#include "kernels/cuda_rows.cuh"
#include "kernels/norm_launch.h"

namespace ospnext::cuda {
namespace {

// 1 / sqrt(mean(x²) + eps) of a row. The threads hold the row in registers; channels beyond C are
// 0.
template <int kThreads, int kChunks>
__device__ float inverse_root_mean_square(const Channels (&x)[kChunks], int C, float eps) {
  float squares = 0;
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      squares += x[chunk].value[i] * x[chunk].value[i];
    }
  }
  return rsqrtf(row_sum<kThreads>(squares) / static_cast<float>(C) + eps);
}

// Multiplies each pair (2j, 2j+1), as a complex number, by that of `turn` or by its conjugate.
template <bool kInverse>
__device__ void rotate(Channels& x, const Channels& turn) {
#pragma unroll
  for (int i = 0; i < kVector; i += 2) {
    const float real = x.value[i], imaginary = x.value[i + 1];
    const float cosine = turn.value[i];
    const float sine = kInverse ? -turn.value[i + 1] : turn.value[i + 1];
    x.value[i] = real * cosine - imaginary * sine;
    x.value[i + 1] = real * sine + imaginary * cosine;
  }
}

template <int kThreads, int kChunks, bool kAmax, class T>
__global__ void rms_norm_rotate_kernel(const T* x, const float* weight, HeadRotation turn, T* out,
                                       float* amax, Rows rows, float eps) {
  using Share = RowShare<kThreads, kChunks>;
  const int C = static_cast<int>(rows.C);
  const int64_t b = Share::sample();
  Largest<T> largest;
  for (int64_t l = Share::first_row(); l < rows.L; l += Share::row_step()) {
    const int64_t at = (b * rows.L + l) * C;
    Channels row[kChunks] = {};
    load_row<kThreads>(row, x + at, C);
    const float scale = inverse_root_mean_square<kThreads>(row, C, eps);
    each_chunk<kThreads, kChunks>(C, [&](int chunk, int c) {
      Channels y =
          load_channels(weight + c);  // from L1: in registers, weights leave room for fewer rows
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        y.value[i] *= row[chunk].value[i] * scale;
      }
      if (turn.rotation != nullptr) {
        rotate</*kInverse=*/false>(y, load_channels(turn.rotation + l * turn.D + c % turn.D));
      }
      if constexpr (kAmax) {
        largest.take(y);
      }
      store_channels(out + at + c, y);
    });
  }
  if constexpr (kAmax) {
    raise(amax + b, largest);
  }
}

template <int kThreads, int kChunks, class T>
__global__ void rms_norm_rotate_backward_kernel(const T* grad, const T* x, const float* weight,
                                                HeadRotation turn, T* grad_x, float* grad_weight,
                                                Rows rows, float eps) {
  using Share = RowShare<kThreads, kChunks>;
  const int C = static_cast<int>(rows.C);
  const int64_t b = Share::sample();
  Channels weights[kChunks] = {}, sums[kChunks] = {};
  load_row<kThreads>(weights, weight, C);
  for (int64_t l = Share::first_row(); l < rows.L; l += Share::row_step()) {
    const int64_t at = (b * rows.L + l) * C;
    Channels row[kChunks] = {}, g[kChunks] = {};
    load_row<kThreads>(row, x + at, C);
    load_row<kThreads>(g, grad + at, C);
    const float scale = inverse_root_mean_square<kThreads>(row, C, eps);
    float along = 0;  // sum of the normalised row's gradient times the row
    each_chunk<kThreads, kChunks>(C, [&](int chunk, int c) {
      if (turn.rotation != nullptr) {
        rotate</*kInverse=*/true>(g[chunk], load_channels(turn.rotation + l * turn.D + c % turn.D));
      }
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const float normal = row[chunk].value[i] * scale;
        sums[chunk].value[i] += g[chunk].value[i] * normal;
        g[chunk].value[i] *= weights[chunk].value[i];
        along += g[chunk].value[i] * normal;
        row[chunk].value[i] = normal;
      }
    });
    along = row_sum<kThreads>(along) / static_cast<float>(C);
    each_chunk<kThreads, kChunks>(C, [&](int chunk, int c) {
      Channels by_x;
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        by_x.value[i] = scale * (g[chunk].value[i] - row[chunk].value[i] * along);
      }
      store_channels(grad_x + at + c, by_x);
    });
  }
  store_sums<kThreads>(grad_weight, sums, C);
}

// The division of many short rows: kLanes threads of a warp share a row, and each thread loads
// kRows rows before it computes.
template <int kLanes, int kChunks>
struct ShortRows {
  static constexpr int kRows = 4 / kChunks, kThreads = 256, kGroups = kThreads / kLanes;
  static constexpr int64_t kRowsOfBlock = kRows * kGroups;
};

template <int kLanes, int kChunks, class T>
__global__ void rms_norm_silu_kernel(const T* x, const float* weight, T* out, int64_t out_stride,
                                     Rows rows, float eps) {
  using Share = ShortRows<kLanes, kChunks>;
  const int C = static_cast<int>(rows.C), lane = static_cast<int>(threadIdx.x) % kLanes;
  const int64_t first = blockIdx.x * Share::kRowsOfBlock + threadIdx.x / kLanes;
  x += blockIdx.y * rows.L * C;
  out += blockIdx.y * out_stride;
  Channels row[Share::kRows][kChunks] = {};
#pragma unroll
  for (int r = 0; r < Share::kRows; ++r) {
    const int64_t l = first + r * Share::kGroups;
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      const int c = (chunk * kLanes + lane) * kVector;
      if (l < rows.L && c < C) {
        row[r][chunk] = load_channels(x + l * C + c);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < Share::kRows; ++r) {
    float squares = 0;
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        squares += row[r][chunk].value[i] * row[r][chunk].value[i];
      }
    }
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      squares += __shfl_xor_sync(0xffffffffU, squares, offset);
    }
    const float scale = rsqrtf(squares / static_cast<float>(C) + eps);
    const int64_t l = first + r * Share::kGroups;
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      const int c = (chunk * kLanes + lane) * kVector;
      if (l < rows.L && c < C) {
        Channels y = load_channels(weight + c);
#pragma unroll
        for (int i = 0; i < kVector; ++i) {
          const float normal = y.value[i] * row[r][chunk].value[i] * scale;
          y.value[i] = normal / (1 + __expf(-normal));
        }
        store_channels(out + l * C + c, y);
      }
    }
  }
}

}  // namespace

void rms_norm_rotate(const void* x, const float* weight, HeadRotation turn, void* out, float* amax,
                     Rows rows, float eps, Element element, cudaStream_t stream) {
  with_element(element, [&]<class T>(T*) {
    with_row_share(rows.C, [&]<int kThreads, int kChunks>() {
      with_amax(amax, [&]<bool kAmax>() {
        rms_norm_rotate_kernel<kThreads, kChunks, kAmax>
            <<<grid_of<kThreads, kChunks>(rows.B, row_groups(rows.L)),
               block_of<kThreads, kChunks>(), 0, stream>>>(static_cast<const T*>(x), weight, turn,
                                                           static_cast<T*>(out), amax, rows, eps);
      });
    });
  });
}

void rms_norm_rotate_backward(const void* grad, const void* x, const float* weight,
                              HeadRotation turn, void* grad_x, float* grad_weight, Rows rows,
                              float eps, Element element, cudaStream_t stream) {
  with_element(element, [&]<class T>(T*) {
    with_row_share(rows.C, [&]<int kThreads, int kChunks>() {
      rms_norm_rotate_backward_kernel<kThreads, kChunks>
          <<<grid_of<kThreads, kChunks>(rows.B, column_sum_groups(rows.L)),
             block_of<kThreads, kChunks>(), 0, stream>>>(
              static_cast<const T*>(grad), static_cast<const T*>(x), weight, turn,
              static_cast<T*>(grad_x), grad_weight, rows, eps);
    });
  });
}

void rms_norm_silu(const void* x, const float* weight, void* out, int64_t out_stride, Rows rows,
                   float eps, Element element, cudaStream_t stream) {
  const auto launch = [&]<int kLanes, int kChunks>() {
    using Share = ShortRows<kLanes, kChunks>;
    const int64_t blocks = (rows.L + Share::kRowsOfBlock - 1) / Share::kRowsOfBlock;
    const dim3 grid{static_cast<unsigned>(blocks), static_cast<unsigned>(rows.B), 1};
    with_element(element, [&]<class T>(T*) {
      rms_norm_silu_kernel<kLanes, kChunks><<<grid, Share::kThreads, 0, stream>>>(
          static_cast<const T*>(x), weight, static_cast<T*>(out), out_stride, rows, eps);
    });
  };
  const int64_t vectors = rows.C / kVector;
  if (vectors <= 16) {
    launch.template operator()<16, 1>();
  } else if (vectors <= 32) {
    launch.template operator()<32, 1>();
  } else {
    launch.template operator()<32, 2>();
  }
}

}  // namespace ospnext::cuda
