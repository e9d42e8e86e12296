// Files of torch.save are read bit-exact. Every other pickle program is refused; the message names
// the opcode or global.
#include "io/readers/torch_file_reader.h"

#include <cstring>
#include <functional>

#include "io/readers/reader_support.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

class TorchFile : public ReaderTest {
 protected:
  void expect_program_refused(const std::string& program, const std::string& what) const {
    const auto file = write("a.pth", torch_file_bytes(program));
    expect_refused([&] { open_checkpoint(file); }, file, what);
  }
};

fs::path fixture(const std::string& name) {
  return fixture_path("readers/" + name);
}

// The elements in row-major order.
std::string elements(const TensorRecord& record) {
  std::string bytes;
  const size_t item = item_size(record.dtype);
  const std::function<void(size_t, int64_t)> visit = [&](size_t dimension, int64_t offset) {
    if (dimension == record.shape.size()) {
      bytes.append(reinterpret_cast<const char*>(record.data) + static_cast<size_t>(offset) * item,
                   item);
      return;
    }
    for (int64_t i = 0; i < record.shape[dimension]; ++i) {
      visit(dimension + 1, offset + i * record.strides[dimension]);
    }
  };
  visit(0, 0);
  return bytes;
}

// Expects that `file` contains exactly the tensors that expected.safetensors lists under `title`/.
void expect_equal_to(const std::string& file, const std::string& title) {
  const Checkpoint checkpoint = open_checkpoint(fixture(file));
  const Checkpoint expected = open_checkpoint(fixture("expected.safetensors"));
  size_t count = 0;
  for (const auto& [name, record] : expected.tensors()) {
    if (!name.starts_with(title + "/")) {
      continue;
    }
    ++count;
    const auto found = checkpoint.tensors().find(name.substr(title.size() + 1));
    ASSERT_NE(found, checkpoint.tensors().end()) << name;
    EXPECT_EQ(found->second.dtype, record.dtype) << name;
    EXPECT_EQ(found->second.shape, record.shape) << name;
    EXPECT_EQ(elements(found->second), elements(record)) << name;
  }
  EXPECT_GT(count, 0U);
  EXPECT_EQ(checkpoint.tensors().size(), count);
}

class TorchFixture : public ::testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(TorchFixture, IsReadBitExact) {
  expect_equal_to(GetParam().first, GetParam().second);
}

INSTANTIATE_TEST_SUITE_P(Readers, TorchFixture,
                         ::testing::Values(std::pair{"every_type.pth", "every_type"},
                                           std::pair{"odd_layouts.pth", "odd_layouts"},
                                           std::pair{"module_state.pth", "module_state"},
                                           std::pair{"wrapped.pth", "wrapped"},
                                           std::pair{"protocol_3.pth", "wrapped"},
                                           std::pair{"protocol_4.pth", "wrapped"},
                                           std::pair{"protocol_5.pth", "wrapped"},
                                           std::pair{"parameters.pth", "parameters"},
                                           std::pair{"deflated_pickle.pth", "parameters"},
                                           std::pair{"zip64.pth", "parameters"},
                                           std::pair{"bare_tensor.pth", "bare_tensor"}));

TEST_F(TorchFile, SharedStoragesStaySharedInTheMapping) {
  const Checkpoint checkpoint = open_checkpoint(fixture("odd_layouts.pth"));
  const auto& tensors = checkpoint.tensors();
  EXPECT_EQ(tensors.at("base").data, tensors.at("transposed").data);
  EXPECT_EQ(tensors.at("base").data + 4, tensors.at("columns").data);
  EXPECT_FALSE(tensors.at("transposed").is_contiguous());
}

TEST_F(TorchFile, FilesOfOtherKindsAreRefusedWithTheReason) {
  const auto refused = [](const std::string& name, const std::string& what) {
    expect_refused([&] { open_checkpoint(fixture(name)); }, fixture(name), what);
  };
  refused("legacy.pth", "before 1.6");
  refused("deflated_storage.pth", "is compressed");
  refused("foreign_class.pth", "pathlib.PurePosixPath");
  refused("expanded.pth", "repeats the elements");
  refused("sparse.pth", "_rebuild_sparse_tensor");
  auto file = write("a.pth", "version https://git-lfs.github.com/spec/v1\n");
  expect_refused([&] { open_checkpoint(file); }, file, "Git LFS pointer");
  file = write("a.pth", "<html></html>");
  expect_refused([&] { open_checkpoint(file); }, file, "found neither");
  file = write("a.pth", zip_bytes({{"word/document.xml", "x"}}));
  expect_refused([&] { open_checkpoint(file); }, file, "without data.pkl");
  file = write("a.pth", zip_bytes({{"a/data.pkl", "\x80\2}."}, {"a/byteorder", "big"}}));
  expect_refused([&] { open_checkpoint(file); }, file, "byte order \"big\"");
  file = write("a.pth", zip_bytes({{"a/data.pkl", "\x80\2}."}, {"a/data.pkl", "\x80\2}."}}));
  expect_refused([&] { open_checkpoint(file); }, file, "twice");
}

TEST_F(TorchFile, EveryCutOffFileIsRefused) {
  const fs::path file = folder_ / "cut.pth";
  fs::copy_file(fixture("parameters.pth"), file);
  for (size_t size = fs::file_size(file) - 1; size > 0; --size) {
    fs::resize_file(file, size);
    expect_refused([&] { open_checkpoint(file); }, file, "");
  }
}

TEST_F(TorchFile, FlippedBytesNeverEscapeTheFile) {
  const fs::path file = folder_ / "flipped.pth";
  fs::copy_file(fixture("wrapped.pth"), file);
  std::fstream bytes(file, std::ios::binary | std::ios::in | std::ios::out);
  const auto flip = [&](size_t place, int bits) {
    bytes.seekg(static_cast<std::streamoff>(place));
    const int byte = bytes.get();
    bytes.seekp(static_cast<std::streamoff>(place));
    bytes.put(static_cast<char>(byte ^ bits)).flush();
  };
  constexpr int kBits[] = {0x01, 0x80, 0xff};
  for (size_t place = 0; place < fs::file_size(file); ++place) {
    flip(place, kBits[place % 3]);
    try {
      const Checkpoint checkpoint = open_checkpoint(file);
      for (const auto& entry : checkpoint.tensors()) {
        elements(entry.second);  // must stay inside the mapping; a sanitizer checks it
      }
    } catch (const InputError&) {
    }
    flip(place, kBits[place % 3]);
  }
}

TEST_F(TorchFile, OtherGlobalsAreRefusedByName) {
  expect_program_refused("\x80\2cos\nsystem\n(X\4\0\0\0true)tR.", "os.system");
  expect_program_refused(std::string("\x80\4\x8c\2os\x8c\6system\x93.", 15), "os.system");
  expect_program_refused("\x80\2c__builtin__\neval\n.", "__builtin__.eval");
  expect_program_refused("\x80\2ctorch._utils\n_rebuild_tensor\n.", "torch._utils._rebuild_tensor");
}

TEST_F(TorchFile, OtherOpcodesAreRefusedByNumber) {
  expect_program_refused("\x80\2(i__main__\nA\n.", "opcode 0x69");  // INST
  expect_program_refused("\x80\2}\x81.", "opcode 0x81");            // NEWOBJ
  expect_program_refused("\x80\2I1\n.", "opcode 0x49");             // INT of protocol 0
  expect_program_refused("\x80\x09}.", "protocol 9");
}

TEST_F(TorchFile, CallsOfTheWrongThingAreRefused) {
  expect_program_refused("\x80\2})R.", "a call of something that is no function");
  expect_program_refused("\x80\2ccollections\nOrderedDict\n}R.", "no function");
  expect_program_refused("\x80\2ctorch\nFloatStorage\n)R.", "a call of torch.FloatStorage");
  expect_program_refused("\x80\2ctorch._utils\n_rebuild_tensor_v2\n)R.", "lacks its size");
  expect_program_refused("\x80\2ccollections\nOrderedDict\n)R(}b.", "empty stack");
}

TEST_F(TorchFile, BrokenStacksAreRefused) {
  expect_program_refused("\x80\2.", "empty stack");
  expect_program_refused("\x80\2t.", "missing mark");
  expect_program_refused("\x80\2}h\5.", "unknown memo 5");
  expect_program_refused("\x80\2K\1K\1a.", "no list");
  expect_program_refused("\x80\2K\1K\1K\1s.", "no dictionary");
  expect_program_refused("\x80\2}(K\1u.", "no dictionary");
  expect_program_refused("\x80\2X\xff\xff\xff\xff", "too early");
  expect_program_refused(std::string("\x80\2\x8a\x09", 4) + std::string(9, '\1') + ".", "64 bits");
}

// A program that builds a tensor from (storage 0 of 16 bytes as float, offset, shape, stride).
std::string tensor_program(int64_t storage_elements, int64_t offset, int64_t side, int64_t stride,
                           const std::string& key = "0") {
  const auto number = [](int64_t value) {
    return "\x8a\x08" + little_endian(static_cast<uint64_t>(value), 8);
  };
  const auto text = [](const std::string& value) {
    return "X" + little_endian(value.size(), 4) + value;
  };
  return "\x80\2ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") +
         "ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(storage_elements) + "tQ" +
         number(offset) + number(side) + "\x85" + number(stride) + "\x85tR.";
}

TEST_F(TorchFile, TensorsMustStayInsideTheirStorage) {
  const auto file = write("a.pth", torch_file_bytes(tensor_program(4, 1, 3, 1)));
  EXPECT_EQ(open_checkpoint(file).tensors().at("tensor").bytes, 12U);
  constexpr int64_t kHuge = INT64_MAX;
  expect_program_refused(tensor_program(5, 0, 4, 1), "claims 5 elements");
  expect_program_refused(tensor_program(kHuge, 0, 4, 1), "claims");
  expect_program_refused(tensor_program(-1, 0, 4, 1), "claims -1");
  expect_program_refused(tensor_program(4, 2, 3, 1), "reaches outside");
  expect_program_refused(tensor_program(4, -1, 3, 1), "reaches outside");
  expect_program_refused(tensor_program(4, kHuge, 1, 1), "reaches outside");
  expect_program_refused(tensor_program(4, 0, 3, 2), "reaches outside");
  expect_program_refused(tensor_program(4, 0, 2, kHuge), "reaches outside");
  expect_program_refused(tensor_program(4, 3, 3, -1), "reaches outside");
  expect_program_refused(tensor_program(4, 0, -3, 1), "impossible shape");
  expect_program_refused(tensor_program(4, 0, kHuge, 0), "impossible shape");
  expect_program_refused(tensor_program(4, 0, 1000, 0), "repeats the elements");
  expect_program_refused(tensor_program(4, 0, 3, 1, "7"), "storage \"7\" is missing");
}

TEST_F(TorchFile, TensorsOfUnknownDtypesHaveAShapeButNoData) {
  const auto with_storage = [](const std::string& type, const std::string& rebuild,
                               const std::string& more) {
    std::string program = tensor_program(2, 0, 2, 1);
    program.replace(program.find("FloatStorage"), 12, type);
    program.replace(program.find("_rebuild_tensor_v2"), 18, rebuild);
    program.insert(program.size() - 3, more);
    return program;
  };
  const std::string typed =
      "\x89"
      "ccollections\nOrderedDict\n)R"
      "ctorch\nfloat8_e8m0fnu\n";
  const std::pair<std::string, std::string> cases[] = {
      {with_storage("ComplexFloatStorage", "_rebuild_tensor_v2", ""), "torch.ComplexFloatStorage"},
      {with_storage("UntypedStorage", "_rebuild_tensor_v3", typed), "torch.float8_e8m0fnu"},
  };
  for (const auto& [program, dtype] : cases) {
    const auto file = write("a.pth", torch_file_bytes(program));
    const Checkpoint checkpoint = open_checkpoint(file);
    const TensorRecord& tensor = checkpoint.tensors().at("tensor");
    EXPECT_EQ(tensor.dtype, DType::kOther);
    EXPECT_EQ(dtype_text(tensor), dtype);
    EXPECT_EQ(tensor.shape, std::vector<int64_t>{2});
    EXPECT_EQ(tensor.data, nullptr);
  }
  std::string huge = tensor_program(2, 0, INT64_MAX, 1);
  huge.replace(huge.find("FloatStorage"), 12, "ComplexFloatStorage");
  expect_program_refused(huge, "impossible shape");
}

TEST_F(TorchFile, ContainersThatGrowWithoutEndAreRefused) {
  // A list that contains itself.
  expect_program_refused("\x80\2]q\1h\1a.", "nested too deeply");
  // Each list contains the previous one many times: 2^60 visits without a limit.
  std::string program = "\x80\2]q";
  program += std::string(1, '\0');
  for (char i = 0; i < 15; ++i) {
    program += "](";
    for (int copy = 0; copy < 16; ++copy) {
      program += std::string("h") + i;
    }
    program += std::string("eq") + static_cast<char>(i + 1);
  }
  expect_program_refused(program + ".", "nested too deeply");
  // the same tensor name twice
  expect_program_refused(
      "\x80\2}" + std::string("X\1\0\0\0a", 6) +
          tensor_program(4, 0, 1, 1).substr(2, tensor_program(4, 0, 1, 1).size() - 3) + "s" +
          std::string("X\1\0\0\0a", 6) +
          tensor_program(4, 0, 1, 1).substr(2, tensor_program(4, 0, 1, 1).size() - 3) + "s.",
      "occurs twice");
}

}  // namespace
}  // namespace ospnext
