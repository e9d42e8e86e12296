#include "train/lora_training.h"

#include <cmath>

#include "core/error.h"
#include "core/name_pattern.h"
#include "core/number_check.h"
#include "core/torch/random.h"
#include "packages/part_layouts.h"
#include "packages/save_adapter.h"
#include "train/checkpoint_model.h"

namespace ospnext {
namespace {

// Pairs that change nothing yet.
std::vector<LowRankChange> drawn_changes(const LoraTrainingFields& fields,
                                         const TensorShapes& shapes, uint64_t seed) {
  const double alpha =
      fields.lora_alpha > 0 ? fields.lora_alpha : 2 * static_cast<double>(fields.lora_rank);
  at::Generator generator = seeded_generator(seed, "LoRA initial weights");
  std::vector<LowRankChange> changes;
  for (const std::string& layer :
       fitting_names(linear_layers(shapes), fields.lora_targets, fits_ending, "`lora_targets`",
                     "the transformer's linear layers, such as \"blocks.0.self_attn.q\"")) {
    const std::vector<int64_t>& shape = shapes.at(layer + ".weight");
    const double bound = 1 / std::sqrt(static_cast<double>(shape[1]));
    const at::Tensor down =
        at::empty({fields.lora_rank, shape[1]}).uniform_(-bound, bound, generator);
    changes.push_back({layer + ".weight", down, at::zeros({shape[0], fields.lora_rank}),
                       alpha / static_cast<double>(fields.lora_rank)});
  }
  return changes;
}

}  // namespace

void LoraTrainingFields::check() const {
  check_range("`lora_rank`", lora_rank, int64_t{0}, int64_t{65'536});
  check_range("`lora_alpha`", lora_alpha, 0.0, 1e9);
  if (lora_targets.empty() && lora_rank > 0) {
    throw InputError("`lora_targets`: found none, expected names of linear layers");
  }
  if (!initial_lora.empty() &&
      (lora_rank > 0 || lora_alpha > 0 || lora_targets != LoraTrainingFields().lora_targets)) {
    throw InputError(
        "`initial_lora`: found with `lora_rank`, `lora_alpha` or `lora_targets`, expected it "
        "alone: the LoRA has layers, ranks and alphas of its own");
  }
  if (!active() && (lora_alpha > 0 || lora_targets != LoraTrainingFields().lora_targets)) {
    throw InputError("`lora_rank`: found 0 with `lora_alpha` or `lora_targets`, expected a rank");
  }
}

Adapter initial_adapter(const LoraTrainingFields& fields, const TransformerConfig& sizes,
                        uint64_t seed, at::Device device) {
  const auto options = at::TensorOptions(device).dtype(at::kFloat);
  return fields.initial_lora.empty()
             ? make_adapter(drawn_changes(fields, part_shapes(sizes), seed), options)
             : load_adapter(fields.initial_lora, sizes, options);
}

NamedTensors train_adapter(const Adapter& adapter) {
  NamedTensors tensors = peft_tensors(adapter);
  for (auto& [name, tensor] : tensors) {
    tensor.set_requires_grad(true);
  }
  return tensors;
}

TrainedParameters lora_parameters(const Adapter& adapter, Transformer& transformer,
                                  const TrainingRanks& ranks) {
  TrainedParameters pairs(train_adapter(adapter), ranks, &transformer->sharded_weights());
  pairs.set_model(model_of_lora(peft_config(adapter, part_shapes(transformer->config()))));
  return pairs;
}

}  // namespace ospnext
