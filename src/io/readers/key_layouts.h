// Translates tensor names of known checkpoint families to the names of our modules, and back.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "io/readers/tensor_file.h"

namespace ospnext {

// Checkpoint name -> module name (Wan's original one); "" means ignored on purpose.
using KeyMap = std::function<std::string(const std::string&)>;

// The three functions below derive a map from the names in the file. They remove a common prefix of
// all the model's names, called a wrapper ("model.diffusion_model.", "generator_ema.model."), and
// wrappers of single layers ("_orig_mod.", "_fsdp_wrapped_module."). Unknown names stay unchanged.
// Scales of fp8 and HiF8 weights are ignored (scaled_fp8.h and hif8_codes.h read them). They throw
// InputError, naming the file, when it contains another kind of model, or two models with different
// wrappers.

// Transformer: Wan-AI, OSP-Next and diffusers names. Refuses image-to-video checkpoints.
// Source: diffusers scripts/convert_wan_to_diffusers.py:TRANSFORMER_KEYS_RENAME_DICT.
KeyMap transformer_keys(const Checkpoint& checkpoint);

// VAE: original and diffusers names, for any number of levels and residual blocks. Refuses the VAE
// of Wan2.2. Source: diffusers autoencoder_kl_wan.py module names.
KeyMap vae_keys(const Checkpoint& checkpoint);

// UMT5 encoder: Wan and Hugging Face names. Ignores the second copy of the embedding and the
// tokenizer "spiece_model". Source: Wan2.1 wan/modules/t5.py and transformers modeling_umt5.py.
KeyMap umt5_keys(const Checkpoint& checkpoint);

// Module name -> shape, for all tensors that `keys` does not ignore. Configurations are inferred
// from it. Throws InputError for weights in an unsupported format: their shapes may be meaningless.
TensorShapes renamed_shapes(const Checkpoint& checkpoint, const KeyMap& keys);

// The inverse: from the names of our modules to another layout.
std::string diffusers_transformer_key(const std::string& name);
std::string hugging_face_umt5_key(const std::string& name);
// `names`: all names of the VAE. The decoder block of a layer depends on the layers before it.
KeyMap diffusers_vae_keys(const std::vector<std::string>& names);

// Translates one name alone. Only the usual wrappers are removed (strip_wrappers()).
std::string canonical_transformer_key(const std::string& name);
std::string canonical_umt5_key(const std::string& name);

// i -> index, in the original decoder.upsamples, of the first module of diffusers'
// decoder.up_blocks.i.
using UpBlockOffsets = std::map<int64_t, int64_t>;
// Counted from names without wrappers. A block has its resnets and, except the last, one upsampler.
UpBlockOffsets up_block_offsets(const std::vector<std::string>& names);
std::string canonical_vae_key(const std::string& name, const UpBlockOffsets& offsets);

}  // namespace ospnext
