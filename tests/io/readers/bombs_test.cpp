// Small or harmless-looking files that could cost gigabytes or minutes are refused. This takes at
// most one second and 200 MB.
#include <gtest/gtest.h>

#include "io/readers/file_bytes.h"
#include "io/readers/key_layouts.h"
#include "io/readers/key_rewriting.h"
#include "io/readers/reader_support.h"
#include "io/readers/tensor_file.h"
#include "io/readers/weight_companions.h"
#include "support/cost.h"

namespace ospnext {
namespace {

class Bombs : public ReaderTest {
 protected:
  // Expects that a file of these bytes is refused within the limits of time and memory, with a
  // message that contains these words.
  void expect_refused_cheaply(const std::string& bytes, const std::string& what) const {
    const auto file = write("a.safetensors", bytes);
    const Cost cost = cost_of([&] { expect_refused([&] { open_checkpoint(file); }, file, what); });
    EXPECT_LT(cost.seconds, kMostCost.seconds) << what;
    EXPECT_LT(cost.kilobytes, kMostCost.kilobytes) << what;
  }
  void expect_program_refused(const std::string& program, const std::string& what) const {
    expect_refused_cheaply(torch_file_bytes("\x80\2" + program + "."), what);
  }
};

std::string repeated(const std::string& text, size_t count) {
  std::string all;
  all.reserve(text.size() * count);
  for (size_t i = 0; i < count; ++i) {
    all += text;
  }
  return all;
}

constexpr size_t kMany = 1'000'000;

// The pickle of a text of any length.
std::string text_of(const std::string& text) {
  return "X" + little_endian(text.size(), 4) + text;
}

TEST_F(Bombs, HeaderOfMillionsOfPartsIsRefused) {
  expect_refused_cheaply(safetensors_bytes("{\"a\":[" + repeated("[],", kMany) + "[]]}"), "parts");
  std::string keys = "{\"a\":0";
  for (size_t i = 0; i < kMany; ++i) {
    keys += ",\"" + std::to_string(i) + "\":0";
  }
  expect_refused_cheaply(safetensors_bytes(keys + "}"), "parts");
}

TEST_F(Bombs, HeaderOfHundredMegabytesIsRefused) {
  expect_refused_cheaply(safetensors_bytes("{\"" + std::string(90'000'000, 'a') + "\":0}"),
                         "the header claims 90000006 bytes");
}

TEST_F(Bombs, TensorOfManyDimensionsIsRefused) {
  const std::string header = "{\"a\":{\"dtype\":\"U8\",\"shape\":[" + repeated("1,", 100'000) +
                             "1],\"data_offsets\":[0,1]}}";
  expect_refused_cheaply(safetensors_bytes(header, "x"), "100001 dimensions");
}

TEST_F(Bombs, PickleOfMillionsOfPartsIsRefused) {
  for (const char* part : {"N", "(", "N\x94", "h\1"}) {
    expect_program_refused("Nq\1" + repeated(part, 4 * kMany), "parts");
  }
}

TEST_F(Bombs, SizesCopiedAgainAndAgainAreRefused) {
  const std::string tuple = "(" + repeated("K\1", 100'000) + "tq\1";
  expect_program_refused(tuple + "ctorch\nSize\nq\2" + repeated("h\2h\1\x85R", 100'000),
                         "unexpected arguments");
}

TEST_F(Bombs, TensorsUnderMillionsOfNamesAreRefused) {
  const std::string storage = "(" + text_of("storage") + "ctorch\nByteStorage\n" + text_of("0") +
                              text_of("cpu") + "K\x10tQ";
  std::string program = "ctorch._utils\n_rebuild_tensor_v2\n(" + storage + std::string("K\0", 2) +
                        "K\1\x85K\1\x85tRq\1";
  for (int level = 2; level < 16; ++level) {
    const std::string before = std::string("h") + static_cast<char>(level - 1);
    program += "](" + repeated(before, 4) + "eq" + static_cast<char>(level);
  }
  expect_program_refused(program, "nested too deeply");
}

TEST_F(Bombs, LongNamesOfManyValuesAreRefused) {
  const std::string list = "](" + repeated("N", 10'000) + "e";
  expect_program_refused("}" + text_of(std::string(1'000'000, 'k')) + list + "s", "name too much");
}

TEST_F(Bombs, DirectoryOfHundredMegabytesIsRefused) {
  const std::string end = std::string("PK\5\6\0\0\0\0", 8) + little_endian(1, 2) +
                          little_endian(1, 2) + little_endian(50'000'000, 4) + little_endian(4, 4) +
                          little_endian(0, 2);
  expect_refused_cheaply("PK\3\4" + std::string(50'000'000, 'x') + end, "zip directory");
}

TEST(FindWrapper, TakesLinearTime) {
  TensorMap tensors;
  const std::string start = repeated("a.", kMany) + repeated("_orig_mod.", kMany / 10);
  for (const char* end :
       {"patch_embedding.weight", "head.modulation", "blocks.0.modulation", "x"}) {
    tensors[start + end] = {};
  }
  const Checkpoint checkpoint("file", {}, std::move(tensors), {});
  const Cost cost = cost_of([&] {
    const KeyMap keys = transformer_keys(checkpoint);
    EXPECT_EQ(keys(start + "blocks.0.modulation"), "blocks.0.modulation");
  });
  EXPECT_LT(cost.seconds, kMostCost.seconds);
}

TEST(UnknownCompanions, TakeLinearTime) {
  TensorMap tensors;
  std::string name;
  for (int i = 0; i < 4000; ++i) {
    name += "a.";
    tensors[name + "weight"] = TensorRecord{DType::kF8E4M3, {0}, {1}, nullptr, 0, {}};
    tensors[name + "x"] = {};
  }
  const Checkpoint checkpoint("file", {}, std::move(tensors), {});
  const Cost cost = cost_of([&] { EXPECT_EQ(unknown_companions(checkpoint).size(), 4000U); });
  EXPECT_LT(cost.seconds, kMostCost.seconds);
}

TEST(StripWrappers, TakesLinearTime) {
  const std::string name = repeated("_orig_mod.", kMany) + "a._orig_mod.x_orig_mod.b";
  const Cost cost = cost_of([&] { EXPECT_EQ(strip_wrappers(name), "a.x_orig_mod.b"); });
  EXPECT_LT(cost.seconds, kMostCost.seconds);
}

}  // namespace
}  // namespace ospnext
