#ifdef OSPNEXT_CUDA
#include "kernels/attention_cuda.h"

#include "core/torch/shape_check.h"
#include "kernels/attention_launch.h"
#include "kernels/cuda_tensors.h"

namespace ospnext::cuda {
namespace {

constexpr int64_t kHeadWidth = 128;

bool is_hopper(const at::Device& device) {
  int major = 0, minor = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device.index()));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device.index()));
  return major == 9 && minor == 0;
}

// x [B, tokens, H, 128], or a contiguous copy if the kernel cannot read x with its strides.
at::Tensor readable(const at::Tensor& x) {
  const int64_t vector = 16 / x.element_size();
  bool fits = x.stride(3) == 1 && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
  for (int64_t i = 0; i < 3; ++i) {
    fits = fits && (x.size(i) == 1 || (x.stride(i) > 0 && x.stride(i) % vector == 0));
  }
  return fits ? x : x.clone(at::MemoryFormat::Contiguous);
}

HeadsOfTokens heads_of(const at::Tensor& x) {
  return {const_cast<void*>(x.const_data_ptr()), x.stride(0), x.stride(1), x.stride(2)};
}

// The factors of q·k and of v, [B] float32; undefined: 1.
struct Factors {
  at::Tensor score, value;
};

// E4M3 values v [B, T, H, 128] -> [B, H, 128, columns], in the order of value_columns()
// (attention_launch.h).
at::Tensor columns_of(const at::Tensor& v, const std::vector<int64_t>& offsets, int64_t segments,
                      cudaStream_t stream) {
  const int64_t B = v.size(0), T = v.size(1), H = v.size(2);
  const int64_t columns = value_columns(offsets.data(), segments, T);
  at::Tensor turned = at::empty({B, H, kHeadWidth, columns}, v.options());
  C10_CUDA_CHECK(launch_value_columns(heads_of(v), turned.mutable_data_ptr(), B, T, H,
                                      offsets.data(), segments, stream));
  return turned;
}

at::Tensor launch(const at::Tensor& q_in, const at::Tensor& k_in, const at::Tensor& v_in,
                  const at::Tensor& log_weight, const std::vector<int64_t>& offsets,
                  const Factors& factors = {}, const at::Tensor& amax = {},
                  const at::Tensor& log_sum = {}) {
  const at::Tensor q = readable(q_in), k = readable(k_in), v = readable(v_in);
  const int64_t B = q.size(0), S = k.size(1), H = q.size(2);
  CHECK_SHAPE(k, B, S, H, kHeadWidth);
  CHECK_SHAPE(v, B, S, H, kHeadWidth);
  if (log_weight.defined()) {
    CHECK_SHAPE(log_weight, S);
  }
  const c10::cuda::CUDAGuard device(q.device());
  const auto stream = c10::cuda::getCurrentCUDAStream();
  at::Tensor out = at::empty(q.sizes(), v.options().dtype(at::kBFloat16));  // [B, L, H, 128]
  AttentionArgs args{};
  args.q = heads_of(q);
  args.k = heads_of(k);
  args.v = heads_of(v);
  args.o = heads_of(out);
  args.amax = amax_of(if_defined(amax), q);
  args.lse = log_sum.defined() ? log_sum.mutable_data_ptr<float>() : nullptr;
  args.bias = log_weight.defined() ? floats(log_weight) : nullptr;
  if (factors.score.defined()) {
    CHECK_SHAPE(factors.score, B);
    CHECK_SHAPE(factors.value, B);
    args.score_factor = floats(factors.score);
    args.value_factor = floats(factors.value);
  }
  args.B = B;
  args.L = q.size(1);
  args.T = S;
  args.H = H;
  args.offsets = offsets.data();
  args.segments = offsets.empty() ? 0 : static_cast<int64_t>(offsets.size()) - 1;
  at::Tensor columns;
  if (v.scalar_type() == at::kFloat8_e4m3fn && S > 0) {
    columns = columns_of(v, offsets, args.segments, stream);
    args.value_columns = columns.const_data_ptr();
  }
  C10_CUDA_CHECK(launch_attention(args, stream));
  return out;
}

bool takes(const at::Tensor& x, at::ScalarType dtype, const at::Device& device) {
  return x.is_cuda() && x.device() == device && x.scalar_type() == dtype && x.dim() == 4 &&
         x.size(3) == kHeadWidth && !(at::GradMode::is_enabled() && x.requires_grad());
}

std::vector<int64_t> offsets_of(const std::vector<int64_t>& lengths) {
  std::vector<int64_t> offsets{0};
  for (const int64_t length : lengths) {
    offsets.push_back(offsets.back() + length);
  }
  return offsets;
}

}  // namespace

bool takes_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const at::Device device = q.device();
  return takes(q, at::kBFloat16, device) && takes(k, at::kBFloat16, device) &&
         takes(v, at::kBFloat16, device) && is_hopper(device);
}

bool takes_fp8_attention(const ScaledHeads& q, const ScaledHeads& k, const ScaledHeads& v,
                         at::ScalarType dtype) {
  const at::Device device = q.values.device();
  return dtype == at::kBFloat16 && takes(q.values, at::kFloat8_e4m3fn, device) &&
         takes(k.values, at::kFloat8_e4m3fn, device) &&
         (takes(v.values, at::kBFloat16, device) || takes(v.values, at::kFloat8_e4m3fn, device)) &&
         is_hopper(device);
}

bool takes_segments(const std::vector<int64_t>& lengths) {
  return static_cast<int64_t>(lengths.size()) <= kMaxAttentionSegments;
}

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& log_weight) {
  return launch(q, k, v, log_weight, {});
}

std::pair<at::Tensor, at::Tensor> attention_and_log_sum(const at::Tensor& q, const at::Tensor& k,
                                                        const at::Tensor& v) {
  const at::Tensor log_sum =
      at::empty({q.size(0), q.size(2), q.size(1)}, q.options().dtype(at::kFloat));  // [B, H, L]
  const at::Tensor out = launch(q, k, v, {}, {}, {}, {}, log_sum);
  return {out, log_sum.transpose(1, 2)};  // [B, L, H, 128], [B, L, H]
}

at::Tensor segmented_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const std::vector<int64_t>& lengths) {
  return launch(q, k, v, {}, offsets_of(lengths));
}

at::Tensor fp8_attention(const ScaledHeads& q, const ScaledHeads& k, const ScaledHeads& v,
                         const std::vector<int64_t>& lengths, const at::Tensor& log_weight,
                         const at::Tensor& amax) {
  return launch(q.values, k.values, v.values, log_weight,
                lengths.empty() ? lengths : offsets_of(lengths),
                {(q.scale * k.scale).reciprocal(), v.scale.reciprocal()}, amax);
}

}  // namespace ospnext::cuda
#endif
