#ifdef OSPNEXT_CUDA
#include "kernels/cublas_lt.h"

#include <ATen/cuda/CUDAContext.h>
#include <cublasLt.h>

#include <memory>

#include "core/torch/shape_check.h"
#include "kernels/cuda_tensors.h"

namespace ospnext::cuda {
namespace {

void check(cublasStatus_t status, const char* what) {
  TORCH_CHECK(status == CUBLAS_STATUS_SUCCESS, "cuBLASLt: ", what, ": ",
              cublasLtGetStatusString(status));
}

struct Destroy {
  void operator()(cublasLtMatmulDesc_t it) const { cublasLtMatmulDescDestroy(it); }
  void operator()(cublasLtMatrixLayout_t it) const { cublasLtMatrixLayoutDestroy(it); }
  void operator()(cublasLtMatmulPreference_t it) const { cublasLtMatmulPreferenceDestroy(it); }
};
template <class Handle>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy>;

template <class Value>
void set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t what, const Value& value) {
  check(cublasLtMatmulDescSetAttribute(operation, what, &value, sizeof(value)), "attribute");
}

// The layout of a contiguous matrix [rows, columns]. cuBLASLt is column-major, so to it this is the
// transposed matrix.
Owned<cublasLtMatrixLayout_t> layout_of(const at::Tensor& x) {
  TORCH_CHECK(x.is_contiguous() && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0,
              "lt_product: operands are packed and aligned to 16 bytes");
  const auto type = x.scalar_type() == at::kFloat8_e4m3fn ? CUDA_R_8F_E4M3 : CUDA_R_16BF;
  cublasLtMatrixLayout_t layout = nullptr;
  check(cublasLtMatrixLayoutCreate(&layout, type, static_cast<uint64_t>(x.size(1)),
                                   static_cast<uint64_t>(x.size(0)), x.size(1)),
        "layout");
  return Owned<cublasLtMatrixLayout_t>(layout);
}

// outᵀ = W xᵀ for the column-major cuBLASLt, with the product's epilogue. `ones` [N] are the scales
// of the weight's rows, which the scales of x's rows want beside them.
Owned<cublasLtMatmulDesc_t> operation_of(const LtProduct& product, const at::Tensor& ones) {
  cublasLtMatmulDesc_t operation = nullptr;
  check(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "operation");
  Owned<cublasLtMatmulDesc_t> owned(operation);
  set(operation, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  set(operation, CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
  if (product.bias.defined()) {
    set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias.const_data_ptr());
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_16BF);
  }
  if (product.x_scale.defined()) {
    set(operation, CUBLASLT_MATMUL_DESC_FAST_ACCUM, int8_t{0});
    set(operation, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, product.x_scale.const_data_ptr());
  }
  if (ones.defined()) {
    set(operation, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, ones.const_data_ptr());
    for (const auto mode : {CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_DESC_B_SCALE_MODE}) {
      set(operation, mode, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
    }
  }
  return owned;
}

}  // namespace

bool lt_takes(const at::Tensor& x, const at::Tensor& weight) {
  constexpr int64_t kVector = 8;
  return x.is_cuda() && x.numel() > 0 && x.scalar_type() == at::kBFloat16 &&
         weight.scalar_type() == at::kBFloat16 && weight.size(0) % kVector == 0 &&
         weight.size(1) % kVector == 0;
}

void lt_product(const at::Tensor& out, const LtProduct& product) {
  const int64_t M = product.x.size(0), K = product.x.size(1), N = product.weight.size(0);
  CHECK_SHAPE(product.weight, N, K);
  if (product.bias.defined()) {
    CHECK_SHAPE(product.bias, N);
  }
  CHECK_SHAPE(out, M, N);
  constexpr size_t kWorkspace = size_t{32} << 20;  // 32 MiB, as cuBLAS advises for Hopper
  const c10::cuda::CUDAGuard device(out.device());

  const bool by_rows = product.x_scale.defined() && product.x_scale.numel() > 1;
  at::Tensor ones;
  if (by_rows) {
    CHECK_SHAPE(product.x_scale, M);
    ones = at::ones({N}, product.x_scale.options());
  }
  const auto operation = operation_of(product, ones);
  const auto x = layout_of(product.x), weight = layout_of(product.weight), y = layout_of(out);
  cublasLtMatmulPreference_t limits = nullptr;
  check(cublasLtMatmulPreferenceCreate(&limits), "preference");
  const Owned<cublasLtMatmulPreference_t> owned_limits(limits);
  check(cublasLtMatmulPreferenceSetAttribute(limits, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &kWorkspace, sizeof(kWorkspace)),
        "workspace");
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  cublasLtHandle_t handle = at::cuda::getCurrentCUDABlasLtHandle();
  check(cublasLtMatmulAlgoGetHeuristic(handle, operation.get(), weight.get(), x.get(), y.get(),
                                       y.get(), limits, 1, &best, &found),
        "choice of an algorithm");
  TORCH_CHECK(found == 1, "cuBLASLt: no algorithm for [", M, ", ", K, "] x [", K, ", ", N, "]");

  const at::Tensor workspace =
      at::empty({static_cast<int64_t>(kWorkspace)}, out.options().dtype(at::kByte));
  const float alpha = product.weight_scale, beta = product.adds ? 1.0F : 0.0F;
  check(cublasLtMatmul(handle, operation.get(), &alpha, product.weight.const_data_ptr(),
                       weight.get(), product.x.const_data_ptr(), x.get(), &beta,
                       out.const_data_ptr(), y.get(), out.mutable_data_ptr(), y.get(), &best.algo,
                       workspace.mutable_data_ptr(), kWorkspace, c10::cuda::getCurrentCUDAStream()),
        "product");
}

}  // namespace ospnext::cuda
#endif
