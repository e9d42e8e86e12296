// Names of the transformer and of the UMT5 encoder.
#include "io/readers/key_layouts.h"

#include <algorithm>
#include <array>
#include <set>

#include "core/error.h"
#include "io/readers/hif8_codes.h"
#include "io/readers/key_rewriting.h"
#include "io/readers/scaled_fp8.h"

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

// Inside a block. The norm before cross-attention is called norm3 in Wan and norm2 in diffusers; the
// other two norms have no parameters in either.
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

std::set<std::string> renamed(const Checkpoint& checkpoint, const KeyMap& keys) {
  std::set<std::string> names;
  for (const auto& entry : checkpoint.tensors()) {
    names.insert(keys(entry.first));
  }
  return names;
}

}  // namespace

std::string canonical_transformer_key(const std::string& name) {
  if (is_fp8_companion(name) || is_hif8_companion(name)) {
    return "";
  }
  const std::string bare = strip_wrappers(name);
  if (const auto block = split_number(bare, "blocks.")) {
    const auto inner = replace_prefix(block->rest, kBlockRules);
    return "blocks." + std::to_string(block->number) + "." +
           inner.value_or(std::string(block->rest));
  }
  return replace_prefix(bare, kTransformerRules).value_or(bare);
}

std::string canonical_umt5_key(const std::string& name) {
  const std::string bare = strip_wrappers(name);
  if (bare == kTiedEmbedding || bare == "spiece_model" || is_fp8_companion(bare)) {
    return "";
  }
  if (const auto block = split_number(bare, "encoder.block.")) {
    const auto inner = replace_prefix(block->rest, kUmt5BlockRules);
    return "blocks." + std::to_string(block->number) + "." +
           inner.value_or(std::string(block->rest));
  }
  return replace_prefix(bare, kUmt5Rules).value_or(bare);
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
  const auto names = renamed(checkpoint, canonical_transformer_key);
  if (!names.contains("patch_embedding.weight") && !names.contains("head.modulation") &&
      !names.contains("blocks.0.modulation")) {
    refuse_other_model(checkpoint, "a Wan or OSP-Next transformer");
  }
  refuse_image_to_video(checkpoint);
  return canonical_transformer_key;
}

KeyMap umt5_keys(const Checkpoint& checkpoint) {
  const auto names = renamed(checkpoint, canonical_umt5_key);
  if (!names.contains("blocks.0.ffn.gate.0.weight") &&
      !names.contains("blocks.0.pos_embedding.embedding.weight")) {
    refuse_other_model(checkpoint, "a UMT5 text encoder");
  }
  if (names.contains(kEmbedding)) {
    return canonical_umt5_key;
  }
  return [](const std::string& name) {  // the encoder's copy of the embedding is the only one
    return strip_wrappers(name) == kTiedEmbedding ? kEmbedding : canonical_umt5_key(name);
  };
}

TensorShapes renamed_shapes(const Checkpoint& checkpoint, const KeyMap& keys) {
  TensorShapes shapes;
  for (const auto& [name, record] : checkpoint.tensors()) {
    if (const std::string key = keys(name); !key.empty()) {
      shapes[key] = record.shape;
    }
  }
  return shapes;
}

}  // namespace ospnext
