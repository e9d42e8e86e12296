// Reads a Umt5Config from a config.json, or derives it from tensor shapes.
#include "core/error.h"
#include "core/fields.h"
#include "io/readers/key_rewriting.h"
#include "models/umt5.h"

namespace ospnext {
namespace {

// Far above any encoder. Products of widths fit int64.
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxLayers = 1024;

// Throws unless `json` lacks `key` or its value is `expected`.
void expect_text(const nlohmann::json& json, const char* key, const std::string& expected,
                 const std::string& origin) {
  const auto found = json.find(key);
  if (found != json.end() && *found != expected) {
    throw InputError(origin + ": " + key + ": found " + found->dump() + ", expected \"" + expected +
                     "\"");
  }
}

}  // namespace

void Umt5Config::check(const std::string& origin) const {
  const auto expect = [&](bool holds, const char* name, const std::string& value,
                          const std::string& rule) {
    if (!holds) {
      throw InputError(origin + ": " + name + ": found " + value + ", expected " + rule);
    }
  };
  const auto expect_range = [&](const char* name, int64_t value, int64_t low, int64_t high) {
    expect(value >= low && value <= high, name, std::to_string(value),
           "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  };
  expect_range("vocab_size", vocab_size, 1, int64_t{1} << 24);
  expect_range("d_model", d_model, 1, kMaxWidth);
  expect_range("num_heads", num_heads, 1, kMaxWidth);
  expect_range("d_kv", d_kv, 1, kMaxWidth);
  expect_range("d_ff", d_ff, 1, kMaxWidth);
  expect_range("num_layers", num_layers, 1, kMaxLayers);
  expect_range("relative_attention_num_buckets", relative_attention_num_buckets, 4, 4096);
  expect(relative_attention_num_buckets % 4 == 0, "relative_attention_num_buckets",
         std::to_string(relative_attention_num_buckets), "a multiple of 4");
  expect_range("relative_attention_max_distance", relative_attention_max_distance,
               relative_attention_num_buckets / 4 + 1, kMaxWidth);
  expect(layer_norm_epsilon >= 0 && layer_norm_epsilon < 1, "layer_norm_epsilon",
         std::to_string(layer_norm_epsilon), "a number from 0 to below 1");
}

Umt5Config umt5_config_from_json(const nlohmann::json& json, const std::string& origin) {
  Umt5Config config;
  std::vector<std::string> unknown;
  fields_from_json(config, json, origin, &unknown);
  expect_text(json, "model_type", "umt5", origin);
  expect_text(json, "feed_forward_proj", "gated-gelu", origin);
  config.check(origin);
  return config;
}

Umt5Config infer_umt5_config(const TensorShapes& shapes, const std::string& origin) {
  const auto matrix = [&](const std::string& name) {
    const auto found = shapes.find(name);
    if (found == shapes.end() || found->second.size() != 2) {
      throw InputError(origin + ": found " +
                       (found == shapes.end() ? "no tensor " : "a misshapen tensor ") + name +
                       ", expected the matrix of that name of a UMT5 encoder");
    }
    return found->second;
  };
  Umt5Config config;
  const std::vector<int64_t> embedding = matrix("token_embedding.weight");
  config.vocab_size = embedding[0];
  config.d_model = embedding[1];
  config.num_layers = count_blocks(shapes, "blocks.", origin);
  const std::vector<int64_t> bias = matrix("blocks.0.pos_embedding.embedding.weight");
  config.relative_attention_num_buckets = bias[0];
  config.num_heads = bias[1];
  const int64_t inner = matrix("blocks.0.attn.q.weight")[0];
  if (config.num_heads < 1 || inner % config.num_heads != 0) {
    throw InputError(origin + ": blocks.0.attn.q.weight: found " + std::to_string(inner) +
                     " rows, expected a multiple of the " + std::to_string(config.num_heads) +
                     " heads of blocks.0.pos_embedding.embedding.weight");
  }
  config.d_kv = inner / config.num_heads;
  config.d_ff = matrix("blocks.0.ffn.fc1.weight")[0];
  config.check(origin);
  return config;
}

}  // namespace ospnext
