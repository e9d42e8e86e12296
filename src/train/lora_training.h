// A LoRA that is trained beside the frozen weights of a transformer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "packages/load_adapter.h"
#include "train/optimizer.h"
#include "train/trained_parameters.h"

namespace ospnext {

// The flags for it.
struct LoraTrainingFields {
  int64_t lora_rank = 0;
  double lora_alpha = 0;
  // Source: OSP-Next configs/train/gpu/osp_14b_RL.yaml (lora_config), also for alpha = 2 · rank.
  std::vector<std::string> lora_targets = {"self_attn.q",  "self_attn.k",  "self_attn.v",
                                           "self_attn.o",  "cross_attn.q", "cross_attn.k",
                                           "cross_attn.v", "cross_attn.o"};
  std::string initial_lora;

  // Whether a LoRA is trained instead of the weights.
  bool active() const { return lora_rank != 0 || !initial_lora.empty(); }

  // Throws InputError naming the field, the value and the rule.
  void check() const;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("lora_rank", lora_rank,
          "train a LoRA of this rank beside the frozen weights of the initial model; 0: none");
    field("lora_alpha", lora_alpha, "the LoRA is multiplied by alpha / rank; 0: twice the rank");
    field("lora_targets", lora_targets,
          "linear layers that get a pair of matrices: whole names, or endings after a dot, with * "
          "for any characters; may be repeated");
    field("initial_lora", initial_lora,
          "LoRA (file, or folder of PEFT or diffusers) to go on from; its own layers, ranks and "
          "alphas stay");
  }
};

// The pairs that a training begins with, in float32 on `device`, for a transformer of these sizes:
// of `initial_lora`, or drawn: `down` uniform in ±1/√in, `up` zero. Throws
// InputError for a target that fits no linear layer, and as load_adapter() does.
// Source: PEFT tuners/lora/layer.py:reset_lora_parameters (Kaiming-uniform with a = √5).
Adapter initial_adapter(const LoraTrainingFields& fields, const TransformerConfig& sizes,
                        uint64_t seed, at::Device device);

// The matrices of an adapter by PEFT's names. From here on they need gradients.
NamedTensors train_adapter(const Adapter& adapter);

// What a training of this adapter beside the transformer's frozen weights changes, with what
// checkpoints say of it. The transformer must outlive the result.
TrainedParameters lora_parameters(const Adapter& adapter, Transformer& transformer,
                                  const TrainingRanks& ranks);

}  // namespace ospnext
