#include "train/flow_matching.h"

namespace ospnext {

at::Tensor flow_matching_loss(Transformer& transformer, const FlowSamples& samples,
                              const TokenTables& tables, const Execution& run) {
  const at::Tensor level = samples.sigma.view({-1, 1, 1, 1, 1});             // [B, 1, 1, 1, 1]
  const at::Tensor noised = at::lerp(samples.latent, samples.noise, level);  // [B, C, F, H, W]
  const TimeVectors time = transformer->embed_time(samples.sigma * 1000.0, run.numerics.epilogue);
  const at::Tensor velocity =
      transformer->forward(noised, transformer->embed_words(samples.text, run), time, tables, run);
  return (velocity - (samples.noise - samples.latent)).square().mean();
}

}  // namespace ospnext
