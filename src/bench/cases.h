// The cases of `ospnext bench`: pieces of a model of a released size, with random weights and
// inputs.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/torch/torch.h"
#include "engine/generation_config.h"
#include "models/layout.h"
#include "models/transformer_config.h"
#include "packages/load_model.h"

namespace ospnext {

// One thing to time. 0 for a number that does not apply.
struct BenchCase {
  std::string name;
  double flops = 0;  // floating-point operations that the case needs at least
  double bytes = 0;  // bytes that the case must read and write at least
  std::function<void()> ours;
  std::function<void()> aten = {};  // the same in plain ATen; empty: `ours` is plain ATen
  std::function<void()> bare = {};  // only its matrix product, of the same operands
  // Bytes that all but the product must read and write when it runs in the product's epilogue.
  double extra_bytes = 0;
};

// The video and the model that the cases are taken from.
struct BenchModel {
  TransformerConfig transformer;
  Umt5Config text_encoder;
  VaeConfig vae;
  int64_t width = 1280, height = 720, num_frames = 81;  // size of the video, in pixels and frames
  ComputeOptions compute;

  GenerationConfig video() const;
  // The grid of the transformer's tokens, and the shape of the latent [1, 16, F, h, w].
  Grid grid() const;
  std::vector<int64_t> latent_shape() const;
};

// A large matrix product and a large copy. They measure the device's limits: the first case has
// `flops`, the second has `bytes`.
std::vector<BenchCase> ceiling_cases(const ComputeOptions& compute);

// Self-attention in each pattern of the model, and cross-attention to 512 rows of text.
std::vector<BenchCase> attention_cases(const BenchModel& model);
// The linear layers of a block, one by one: the bare product, then with bias, GELU or gated
// residual. With HiF8 on FP8 tensor cores, the products take inputs that are already rounded, and
// the rounding is a case of its own. With simulated HiF8, one case does both.
std::vector<BenchCase> gemm_cases(const BenchModel& model);
// The operations between the linear layers. They are bound by memory bandwidth.
std::vector<BenchCase> pointwise_cases(const BenchModel& model);
// A block in each pattern of the model, attention over all tokens, and the same attention in two
// parts, as a ring of two ranks computes it.
std::vector<BenchCase> block_cases(const BenchModel& model);
// One forward pass of the whole transformer, alone and with a live LoRA of rank 32 on all linears
// of attention.
std::vector<BenchCase> forward_cases(const BenchModel& model);
// Wan's VAE as a stream: decoding the whole video, decoding it in tiles, and encoding it.
std::vector<BenchCase> vae_cases(const BenchModel& model);
// UMT5-XXL on 512 tokens.
std::vector<BenchCase> text_cases(const BenchModel& model);

}  // namespace ospnext
