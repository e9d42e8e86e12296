// Encoded clips as batches: each once in an epoch, the same on every mesh and after a restart.
#include "train/encoded_clip_source.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "core/error.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

constexpr int64_t kChannels = 4, kWidth = 6;

// The latent of the n-th clip has the value n, the rows of the n-th caption n, those of the empty
// one -1. Each video has two clips of one caption; those of the first, third, ... video are wide,
// the others high. Captions have 1 to 3 rows.
void write_clips(const std::filesystem::path& folder, int64_t videos) {
  EncodedClipWriter writer(folder, {{"precision", "float32"}}, int64_t{1} << 20);
  writer.set_empty_text(at::full({1, kWidth}, -1.0));
  int64_t n = 0;
  for (int64_t v = 0; v < videos; ++v) {
    const std::string name = "video" + std::to_string(v) + ".mp4";
    const std::vector<int64_t> shape = v % 2 == 0 ? std::vector<int64_t>{kChannels, 1, 2, 4}
                                                  : std::vector<int64_t>{kChannels, 1, 4, 2};
    for (int64_t clip = 0; clip < 2; ++clip) {
      const auto value = static_cast<double>(++n);
      writer.add(name, "caption " + std::to_string(v), clip * 5, at::full(shape, value),
                 at::full({1 + v % 3, kWidth}, static_cast<double>(v + 1)));
    }
    writer.finish(name);
  }
  writer.flush();
}

class EncodedClipSourceTest : public testing::Test {
 protected:
  static TransformerConfig transformer() {
    TransformerConfig config;
    config.in_dim = kChannels;
    config.text_dim = kWidth;
    config.text_len = 8;
    return config;
  }
  EncodedClipSource source(const EncodedClipSourceConfig& config) const {
    return EncodedClipSource(folder_ / "clips", transformer(), config);
  }
  std::string refusal(const TransformerConfig& transformer,
                      const EncodedClipSourceConfig& config = {}) const {
    try {
      EncodedClipSource(folder_ / "clips", transformer, config);
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  }
  // The numbers of a batch's clips.
  static std::vector<int64_t> clips(const ClipBatch& batch) {
    std::vector<int64_t> numbers;
    for (int64_t i = 0; i < batch.latent.size(0); ++i) {
      numbers.push_back(batch.latent[i].flatten()[0].item<int64_t>());
    }
    return numbers;
  }

  const TemporaryFolder folder_;
};

TEST_F(EncodedClipSourceTest, GivesEachClipOnceInAnEpochInBatchesOfOneShape) {
  write_clips(folder_ / "clips", 4);  // 4 wide clips and 4 high ones
  EncodedClipSource source = this->source({.batch_size = 2});
  std::vector<std::vector<int64_t>> epochs;
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    std::multiset<int64_t> seen;
    std::vector<int64_t>& order = epochs.emplace_back();
    for (int64_t i = 0; i < 4; ++i) {
      const auto batch = clips(source.next({0, 2, 2}));
      EXPECT_EQ((batch[0] - 1) / 2 % 2, (batch[1] - 1) / 2 % 2);  // clips 1, 2, 5, 6 are wide
      seen.insert(batch.begin(), batch.end());
      order.insert(order.end(), batch.begin(), batch.end());
    }
    EXPECT_EQ(seen, (std::multiset<int64_t>{1, 2, 3, 4, 5, 6, 7, 8}));
  }
  EXPECT_NE(epochs[0], epochs[1]);
}

TEST_F(EncodedClipSourceTest, FillsTheLastBatchOfAShapeWithItsFirstClips) {
  write_clips(folder_ / "clips", 3);  // 4 wide clips and 2 high ones
  EncodedClipSource source = this->source({.batch_size = 3});
  std::map<int64_t, int64_t> times;
  for (int64_t i = 0; i < 3; ++i) {  // two batches of wide clips, one of high ones
    for (const int64_t clip : clips(source.next({0, 3, 3}))) {
      ++times[clip];
    }
  }
  int64_t all = 0;
  for (int64_t clip = 1; clip <= 6; ++clip) {
    EXPECT_GE(times[clip], 1) << clip;
    EXPECT_LE(times[clip], 2) << clip;
    all += times[clip];
  }
  EXPECT_EQ(all, 9);
}

TEST_F(EncodedClipSourceTest, PartsOfABatchAreTheClipsOfTheWhole) {
  write_clips(folder_ / "clips", 4);
  const EncodedClipSourceConfig config{.text_dropout = 0.5, .batch_size = 4, .seed = 3};
  EncodedClipSource whole = source(config), first = source(config), second = source(config);
  for (int64_t i = 0; i < 6; ++i) {
    const ClipBatch all = whole.next({0, 4, 4});
    const ClipBatch a = first.next({0, 1, 4}), b = second.next({1, 3, 4});
    EXPECT_TRUE(torch::equal(all.latent, at::cat({a.latent, b.latent})));
    EXPECT_TRUE(torch::equal(all.text, at::cat({a.text, b.text})));
  }
}

TEST_F(EncodedClipSourceTest, GoesOnFromItsState) {
  write_clips(folder_ / "clips", 3);
  const EncodedClipSourceConfig config{.text_dropout = 0.5, .batch_size = 2};
  EncodedClipSource source = this->source(config), restarted = this->source(config);
  for (int64_t i = 0; i < 5; ++i) {  // into the second epoch of three batches
    source.next({0, 2, 2});
  }
  restarted.restore(nlohmann::json::parse(source.state().dump()), "checkpoint");
  for (int64_t i = 0; i < 4; ++i) {
    const ClipBatch a = source.next({0, 2, 2}), b = restarted.next({0, 2, 2});
    EXPECT_TRUE(torch::equal(a.latent, b.latent));
    EXPECT_TRUE(torch::equal(a.text, b.text));
  }
  EXPECT_THROW(source.restore({{"batches", -1}}, "checkpoint"), InputError);
}

TEST_F(EncodedClipSourceTest, RowsBehindACaptionAreZeroAndDroppedCaptionsAreTheEmptyOne) {
  write_clips(folder_ / "clips", 3);
  for (const double dropout : {0.0, 1.0}) {
    EncodedClipSource source = this->source({.text_dropout = dropout, .batch_size = 1});
    for (int64_t i = 0; i < 6; ++i) {
      const ClipBatch batch = source.next({0, 1, 1});
      const int64_t video = (clips(batch)[0] - 1) / 2, rows = dropout == 1 ? 1 : 1 + video % 3;
      at::Tensor expected = at::zeros({1, 3, kWidth});
      expected.narrow(1, 0, rows).fill_(dropout == 1 ? -1 : static_cast<double>(video + 1));
      EXPECT_TRUE(torch::equal(batch.text, expected)) << video;
      EXPECT_FALSE(batch.ids.defined());
    }
  }
}

TEST_F(EncodedClipSourceTest, VideosForValidationAreNotTrainedOn) {
  write_clips(folder_ / "clips", 4);
  EncodedClipSource source = this->source({.held_out = 3, .batch_size = 1});
  ASSERT_EQ(source.held_out_clips(), 3);
  std::set<int64_t> videos;
  for (int64_t i = 0; i < 3; ++i) {
    videos.insert((clips(source.held_out(i))[0] - 1) / 2);
  }
  EXPECT_EQ(videos.size(), 2);  // two videos of two clips each
  for (int64_t i = 0; i < 12; ++i) {
    EXPECT_FALSE(videos.contains((clips(source.next({0, 1, 1}))[0] - 1) / 2));
  }
  EXPECT_NE(refusal(transformer(), {.held_out = 8}).find("left to train on"), std::string::npos);
}

TEST_F(EncodedClipSourceTest, RefusesClipsThatDoNotFitTheTransformer) {
  write_clips(folder_ / "clips", 3);
  TransformerConfig channels = transformer(), width = transformer(), rows = transformer();
  channels.in_dim = 16;
  width.text_dim = 4096;
  rows.text_len = 2;
  EXPECT_NE(refusal(channels).find("(video0.mp4): found 4 latent channels"), std::string::npos);
  EXPECT_NE(refusal(width).find("found 6 numbers of a token's embedding"), std::string::npos);
  EXPECT_NE(refusal(rows).find("found 3 rows of text"), std::string::npos);
  EXPECT_EQ(refusal(transformer()), "");
}

}  // namespace
}  // namespace ospnext
