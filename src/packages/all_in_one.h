// All parts of a model in one file, as ComfyUI saves a checkpoint.
#pragma once

#include <optional>
#include <string>

#include "io/readers/tensor_file.h"
#include "packages/model_folder.h"

namespace ospnext {

// The part of an all-in-one file that a tensor belongs to, by the beginning of its name; nothing
// for names of no part:
//   transformer   model.diffusion_model.
//   VAE           vae. or first_stage_model.
//   text encoder  text_encoders.umt5xxl.transformer.
//   tokenizer     a tensor spiece_model behind text_encoders., text_encoders.umt5xxl. or the text
//                 encoder's prefix
// Source: ComfyUI comfy/supported_models.py:WAN21_T2V, comfy/supported_models_base.py (the
// prefixes), comfy/sd.py:CLIP.get_sd and comfy/text_encoders/wan.py (the tokenizer's tensor).
std::optional<ModelPart> part_of_tensor(const std::string& name);

// Whether tensors of two parts or more lie in it. A file of one part has its names behind such a
// prefix at most as behind any other wrapper.
bool is_all_in_one(const Checkpoint& checkpoint);

// Whether it is an all-in-one file with tensors of the part.
bool brings_part(const Checkpoint& checkpoint, ModelPart part);

// Leaves the tensors of one part of an all-in-one file, and what its metadata says of them. Throws
// InputError when it has none of it. Any other checkpoint stays as it is.
void keep_part(Checkpoint& checkpoint, ModelPart part);

// The SentencePiece model among the tensors of a checkpoint of any kind; null without one.
const TensorRecord* find_tokenizer(const Checkpoint& checkpoint);

}  // namespace ospnext
