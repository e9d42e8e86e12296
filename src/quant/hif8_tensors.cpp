#include "quant/hif8_tensors.h"

#include <ATen/Parallel.h>

#include <array>

#include "core/torch/shape_check.h"
#include "kernels/amax.h"
#include "quant/e4m3.h"
#ifdef OSPNEXT_CUDA
#include "kernels/cuda_tensors.h"
#include "quant/hif8_tensors_launch.h"
#endif

namespace ospnext::hif8 {
namespace {

constexpr int64_t kGrain = 1 << 15;  // least elements of a thread

constexpr std::array<float, 256> make_values() {
  std::array<float, 256> values{};
  for (int code = 0; code < 256; ++code) {
    values[static_cast<size_t>(code)] = decode(static_cast<uint8_t>(code));
  }
  return values;
}
constexpr std::array<float, 256> kValues = make_values();

constexpr float kShifted = 1 << e4m3::kForwardShift;

struct Samples {
  int64_t B, size;
};

// The samples of x that `scale` refers to. For a scalar or undefined scale, x is one sample.
Samples samples_of(const at::Tensor& x, const at::Tensor& scale) {
  const bool one = !scale.defined() || scale.dim() == 0;
  if (!one) {
    TORCH_CHECK(x.dim() > 0, "scale: expected one number for a tensor without dimensions");
    const int64_t B = x.size(0);
    CHECK_SHAPE(scale, B);
  }
  TORCH_CHECK(
      !scale.defined() || (scale.scalar_type() == at::kFloat && scale.device() == x.device()),
      "scale: expected float32 on ", x.device());
  const int64_t B = one ? 1 : x.size(0);
  return {B, B == 0 ? 0 : x.numel() / B};
}

void check_float(const at::Tensor& x) {
  TORCH_CHECK(x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16 ||
                  x.scalar_type() == at::kHalf,
              "x: expected float32, bf16 or float16, got ", x.scalar_type());
}

// Calls body(begin, end, scale) for ranges of elements that share a scale, on all threads.
template <class Body>
void for_each_stretch(Samples samples, const at::Tensor& scale, Body&& body) {
  const at::Tensor packed = scale.defined() ? scale.contiguous() : at::Tensor();
  const float* factors = packed.defined() ? packed.const_data_ptr<float>() : nullptr;
  for (int64_t sample = 0; sample < samples.B; ++sample) {
    const int64_t first = sample * samples.size;
    const float factor = factors == nullptr ? 1.0F : factors[sample];
    at::parallel_for(first, first + samples.size, kGrain,
                     [&](int64_t begin, int64_t end) { body(begin, end, factor); });
  }
}

// Calls body(T*) with a null pointer of the dtype.
template <class Body>
void with_float(at::ScalarType dtype, Body&& body) {
  if (dtype == at::kFloat) {
    body(static_cast<float*>(nullptr));
  } else if (dtype == at::kBFloat16) {
    body(static_cast<at::BFloat16*>(nullptr));
  } else {
    body(static_cast<at::Half*>(nullptr));
  }
}

#ifdef OSPNEXT_CUDA
cuda::HiF8Element element_of(at::ScalarType dtype) {
  return dtype == at::kFloat      ? cuda::HiF8Element::kFloat
         : dtype == at::kBFloat16 ? cuda::HiF8Element::kBf16
                                  : cuda::HiF8Element::kHalf;
}

// Calls launch(scale's memory or null, stream) with the GPU of x as the current device.
template <class Launch>
void launch_on(const at::Tensor& x, const at::Tensor& scale, Launch&& launch) {
  const c10::cuda::CUDAGuard device(x.device());
  const at::Tensor packed = scale.defined() ? scale.contiguous() : at::Tensor();
  launch(packed.defined() ? packed.const_data_ptr<float>() : nullptr,
         c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

// The amax [B] of contiguous x, which is split into B samples of equal size.
at::Tensor cuda_amax(const at::Tensor& x, int64_t B, Of of) {
  at::Tensor amax = at::zeros({B}, x.options().dtype(at::kFloat));
  launch_on(x, {}, [&](const float*, cudaStream_t stream) {
    cuda::hif8_amax(x.const_data_ptr(), amax.mutable_data_ptr<float>(), {B, x.numel() / B},
                    element_of(x.scalar_type()), of, stream);
  });
  return amax;
}
#endif

}  // namespace

at::Tensor amax_of_tensor(const at::Tensor& x) {
  check_float(x);
  if (x.numel() == 0) {
    return at::zeros({}, x.options().dtype(at::kFloat));
  }
#ifdef OSPNEXT_CUDA
  if (x.is_cuda()) {
    return cuda_amax(x.contiguous(), 1, Of::kItself).squeeze(0);  // [1] -> []
  }
#endif
  // Many rows keep many threads busy.
  const at::Tensor rows = x.dim() < 2 ? x.reshape({1, -1}) : x.flatten(0, -2);  // [rows, n]
  const at::Tensor each = amax_of_rows(rows);                                   // [rows]
  return each.amax();
}

at::Tensor amax_of_samples(const at::Tensor& x, Of of) {
  check_float(x);
  TORCH_CHECK(x.dim() > 0, "x: expected [B, ...], got a scalar");
  const int64_t B = x.size(0);
  if (x.numel() == 0) {
    return at::zeros({B}, x.options().dtype(at::kFloat));
  }
#ifdef OSPNEXT_CUDA
  if (x.is_cuda()) {
    return cuda_amax(x.contiguous(), B, of);
  }
#endif
  if (of == Of::kGelu) {
    return amax_of_samples(at::gelu(x, "tanh"));
  }
  if (x.dim() < 3) {
    return amax_of_rows(x.reshape({B, -1}));  // [B, n] -> [B]
  }
  const int64_t rows = x.numel() / x.size(-1) / B;
  return amax_of_rows(x.reshape({B * rows, -1}))  // [B·rows, n] -> [B·rows]
      .view({B, rows})                            // [B, rows]
      .amax(1);                                   // [B]
}

at::Tensor scale_to(double amax_to, const at::Tensor& amax, const at::Tensor& inverse) {
  TORCH_CHECK(amax.scalar_type() == at::kFloat, "amax: expected float32, got ", amax.scalar_type());
  if (inverse.defined()) {
    CHECK_SHAPE(inverse, amax.size(0), 4);
  }
#ifdef OSPNEXT_CUDA
  if (amax.is_cuda()) {
    at::Tensor scale = at::empty(amax.sizes(), amax.options());
    launch_on(amax, amax, [&](const float* packed, cudaStream_t stream) {
      cuda::hif8_scale(packed, static_cast<float>(amax_to), static_cast<float>(kAmaxFloor),
                       scale.mutable_data_ptr<float>(),
                       inverse.defined() ? inverse.mutable_data_ptr<float>() : nullptr,
                       amax.numel(), stream);
    });
    return scale;
  }
#endif
  at::Tensor scale = at::full_like(amax, amax_to).div_(amax.clamp_min(kAmaxFloor));
  if (inverse.defined()) {
    inverse.copy_(scale.reciprocal().unsqueeze(1));  // [n, 1] -> [n, 4]
  }
  return scale;
}

at::Tensor encode(const at::Tensor& x_in, const at::Tensor& scale, Overflow overflow) {
  check_float(x_in);
  const Samples samples = samples_of(x_in, scale);
  const at::Tensor x = x_in.contiguous();
  at::Tensor codes = at::empty(x.sizes(), x.options().dtype(at::kByte));
#ifdef OSPNEXT_CUDA
  if (x.is_cuda()) {
    launch_on(x, scale, [&](const float* factors, cudaStream_t stream) {
      cuda::hif8_encode(x.const_data_ptr(), factors, codes.mutable_data_ptr<uint8_t>(),
                        {samples.B, samples.size}, element_of(x.scalar_type()), overflow, stream);
    });
    return codes;
  }
#endif
  uint8_t* to = codes.mutable_data_ptr<uint8_t>();
  with_float(x.scalar_type(), [&]<class T>(T*) {
    const T* from = x.const_data_ptr<T>();
    for_each_stretch(samples, scale, [=](int64_t begin, int64_t end, float factor) {
      for (int64_t i = begin; i < end; ++i) {
        to[i] = encode(static_cast<float>(from[i]) * factor, overflow);
      }
    });
  });
  return codes;
}

at::Tensor encode_e4m3(const at::Tensor& x_in, const at::Tensor& scale, Of of) {
  check_float(x_in);
  const Samples samples = samples_of(x_in, scale);
  const at::Tensor x = x_in.contiguous();
  at::Tensor out = at::empty(x.sizes(), x.options().dtype(at::kFloat8_e4m3fn));
  auto* to = static_cast<uint8_t*>(out.mutable_data_ptr());
#ifdef OSPNEXT_CUDA
  if (x.is_cuda()) {
    launch_on(x, scale, [&](const float* factors, cudaStream_t stream) {
      cuda::hif8_encode_e4m3(x.const_data_ptr(), factors, to, {samples.B, samples.size},
                             element_of(x.scalar_type()), of, stream);
    });
    return out;
  }
#endif
  if (of == Of::kGelu) {
    return encode_e4m3(at::gelu(x, "tanh"), scale);
  }
  with_float(x.scalar_type(), [&]<class T>(T*) {
    const T* from = x.const_data_ptr<T>();
    for_each_stretch(samples, scale, [=](int64_t begin, int64_t end, float factor) {
      for (int64_t i = begin; i < end; ++i) {
        const float shifted = static_cast<float>(from[i]) * factor;
        to[i] = e4m3::from_hif8(encode(shifted / kShifted), e4m3::kForwardShift);
      }
    });
  });
  return out;
}

at::Tensor code_values(const at::Tensor& x_in, const at::Tensor& scale, Overflow overflow) {
  check_float(x_in);
  const Samples samples = samples_of(x_in, scale);
  const at::Tensor x = x_in.contiguous();
  at::Tensor out = at::empty_like(x);
#ifdef OSPNEXT_CUDA
  if (x.is_cuda()) {
    launch_on(x, scale, [&](const float* factors, cudaStream_t stream) {
      cuda::hif8_code_values(x.const_data_ptr(), factors, out.mutable_data_ptr(),
                             {samples.B, samples.size}, element_of(x.scalar_type()), overflow,
                             stream);
    });
    return out;
  }
#endif
  with_float(x.scalar_type(), [&]<class T>(T*) {
    const T* from = x.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    for_each_stretch(samples, scale, [=](int64_t begin, int64_t end, float factor) {
      for (int64_t i = begin; i < end; ++i) {
        to[i] = static_cast<T>(round(static_cast<float>(from[i]) * factor, overflow));
      }
    });
  });
  return out;
}

at::Tensor decode(const at::Tensor& codes_in, const at::Tensor& scale, at::ScalarType dtype) {
  TORCH_CHECK(codes_in.scalar_type() == at::kByte, "codes: expected uint8, got ",
              codes_in.scalar_type());
  const Samples samples = samples_of(codes_in, scale);
  const at::Tensor codes = codes_in.contiguous();
  at::Tensor out = at::empty(codes.sizes(), codes.options().dtype(dtype));
  check_float(out);
#ifdef OSPNEXT_CUDA
  if (codes.is_cuda()) {
    launch_on(codes, scale, [&](const float* factors, cudaStream_t stream) {
      cuda::hif8_decode(codes.const_data_ptr<uint8_t>(), factors, out.mutable_data_ptr(),
                        {samples.B, samples.size}, element_of(dtype), stream);
    });
    return out;
  }
#endif
  const uint8_t* from = codes.const_data_ptr<uint8_t>();
  with_float(dtype, [&]<class T>(T*) {
    T* to = out.mutable_data_ptr<T>();
    for_each_stretch(samples, scale, [=](int64_t begin, int64_t end, float factor) {
      for (int64_t i = begin; i < end; ++i) {
        to[i] = static_cast<T>(kValues[from[i]] / factor);
      }
    });
  });
  return out;
}

at::Tensor scale_of_samples(const at::Tensor& x, double amax_to, const at::Tensor& amax, Of of) {
  return scale_to(amax_to, amax.defined() ? amax : amax_of_samples(x, of));
}

at::Tensor round_samples(const at::Tensor& x, double amax_to, const at::Tensor& amax) {
  const at::Tensor scale = scale_of_samples(x, amax_to, amax);
#ifdef OSPNEXT_CUDA
  if (x.is_cuda()) {
    const at::Tensor packed = x.contiguous();
    at::Tensor out = at::empty_like(packed);
    const Samples samples = samples_of(packed, scale);
    launch_on(x, scale, [&](const float* factors, cudaStream_t stream) {
      cuda::hif8_round(packed.const_data_ptr(), factors, out.mutable_data_ptr(),
                       {samples.B, samples.size}, element_of(x.scalar_type()), stream);
    });
    return out;
  }
#endif
  std::vector<int64_t> beside(static_cast<size_t>(x.dim()), 1);
  beside[0] = x.size(0);
  return code_values(x, scale)
      .div(scale.view(beside))  // [B, ...] / [B, 1, ...]
      .to(x.scalar_type());
}

}  // namespace ospnext::hif8
