// Translates tensor names of the transformer and of the UMT5 encoder.
#include "io/readers/key_layouts.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "io/readers/key_rewriting.h"
#include "io/readers/weight_companions.h"

namespace ospnext {
namespace {

constexpr std::array kTransformerRules{
    PrefixRule{"condition_embedder.text_embedder.linear_1.", "text_embedding.0."},
    PrefixRule{"condition_embedder.text_embedder.linear_2.", "text_embedding.2."},
    PrefixRule{"condition_embedder.time_embedder.linear_1.", "time_embedding.0."},
    PrefixRule{"condition_embedder.time_embedder.linear_2.", "time_embedding.2."},
    PrefixRule{"condition_embedder.time_proj.", "time_projection.1."},
    PrefixRule{"scale_shift_table", "head.modulation"},
    PrefixRule{"proj_out.", "head.head."},
};

// For names inside a block. The norm before cross-attention is norm3 in Wan and norm2 in
// diffusers. The other two norms have no parameters in either layout.
constexpr std::array kBlockRules{
    PrefixRule{"attn1.to_q.", "self_attn.q."},
    PrefixRule{"attn1.to_k.", "self_attn.k."},
    PrefixRule{"attn1.to_v.", "self_attn.v."},
    PrefixRule{"attn1.to_out.0.", "self_attn.o."},
    PrefixRule{"attn1.norm_q.", "self_attn.norm_q."},
    PrefixRule{"attn1.norm_k.", "self_attn.norm_k."},
    PrefixRule{"attn2.to_q.", "cross_attn.q."},
    PrefixRule{"attn2.to_k.", "cross_attn.k."},
    PrefixRule{"attn2.to_v.", "cross_attn.v."},
    PrefixRule{"attn2.to_out.0.", "cross_attn.o."},
    PrefixRule{"attn2.norm_q.", "cross_attn.norm_q."},
    PrefixRule{"attn2.norm_k.", "cross_attn.norm_k."},
    PrefixRule{"norm2.", "norm3."},
    PrefixRule{"ffn.net.0.proj.", "ffn.0."},
    PrefixRule{"ffn.net.2.", "ffn.2."},
    PrefixRule{"scale_shift_table", "modulation"},
};

constexpr std::array kUmt5Rules{
    PrefixRule{"shared.", "token_embedding."},
    PrefixRule{"encoder.final_layer_norm.", "norm."},
};

constexpr std::array kUmt5BlockRules{
    PrefixRule{"layer.0.layer_norm.", "norm1."},
    PrefixRule{"layer.0.SelfAttention.relative_attention_bias.", "pos_embedding.embedding."},
    PrefixRule{"layer.0.SelfAttention.", "attn."},
    PrefixRule{"layer.1.layer_norm.", "norm2."},
    PrefixRule{"layer.1.DenseReluDense.wi_0.", "ffn.gate.0."},
    PrefixRule{"layer.1.DenseReluDense.wi_1.", "ffn.fc1."},
    PrefixRule{"layer.1.DenseReluDense.wo.", "ffn.fc2."},
};

constexpr const char* kTiedEmbedding = "encoder.embed_tokens.weight";
constexpr const char* kEmbedding = "token_embedding.weight";

// Name fragments that only image-to-video models have.
constexpr std::array kImageSigns{"img_emb.", "image_embedder.", ".k_img.", ".add_k_proj."};

void refuse_image_to_video(const Checkpoint& checkpoint) {
  for (const auto& entry : checkpoint.tensors()) {
    for (const char* sign : kImageSigns) {
      if (entry.first.find(sign) != std::string::npos) {
        throw InputError(
            checkpoint.path() +
            ": expected a text-to-video transformer, found an image-to-video one (tensor " +
            quoted(entry.first) + ")");
      }
    }
  }
}

std::string translate_transformer_key(std::string_view bare) {
  if (const auto block = split_number(bare, "blocks.")) {
    const auto inner = replace_prefix(block->rest, kBlockRules);
    return "blocks." + std::to_string(block->number) + "." +
           inner.value_or(std::string(block->rest));
  }
  return replace_prefix(bare, kTransformerRules).value_or(std::string(bare));
}

std::string translate_umt5_key(std::string_view bare) {
  if (const auto block = split_number(bare, "encoder.block.")) {
    const auto inner = replace_prefix(block->rest, kUmt5BlockRules);
    return "blocks." + std::to_string(block->number) + "." +
           inner.value_or(std::string(block->rest));
  }
  return replace_prefix(bare, kUmt5Rules).value_or(std::string(bare));
}

constexpr std::array<std::string_view, 9> kTransformerRoots{
    "patch_embedding.",  "text_embedding.", "time_embedding.", "time_projection.",
    "blocks.",           "head.",           "proj_out.",       "condition_embedder.",
    "scale_shift_table",
};
constexpr std::array<std::string_view, 3> kTransformerSigns{
    "patch_embedding.weight", "head.modulation", "blocks.0.modulation"};
constexpr ModelSigns kTransformer{"a Wan or OSP-Next transformer", kTransformerRoots,
                                  kTransformerSigns, translate_transformer_key};

constexpr std::array<std::string_view, 7> kUmt5Roots{
    "token_embedding.",
    "blocks.",
    "norm.",
    "shared.",
    "encoder.block.",
    "encoder.final_layer_norm.",
    "encoder.embed_tokens.",
};
constexpr std::array<std::string_view, 2> kUmt5Signs{"blocks.0.ffn.gate.0.weight",
                                                     "blocks.0.pos_embedding.embedding.weight"};
constexpr ModelSigns kUmt5{"a UMT5 text encoder", kUmt5Roots, kUmt5Signs, translate_umt5_key};

bool is_tokenizer(const std::string& name) {
  return name == "spiece_model" || name.ends_with(".spiece_model");
}

}  // namespace

std::string canonical_transformer_key(const std::string& name) {
  return is_weight_companion(name) ? "" : translate_transformer_key(strip_wrappers(name));
}

std::string canonical_umt5_key(const std::string& name) {
  const std::string bare = strip_wrappers(name);
  return bare == kTiedEmbedding || is_tokenizer(bare) || is_weight_companion(bare)
             ? ""
             : translate_umt5_key(bare);
}

std::string diffusers_transformer_key(const std::string& name) {
  if (const auto block = split_number(name, "blocks.")) {
    const auto inner = restore_prefix(block->rest, kBlockRules);
    return "blocks." + std::to_string(block->number) + "." +
           inner.value_or(std::string(block->rest));
  }
  return restore_prefix(name, kTransformerRules).value_or(name);
}

std::string hugging_face_umt5_key(const std::string& name) {
  if (const auto block = split_number(name, "blocks.")) {
    const auto inner = restore_prefix(block->rest, kUmt5BlockRules);
    return "encoder.block." + std::to_string(block->number) + "." +
           inner.value_or(std::string(block->rest));
  }
  return restore_prefix(name, kUmt5Rules).value_or(name);
}

KeyMap transformer_keys(const Checkpoint& checkpoint) {
  refuse_image_to_video(checkpoint);
  return [wrapper = find_wrapper(checkpoint, kTransformer)](const std::string& name) {
    const auto bare = unwrapped(name, wrapper);
    return is_weight_companion(name) ? "" : bare ? translate_transformer_key(*bare) : name;
  };
}

KeyMap umt5_keys(const Checkpoint& checkpoint) {
  const std::string wrapper = find_wrapper(checkpoint, kUmt5);
  // the encoder's copy of the embedding is used only if there is no other
  const bool has_embedding =
      std::any_of(checkpoint.tensors().begin(), checkpoint.tensors().end(), [&](const auto& entry) {
        const auto bare = unwrapped(entry.first, wrapper);
        return bare && translate_umt5_key(*bare) == kEmbedding;
      });
  return [wrapper, has_embedding](const std::string& name) -> std::string {
    const auto bare = unwrapped(name, wrapper);
    if (is_weight_companion(name) || is_tokenizer(name)) {
      return "";
    }
    if (bare == kTiedEmbedding) {
      return has_embedding ? "" : kEmbedding;
    }
    return bare ? translate_umt5_key(*bare) : name;
  };
}

TensorShapes renamed_shapes(const Checkpoint& checkpoint, const KeyMap& keys) {
  refuse_other_formats(checkpoint);
  TensorShapes shapes;
  for (const auto& [name, record] : checkpoint.tensors()) {
    if (const std::string key = keys(name); !key.empty()) {
      shapes[key] = record.shape;
    }
  }
  return shapes;
}

}  // namespace ospnext
