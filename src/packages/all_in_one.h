// All-in-one files: all parts of a model in one file, as ComfyUI saves a checkpoint.
#pragma once

#include <optional>
#include <string>

#include "io/readers/tensor_file.h"
#include "packages/model_folder.h"

namespace ospnext {

// The part of an all-in-one file that a tensor belongs to, by the prefix of its name; nothing for
// other names:
//   transformer   model.diffusion_model.
//   VAE           vae. or first_stage_model.
//   text encoder  text_encoders.umt5xxl.transformer.
//   tokenizer     a tensor spiece_model with the prefix text_encoders., text_encoders.umt5xxl. or
//                 that of the text encoder
// Source: ComfyUI comfy/supported_models.py:WAN21_T2V, comfy/supported_models_base.py (the
// prefixes), comfy/sd.py:CLIP.get_sd and comfy/text_encoders/wan.py (the tokenizer's tensor).
std::optional<ModelPart> part_of_tensor(const std::string& name);

// Whether the checkpoint contains tensors of two or more parts. In a file of one part, such a
// prefix is an ordinary wrapper.
bool is_all_in_one(const Checkpoint& checkpoint);

// Whether the checkpoint is an all-in-one file with tensors of the part.
bool brings_part(const Checkpoint& checkpoint, ModelPart part);

// Keeps only the tensors of one part of an all-in-one file, and of its metadata
// "_quantization_metadata" only the layers of the part. Throws InputError when the file has no
// tensor of the part. Does not change other checkpoints.
void keep_part(Checkpoint& checkpoint, ModelPart part);

// The tensor with the SentencePiece model in a checkpoint of any kind; null if there is none.
const TensorRecord* find_tokenizer(const Checkpoint& checkpoint);

}  // namespace ospnext
