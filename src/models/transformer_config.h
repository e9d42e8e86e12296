// Sizes and sparsity of the transformer: defaults, rules, and functions that read them from files.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/readers/tensor_file.h"
#include "models/layout.h"

namespace ospnext {

// A token is a patch of 1 latent frame x kPatchRows x kPatchColumns latent values.
inline constexpr int64_t kPatchRows = 2, kPatchColumns = 2;

// Defaults are Wan2.1-T2V-1.3B's, dense.
struct TransformerConfig {
  int64_t dim = 1536;       // C, width of a token
  int64_t ffn_dim = 8960;   // width inside the feed-forward network
  int64_t freq_dim = 256;   // width of the time step's sinusoid
  int64_t text_dim = 4096;  // width of a text embedding
  int64_t text_len = 512;   // T, text tokens
  int64_t in_dim = 16;      // latent channels in
  int64_t out_dim = 16;     // latent channels out, equal to in_dim
  int64_t num_heads = 12;   // H; dim / num_heads is even
  int64_t num_layers = 30;
  double eps = 1e-6;  // of all norms
  std::string skiparse_model_type = "full";
  int64_t sparse_ratio = 2;     // P: a sparse block attends within each of P² segments
  int64_t num_full_blocks = 0;  // for dual_end: half at the start, half at the end
  std::string quant;            // "" or "hif8": rounding of the linear layers
  std::string quant_attn;       // "" or "hif8": rounding inside attention
  double scale_max_forward = 15.0;
  double scale_max_backward = 224.0;

  int64_t head_dim() const { return dim / num_heads; }
  // Throws InputError for an unknown skiparse_model_type.
  SkiparseType skiparse_type() const;
  // Throws an InputError that begins with `origin` and names the field, its value and the broken
  // rule.
  void check(const std::string& origin = "transformer") const;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("dim", dim, "width of a token");
    field("ffn_dim", ffn_dim, "hidden width of the feed-forward network");
    field("freq_dim", freq_dim, "width of the sinusoidal time embedding");
    field("text_dim", text_dim, "width of a text embedding");
    field("text_len", text_len, "number of text tokens");
    field("in_dim", in_dim, "latent channels of the input");
    field("out_dim", out_dim, "latent channels of the output");
    field("num_heads", num_heads, "attention heads");
    field("num_layers", num_layers, "transformer blocks");
    field("eps", eps, "added to the variance in all norms");
    field("skiparse_model_type", skiparse_model_type, "full, dual_end or uniform");
    field("sparse_ratio", sparse_ratio, "P: a sparse block attends within each of P*P segments");
    field("num_full_blocks", num_full_blocks,
          "full blocks of dual_end: half at the start, half at the end");
    field("quant", quant, "hif8: round the linear layers; empty: do not");
    field("quant_attn", quant_attn, "hif8: round inside attention; empty: do not");
    field("scale_max_forward", scale_max_forward,
          "largest magnitude after scaling, in the forward pass");
    field("scale_max_backward", scale_max_backward,
          "largest magnitude after scaling, of gradients");
  }
};

// Reads a config.json of Wan-AI, OSP-Next or diffusers. Skips keys that this program does not use.
// Throws an InputError that begins with `origin` for a value of the wrong type, a missing dim,
// ffn_dim, num_heads or num_layers, a broken rule, and a model that is not text-to-video or has
// other blocks.
TransformerConfig transformer_config_from_json(const nlohmann::json& json,
                                               const std::string& origin);

// Infers the sizes from tensor shapes alone; the number of heads is dim / 128. Fields that shapes
// do not determine keep their defaults. Throws InputError, beginning with `origin`, when tensors or
// blocks below the largest block number are missing or a rule is broken.
TransformerConfig infer_transformer_config(const TensorShapes& shapes, const std::string& origin);

// Takes the fields from the JSON, and the sizes that the JSON lacks from the shapes. Throws
// InputError as the two functions above do, and when JSON and shapes contradict each other.
TransformerConfig resolve_transformer_config(const nlohmann::json& json,
                                             const std::string& json_origin,
                                             const TensorShapes& shapes,
                                             const std::string& shapes_origin);

}  // namespace ospnext
