// What reinforcement learning begins with: the transformer and what is trained of it, what it is
// compared with, and the texts.
#pragma once

#include <string>
#include <vector>

#include "engine/video_model.h"
#include "packages/model_source.h"
#include "rl/policy.h"
#include "rl/rl_config.h"
#include "train/trained_parameters.h"

namespace ospnext {

// What is trained: a LoRA beside frozen weights, or all weights.
struct PolicyTrainee {
  Transformer transformer{nullptr};
  Adapter lora = {};

  // `text_encoder` is of the model that checkpoints of all weights belong to.
  TrainedParameters parameters(const TrainingRanks& ranks, const Umt5Config& text_encoder);
};

// The transformer of `source`, and of `config` what is trained of it. Throws as the source and
// initial_adapter() do, and InputError for a LoRA that does not act in each step that is trained.
PolicyTrainee initial_trainee(const RlConfig& config, const ModelSource& source,
                              ComputeOptions compute, const TrainingRanks& ranks);

// The model before the training, for the distance to it: a LoRA is switched off; of full weights
// there is a frozen copy, which `source` makes. `trainee` must outlive the result.
PolicyReference reference_of(const RlConfig& config, const ModelSource& source,
                             const ComputeOptions& compute, const TrainingRanks& ranks,
                             const PolicyTrainee& trainee);

// What an update's policy reads: the rows of each prompt, and of the negative prompt where updates
// are guided, on the model's device. The texts must be embedded and alike.
PolicyTexts policy_texts(const VideoModel& model, const std::vector<std::string>& prompts,
                         const RolloutConfig& rollout);

// Embeds all texts once and pads them alike; then the text encoder is freed. Throws Cancelled.
void embed_all(VideoModel& model, const std::vector<std::string>& texts, Progress& progress,
               const CancellationToken& cancel);

}  // namespace ospnext
