// The models that a flow-matching training trains, from random weights or a model folder to the
// model folder or the LoRA that it writes.
#pragma once

#include "models/transformer.h"
#include "models/umt5.h"
#include "packages/load_adapter.h"
#include "train/flow_training.h"
#include "train/trained_parameters.h"

namespace ospnext {

// The two models that are trained, all weights or a part: float32 master weights, computation in
// the precision of the run. With `encoded_clips` the transformer alone. Or a LoRA of float32 pairs
// that is trained beside their frozen weights, which are in that precision. The blocks of the
// transformer may be sharded.
struct Trainees {
  Transformer transformer{nullptr};
  Umt5Encoder text_encoder{nullptr};  // null with `encoded_clips`
  Umt5Config text_config = {};
  Adapter lora = {};  // empty: weights are trained

  // What is trained, by the names of a checkpoint (train/checkpoint_model.h). The object must not
  // outlive the models.
  TrainedParameters parameters(const TrainingRanks& ranks);
};

// The sizes of the transformer before `insert_blocks` deepens it: the mesh depends only on what
// that does not change. Throws InputError.
TransformerConfig configured_transformer(const FlowTrainingConfig& config);

// The models that a training begins with, their blocks sharded as `ranks` says. Throws InputError.
Trainees initial_trainees(const FlowTrainingConfig& config, at::Device device,
                          at::ScalarType precision, const TrainingRanks& ranks);

// Whether write_result() writes a whole model, not a LoRA or a transformer alone.
bool writes_whole_model(const FlowTrainingConfig& config);

// Writes the averaged weights of the newest checkpoint: with the VAE and the tokenizer as the model
// folder `output`/model, after a training on encoded clips the transformer alone, or a LoRA as the
// folder `output`/lora. Throws InputError and RunError.
void write_result(const FlowTrainingConfig& config);

}  // namespace ospnext
