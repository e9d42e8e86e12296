// Weights are written and read back unchanged; wrong files are refused with their names.
#include "io/weights.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "io/readers/file_bytes.h"
#include "support/compare.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

class Weights : public ::testing::Test {
 protected:
  Weights() {
    std::string name = (fs::temp_directory_path() / "weights_test.XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    torch::manual_seed(7);
  }
  ~Weights() override { fs::remove_all(folder_); }

  // The message of the InputError that `action` throws; "" if it throws none.
  template <class Action>
  static std::string input_error(Action&& action) {
    try {
      action();
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  }

  size_t files_in_folder() const {
    return static_cast<size_t>(
        std::distance(fs::directory_iterator(folder_), fs::directory_iterator{}));
  }

  fs::path folder_;
};

// weight [3, 4], bias [3], running [2]
struct SmallImpl : torch::nn::Module {
  SmallImpl() {
    weight = register_parameter("weight", torch::zeros({3, 4}));
    bias = register_parameter("bias", torch::zeros({3}));
    running = register_buffer("running", torch::zeros({2}, at::kLong));
  }
  at::Tensor weight, bias, running;
};

std::map<std::string, at::Tensor> small_tensors() {
  return {{"bias", torch::randn({3})},
          {"running", torch::tensor({5, 6}, at::kLong)},
          {"weight", torch::randn({3, 4})}};
}

TEST_F(Weights, EveryTypeComesBackBitExact) {
  std::map<std::string, at::Tensor> saved;
  for (const auto type : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kFloat8_e4m3fn,
                          at::kFloat8_e5m2, at::kLong, at::kInt, at::kShort, at::kChar, at::kByte,
                          at::kBool, at::kUInt16, at::kUInt32, at::kUInt64}) {
    saved[c10::toString(type)] = (torch::randn({3, 5}) * 4).abs().to(type);
  }
  saved["empty"] = torch::zeros({0, 7});
  saved["scalar"] = torch::tensor(2.5);
  saved["transposed"] = torch::randn({4, 6}).t();
  save_safetensors(folder_ / "a.safetensors", saved, {{"note", "text"}});
  const auto read = read_tensors(folder_ / "a.safetensors");
  ASSERT_EQ(read.size(), saved.size());
  for (const auto& [name, tensor] : saved) {
    EXPECT_TRUE(same_bits(read.at(name), tensor)) << name;
  }
  const Checkpoint checkpoint = open_checkpoint(folder_ / "a.safetensors");
  EXPECT_EQ(checkpoint.metadata().at("note"), "text");
  EXPECT_EQ(checkpoint.metadata().at("format"), "pt");
}

TEST_F(Weights, LoadConvertsToTheParametersTypeAndReportsTheRest) {
  auto tensors = small_tensors();
  tensors["weight"] = tensors["weight"].to(at::kBFloat16);
  tensors["other"] = torch::zeros({1});
  tensors["dropped"] = torch::zeros({1});
  save_safetensors(folder_ / "a.safetensors", tensors);
  SmallImpl module;
  const LoadReport report =
      load_weights(module, open_checkpoint(folder_ / "a.safetensors"),
                   [](const std::string& name) { return name == "dropped" ? "" : name; });
  EXPECT_EQ(report.ignored, std::vector<std::string>{"other"});
  EXPECT_TRUE(module.weight.equal(tensors["weight"].to(at::kFloat)));
  EXPECT_TRUE(module.bias.equal(tensors["bias"]));
  EXPECT_TRUE(module.running.equal(tensors["running"]));
}

TEST_F(Weights, OnlyTheRowsThatATargetWantsAreRead) {
  const at::Tensor weight = torch::randn({9, 4});
  save_safetensors(folder_ / "a.safetensors", {{"weight", weight}, {"scalar", torch::ones({})}});
  const Checkpoint checkpoint = open_checkpoint(folder_ / "a.safetensors");
  at::Tensor got = torch::zeros({9, 4});
  const auto write = [&](int64_t first_row, const at::Tensor& rows) {
    return got.narrow(0, first_row, rows.size(0)).copy_(rows);
  };
  const auto nothing = [](int64_t, const at::Tensor& rows) {
    ADD_FAILURE() << "wants no rows";
    return rows;
  };
  const WeightTargets targets = {{"weight", {{9, 4}, at::kCPU, {2, 5}, write}},
                                 {"scalar", {{}, at::kCPU, {0, 0}, nothing}}};
  load_weights(targets, checkpoint, weight_sources(checkpoint, {}), {}, {});
  EXPECT_TRUE(got.narrow(0, 2, 5).equal(weight.narrow(0, 2, 5)));
  EXPECT_TRUE(got.narrow(0, 0, 2).eq(0).all().item<bool>());
  EXPECT_TRUE(got.narrow(0, 7, 2).eq(0).all().item<bool>());
}

TEST_F(Weights, MissingMisshapenDoubleAndInfiniteTensorsAreNamed) {
  const fs::path file = folder_ / "a.safetensors";
  SmallImpl module;
  const auto load = [&](std::map<std::string, at::Tensor> tensors, const KeyMap& rename = {}) {
    save_safetensors(file, tensors);
    return input_error([&] { load_weights(module, open_checkpoint(file), rename); });
  };
  auto tensors = small_tensors();
  tensors.erase("bias");
  EXPECT_EQ(load(tensors), file.string() + ": 1 of 3 tensors are missing: bias");
  tensors = small_tensors();
  tensors["weight"] = torch::zeros({4, 3});
  EXPECT_EQ(
      load(tensors),
      file.string() +
          ": 1 of 3 tensors have the wrong shape: \"weight\" (found [4, 3], expected [3, 4])");
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    tensors = small_tensors();
    tensors["bias"][1] = bad;
    EXPECT_EQ(load(tensors), file.string() +
                                 ": tensor \"bias\" holds NaN or infinite values (as "
                                 "Float), expected finite numbers");
  }
  tensors = small_tensors();
  tensors["bias2"] = torch::zeros({3});
  EXPECT_EQ(load(tensors, [](const std::string& name) { return name == "bias2" ? "bias" : name; }),
            file.string() + ": the tensors \"bias\" and \"bias2\" are both bias");
}

TEST_F(Weights, WholeNumbersAndUnknownDtypesAreNoWeights) {
  const fs::path file = folder_ / "a.safetensors";
  SmallImpl module;
  const auto refusal = [&] {
    return input_error([&] { load_weights(module, open_checkpoint(file)); });
  };
  for (const auto type : {at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kUInt16,
                          at::kUInt32, at::kUInt64, at::kBool}) {
    auto tensors = small_tensors();
    tensors["bias"] = torch::ones({3}).to(type);
    save_safetensors(file, tensors);
    const std::string dtype = dtype_name(file_dtype(type, ""));
    EXPECT_EQ(refusal(), file.string() + ": tensor \"bias\" is of " + dtype +
                             ", expected floating-point, fp8 or HiF8 weights");
  }
  const auto with_other = [&](const std::string& name) {
    const std::string header = R"({"bias":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},)"
                               R"("running":{"dtype":"I64","shape":[2],"data_offsets":[12,28]},)"
                               R"("weight":{"dtype":"F32","shape":[3,4],"data_offsets":[28,76]},)"
                               R"("other":{"dtype":"F8_E8M0","shape":[3],"data_offsets":[76,79]}})";
    std::string changed = header;
    if (name != "other") {
      changed.replace(changed.find("\"" + name + "\""), name.size() + 2, "\"spare\"");
      changed.replace(changed.find("other"), 5, name);
    }
    std::ofstream(file, std::ios::binary) << safetensors_bytes(changed, std::string(79, '\0'));
  };
  with_other("other");
  EXPECT_EQ(refusal(), "");
  EXPECT_EQ(load_weights(module, open_checkpoint(file)).ignored, std::vector<std::string>{"other"});
  EXPECT_FALSE(read_tensors(file).contains("other"));
  EXPECT_TRUE(read_tensors(file).contains("bias"));
  for (const char* name : {"bias", "running"}) {
    with_other(name);
    EXPECT_NE(refusal().find("\"" + std::string(name) + "\" is of F8_E8M0, expected"),
              std::string::npos);
  }
}

TEST_F(Weights, CompanionsThatNobodyUnderstandsAreRefusedBesideFp8) {
  const fs::path file = folder_ / "a.safetensors";
  torch::nn::Sequential module(torch::nn::Linear(4, 3));
  const auto refusal = [&](const std::string& companion, at::ScalarType type) {
    save_safetensors(file, {{"0.weight", torch::ones({3, 4}).to(type)},
                            {"0.bias", torch::ones({3})},
                            {companion, torch::ones({3})}});
    return input_error([&] { load_weights(*module, open_checkpoint(file)); });
  };
  for (const std::string name : {"0.scale", "0.weight_scales", "0.weight.scale", "0.zero_point",
                                 "0.weight.state.deep.absmax", "0.weight_quantizer._scale"}) {
    for (const auto type : {at::kFloat8_e4m3fn, at::kFloat8_e5m2}) {
      EXPECT_NE(
          refusal(name, type).find("\"" + name + "\", which belongs to it, is not understood"),
          std::string::npos)
          << name;
    }
    EXPECT_NE(refusal(name, at::kChar).find("is of I8, beside \"" + name + "\""),
              std::string::npos);
    EXPECT_EQ(refusal(name, at::kFloat), "");  // a whole weight needs nothing
  }
  EXPECT_EQ(refusal("0.input_scale", at::kFloat8_e4m3fn), "");
  EXPECT_EQ(refusal("1.scale", at::kFloat8_e4m3fn), "");
}

TEST_F(Weights, LargeFiniteValuesWhoseSumOverflowsAreAccepted) {
  auto tensors = small_tensors();
  tensors["weight"] = torch::full({3, 4}, 3e38F);
  save_safetensors(folder_ / "a.safetensors", tensors);
  SmallImpl module;
  load_weights(module, open_checkpoint(folder_ / "a.safetensors"));
  EXPECT_TRUE(module.weight.equal(tensors["weight"]));
}

// One parameter of this shape.
struct LargeImpl : torch::nn::Module {
  explicit LargeImpl(at::IntArrayRef shape) {
    weight = register_parameter("weight", torch::zeros(shape, at::kBFloat16));
  }
  at::Tensor weight;
};

// A checkpoint of one tensor that lies in memory.
Checkpoint checkpoint_of(const at::Tensor& tensor) {
  const auto* data = static_cast<const std::byte*>(tensor.data_ptr());
  const TensorRecord record{DType::kF32, tensor.sizes().vec(), tensor.strides().vec(), data,
                            tensor.storage().nbytes()};
  return Checkpoint("memory", {}, {{"weight", record}}, {});
}

TEST_F(Weights, LargeTensorsOfAnyOrderArriveWholeBlockByBlock) {
  const at::Tensor plain = torch::randn({5000, 4000});  // 80 MB: more than one block
  for (const at::Tensor& tensor : {plain, plain.t()}) {
    LargeImpl module(tensor.sizes());
    load_weights(module, checkpoint_of(tensor));
    EXPECT_TRUE(module.weight.equal(tensor.to(at::kBFloat16)));
  }
  plain[4999][3999] = NAN;
  LargeImpl module(plain.sizes());
  EXPECT_NE(input_error([&] { load_weights(module, checkpoint_of(plain)); }), "");
}

TEST_F(Weights, ManyMissingTensorsAreCounted) {
  torch::nn::Sequential module;
  for (int i = 0; i < 4; ++i) {
    module->push_back(torch::nn::Linear(2, 2));
  }
  save_safetensors(folder_ / "a.safetensors", {{"x", torch::zeros({1})}});
  EXPECT_EQ(
      input_error([&] { load_weights(*module, open_checkpoint(folder_ / "a.safetensors")); }),
      (folder_ / "a.safetensors").string() +
          ": 8 of 8 tensors are missing: 0.bias, 0.weight, 1.bias, 1.weight, 2.bias and 3 more");
}

TEST_F(Weights, UnalignedDataIsCopied) {
  // a header of 65 bytes puts the data at an odd place
  std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  header.resize(65, ' ');
  std::string bytes(8, '\0');
  bytes[0] = 65;
  const float values[2] = {1.5F, -2.25F};
  bytes += header + std::string(reinterpret_cast<const char*>(values), sizeof(values));
  std::ofstream(folder_ / "odd.safetensors", std::ios::binary) << bytes;
  EXPECT_TRUE(
      read_tensors(folder_ / "odd.safetensors").at("a").equal(torch::tensor({1.5F, -2.25F})));
}

TEST_F(Weights, ShardsComeBackThroughTheirIndex) {
  std::map<std::string, at::Tensor> tensors;
  for (int i = 0; i < 7; ++i) {
    tensors[std::string("t").append(std::to_string(i))] = torch::randn({10});  // 40 bytes
  }
  save_sharded_safetensors(folder_, "model", tensors, 100);
  EXPECT_EQ(files_in_folder(), 5U);  // 4 shards of 2, 2, 2, 1 tensors and the index
  for (const fs::path& place : {folder_ / "model.safetensors.index.json", folder_}) {
    const auto read = read_tensors(place);
    ASSERT_EQ(read.size(), tensors.size());
    for (const auto& [name, tensor] : tensors) {
      EXPECT_TRUE(read.at(name).equal(tensor)) << name;
    }
  }
}

TEST_F(Weights, OneShardNeedsNoIndex) {
  save_sharded_safetensors(folder_, "model", small_tensors(), 1000);
  EXPECT_EQ(files_in_folder(), 1U);
  EXPECT_EQ(read_tensors(folder_ / "model.safetensors").size(), 3U);
}

TEST_F(Weights, FailedSaveLeavesNothing) {
  EXPECT_THROW(save_safetensors(folder_ / "no" / "a.safetensors", small_tensors()), InputError);
  fs::create_directory(folder_ / "taken.safetensors");
  EXPECT_ANY_THROW(save_safetensors(folder_ / "taken.safetensors", small_tensors()));
  EXPECT_EQ(files_in_folder(), 1U);
  EXPECT_THROW(
      save_safetensors(folder_ / "b.safetensors", {{"c", torch::zeros({1}, at::kComplexFloat)}}),
      InputError);
  EXPECT_EQ(files_in_folder(), 1U);
}

TEST_F(Weights, FullDiskIsAnErrorWhileRunning) {
  // a limit on the file size fails writes half way, as a full disk does
  const std::map<std::string, at::Tensor> tensors{{"x", torch::zeros({100000})}};
  const pid_t child = ::fork();  // it must not start torch's threads
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      save_safetensors(folder_ / "big.safetensors", tensors);
    } catch (const RunError&) {
      ::_exit(files_in_folder() == 0 ? 0 : 2);
    }
    ::_exit(1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace ospnext
