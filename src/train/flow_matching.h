// The loss of flow matching: the transformer learns the velocity from clean latents to noise.
#pragma once

#include "models/transformer.h"

namespace ospnext {

// What the loss is computed on. Letters: C latent channels, T text tokens of width D.
struct FlowSamples {
  at::Tensor latent, noise;  // [B, C, F, H, W] float32; latent is clean
  at::Tensor sigma;          // [B] float32, 0 to 1: noise level
  TextRows text;             // [B, T, D]
};

// mean((v - (noise - latent))^2), v the velocity at sigma·noise + (1 - sigma)·latent, time
// sigma·1000 -> a scalar, the same on all ranks of `tables`. Differentiable.
// Source: Lipman et al. 2023, arXiv 2210.02747; OSP-Next train_osp.py.
at::Tensor flow_matching_loss(Transformer& transformer, const FlowSamples& samples,
                              const TokenTables& tables, const Execution& run);

}  // namespace ospnext
