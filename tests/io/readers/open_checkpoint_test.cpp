// Shards, indexes and directories are found if they are unambiguous, and refused otherwise.
#include "io/readers/bounded_json.h"
#include "io/readers/bounded_yaml.h"
#include "io/readers/reader_support.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

class OpenCheckpoint : public ReaderTest {
 protected:
  // Writes a file with one tensor of one byte for each letter of `names`.
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
  expect_refused([&] { open_checkpoint(index); }, index, "shard \"m-7.safetensors\" is not there");
  const auto odd = write_index(R"({"a":"m\n)" + std::string(5000, 'm') + "\"}");
  expect_refused([&] { open_checkpoint(odd); }, odd, "its shard \"m?mmm");
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

TEST_F(OpenCheckpoint, DotAndSlashBeforeAShardMeanBesideTheIndex) {
  write_tensors("m-1.safetensors", "ab");
  const auto index = write_index(R"({"a":"./m-1.safetensors","b":"././m-1.safetensors"})");
  EXPECT_EQ(open_checkpoint(index).tensors().size(), 2U);
  for (const char* name : {"./", "./..", ".//etc/passwd", "./../m-1.safetensors", "./d/m"}) {
    const auto wrong = write_index(std::string(R"({"a":")") + name + "\"}");
    expect_refused([&] { open_checkpoint(wrong); }, wrong,
                   std::string("lies in \"") + name + "\", expected the name of a file beside");
  }
}

TEST_F(OpenCheckpoint, TensorsThatTheIndexLeavesOutAreUsedAndTold) {
  write_tensors("m-1.safetensors", "abz");
  write_tensors("m-2.safetensors", "cb");
  const auto index =
      write_index(R"({"a":"m-1.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"})");
  Checkpoint checkpoint = open_checkpoint(index);
  EXPECT_EQ(checkpoint.tensors().size(), 4U);
  EXPECT_EQ(checkpoint.unlisted(), std::vector<std::string>{"z"});  // b belongs to another shard
  checkpoint.keep([](const std::string& name) { return name < "c"; });
  EXPECT_EQ(checkpoint.tensors().size(), 2U);
  EXPECT_TRUE(checkpoint.unlisted().empty());
}

TEST_F(OpenCheckpoint, IndexesOfAnyNameGoBeforeFiles) {
  write_tensors("m-1.safetensors", "a");
  write_tensors("other.safetensors", "b");
  for (const char* name :
       {"any.safetensors.index.json", "pytorch_model.bin.index.json", "x.index.fp16.json"}) {
    const auto index = write(name, R"({"weight_map":{"a":"m-1.safetensors"}})");
    EXPECT_EQ(find_checkpoint(folder_), index);
    EXPECT_EQ(open_checkpoint(index).tensors().count("a"), 1U);
    std::filesystem::remove(index);
  }
  write("model_index.json", "{}");
  write("index.json", "{}");
  expect_refused([&] { find_checkpoint(folder_); }, folder_, "found 2, such as m-1.safetensors");
}

TEST_F(OpenCheckpoint, ShardsWithoutAnIndexAreReadTogether) {
  write_tensors("m-00001-of-00002.safetensors", "ab");
  const auto second = write_tensors("m-00002-of-00002.safetensors", "c");
  EXPECT_EQ(find_checkpoint(folder_), folder_ / "m-00001-of-00002.safetensors");
  EXPECT_EQ(open_checkpoint(folder_).tensors().size(), 3U);
  EXPECT_EQ(open_checkpoint(second).tensors().size(), 3U);
  EXPECT_TRUE(open_checkpoint(second).unlisted().empty());
  write_tensors("m-00001-of-00003.fp16.safetensors", "a");  // of another set
  expect_refused([&] { find_checkpoint(folder_); }, folder_, "expected one checkpoint, found 2");
  write_tensors("m-00002-of-00002.safetensors", "b");
  expect_refused([&] { open_checkpoint(second); }, second, "tensor \"b\" lies in two shards");
}

TEST_F(OpenCheckpoint, ShardThatIsGoneIsNamed) {
  const std::string gone =
      "its shard \"diffusion_pytorch_model-00002-of-00002.safetensors\" is not there";
  const auto first = write_tensors("diffusion_pytorch_model-00001-of-00002.safetensors", "ab");
  EXPECT_EQ(find_checkpoint(folder_), first);
  expect_refused([&] { open_checkpoint(folder_); }, first, gone);
  expect_refused([&] { open_checkpoint(first); }, first, gone);
  const auto index =
      write("diffusion_pytorch_model.safetensors.index.json",
            R"({"weight_map":{"a":"diffusion_pytorch_model-00001-of-00002.safetensors",)"
            R"("c":"diffusion_pytorch_model-00002-of-00002.safetensors"}})");
  expect_refused([&] { open_checkpoint(folder_); }, index, gone);
  for (const char* name : {"x-00003-of-00002.safetensors", "x-00000-of-00002.safetensors"}) {
    const auto file = write_tensors(name, "a");
    expect_refused([&] { open_checkpoint(file); }, file, "expected one from 1 to 2");
  }
  write_tensors("x-1-of-2.safetensors", "a");  // only resembles a shard's name
  EXPECT_EQ(open_checkpoint(folder_ / "x-1-of-2.safetensors").tensors().size(), 1U);
}

TEST_F(OpenCheckpoint, NamesThatBeginWithADotAreNoWeights) {
  const auto file = write_tensors("model-fp16.safetensors", "a");
  write("._model-fp16.safetensors", "\0\5\x16\7");
  write("._model.safetensors.index.json", "x");
  EXPECT_EQ(find_checkpoint(folder_), file);
}

TEST_F(OpenCheckpoint, FormatsThatAreNotReadAreNamed) {
  const auto gguf = write("model.gguf", "GGUF\3");
  expect_refused([&] { open_checkpoint(gguf); }, gguf, "this is a GGUF file");
  expect_refused([&] { open_checkpoint(folder_); }, gguf, "this is a GGUF file");
  const auto renamed = write("model.safetensors", "GGUF\3");
  expect_refused([&] { open_checkpoint(renamed); }, renamed, "this is a GGUF file");
  const auto folder = write("dcp/.metadata", "x").parent_path();
  write("dcp/__0_0.distcp", "x");
  write("dcp/__1_0.distcp", "x");
  for (const auto& path : {folder, folder / "__1_0.distcp"}) {
    expect_refused([&] { open_checkpoint(path); }, folder,
                   "torch.distributed.checkpoint.format_utils dcp_to_torch DIR FILE");
  }
}

TEST_F(OpenCheckpoint, CacheOfAHubPointsToItsSnapshots) {
  write("models--a--b/refs/main", "1f2e");
  write("models--a--b/blobs/99", "x");
  const auto snapshot = write("models--a--b/snapshots/1f2e/model.safetensors", "x").parent_path();
  const auto root = folder_ / "models--a--b";
  expect_refused([&] { open_checkpoint(root); }, root, snapshot.string());
}

TEST_F(OpenCheckpoint, PointersOfGitLfsAreNamedWhateverTheyStandFor) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
  for (const char* name : {"a.safetensors", "a.pth", "a.safetensors.index.json"}) {
    const auto file = write(name, pointer);
    expect_refused([&] { open_checkpoint(file); }, file, "this is a Git LFS pointer");
  }
  const auto json = write("config.json", pointer);
  expect_refused([&] { read_json_file(json); }, json, "this is a Git LFS pointer");
  const auto yaml = write("config.yaml", pointer);
  expect_refused([&] { read_yaml_file(yaml); }, yaml, "this is a Git LFS pointer");
}

TEST_F(OpenCheckpoint, DirectoryWithoutTensorsIsRefused) {
  write("readme.txt", "x");
  EXPECT_EQ(find_checkpoint(folder_), std::nullopt);
  expect_refused([&] { open_checkpoint(folder_); }, folder_, "found none in it");
}

}  // namespace
}  // namespace ospnext
