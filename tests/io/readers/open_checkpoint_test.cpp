// Shards, indexes and directories: found when they are clear, refused when they are not.
#include "io/readers/reader_support.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

class OpenCheckpoint : public ReaderTest {
 protected:
  // A file of one byte tensor for each letter of `names`.
  std::filesystem::path write_tensors(const std::string& file, const std::string& names) const {
    std::string header = "{";
    for (size_t i = 0; i < names.size(); ++i) {
      header += (i == 0 ? "\"" : ",\"") + names.substr(i, 1) +
                R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" + std::to_string(i) + "," +
                std::to_string(i + 1) + "]}";
    }
    return write(file, safetensors_bytes(header + "}", names));
  }
  std::filesystem::path write_index(const std::string& map) const {
    return write("m.safetensors.index.json", R"({"metadata":{},"weight_map":)" + map + "}");
  }
};

TEST_F(OpenCheckpoint, ShardsOfAnIndexAreJoined) {
  write_tensors("m-1.safetensors", "ab");
  write_tensors("m-2.safetensors", "c");
  const auto index =
      write_index(R"({"a":"m-1.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"})");
  const Checkpoint checkpoint = open_checkpoint(index);
  ASSERT_EQ(checkpoint.tensors().size(), 3U);
  EXPECT_EQ(checkpoint.tensors().at("c").data[0], std::byte{'c'});
  EXPECT_EQ(checkpoint.path(), index.string());
  EXPECT_EQ(open_checkpoint(folder_).tensors().size(), 3U);
}

TEST_F(OpenCheckpoint, IndexesThatPointAwayOrLieAreRefused) {
  write_tensors("m-1.safetensors", "ab");
  const auto refused = [&](const std::string& map, const std::string& what) {
    const auto index = write_index(map);
    expect_refused([&] { open_checkpoint(index); }, index, what);
  };
  refused(R"({"a":"../m-1.safetensors"})", "beside the index");
  refused(R"({"a":"/etc/passwd"})", "beside the index");
  refused(R"({"a":".."})", "beside the index");
  refused(R"({"a":"m-1.safetensors\u0000x"})", "beside the index");
  refused(R"({"a":""})", "beside the index");
  refused(R"({"a":3})", "is no text");
  refused(R"({})", "names no tensor");
  refused(R"([])", "weight_map");
  refused(R"({"a":"m-1.safetensors","z":"m-1.safetensors"})", "tensor \"z\" is not in its file");
  refused(R"({"a":"m-1.safetensors","a":"m-1.safetensors"})", "twice");
  const auto index = write_index(R"({"a":"m-7.safetensors"})");
  expect_refused([&] { open_checkpoint(index); }, folder_ / "m-7.safetensors", "cannot open");
}

TEST_F(OpenCheckpoint, UsualNamesGoBeforeOthersInADirectory) {
  write_tensors("other.safetensors", "a");
  EXPECT_EQ(find_checkpoint(folder_), folder_ / "other.safetensors");
  write_tensors("second.safetensors", "a");
  expect_refused([&] { find_checkpoint(folder_); }, folder_, "expected one checkpoint, found 2");
  write_tensors("model.safetensors", "a");
  EXPECT_EQ(find_checkpoint(folder_), folder_ / "model.safetensors");
  write_tensors("diffusion_pytorch_model.safetensors", "a");
  EXPECT_EQ(find_checkpoint(folder_), folder_ / "diffusion_pytorch_model.safetensors");
}

TEST_F(OpenCheckpoint, DirectoryWithoutTensorsIsRefused) {
  write("readme.txt", "x");
  EXPECT_EQ(find_checkpoint(folder_), std::nullopt);
  expect_refused([&] { open_checkpoint(folder_); }, folder_, "found none in it");
}

}  // namespace
}  // namespace ospnext
