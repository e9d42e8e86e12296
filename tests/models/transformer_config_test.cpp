// Reads configurations of three families, infers missing sizes, refuses contradictions.
#include "models/transformer_config.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/fields.h"
#include "models/transformer.h"

namespace ospnext {
namespace {

using nlohmann::json;

template <class Action>
std::string input_error(Action&& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

void expect_mentions(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << "\"" << message << "\" lacks " << part;
  }
}

const json kWan = {{"_class_name", "WanModel"},
                   {"_diffusers_version", "0.30.0"},
                   {"dim", 1536},
                   {"eps", 1e-6},
                   {"ffn_dim", 8960},
                   {"freq_dim", 256},
                   {"in_dim", 16},
                   {"model_type", "t2v"},
                   {"num_heads", 12},
                   {"num_layers", 30},
                   {"out_dim", 16},
                   {"text_len", 512}};

TEST(TransformerConfig, ReadsWan) {
  const TransformerConfig config = transformer_config_from_json(kWan, "config.json");
  EXPECT_EQ(config.dim, 1536);
  EXPECT_EQ(config.head_dim(), 128);
  EXPECT_EQ(config.skiparse_type(), SkiparseType::kFull);
}

TEST(TransformerConfig, ReadsOspNextWithItsQuantisation) {
  json source = kWan;
  source.update({{"_class_name", "OSPNextModel"},
                 {"skiparse_model_type", "dual_end"},
                 {"sparse_ratio", 2},
                 {"num_full_blocks", 8},
                 {"quant", "hif8"},
                 {"quant_attn", nullptr},
                 {"scale_max_forward", 15.0},
                 {"scale_max_backward", 224}});
  const TransformerConfig config = transformer_config_from_json(source, "config.json");
  EXPECT_EQ(config.skiparse_type(), SkiparseType::kDualEnd);
  EXPECT_EQ(config.num_full_blocks, 8);
  EXPECT_EQ(config.quant, "hif8");
  EXPECT_EQ(config.quant_attn, "");
}

TEST(TransformerConfig, ReadsDiffusers) {
  const json source = {{"added_kv_proj_dim", nullptr},
                       {"attention_head_dim", 128},
                       {"cross_attn_norm", true},
                       {"eps", 1e-6},
                       {"ffn_dim", 13824},
                       {"freq_dim", 256},
                       {"image_dim", nullptr},
                       {"in_channels", 16},
                       {"num_attention_heads", 40},
                       {"num_layers", 40},
                       {"out_channels", 16},
                       {"patch_size", {1, 2, 2}},
                       {"qk_norm", "rms_norm_across_heads"},
                       {"text_dim", 4096},
                       {"rope_max_seq_len", 1024}};
  const TransformerConfig config = transformer_config_from_json(source, "config.json");
  EXPECT_EQ(config.dim, 5120);
  EXPECT_EQ(config.num_heads, 40);
}

TEST(TransformerConfig, NamesFieldValueAndRule) {
  const auto error_with = [](const json& changes) {
    json source = kWan;
    source.update(changes);
    return input_error([&] { transformer_config_from_json(source, "config.json"); });
  };
  expect_mentions(error_with({{"num_heads", 7}}), {"config.json", "num_heads", "7", "1536"});
  expect_mentions(error_with({{"num_layers", 0}}), {"num_layers", "0", "1 to"});
  expect_mentions(error_with({{"num_layers", "thirty"}}), {"num_layers", "thirty"});
  expect_mentions(error_with({{"eps", -1}}), {"eps", "positive"});
  expect_mentions(error_with({{"skiparse_model_type", "half"}}),
                  {"config.json", "half", "dual_end"});
  expect_mentions(error_with({{"skiparse_model_type", "dual_end"}, {"num_full_blocks", 6}}),
                  {"num_full_blocks", "6", "multiple of 4"});
  expect_mentions(error_with({{"skiparse_model_type", "dual_end"}, {"num_full_blocks", 16}}),
                  {"num_full_blocks", "16", "half of num_layers 30"});
  expect_mentions(error_with({{"skiparse_model_type", "dual_end"}, {"num_layers", 29}}),
                  {"num_layers", "29", "even"});
  expect_mentions(error_with({{"skiparse_model_type", "uniform"}, {"num_full_blocks", 4}}),
                  {"num_full_blocks", "4", "uniform"});
  expect_mentions(error_with({{"skiparse_model_type", "uniform"}, {"num_layers", 29}}),
                  {"num_layers", "29", "even", "uniform"});
  EXPECT_EQ(error_with({{"skiparse_model_type", "full"}, {"num_layers", 29}}), "");
  expect_mentions(error_with({{"sparse_ratio", 0}}), {"sparse_ratio", "0"});
  expect_mentions(error_with({{"quant", "int4"}}), {"quant", "int4", "hif8"});
  expect_mentions(error_with({{"patch_size", {1, 4, 4}}}), {"patch_size", "[1,4,4]", "[1,2,2]"});
  expect_mentions(error_with({{"model_type", "i2v"}}), {"image-to-video"});
  expect_mentions(error_with({{"image_dim", 1280}}), {"image-to-video", "image_dim"});
  expect_mentions(input_error([] { transformer_config_from_json(json::array(), "c.json"); }),
                  {"c.json", "object"});
  expect_mentions(input_error([] {
                    transformer_config_from_json({{"dim", 128}}, "c.json");
                  }),
                  {"c.json", "ffn_dim", "missing"});
}

TensorShapes shapes_of(const TransformerConfig& config) {
  TensorShapes shapes;
  for (const auto& parameter : Transformer(config)->named_parameters()) {
    shapes[parameter.key()] = parameter.value().sizes().vec();
  }
  return shapes;
}

TransformerConfig small_config() {
  TransformerConfig config;
  config.dim = 256, config.num_heads = 2, config.ffn_dim = 80, config.num_layers = 3;
  config.text_dim = 24, config.freq_dim = 32, config.in_dim = 16, config.out_dim = 16;
  return config;
}

TEST(TransformerConfig, IsInferredFromShapes) {
  const TransformerConfig expected = small_config();
  const TransformerConfig config = infer_transformer_config(shapes_of(expected), "w.safetensors");
  EXPECT_EQ(fields_to_json(config), fields_to_json(expected));
}

TEST(TransformerConfig, JsonAndShapesCompleteEachOther) {
  const TensorShapes shapes = shapes_of(small_config());
  const json source = {{"num_heads", 4}, {"ffn_dim", 80}, {"sparse_ratio", 3}};
  const auto config = resolve_transformer_config(source, "config.json", shapes, "w.safetensors");
  EXPECT_EQ(config.num_heads, 4);
  EXPECT_EQ(config.dim, 256);
  EXPECT_EQ(config.sparse_ratio, 3);
  expect_mentions(
      input_error([&] {
        resolve_transformer_config({{"num_layers", 30}}, "config.json", shapes, "w.safetensors");
      }),
      {"config.json", "num_layers", "30", "w.safetensors", "3"});
}

TEST(TransformerConfig, DepthIsTheLargestBlockAndMissingOnesAreNamed) {
  TensorShapes shapes = shapes_of(small_config());
  std::erase_if(shapes, [](const auto& entry) { return entry.first.starts_with("blocks.1."); });
  const auto refusal = [&](const json& source) {
    return input_error(
        [&] { resolve_transformer_config(source, "config.json", shapes, "w.safetensors"); });
  };
  EXPECT_EQ(refusal(json::object()), "w.safetensors: 1 of 3 blocks are missing: blocks.1");
  EXPECT_EQ(refusal({{"num_layers", 3}}), refusal(json::object()));
  shapes["blocks.9999.x"] = {};
  expect_mentions(refusal(json::object()),
                  {"9997 of 10000 blocks are missing", "blocks.1, blocks.3", "more"});
}

TEST(TransformerConfig, ShapesThatAreNoTextToVideoModelAreRefused) {
  TensorShapes shapes = shapes_of(small_config());
  TensorShapes image_to_video = shapes;
  image_to_video["patch_embedding.weight"][1] = 36;
  expect_mentions(input_error([&] { infer_transformer_config(image_to_video, "w.safetensors"); }),
                  {"w.safetensors", "in_dim", "36", "text-to-video"});
  shapes["head.modulation"] = {2, 256};
  expect_mentions(input_error([&] { infer_transformer_config(shapes, "w.safetensors"); }),
                  {"head.modulation", "2 dimensions"});
  expect_mentions(input_error([] { infer_transformer_config({}, "w.safetensors"); }),
                  {"w.safetensors", "missing"});
}

}  // namespace
}  // namespace ospnext
