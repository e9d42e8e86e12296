// Two processes make the videos of jobs: as fresh models do, and alike when something goes wrong on
// one of them.
#include <gtest/gtest.h>

#include "engine/join_world.h"
#include "io/weights.h"
#include "server/worker/job_failure.h"
#include "server/worker/video_maker.h"
#include "support/compare.h"
#include "support/run_worlds.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

// Keeps the frames [3, n, H, W] of each video.
struct Videos : VideoReceiver {
  std::vector<at::Tensor> all;
  void latent(size_t, const at::Tensor&) override {}
  void frames(size_t sample, const at::Tensor& frames) override {
    all.resize(std::max(all.size(), sample + 1));
    all[sample] = all[sample].defined() ? torch::cat({all[sample], frames}, 1)
                                        : frames.clone();  // [3, n, H, W]
  }
  void finished(size_t) override {}
};

// Cancels a job when a text has been embedded.
class CancelAtText : public StageWatcher {
 public:
  explicit CancelAtText(CancellationToken& token) : token_(token) {}
  void stepped(const Stage& stage) override {
    if (stage.kind == Stage::Kind::kEncodeText) {
      token_.cancel();
    }
  }

 private:
  CancellationToken& token_;
};

class VideoMakerOnRanks : public testing::Test {
 protected:
  VideoMakerOnRanks() {
    write_sparse_model(folder_ / "model");
    const int64_t width = tiny_transformer_config().dim;
    const std::string linear = "diffusion_model.blocks.0.self_attn.q";
    save_safetensors(folder_ / "style.safetensors",
                     {{linear + ".lora_A.weight", torch::full({4, width}, 0.1)},
                      {linear + ".lora_B.weight", torch::full({width, 4}, 0.1)}});
    base_.model.model = (folder_ / "model").string();
    base_.device = "cpu";
    base_.precision = "float32";
  }

  static VideoSettings video_of(const std::string& prompt, int64_t seed = 7) {
    return {.prompt = prompt,
            .width = 48,
            .height = 32,
            .num_frames = 5,
            .fps = 8,
            .num_inference_steps = 2,
            .guidance_scale = 3,
            .flow_shift = 4,
            .seed = seed};
  }

  // Runs `work` on the leader of two ranks, which divide up to `most` videos as `flags` say.
  void run(const std::function<void(VideoMaker& maker)>& work,
           const MeshFields& flags = {.cfg_parallel = 1, .ssp = 2}, size_t most = 1) {
    const ModelFileSource source(find_model_files({.model = folder_ / "model"}));
    run_worlds(2, [&](const std::shared_ptr<World>& world) {
      const bool leads = world->all().rank() == 0;
      ModelCard card;
      card.loras["broken"] = (folder_ / "none.safetensors").string();
      if (leads) {
        card.loras["on one host"] = (folder_ / "style.safetensors").string();
      }
      VideoMaker maker(base_, card, source, {},
                       divide_work_by_videos(world, flags, source, {}, base_.generation, most));
      if (leads) {
        work(maker);
        maker.send({});
      } else {
        follow(maker, [](const std::string&) {});
      }
    });
  }
  static std::vector<at::Tensor> make(VideoMaker& maker, const std::vector<VideoSettings>& videos) {
    maker.send(videos);
    Videos made;
    Progress progress(nullptr, false);
    maker.make(videos, [&](const auto&) -> VideoReceiver& { return made; },
               {progress, CancellationToken()});
    return made.all;
  }
  static std::string failure_of(VideoMaker& maker, const VideoSettings& video) {
    try {
      make(maker, {video});
    } catch (const JobFailure& failure) {
      return failure.text();
    }
    return "";
  }

  TemporaryFolder folder_;
  GenerateConfig base_;
};

TEST_F(VideoMakerOnRanks, GoesOnAfterJobsThatEndedOnAllRanksAlike) {
  run([](VideoMaker& maker) {
    const at::Tensor first = make(maker, {video_of("a red ball")}).front();
    VideoSettings broken = video_of("a red ball"), halfway = broken;
    broken.lora = "broken";
    halfway.lora = "on one host";
    halfway.prompt = "grass";
    EXPECT_NE(failure_of(maker, broken).find("generation_failed: "), std::string::npos);
    EXPECT_EQ(failure_of(maker, halfway),
              "generation_failed: lora: found \"on one host\", which the server has no more");
    VideoSettings impossible = video_of("grass");
    impossible.width = 50;
    EXPECT_NE(failure_of(maker, impossible).find("found 50"), std::string::npos);
    EXPECT_TRUE(torch::equal(make(maker, {video_of("a red ball")}).front(), first));
  });
}

TEST_F(VideoMakerOnRanks, ATextThatACancelledJobEmbeddedIsEmbeddedAgain) {
  run([](VideoMaker& maker) {
    const std::vector<VideoSettings> videos = {video_of("a red ball")};
    maker.send(videos);
    Videos made;
    CancellationToken token;
    CancelAtText canceller(token);
    Progress progress(nullptr, false, &canceller);
    EXPECT_THROW(
        maker.make(videos, [&](const auto&) -> VideoReceiver& { return made; }, {progress, token}),
        Cancelled);
    EXPECT_TRUE(made.all.empty());
    EXPECT_EQ(make(maker, videos).size(), 1u);
  });
}

TEST_F(VideoMakerOnRanks, MakesABatchWithinRounding) {
  run([](VideoMaker& maker) {
    const std::vector<VideoSettings> videos = {video_of("a red ball"),
                                               video_of("a large blue cube", 8)};
    const std::vector<at::Tensor> together = make(maker, videos);
    ASSERT_EQ(together.size(), 2u);
    for (size_t i = 0; i < videos.size(); ++i) {
      const at::Tensor alone = make(maker, {videos[i]}).front();
      EXPECT_LT(relative_l2(together[i], alone), 1e-5) << i;
    }
  });
}

TEST_F(VideoMakerOnRanks, MakesTwoVideosAtATimeWhereTwoAreAskedFor) {
  const std::vector<VideoSettings> videos = {
      video_of("a red ball"), video_of("a large blue cube", 8), video_of("grass", 9)};
  std::vector<at::Tensor> expected;
  const ModelFileSource source(find_model_files({.model = folder_ / "model"}));
  const ModelCard card;
  VideoMaker fresh(base_, card, source, {}, {WorkRanks()});
  for (const VideoSettings& video : videos) {
    expected.push_back(make(fresh, {video}).front());
  }
  const auto work = [&](VideoMaker& maker) {
    const at::Tensor shared = make(maker, {videos[0]}).front();
    EXPECT_EQ(maker.model().ranks().mesh.data, 1);
    for (const size_t count :
         {2u, 3u}) {  // three: two by one rank, as a batch, and one by the other
      const auto made = make(maker, {videos.begin(), videos.begin() + count});
      EXPECT_EQ(maker.model().ranks().mesh.data, 2);
      ASSERT_EQ(made.size(), count);
      for (size_t i = 0; i < count; ++i) {
        EXPECT_LT(relative_l2(made[i], expected[i]), 1e-5) << i;  // all decode in strips of rows
      }
    }
    EXPECT_TRUE(torch::equal(make(maker, {videos[0]}).front(), shared));
  };
  run(work, {.cfg_parallel = 1}, 2);
  run(work, {.cfg_parallel = 1, .shard_weights = true}, 2);
}

}  // namespace
}  // namespace ospnext
