// Layer norm with modulation and gated sum, forward and backward. Each activation is read once and
// written once; everything in between stays in registers.
#include "kernels/cuda_rows.cuh"
#include "kernels/modulate_launch.h"

namespace ospnext::cuda {
namespace {

// The mean of a row and 1 / sqrt(variance + eps). The threads hold the row in registers; channels
// beyond C are ignored.
template <int kThreads, int kChunks>
__device__ float2 row_statistics(const Channels (&x)[kChunks], int C, float eps) {
  float sum = 0;
  each_chunk<kThreads, kChunks>(C, [&](int chunk, int) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      sum += x[chunk].value[i];
    }
  });
  const float mean = row_sum<kThreads>(sum) / static_cast<float>(C);
  float squares = 0;
  each_chunk<kThreads, kChunks>(C, [&](int chunk, int) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float centred = x[chunk].value[i] - mean;
      squares += centred * centred;
    }
  });
  const float variance = row_sum<kThreads>(squares) / static_cast<float>(C);
  return {mean, rsqrtf(variance + eps)};
}

template <int kThreads, int kChunks, bool kAmax, class T>
__global__ void layer_norm_modulate_kernel(const T* x, const float* shift, const float* scale,
                                           T* out, float* amax, Rows rows, float eps) {
  using Share = RowShare<kThreads, kChunks>;
  const int C = static_cast<int>(rows.C);
  const int64_t b = Share::sample();
  Largest<T> largest;
  for (int64_t l = Share::first_row(); l < rows.L; l += Share::row_step()) {
    const int64_t at = (b * rows.L + l) * C;
    Channels row[kChunks];
    load_row<kThreads>(row, x + at, C);
    const float2 statistics = row_statistics<kThreads>(row, C, eps);
    each_chunk<kThreads, kChunks>(C, [&](int chunk, int c) {
      // Shift and scale come from the L1 cache. In registers they would leave room for fewer rows.
      Channels y = load_channels(shift + b * C + c);
      const Channels scales = load_channels(scale + b * C + c);
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const float normal = (row[chunk].value[i] - statistics.x) * statistics.y;
        y.value[i] += normal * (1 + scales.value[i]);
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
__global__ void layer_norm_modulate_backward_kernel(const T* grad, const T* x, const float* scale,
                                                    T* grad_x, float* grad_shift, float* grad_scale,
                                                    Rows rows, float eps) {
  using Share = RowShare<kThreads, kChunks>;
  const int C = static_cast<int>(rows.C);
  const int64_t b = Share::sample();
  Channels scales[kChunks], shift_sums[kChunks] = {}, scale_sums[kChunks] = {};
  load_row<kThreads>(scales, scale + b * C, C);
  for (int64_t l = Share::first_row(); l < rows.L; l += Share::row_step()) {
    const int64_t at = (b * rows.L + l) * C;
    Channels row[kChunks], g[kChunks];
    load_row<kThreads>(row, x + at, C);
    load_row<kThreads>(g, grad + at, C);
    const float2 statistics = row_statistics<kThreads>(row, C, eps);
    float sum = 0, along = 0;  // sums of the normalised row's gradient, and of that times the row
    each_chunk<kThreads, kChunks>(C, [&](int chunk, int) {
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const float normal = (row[chunk].value[i] - statistics.x) * statistics.y;
        const float by_out = g[chunk].value[i];
        shift_sums[chunk].value[i] += by_out;
        scale_sums[chunk].value[i] += by_out * normal;
        const float by_normal = by_out * (1 + scales[chunk].value[i]);
        row[chunk].value[i] = normal;
        g[chunk].value[i] = by_normal;
        sum += by_normal;
        along += by_normal * normal;
      }
    });
    sum = row_sum<kThreads>(sum) / static_cast<float>(C);
    along = row_sum<kThreads>(along) / static_cast<float>(C);
    each_chunk<kThreads, kChunks>(C, [&](int chunk, int c) {
      Channels by_x;
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        by_x.value[i] = statistics.y * (g[chunk].value[i] - sum - row[chunk].value[i] * along);
      }
      store_channels(grad_x + at + c, by_x);
    });
  }
  store_sums<kThreads>(grad_shift, shift_sums, C);
  store_sums<kThreads>(grad_scale, scale_sums, C);
}

template <int kThreads, int kChunks, class T>
__global__ void add_gated_kernel(const T* x, const T* y, const float* gate, T* out, Rows rows) {
  using Share = RowShare<kThreads, kChunks>;
  const int C = static_cast<int>(rows.C);
  const int64_t b = Share::sample();
  Channels gates[kChunks];
  load_row<kThreads>(gates, gate + b * C, C);
  for (int64_t l = Share::first_row(); l < rows.L; l += Share::row_step()) {
    const int64_t at = (b * rows.L + l) * C;
    each_chunk<kThreads, kChunks>(C, [&](int chunk, int c) {
      Channels sum = load_channels(x + at + c);
      const Channels term = load_channels(y + at + c);
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        sum.value[i] += term.value[i] * gates[chunk].value[i];
      }
      store_channels(out + at + c, sum);
    });
  }
}

template <int kThreads, int kChunks, class T>
__global__ void add_gated_backward_kernel(const T* grad, const T* y, const float* gate, T* grad_y,
                                          float* grad_gate, Rows rows) {
  using Share = RowShare<kThreads, kChunks>;
  const int C = static_cast<int>(rows.C);
  const int64_t b = Share::sample();
  Channels gates[kChunks], sums[kChunks] = {};
  load_row<kThreads>(gates, gate + b * C, C);
  for (int64_t l = Share::first_row(); l < rows.L; l += Share::row_step()) {
    const int64_t at = (b * rows.L + l) * C;
    each_chunk<kThreads, kChunks>(C, [&](int chunk, int c) {
      Channels g = load_channels(grad + at + c);
      const Channels term = load_channels(y + at + c);
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        sums[chunk].value[i] += g.value[i] * term.value[i];
        g.value[i] *= gates[chunk].value[i];
      }
      store_channels(grad_y + at + c, g);
    });
  }
  store_sums<kThreads>(grad_gate, sums, C);
}

}  // namespace

void layer_norm_modulate(const void* x, const float* shift, const float* scale, void* out,
                         float* amax, Rows rows, float eps, Element element, cudaStream_t stream) {
  with_element(element, [&]<class T>(T*) {
    with_row_share(rows.C, [&]<int kThreads, int kChunks>() {
      with_amax(amax, [&]<bool kAmax>() {
        layer_norm_modulate_kernel<kThreads, kChunks, kAmax>
            <<<grid_of<kThreads, kChunks>(rows.B, row_groups(rows.L)),
               block_of<kThreads, kChunks>(), 0, stream>>>(static_cast<const T*>(x), shift, scale,
                                                           static_cast<T*>(out), amax, rows, eps);
      });
    });
  });
}

void layer_norm_modulate_backward(const void* grad, const void* x, const float* scale, void* grad_x,
                                  float* grad_shift, float* grad_scale, Rows rows, float eps,
                                  Element element, cudaStream_t stream) {
  with_element(element, [&]<class T>(T*) {
    with_row_share(rows.C, [&]<int kThreads, int kChunks>() {
      layer_norm_modulate_backward_kernel<kThreads, kChunks>
          <<<grid_of<kThreads, kChunks>(rows.B, column_sum_groups(rows.L)),
             block_of<kThreads, kChunks>(), 0, stream>>>(
              static_cast<const T*>(grad), static_cast<const T*>(x), scale, static_cast<T*>(grad_x),
              grad_shift, grad_scale, rows, eps);
    });
  });
}

void add_gated(const void* x, const void* y, const float* gate, void* out, Rows rows,
               Element element, cudaStream_t stream) {
  with_element(element, [&]<class T>(T*) {
    with_row_share(rows.C, [&]<int kThreads, int kChunks>() {
      add_gated_kernel<kThreads, kChunks><<<grid_of<kThreads, kChunks>(rows.B, row_groups(rows.L)),
                                            block_of<kThreads, kChunks>(), 0, stream>>>(
          static_cast<const T*>(x), static_cast<const T*>(y), gate, static_cast<T*>(out), rows);
    });
  });
}

void add_gated_backward(const void* grad, const void* y, const float* gate, void* grad_y,
                        float* grad_gate, Rows rows, Element element, cudaStream_t stream) {
  with_element(element, [&]<class T>(T*) {
    with_row_share(rows.C, [&]<int kThreads, int kChunks>() {
      add_gated_backward_kernel<kThreads, kChunks>
          <<<grid_of<kThreads, kChunks>(rows.B, column_sum_groups(rows.L)),
             block_of<kThreads, kChunks>(), 0, stream>>>(static_cast<const T*>(grad),
                                                         static_cast<const T*>(y), gate,
                                                         static_cast<T*>(grad_y), grad_gate, rows);
    });
  });
}

}  // namespace ospnext::cuda
