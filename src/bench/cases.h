// What `ospnext bench` measures: pieces of a model of a released size, with random weights and inputs.
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

// One thing to time. A number that means nothing for it is 0.
struct BenchCase {
  std::string name;
  double flops = 0;  // arithmetic it cannot do without
  double bytes = 0;  // memory it cannot help reading and writing
  std::function<void()> ours;
  std::function<void()> aten = {};  // the same in plain ATen operations; empty: ours is that
  std::function<void()> bare = {};  // the matrix product in it alone, of the same operands
  double extra_bytes =
      0;  // what the rest could not help reading and writing, were it in an epilogue
};

// The video and the model that the cases are cut from.
struct BenchModel {
  TransformerConfig transformer;
  Umt5Config text_encoder;
  VaeConfig vae;
  int64_t width = 1280, height = 720, num_frames = 81;  // of the video, pixels and frames
  ComputeOptions compute;

  GenerationConfig video() const;
  // Tokens of the transformer, and the latent [1, 16, F, h, w] they come from.
  Grid grid() const;
  std::vector<int64_t> latent_shape() const;
};

// A large matrix product and a large copy: what the device can do at most. The first has flops, the
// second bytes.
std::vector<BenchCase> ceiling_cases(const ComputeOptions& compute);

// Self-attention in each pattern of the model, and attention to 512 rows of text.
std::vector<BenchCase> attention_cases(const BenchModel& model);
// The linear layers of a block, one by one: bare products, and with bias, GELU or gated residual. With HiF8 on FP8
// tensor cores products of inputs that are rounded already, and the rounding apart; simulated, both at once.
std::vector<BenchCase> gemm_cases(const BenchModel& model);
// The operations between them that are bound by memory.
std::vector<BenchCase> pointwise_cases(const BenchModel& model);
// A block of each pattern of the model; attention of all tokens, and that as a ring of two computes it.
std::vector<BenchCase> block_cases(const BenchModel& model);
// One pass of the whole transformer.
std::vector<BenchCase> forward_cases(const BenchModel& model);
// Decoding, whole and in tiles, and encoding of the video by Wan's VAE, as a stream.
std::vector<BenchCase> vae_cases(const BenchModel& model);
// UMT5-XXL on 512 tokens.
std::vector<BenchCase> text_cases(const BenchModel& model);

}  // namespace ospnext
