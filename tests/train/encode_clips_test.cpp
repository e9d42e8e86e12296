// A folder of videos is encoded, read back, gone on with, and refused where it does not fit.
#include "train/encode_clips.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "data/encoded_clips.h"
#include "engine/prompts.h"
#include "io/readers/bounded_json.h"
#include "io/video_reader.h"
#include "io/video_writers.h"
#include "io/weights.h"
#include "packages/load_model.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

class EncodeClips : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = std::make_unique<TemporaryFolder>();
    write_tiny_diffusers_model(model_->path());
  }
  static void TearDownTestSuite() { model_.reset(); }

  void SetUp() override {
    fs::create_directory(folder_ / "videos");
    write_video("a", 12, 40, 64, "a red ball");
    write_video("b", 7, 64, 40, "a blue ball");
  }

  // Frames of noise, which differ, as NAME.y4m with its caption, 16 frames a second.
  void write_video(const std::string& name, int64_t frames, int64_t height, int64_t width,
                   const std::string& caption) const {
    const auto file = folder_ / "videos" / (name + ".y4m");
    const auto writer = open_video(file, {width, height, 16, ""});
    at::Generator generator = at::detail::createCPUGenerator(static_cast<uint64_t>(name[0]));
    writer->write(at::randint(0, 256, {frames, height, width, 3}, generator, at::kByte));
    writer->finish();
    writer->commit();
    write_file(folder_ / "videos" / (name + ".txt"), caption);
  }

  ClipEncodingConfig config() const {
    ClipEncodingConfig config;
    config.videos = (folder_ / "videos").string();
    config.output = (folder_ / "clips").string();
    config.model.model = model_->path().string();
    config.sizes = {"32x48", "48x32"};
    config.num_frames = 5;
    config.device = "cpu";
    return config;
  }

  static EncodedCounts encode(const ClipEncodingConfig& config) {
    Progress progress(nullptr, false);
    return encode_clips(config, progress, {});
  }

  static std::string refusal(const std::function<void()>& action) {
    try {
      action();
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  }

  EncodedClips clips() const { return EncodedClips(folder_ / "clips"); }

  const TemporaryFolder folder_;
  static inline std::unique_ptr<TemporaryFolder> model_;
};

TEST_F(EncodeClips, GivesTheLatentsAndRowsOfBothEncoders) {
  ClipEncodingConfig config = this->config();
  config.stride = 3;
  const EncodedCounts counts = encode(config);
  EXPECT_EQ(counts.clips, 4);  // of a: frames 0, 3 and 6 on; of b: 0 on
  const EncodedClips read = clips();
  ASSERT_EQ(read.size(), 4);
  ModelPaths paths;
  paths.model = model_->path();
  const ModelFiles files = find_model_files(paths);
  Vae vae = load_vae(files.require(ModelPart::kVae), {});
  Umt5Encoder text_encoder = load_text_encoder(files.require(ModelPart::kTextEncoder), {});
  const Tokenizer tokenizer = load_tokenizer(files.require(ModelPart::kTokenizer));
  const auto rows = [&](const std::string& text) {
    return encode_prompt(text_encoder, tokenizer, text, 512).rows;
  };
  const int64_t starts[] = {0, 3, 6, 0};
  for (int64_t i = 0; i < 4; ++i) {
    const bool is_a = i < 3;
    EXPECT_EQ(read.clip(i).video, is_a ? "a.y4m" : "b.y4m");
    EXPECT_EQ(read.clip(i).first_frame, starts[i]);
    const auto frames = read_frames(folder_ / "videos" / read.clip(i).video, {.fps = 16}, 100,
                                    is_a ? 32 : 48, is_a ? 48 : 32);
    const at::Tensor video = pixels_to_video(frames.narrow(0, starts[i], 5)).unsqueeze(0);
    EXPECT_TRUE(torch::equal(read.latent(i), vae->encode(video)[0])) << i;
    EXPECT_TRUE(torch::equal(read.text(i), rows(read.clip(i).caption))) << i;
  }
  EXPECT_TRUE(torch::equal(read.empty_text(), rows("")));
}

TEST_F(EncodeClips, GoesOnWhereItStoppedWithTheSameFiles) {
  ClipEncodingConfig config = this->config();
  config.stride = 3;
  config.shard_size = 1e-6;  // each clip is a shard
  encode(config);
  const auto files = [&] {
    std::map<std::string, std::string> texts;
    for (const auto& entry : fs::directory_iterator(folder_ / "clips")) {
      texts[entry.path().filename().string()] = file_text(entry.path());
    }
    return texts;
  };
  const auto whole = files();
  EXPECT_EQ(whole.size(), 6U);  // four shards, the index and the empty caption
  nlohmann::json index = read_json_object(folder_ / "clips/index.json");
  // stopped behind each of the shards, with the next one written but not named
  for (const size_t shards : {0, 1, 2, 3}) {
    nlohmann::json cut = index;
    while (cut["shards"].size() > shards) {
      cut["shards"].erase(cut["shards"].size() - 1);
    }
    cut["unfinished"] = shards == 1 || shards == 2 ? "a.y4m" : "";
    write_file(folder_ / "clips/index.json", cut.dump(1) + "\n");
    for (size_t i = shards + 1; i < 4; ++i) {
      fs::remove(folder_ / "clips" / ("clips-0000" + std::to_string(i) + ".safetensors"));
    }
    EXPECT_EQ(encode(config).clips, 4) << shards;
    EXPECT_TRUE(files() == whole) << shards;
  }
  // a video more is added to what is there
  write_video("c", 5, 32, 48, "new");
  EXPECT_EQ(encode(config).clips, 5);
  EXPECT_EQ(clips().clip(4).video, "c.y4m");
}

TEST_F(EncodeClips, KeepsWhatIsDoneWhenItIsCancelled) {
  const CancellationToken cancel;
  CancellationToken later;
  class CancelAtStep : public StageWatcher {
   public:
    explicit CancelAtStep(CancellationToken& token) : token_(token) {}
    void stepped(const Stage&) override { token_.cancel(); }

   private:
    CancellationToken& token_;
  } watcher(later);
  Progress progress(nullptr, false, &watcher);
  EXPECT_THROW(encode_clips(config(), progress, later), Cancelled);
  EXPECT_EQ(clips().size(), 1);
  EXPECT_EQ(encode(config()).clips, 2);
}

TEST_F(EncodeClips, RefusesAFolderOfOtherClips) {
  encode(config());
  ClipEncodingConfig other = config();
  other.fps = 8;
  EXPECT_NE(refusal([&] { encode(other); }).find("encoded with fps 16.0, found 8.0"),
            std::string::npos);
  write_file(folder_ / "videos/a.txt", "another caption");
  EXPECT_NE(refusal([&] { encode(config()); }).find("a.y4m was encoded with another caption"),
            std::string::npos);
  write_file(folder_ / "videos/a.txt", "a red ball");
  fs::remove(folder_ / "videos/b.y4m");
  EXPECT_NE(refusal([&] { encode(config()); }).find("has clips of b.y4m, which is not among"),
            std::string::npos);
  other = config();
  other.output = (folder_ / "videos").string();
  EXPECT_NE(
      refusal([&] { encode(other); }).find("expected an empty folder or one of encoded clips"),
      std::string::npos);
}

TEST_F(EncodeClips, RefusesOrSkipsVideosThatCannotBeUsed) {
  write_video("a0", 4, 40, 64, "too short");
  const std::string found = refusal([&] { encode(config()); });
  EXPECT_NE(found.find("a0.y4m: found 4 frames at 16.0 a second, expected at least 5"),
            std::string::npos)
      << found;
  EXPECT_EQ(clips().size(), 1);  // a.y4m stays
  ClipEncodingConfig skipping = config();
  skipping.skip_unusable = true;
  const EncodedCounts counts = encode(skipping);
  EXPECT_EQ(counts.skipped, 1);
  EXPECT_EQ(counts.clips, 2);
  ClipEncodingConfig fast = config();
  fast.output = (folder_ / "fast").string();
  fast.fps = 32;
  EXPECT_NE(refusal([&] { encode(fast); }).find("has too few frames a second"), std::string::npos);
}

TEST_F(EncodeClips, NamesTheFieldOfAMistake) {
  const auto expect = [&](const std::string& part, const auto& change) {
    ClipEncodingConfig config = this->config();
    change(config);
    const std::string found = refusal([&] { encode(config); });
    EXPECT_NE(found.find(part), std::string::npos) << found;
    EXPECT_FALSE(fs::exists(folder_ / "clips")) << part;
  };
  expect("`videos`: missing", [](auto& c) { c.videos = ""; });
  expect("`num_frames`: found 6, expected 1 more", [](auto& c) { c.num_frames = 6; });
  expect("`sizes`: found \"9x9\"", [](auto& c) { c.sizes = {"9x9"}; });
  expect("`stride`: found -1", [](auto& c) { c.stride = -1; });
}

TEST_F(EncodeClips, AreCheckedWhenTheyAreRead) {
  encode(config());
  const fs::path index = folder_ / "clips/index.json",
                 shard = folder_ / "clips/clips-00000.safetensors";
  const std::string index_text = file_text(index), shard_text = file_text(shard);
  const auto expect = [&](const std::string& part) {
    const std::string found = refusal([&] { clips(); });
    EXPECT_NE(found.find(part), std::string::npos) << found;
  };
  const auto replaced = [](std::string text, const std::string& from, const std::string& to) {
    return text.replace(text.find(from), from.size(), to);
  };
  write_file(index, replaced(index_text, "ospnext encoded clips 1", "something else"));
  expect("index.json: expected the index of a folder");
  write_file(index, replaced(index_text, "clips-00000.", "../clips-0."));
  expect("found the shard \"../clips-0.safetensors\"");
  write_file(index, replaced(index_text, "\"clips\": 2", "\"clips\": 3"));
  expect("expected a list of 3");
  write_file(index, index_text);
  write_file(shard, replaced(shard_text, "latent.1", "latent.7"));
  expect("expected a tensor \"latent.1\" of 4 dimensions");
  write_file(shard, shard_text.substr(0, shard_text.size() - 1));
  expect(shard.string());
  fs::remove(folder_ / "clips/empty_caption.safetensors");
  expect("empty_caption.safetensors");
}

}  // namespace
}  // namespace ospnext
