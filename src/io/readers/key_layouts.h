// Tensor names of known checkpoint families, translated to the names of this project's modules.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "io/readers/tensor_file.h"

namespace ospnext {

// Checkpoint name -> module name (Wan's original one); "" means ignored on purpose.
using KeyMap = std::function<std::string(const std::string&)>;

// The maps below are recognised from the names in the file. What stands before all names of the model,
// everywhere alike, is a wrapper and is left out ("model.diffusion_model.", "generator_ema.model."), and so
// are wrappers of single layers ("_orig_mod.", "_fsdp_wrapped_module."); other names stay as they are.
// They throw InputError, naming the file, when it holds another kind of model or two behind different
// wrappers. Scales of fp8 and HiF8 weights are ignored (scaled_fp8.h and hif8_codes.h read them).

// Transformer: Wan-AI, OSP-Next and diffusers names. Refuses image-to-video checkpoints.
// Source: diffusers scripts/convert_wan_to_diffusers.py:TRANSFORMER_KEYS_RENAME_DICT.
KeyMap transformer_keys(const Checkpoint& checkpoint);

// VAE: original and diffusers names, for any number of levels and residual blocks. Refuses the VAE
// of Wan2.2. Source: diffusers autoencoder_kl_wan.py module names.
KeyMap vae_keys(const Checkpoint& checkpoint);

// UMT5 encoder: Wan and Hugging Face names. Ignores the second copy of the embedding and the
// tokenizer "spiece_model". Source: Wan2.1 wan/modules/t5.py and transformers modeling_umt5.py names.
KeyMap umt5_keys(const Checkpoint& checkpoint);

// Module name -> shape, of the tensors that `keys` does not ignore: what a missing config is read from.
// Throws InputError for weights of a format that is not read, whose shapes may say nothing.
TensorShapes renamed_shapes(const Checkpoint& checkpoint, const KeyMap& keys);

// The way back, from the names of our modules.
std::string diffusers_transformer_key(const std::string& name);
std::string hugging_face_umt5_key(const std::string& name);
// Needs all names of the VAE: which block of the decoder a layer belongs to follows from those before.
KeyMap diffusers_vae_keys(const std::vector<std::string>& names);

// One name on its own, without recognition: only usual wrappers are left out.
std::string canonical_transformer_key(const std::string& name);
std::string canonical_umt5_key(const std::string& name);

// Index in the original decoder.upsamples of the first module of each diffusers decoder.up_blocks.i.
using UpBlockOffsets = std::map<int64_t, int64_t>;
// Counted from names without wrappers: a block has its resnets and, all but the last, one upsampler.
UpBlockOffsets up_block_offsets(const std::vector<std::string>& names);
std::string canonical_vae_key(const std::string& name, const UpBlockOffsets& offsets);

}  // namespace ospnext
