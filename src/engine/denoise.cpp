#include "engine/denoise.h"

#include "schedulers/flow_matching.h"

namespace ospnext {

Guidance guide(Transformer& transformer, const GuidingTexts& texts, const Execution& run,
               const ProcessGroup& passes) {
  const at::Device device = transformer->head->modulation.device();
  const auto embed = [&](const std::vector<at::Tensor>& rows) {              // B x [n, D]
    const at::Tensor padded = at::pad_sequence(rows, /*batch_first=*/true);  // [B, n, D]
    return transformer->embed_text(pad_text(padded.to(device), transformer->config().text_len),
                                   run);
  };
  const std::vector<at::Tensor> negatives(texts.prompts.size(), texts.negative);
  Guidance guidance{.text = {}, .negative_text = {}, .scale = texts.scale};
  if (!texts.negative.defined()) {
    guidance.text = embed(texts.prompts);
  } else if (passes.size() > 1) {
    guidance.text = embed(passes.rank() == 0 ? texts.prompts : negatives);
    guidance.passes = passes;
  } else if (texts.batched) {
    std::vector<at::Tensor> both = texts.prompts;
    both.insert(both.end(), negatives.begin(), negatives.end());
    guidance.text = embed(both);
    guidance.batched = true;
  } else {
    guidance.text = embed(texts.prompts);
    guidance.negative_text = embed(negatives);
  }
  return guidance;
}

at::Tensor predict_velocity(Transformer& transformer, const at::Tensor& latent,
                            const at::Tensor& timestep, const Guidance& guidance,
                            const TokenTables& tables, const Execution& run,
                            const CancelCheck& check) {
  const int64_t copies = guidance.batched ? 2 : 1, B = copies * latent.size(0);
  const at::Tensor repeated =
      copies == 1 ? latent : latent.repeat({copies, 1, 1, 1, 1});  // [copies·B, 16, F, h, w]
  Span embed(run.spans, SpanKind::kBlock, "time");
  const TimeVectors time = transformer->embed_time(timestep.expand({B}), run.numerics.epilogue);
  embed.end();
  const auto pass = [&](const TextVectors& text) {  // -> [copies·B, 16, F, h, w]
    const Span span(run.spans, SpanKind::kPass, "pass");
    return transformer->forward(repeated, text, time, tables, run);
  };
  const at::Tensor conditional = pass(guidance.text);
  if (guidance.passes.size() > 1) {
    const int64_t own = latent.size(0);
    const auto both = guidance.passes.all_gather(conditional, {own, own}, "guidance").chunk(2);
    return guided_velocity(both[0], both[1], guidance.scale);
  }
  if (guidance.batched) {
    const auto both = conditional.chunk(2);
    return guided_velocity(both[0], both[1], guidance.scale);
  }
  if (guidance.negative_text.empty()) {
    return conditional;
  }
  check();
  return guided_velocity(conditional, pass(guidance.negative_text), guidance.scale);
}

at::Tensor denoise(const VelocityFunction& predict, Sampler& sampler, const at::Tensor& noise,
                   Progress& progress, const CancelCheck& check, const EstimateWatcher& watch,
                   Spans* spans) {
  const torch::NoGradGuard no_grad;
  at::Tensor latent = noise;
  const at::Tensor timesteps = sampler.schedule().timesteps.to(latent.device(), torch::kFloat32);
  for (int64_t i = 0; i < sampler.steps(); ++i) {
    check();
    Span step(spans, SpanKind::kStep, "step", i + 1);
    const double noise_level = sampler.schedule().sigmas[i].item<float>();
    const at::Tensor velocity = predict(latent, timesteps.narrow(0, i, 1), noise_level);
    const at::Tensor before = latent;
    latent = sampler.step(i, before, velocity);
    if (watch) {
      watch(i + 1, before - noise_level * velocity);
    }
    if (latent.is_cuda()) {
      torch::cuda::synchronize(latent.device().index());  // else steps would only be queued
    }
    step.end();
    if (spans != nullptr) {
      spans->settle();
    }
    progress.step();
  }
  return latent;
}

}  // namespace ospnext
