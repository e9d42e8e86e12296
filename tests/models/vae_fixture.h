// A small random VAE of diffusers with its inputs and outputs (tools/make_vae_fixtures.py).
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "io/weights.h"
#include "models/vae.h"
#include "support/paths.h"

namespace ospnext {

// The VAE of <stem>.safetensors and <stem>.json, and the cases in the same file.
struct VaeFixture {
  explicit VaeFixture(const std::string& stem)
      : tensors(read_tensors(fixture_path("vae/" + stem + ".safetensors"))),
        vae(vae_config_from_json(
            nlohmann::json::parse(std::ifstream(fixture_path("vae/" + stem + ".json"))), stem)) {
    const Checkpoint checkpoint = open_checkpoint(fixture_path("vae/" + stem + ".safetensors"));
    at::set_num_threads(1);  // on tensors this small, more threads only wait for each other
    load_weights(*vae, checkpoint, [](const std::string& name) {
      return name.rfind("case.", 0) == 0 ? std::string() : name;
    });
  }

  at::Tensor of(int64_t frames, const std::string& name) const {
    return tensors.at("case." + std::to_string(frames) + "." + name);
  }
  at::Tensor video(int64_t frames) const { return of(frames, "pixels").to(at::kFloat) / 127.5 - 1; }
  at::Tensor given(int64_t frames) const { return of(frames, "given").to(at::kFloat); }

  std::map<std::string, at::Tensor> tensors;
  Vae vae;
};

// The largest difference, relative to the largest expected value.
inline double difference(const at::Tensor& actual, const at::Tensor& expected) {
  EXPECT_EQ(actual.sizes(), expected.sizes());
  return ((actual - expected).abs().max() / expected.abs().max()).item<double>();
}

}  // namespace ospnext
