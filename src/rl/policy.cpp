#include "rl/policy.h"

#include "schedulers/flow_matching.h"

namespace ospnext {

Policy::Policy(Transformer& transformer, PolicyReference reference, const TrainingRanks& ranks,
               const Checkpointing& checkpointing)
    : transformer_(transformer),
      reference_(std::move(reference)),
      tables_(transformer->config(), transformer->head->modulation.device(), ranks.work.sequence),
      blocks_(transformer, checkpointing) {}

at::Tensor Policy::guided(Transformer& transformer, const at::Tensor& latent, const NoiseTime& time,
                          const PolicyTexts& texts, Execution run) {
  const int64_t B = latent.size(0);
  run.numerics.noise_level = time.noise_level;
  const TokenTables& tables = tables_.of(token_grid(latent));
  const auto pass = [&](const at::Tensor& rows, const Execution& how) {
    const TimeVectors vectors =
        transformer->embed_time(time.timestep.expand({B}), how.numerics.epilogue);
    const TextRows text = pad_text(rows, transformer->config().text_len);
    return transformer->forward(latent, transformer->embed_words(text, how), vectors, tables, how);
  };
  if (!texts.negatives.defined()) {
    return pass(texts.prompts, run);
  }
  at::Tensor unconditional;
  if (texts.both_gradients) {
    unconditional = pass(texts.negatives, run);
  } else {
    const torch::NoGradGuard no_grad;
    unconditional = pass(texts.negatives, {run.numerics});
  }
  return guided_velocity(pass(texts.prompts, run), unconditional, texts.scale);
}

at::Tensor Policy::velocity(const at::Tensor& latent, const NoiseTime& time,
                            const PolicyTexts& texts) {
  Execution run{transformer_->numerics()};
  run.blocks = &blocks_;
  return guided(transformer_, latent, time, texts, run);
}

at::Tensor Policy::fixed_velocity(const at::Tensor& latent, const NoiseTime& time,
                                  const PolicyTexts& texts) {
  const torch::NoGradGuard no_grad;
  return guided(transformer_, latent, time, texts, {transformer_->numerics()});
}

at::Tensor Policy::reference_velocity(const at::Tensor& latent, const NoiseTime& time,
                                      const PolicyTexts& texts) {
  const torch::NoGradGuard no_grad;
  if (!reference_.frozen.is_empty()) {
    return guided(reference_.frozen, latent, time, texts, {reference_.frozen->numerics()});
  }
  TORCH_CHECK(reference_.without != nullptr, "the policy has no reference");
  set_adapters(transformer_, {});
  at::Tensor velocity = guided(transformer_, latent, time, texts, {transformer_->numerics()});
  set_adapters(transformer_, {{reference_.without, 1.0}});
  return velocity;
}

}  // namespace ospnext
