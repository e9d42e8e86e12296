// The models that a flow-matching training trains, from random weights or a model folder to the
// model folder that it writes.
#pragma once

#include <map>
#include <string>

#include "models/transformer.h"
#include "models/umt5.h"
#include "train/flow_training.h"
#include "train/optimizer.h"

namespace ospnext {

// What stands before the names of the transformer's and the text encoder's trained tensors.
inline constexpr const char* kTransformerPrefix = "transformer.";
inline constexpr const char* kTextEncoderPrefix = "text_encoder.";

// The two models that are trained: float32 master weights, computation in the precision of the run.
// The blocks of the transformer may be sharded.
struct Trainees {
  Transformer transformer{nullptr};
  Umt5Encoder text_encoder{nullptr};

  // The trained tensors that every process has whole.
  NamedTensors whole_parameters();
};

// The sizes of the transformer before `insert_blocks` deepens it: the mesh depends only on what
// that does not change. Throws InputError.
TransformerConfig configured_transformer(const FlowTrainingConfig& config);

// The models that a training begins with, their blocks sharded as `ranks` says. Throws InputError.
Trainees initial_trainees(const FlowTrainingConfig& config, at::Device device,
                          at::ScalarType precision, const TrainingRanks& ranks);

// Writes `averages`, the trained tensors by name, with the VAE and the tokenizer as the model
// folder `output`/model.
void write_model(const FlowTrainingConfig& config, const TransformerConfig& transformer_config,
                 const Umt5Config& text_encoder_config,
                 const std::map<std::string, at::Tensor>& averages);

}  // namespace ospnext
