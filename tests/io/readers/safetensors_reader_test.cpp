// Safetensors headers: valid ones are read, and every kind of invalid header is refused.
#include "io/readers/safetensors_reader.h"

#include "io/readers/reader_support.h"

namespace ospnext {
namespace {

class Safetensors : public ReaderTest {
 protected:
  void expect_bytes_refused(const std::string& bytes, const std::string& what) const {
    const auto file = write("a.safetensors", bytes);
    expect_refused([&] { open_checkpoint(file); }, file, what);
  }
  void expect_header_refused(const std::string& header, const std::string& what) const {
    expect_bytes_refused(safetensors_bytes(header, std::string(8, '\0')), what);
  }
};

// {"a":{"dtype":...,"shape":...,"data_offsets":...}}
std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"a":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

TEST_F(Safetensors, ShapesPlacesAndMetadataAreRead) {
  const auto file =
      write("a.safetensors",
            safetensors_bytes(R"({"__metadata__":{"k":"v"},)"
                              R"("b":{"dtype":"I16","shape":[],"data_offsets":[6,8]},)"
                              R"("a":{"dtype":"U8","shape":[2,3],"data_offsets":[0,6]}}  )",
                              std::string("\1\2\3\4\5\6\7\0", 8)));
  const Checkpoint checkpoint = open_checkpoint(file);
  EXPECT_EQ(checkpoint.metadata(), (std::map<std::string, std::string>{{"k", "v"}}));
  const TensorRecord& a = checkpoint.tensors().at("a");
  EXPECT_EQ(a.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(a.strides, (std::vector<int64_t>{3, 1}));
  EXPECT_EQ(a.data[5], std::byte{6});
  const TensorRecord& b = checkpoint.tensors().at("b");
  EXPECT_EQ(b.dtype, DType::kI16);
  EXPECT_TRUE(b.shape.empty());
  EXPECT_EQ(b.element_count(), 1);
  EXPECT_EQ(b.data[0], std::byte{7});
}

TEST_F(Safetensors, FileNeedNotBeNamedSafetensors) {
  const auto file =
      write("weights", safetensors_bytes(entry("F32", "[2]", "[0,8]"), std::string(8, 0)));
  EXPECT_EQ(open_checkpoint(file).tensors().size(), 1U);
}

TEST_F(Safetensors, CutOffFilesAreRefused) {
  expect_bytes_refused("", "empty");
  expect_bytes_refused("abc", "found only 3 bytes");
  const std::string whole = safetensors_bytes(entry("F32", "[2]", "[0,8]"), std::string(8, '\0'));
  for (size_t size = 8; size < whole.size(); ++size) {
    expect_bytes_refused(whole.substr(0, size), "");
  }
  expect_bytes_refused(whole.substr(0, whole.size() - 1), "cut off");
}

TEST_F(Safetensors, HeaderBeyondTheFileIsRefused) {
  expect_bytes_refused(little_endian(1000, 8) + "{}", "claims 1000 bytes");
  expect_bytes_refused(little_endian(UINT64_MAX, 8) + "{}", "claims");
  expect_bytes_refused(little_endian(UINT64_MAX - 7, 8) + "{}", "claims");
}

TEST_F(Safetensors, HeadersThatAreNoValidJsonAreRefused) {
  expect_header_refused("{", "expected JSON");
  expect_header_refused("[]", "JSON object");
  expect_header_refused(std::string(100000, '['), "nested deeper");
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                        R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                        "twice");
  expect_header_refused(R"({"a":{"dtype":"U8","dtype":"F64","shape":[1],"data_offsets":[0,1]}})",
                        "twice");
  expect_header_refused("{\"a\xff\":1}", "expected JSON");
  expect_header_refused(R"({"__metadata__":{"k":1}})", "is no text");
  expect_header_refused(R"({"__metadata__":3})", "metadata");
}

TEST_F(Safetensors, EntriesThatDoNotFitAreRefused) {
  expect_header_refused(R"({"a":3})", "needs dtype");
  expect_header_refused(R"({"a":{"dtype":"F32","shape":[1]}})", "needs dtype");
  expect_header_refused(entry("F4", "[1000]", "[0,8]"), "does not fit its 8 bytes");
  expect_header_refused(entry("F4", "[2]", "[8,16]"), "lies at bytes 8 to 16");
  expect_header_refused(entry("F4\\u001b", "[2]", "[0,8]"), "dtype \"F4?\"");
  expect_header_refused(entry("", "[2]", "[0,8]"), "dtype \"\"");
  expect_header_refused(entry("F32", "[-2]", "[0,8]"), "whole numbers");
  expect_header_refused(entry("F32", "[2.0]", "[0,8]"), "whole numbers");
  expect_header_refused(entry("F32", "2", "[0,8]"), "whole numbers");
  expect_header_refused(entry("F32", "[2]", "[0,8,9]"), "whole numbers");
  expect_header_refused(entry("F32", "[2]", "[0,18446744073709551615]"), "whole numbers");
  expect_header_refused(entry("F32", "[3]", "[0,8]"), "does not fit its 8 bytes");
  expect_header_refused(entry("F32", "[2]", "[8,0]"), "lies at bytes 8 to 0");
  expect_header_refused(entry("F32", "[2]", "[4,12]"), "lies at bytes 4 to 12");
  // products that overflow to a small number
  expect_header_refused(entry("F32", "[4611686018427387904,4]", "[0,0]"), "does not fit");
  expect_header_refused(entry("F32", "[4611686018427387906]", "[0,8]"), "does not fit");
}

TEST_F(Safetensors, TensorsOfUnknownDtypesHaveAShapeButNoData) {
  for (const std::string dtype : {"F4", "F8_E8M0", "U4", "C64", "F8_E5M2FNUZ"}) {
    const auto file = write("a", safetensors_bytes(entry(dtype, "[2,3]", "[0,8]"), "12345678"));
    const Checkpoint checkpoint = open_checkpoint(file);
    const TensorRecord& a = checkpoint.tensors().at("a");
    EXPECT_EQ(a.dtype, DType::kOther);
    EXPECT_EQ(dtype_text(a), dtype);
    EXPECT_EQ(a.shape, (std::vector<int64_t>{2, 3}));
    EXPECT_EQ(a.data, nullptr);
    EXPECT_EQ(a.bytes, 0U);
  }
}

TEST_F(Safetensors, OverlappingTensorsAreRefused) {
  expect_header_refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                        R"("b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
                        "overlap");
  expect_header_refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                        R"("b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                        "overlap");
}

TEST_F(Safetensors, NamesInMessagesStayOnOneShortLine) {
  const std::string name = "x\\n\\u001b" + std::string(10000, 'y');
  const auto file = write("a.safetensors", safetensors_bytes("{\"" + name + "\":1}"));
  expect_refused([&] { open_checkpoint(file); }, file, "x??yyy");
}

TEST_F(Safetensors, WhatIsNoRegularFileIsRefused) {
  expect_refused([&] { open_checkpoint(folder_ / "none"); }, folder_ / "none", "cannot open");
  expect_refused([] { open_checkpoint("/dev/zero"); }, "/dev/zero", "regular file");
}

}  // namespace
}  // namespace ospnext
