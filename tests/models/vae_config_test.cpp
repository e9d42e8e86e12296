// The VAE's configuration from config.json and from the shapes of a checkpoint.
#include "models/vae_config.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <map>
#include <numeric>
#include <string>

#include "core/error.h"
#include "core/fields.h"
#include "models/vae.h"
#include "support/paths.h"

namespace ospnext {
namespace {

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

// The shapes of the parameters of a VAE with this config.
std::map<std::string, std::vector<int64_t>> shapes_of(const VaeConfig& config) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const auto& parameter : Vae(config)->named_parameters()) {
    shapes[parameter.key()] = parameter->sizes().vec();
  }
  return shapes;
}

VaeConfig small_config() {
  VaeConfig config;
  config.dim = 4;
  config.z_dim = 3;
  config.dim_mult = {2, 1, 3};
  config.num_res_blocks = 1;
  config.temperal_downsample = {true, false};
  config.latents_mean = {0, 0, 0};
  config.latents_std = {1, 1, 1};
  return config;
}

TEST(VaeConfig, DefaultIsTheReleasedModel) {
  const auto shapes = shapes_of(VaeConfig());
  int64_t count = 0;
  for (const auto& [name, shape] : shapes) {
    count += std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  }
  EXPECT_EQ(shapes.size(), 194u);
  EXPECT_EQ(count, 126892531);
  using Shape = std::vector<int64_t>;
  EXPECT_EQ(shapes.at("encoder.downsamples.3.shortcut.weight"), (Shape{192, 96, 1, 1, 1}));
  EXPECT_EQ(shapes.at("encoder.downsamples.8.time_conv.weight"), (Shape{384, 384, 3, 1, 1}));
  EXPECT_EQ(shapes.at("decoder.middle.1.norm.gamma"), (Shape{384, 1, 1}));
  EXPECT_EQ(shapes.at("decoder.upsamples.4.residual.2.weight"), (Shape{384, 192, 3, 3, 3}));
  EXPECT_EQ(shapes.at("decoder.upsamples.7.time_conv.weight"), (Shape{768, 384, 3, 1, 1}));
  EXPECT_EQ(shapes.at("decoder.upsamples.11.resample.1.weight"), (Shape{96, 192, 3, 3}));
  EXPECT_EQ(shapes.at("decoder.head.0.gamma"), (Shape{96, 1, 1, 1}));
}

TEST(VaeConfig, ShapesGiveTheConfigBack) {
  VaeConfig released;
  EXPECT_EQ(fields_to_json(infer_vae_config(shapes_of(released))), fields_to_json(released));
  EXPECT_EQ(fields_to_json(infer_vae_config(shapes_of(small_config()))),
            fields_to_json(small_config()));
}

TEST(VaeConfig, MissingBlocksOfTheEncoderAreNamed) {
  const auto without = [](const std::string& start) {
    auto shapes = shapes_of(small_config());
    std::erase_if(shapes, [&](const auto& entry) { return entry.first.starts_with(start); });
    return refusal([&] { infer_vae_config(shapes); });
  };
  for (const char* number : {"0", "1", "2", "3"}) {  // residual blocks and resamplings
    const std::string block = std::string("encoder.downsamples.") + number;
    EXPECT_EQ(without(block + "."), "VAE: 1 of 5 blocks are missing: " + block);
  }
  EXPECT_NE(without("encoder.downsamples.2.residual.2.").find("encoder.downsamples.2 has neither"),
            std::string::npos);
  auto shapes = shapes_of(small_config());
  shapes["encoder.downsamples.9999.x"] = {};
  EXPECT_NE(refusal([&] { infer_vae_config(shapes); }).find("9994 of 10000 blocks are missing"),
            std::string::npos);
}

TEST(VaeConfig, JsonGivesTheConfigBack) {
  const VaeConfig config = small_config();
  const VaeConfig again = vae_config_from_json(fields_to_json(config), "config.json");
  EXPECT_EQ(fields_to_json(again), fields_to_json(config));
}

TEST(VaeConfig, DiffusersJsonIsRead) {
  std::ifstream file(fixture_path("vae/other.json"));
  const VaeConfig config = vae_config_from_json(nlohmann::json::parse(file), "other.json");
  EXPECT_EQ(config.dim, 4);
  EXPECT_EQ(config.dim_mult, (std::vector<int64_t>{2, 1, 3}));
  EXPECT_EQ(config.spatial_factor(), 4);
  EXPECT_EQ(config.temporal_factor(), 2);
}

TEST(VaeConfig, OtherModelsAreRefusedByName) {
  auto shapes = shapes_of(small_config());
  shapes["decoder.upsamples.0.upsamples.0.residual.2.weight"] = {4, 4, 3, 3, 3};
  EXPECT_EQ(refusal([&] { infer_vae_config(shapes); }),
            "VAE: found the Wan2.2 VAE, expected the Wan2.1 VAE");
  EXPECT_NE(refusal([] {
              infer_vae_config({{"blocks.0.norm3.weight", {4}}});
            }).find("no decoder.middle.0"),
            std::string::npos);
  EXPECT_NE(refusal([] {
              vae_config_from_json({{"is_residual", true}}, "a.json");
            }).find("Wan2.2"),
            std::string::npos);
  EXPECT_NE(refusal([] {
              vae_config_from_json({{"_class_name", "AutoencoderKL"}}, "a.json");
            }).find("a.json: _class_name"),
            std::string::npos);
}

TEST(VaeConfig, ImpossibleValuesAreRefused) {
  const auto with = [](const char* key, const nlohmann::json& value) {
    nlohmann::json json = fields_to_json(small_config());
    json[key] = value;
    return refusal([&] { vae_config_from_json(json, "a.json"); });
  };
  EXPECT_EQ(with("base_dim", 0), "a.json: VAE config: base_dim is 0, expected 1 to 65536");
  EXPECT_NE(with("base_dim", 3), "accepted");  // 3 channels cannot be halved
  EXPECT_NE(with("base_dim", "many"), "accepted");
  EXPECT_NE(with("z_dim", 4), "accepted");  // there are statistics for 3 channels
  EXPECT_NE(with("dim_mult", nlohmann::json::array()), "accepted");
  EXPECT_NE(with("dim_mult", {1, 2, int64_t{1} << 60}), "accepted");
  EXPECT_NE(with("num_res_blocks", -1), "accepted");
  EXPECT_NE(with("temperal_downsample", {true}), "accepted");
  EXPECT_NE(with("latents_std", {1, 0, 1}), "accepted");
  auto shapes = shapes_of(small_config());
  shapes["encoder.conv1.weight"] = {-4, 3, 3, 3, 3};
  EXPECT_NE(refusal([&] { infer_vae_config(shapes); }), "accepted");
}

}  // namespace
}  // namespace ospnext
