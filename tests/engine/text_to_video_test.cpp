// The pipeline on a tiny random model: all packages use the same code; batching and order change
// nothing.
#include "engine/text_to_video.h"

#include <gtest/gtest.h>

#include <map>
#include <tuple>

#include "core/error.h"
#include "engine/memory.h"
#include "engine/prompts.h"
#include "engine/scheduler_config.h"
#include "io/weights.h"
#include "schedulers/flow_matching.h"
#include "support/compare.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

// Float32 sums in another order, through 2 layers and 3 steps.
constexpr double kRounding = 1e-5;

struct Collected : VideoReceiver {
  std::vector<at::Tensor> latents, videos;
  std::vector<int64_t> pieces;  // frames of each call
  std::vector<size_t> done;

  void latent(size_t, const at::Tensor& latent) override { latents.push_back(latent.clone()); }
  void frames(size_t sample, const at::Tensor& frames) override {
    videos.resize(std::max(videos.size(), sample + 1));
    pieces.push_back(frames.size(1));
    videos[sample] =
        videos[sample].defined() ? torch::cat({videos[sample], frames}, 1) : frames.clone();
  }
  void finished(size_t sample) override { done.push_back(sample); }
};

class TextToVideo : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TemporaryFolder>();
    write_tiny_diffusers_model(*folder_ / "diffusers");
    write_tiny_wan_model(*folder_ / "wan");
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static ModelFiles model(const std::string& layout = "diffusers") {
    return find_model_files({.model = *folder_ / layout,
                             .transformer = {},
                             .text_encoder = {},
                             .vae = {},
                             .tokenizer = {}});
  }
  static GenerationConfig defaults() {
    return defaults_for(model(), read_transformer_config(model().require(ModelPart::kTransformer)));
  }
  static Collected run(const std::vector<VideoSample>& samples, const GenerationConfig& config,
                       const ModelFiles& files = model()) {
    Collected collected;
    Progress silent(nullptr, false);
    text_to_video(ModelFileSource(files), {}, config, samples, collected, silent,
                  CancellationToken());
    return collected;
  }
  static VideoSample sample(const std::string& prompt, uint64_t seed) {
    return {.prompt = prompt, .seed = seed, .noise = {}};
  }

  static inline std::unique_ptr<TemporaryFolder> folder_;
};

TEST_F(TextToVideo, GivesAllFramesInOrder) {
  const Collected result = run({sample("a red ball", 7)}, defaults());
  ASSERT_EQ(result.videos.size(), 1u);
  EXPECT_EQ(result.videos[0].sizes(), (at::IntArrayRef{3, 5, 32, 48}));
  EXPECT_EQ(result.latents[0].sizes(), (at::IntArrayRef{16, 2, 4, 6}));
  EXPECT_EQ(result.pieces, (std::vector<int64_t>{1, 4}));
  EXPECT_EQ(result.done, std::vector<size_t>{0});
  EXPECT_LE(result.videos[0].abs().max().item<float>(), 1.0f);
  EXPECT_GT(result.videos[0].std().item<float>(), 0.05f);
}

TEST_F(TextToVideo, TheSameSeedGivesTheSameBits) {
  const Collected first = run({sample("a red ball", 7)}, defaults());
  const Collected second = run({sample("a red ball", 7)}, defaults());
  EXPECT_TRUE(torch::equal(first.videos[0], second.videos[0]));
  EXPECT_FALSE(
      torch::equal(run({sample("a red ball", 8)}, defaults()).latents[0], first.latents[0]));
  EXPECT_FALSE(
      torch::equal(run({sample("a blue cube", 7)}, defaults()).latents[0], first.latents[0]));
}

TEST_F(TextToVideo, SamplesOfARunEqualRunsOfTheirOwn) {
  const std::vector<VideoSample> samples = {sample("a red ball", 7),
                                            sample("a blue cube spins", 8)};
  const Collected together = run(samples, defaults());
  for (size_t i = 0; i < samples.size(); ++i) {
    EXPECT_TRUE(torch::equal(together.videos[i], run({samples[i]}, defaults()).videos[0])) << i;
  }
}

TEST_F(TextToVideo, SamplesOfABatchEqualRunsOfTheirOwnWithinRounding) {
  const std::vector<VideoSample> samples = {
      sample("a red ball", 7), sample("a blue cube spins over green grass", 8), sample("grass", 9)};
  const ModelFileSource source(model());
  VideoModel open(source, {});
  Progress silent(nullptr, false);
  const CancellationToken never;
  Collected together;
  make_videos(open, defaults(), samples, together, {silent, never}, /*batch=*/2);
  EXPECT_EQ(together.done, (std::vector<size_t>{0, 1, 2}));
  for (size_t i = 0; i < samples.size(); ++i) {
    const Collected own = run({samples[i]}, defaults());
    EXPECT_LT(relative_l2(together.videos[i], own.videos[0]), kRounding) << i;
  }
  EXPECT_GT(relative_l2(together.videos[0], together.videos[1]), 1e-2);
}

TEST_F(TextToVideo, GuidanceAsOneBatchEqualsTwoPasses) {
  GenerationConfig config = defaults();
  config.batch_guidance = true;
  const at::Tensor batched = run({sample("a red ball", 7)}, config).latents[0];
  config.batch_guidance = false;
  const at::Tensor passes = run({sample("a red ball", 7)}, config).latents[0];
  EXPECT_LT(relative_l2(batched, passes), kRounding);
  config.guidance_scale += 0.1;
  EXPECT_GT(relative_l2(run({sample("a red ball", 7)}, config).latents[0], passes), kRounding);
}

TEST_F(TextToVideo, GuidanceUpToOneIgnoresTheNegativePrompt) {
  GenerationConfig config = defaults();
  config.guidance_scale = 1.0;
  const at::Tensor plain = run({sample("a red ball", 7)}, config).latents[0];
  config.negative_prompt = "green grass";
  EXPECT_TRUE(torch::equal(run({sample("a red ball", 7)}, config).latents[0], plain));
}

TEST_F(TextToVideo, TheNegativePromptMatters) {
  GenerationConfig config = defaults();
  const at::Tensor plain = run({sample("a red ball", 7)}, config).latents[0];
  config.negative_prompt = "green grass";
  EXPECT_GT(relative_l2(run({sample("a red ball", 7)}, config).latents[0], plain), 1e-3);
}

TEST_F(TextToVideo, PackagesOfBothLayoutsGiveTheSameBits) {
  const Collected diffusers = run({sample("a red ball", 7)}, defaults());
  const Collected wan = run({sample("a red ball", 7)}, defaults(), model("wan"));
  EXPECT_TRUE(torch::equal(diffusers.videos[0], wan.videos[0]));
}

TEST_F(TextToVideo, GivenNoiseReplacesTheSeed) {
  VideoSample given = sample("a red ball", 99);
  given.noise = initial_noise(7, 16, 2, 4, 6);
  EXPECT_TRUE(torch::equal(run({given}, defaults()).latents[0],
                           run({sample("a red ball", 7)}, defaults()).latents[0]));
}

TEST_F(TextToVideo, IsTheStagesOneAfterTheOther) {
  const GenerationConfig config = defaults();
  const Collected whole = run({sample("a red ball", 7)}, config);
  const ModelFiles files = model();
  const CancellationToken never;
  Umt5Encoder encoder = load_text_encoder(files.require(ModelPart::kTextEncoder), {});
  const Tokenizer tokenizer = load_tokenizer(files.require(ModelPart::kTokenizer));
  const at::Tensor texts =
      encode_prompts(encoder, tokenizer, {"a red ball", ""}, 512, never).embeddings;
  Transformer transformer = load_transformer(files.require(ModelPart::kTransformer), {});
  const torch::NoGradGuard no_grad;
  const Schedule schedule = exact_schedule(euler_levels(config.steps, config.shift));
  at::Tensor latent = initial_noise(7, 16, 2, 4, 6).unsqueeze(0);
  for (int64_t i = 0; i < config.steps; ++i) {
    const at::Tensor time = schedule.timesteps.slice(0, i, i + 1);
    const at::Tensor conditional = transformer->forward(latent, texts.slice(0, 0, 1), time);
    const at::Tensor unconditional = transformer->forward(latent, texts.slice(0, 1, 2), time);
    const at::Tensor velocity = unconditional + 3.0 * (conditional - unconditional);
    latent = latent + velocity * (schedule.sigmas[i + 1] - schedule.sigmas[i]);
  }
  EXPECT_LT(relative_l2(whole.latents[0], latent[0]), kRounding);
}

TEST_F(TextToVideo, EverySamplerMakesItsOwnVideo) {
  std::map<std::string, at::Tensor> latents;
  for (const std::string& name : sampler_names()) {
    GenerationConfig config = defaults();
    config.scheduler = name;
    const at::Tensor latent = run({sample("a red ball", 7)}, config).latents[0];
    EXPECT_TRUE(torch::equal(run({sample("a red ball", 7)}, config).latents[0], latent)) << name;
    for (const auto& [other, other_latent] : latents) {
      const bool same_rule = name == "diffusers-unipc-0.36" && other == "unipc";
      EXPECT_EQ(relative_l2(latent, other_latent) < kRounding, same_rule) << name << " " << other;
    }
    latents[name] = latent;
  }
}

TEST_F(TextToVideo, DecodesInTilesWhenAskedTo) {
  GenerationConfig config = defaults();
  const Collected whole = run({sample("a red ball", 7)}, config);
  config.vae_tile = "32,16";
  const Collected tiled = run({sample("a red ball", 7)}, config);
  EXPECT_TRUE(torch::equal(tiled.latents[0], whole.latents[0]));
  EXPECT_EQ(tiled.pieces, whole.pieces);
  EXPECT_EQ(tiled.done, whole.done);
  EXPECT_FALSE(torch::equal(tiled.videos[0], whole.videos[0]));
  std::vector<at::Tensor> pieces;
  Vae vae = load_vae(model().require(ModelPart::kVae), {});
  decode_tiled(vae, whole.latents[0].unsqueeze(0), {32, 16},
               [&](const at::Tensor& frames) { pieces.push_back(frames[0]); });
  EXPECT_TRUE(torch::equal(tiled.videos[0], torch::cat(pieces, 1)));
  config.vae_tile = "48,16";  // no smaller than the frame
  EXPECT_TRUE(torch::equal(run({sample("a red ball", 7)}, config).videos[0], whole.videos[0]));
}

TEST(VaeMemory, TilesAreChosenWhenTheWholeFrameDoesNotFit) {
  const VaeConfig vae;
  constexpr int64_t kGibibyte = int64_t{1} << 30;
  const auto chosen = [&](const std::string& setting, int64_t height, int64_t width, int64_t free) {
    const auto tiling =
        resolve_vae_tiling(setting, vae, height, width, at::kBFloat16, at::kCUDA, free);
    return tiling ? tiling->text() : "none";
  };
  EXPECT_EQ(chosen("auto", 720, 1280, 80 * kGibibyte), "none");
  EXPECT_EQ(chosen("auto", 720, 1280, 8 * kGibibyte), "256,192");
  EXPECT_EQ(chosen("auto", 720, 1280, 0), "none");       // unknown
  EXPECT_EQ(chosen("auto", 256, 256, 1 << 20), "none");  // no larger than a tile
  EXPECT_EQ(chosen("none", 720, 1280, 8 * kGibibyte), "none");
  EXPECT_EQ(chosen("512,384", 720, 1280, 80 * kGibibyte), "512,384");
  EXPECT_THROW(chosen("512", 720, 1280, 0), InputError);
}

TEST(VaeMemory, GrowsWithTheAreaAndTheTypesSize) {
  const VaeConfig vae;
  const auto bytes = [&](int64_t height, int64_t width, at::ScalarType dtype, at::Device device) {
    return static_cast<double>(vae_decode_bytes(vae, height, width, dtype, device));
  };
  const double none = bytes(0, 0, at::kFloat, at::kCUDA);
  const double small = bytes(480, 832, at::kFloat, at::kCUDA) - none;
  EXPECT_NEAR((bytes(960, 832, at::kFloat, at::kCUDA) - none) / small, 2, 1e-6);
  EXPECT_NEAR((bytes(480, 832, at::kBFloat16, at::kCUDA) - none) / small, 0.5, 1e-6);
  // Measured peaks, less weights (docs/vae_tiling.md).
  EXPECT_GT(bytes(128, 256, at::kFloat, at::kCPU), 1147.0 * (1 << 20));
  EXPECT_GT(bytes(256, 448, at::kFloat, at::kCPU), 2.6e9);
  EXPECT_GT(bytes(720, 1280, at::kBFloat16, at::kCUDA), 6.7 * (1 << 30));
  EXPECT_LT(bytes(720, 1280, at::kBFloat16, at::kCUDA), 8.5 * (1 << 30));
}

TEST_F(TextToVideo, StopsWhenAskedTo) {
  Collected collected;
  Progress silent(nullptr, false);
  CancellationToken cancel;
  cancel.cancel();
  EXPECT_THROW(text_to_video(ModelFileSource(model()), {}, defaults(), {sample("a", 7)}, collected,
                             silent, cancel),
               Cancelled);
  EXPECT_TRUE(collected.latents.empty());
}

TEST_F(TextToVideo, RefusesPartsThatDoNotBelongTogether) {
  TransformerConfig other = tiny_transformer_config();
  other.text_dim = 40;
  Transformer transformer(other);
  const TemporaryFolder folder;
  save_safetensors(folder / "other.safetensors", random_weights(*transformer, 4));
  ModelFiles files = find_model_files({.model = *folder_ / "diffusers",
                                       .transformer = folder / "other.safetensors",
                                       .text_encoder = {},
                                       .vae = {},
                                       .tokenizer = {}});
  EXPECT_THROW(run({sample("a", 7)}, defaults(), files), InputError);
}

TEST_F(TextToVideo, TakesItsDefaultsFromTheModel) {
  const GenerationConfig config = defaults();
  EXPECT_EQ(config.width, 48);
  EXPECT_EQ(config.fps, 8);
  EXPECT_EQ(config.negative_prompt, "");
  ModelFiles bare = model();
  bare.generation_config.reset();
  TransformerConfig large;
  const GenerationConfig small_defaults = defaults_for(bare, large);
  EXPECT_EQ(small_defaults.width, 832);
  EXPECT_EQ(small_defaults.steps, 50);
  EXPECT_EQ(small_defaults.shift, 7.0);
  EXPECT_EQ(small_defaults.guidance_scale, 5.0);
  EXPECT_EQ(small_defaults.negative_prompt.substr(0, 12), "色调艳丽");
  EXPECT_FALSE(small_defaults.batch_guidance);
  large.dim = 5120;
  EXPECT_EQ(defaults_for(bare, large).width, 1280);
}

TEST_F(TextToVideo, DefaultsFollowTheKindOfPackage) {
  TransformerConfig size;
  ModelFiles files;
  const auto defaults_of = [&](ModelFamily family, int64_t dim) {
    files.family = family;
    size.dim = dim;
    const GenerationConfig config = defaults_for(files, size);
    return std::tuple{config.scheduler, config.shift, config.guidance_scale};
  };
  using Sampling = std::tuple<std::string, double, double>;
  EXPECT_EQ(defaults_of(ModelFamily::kOspNext, 5120), (Sampling{"euler", 7, 5}));
  EXPECT_EQ(defaults_of(ModelFamily::kParts, 1536), (Sampling{"euler", 7, 5}));
  EXPECT_EQ(defaults_of(ModelFamily::kWanAi, 5120), (Sampling{"unipc", 5, 5}));
  EXPECT_EQ(defaults_of(ModelFamily::kWanAi, 1536), (Sampling{"unipc", 8, 6}));
  EXPECT_EQ(defaults_of(ModelFamily::kDiffusers, 1536), (Sampling{"euler", 7, 5}));
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "transformer");
  std::filesystem::create_directories(folder / "scheduler");
  write_file(folder / "scheduler" / "scheduler_config.json", R"({
    "_class_name": "UniPCMultistepScheduler", "_diffusers_version": "0.33.0.dev0",
    "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 3.0,
    "solver_order": 2, "disable_corrector": [], "solver_p": null})");
  files.scheduler_config = find_model_files({.model = folder.path()}).scheduler_config;
  EXPECT_EQ(defaults_of(ModelFamily::kDiffusers, 1536), (Sampling{"diffusers-unipc", 3, 5}));
  write_file(folder / "generation_config.json", R"({"scheduler": "dpm++"})");
  files.generation_config = find_model_files({.model = folder.path()}).generation_config;
  EXPECT_EQ(defaults_of(ModelFamily::kDiffusers, 1536), (Sampling{"dpm++", 3, 5}));
}

TEST(SchedulerChoice, ReadsWhatDiffusersWrites) {
  const auto choice = [](const std::string& text) {
    testing::internal::CaptureStderr();
    const SchedulerChoice found = scheduler_choice(nlohmann::json::parse(text), "s.json", {});
    return std::tuple{found.scheduler, found.shift, testing::internal::GetCapturedStderr()};
  };
  using Found = std::tuple<std::string, double, std::string>;
  EXPECT_EQ(choice(R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 5})"),
            (Found{"diffusers-euler", 5, ""}));
  EXPECT_EQ(choice(R"({"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": true,
                       "prediction_type": "flow_prediction"})"),
            (Found{"diffusers-unipc", 1, ""}));
  EXPECT_EQ(choice(R"({"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": true,
                       "prediction_type": "flow_prediction", "solver_order": 3, "flow_shift": 8})"),
            (Found{"diffusers-unipc", 8,
                   "ospnext: warning: s.json: solver_order: found 3, which diffusers-unipc does "
                   "not know: it samples as with 2\n"}));
  EXPECT_EQ(choice(R"({"_class_name": "DDIMScheduler"})"),
            (Found{"euler", 7,
                   "ospnext: warning: s.json: _class_name: found \"DDIMScheduler\", which is not "
                   "known here: sampling defaults to euler\n"}));
  for (const char* shift : {"-1", "0", "\"3\"", "null"}) {
    const std::string text = R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": )";
    EXPECT_THROW(choice(text + shift + "}"), InputError) << shift;
    testing::internal::GetCapturedStderr();
  }
  EXPECT_THROW(scheduler_choice(nlohmann::json::array(), "s.json", {}), InputError);
}

TEST(GenerationConfig, NamesTheNearestSizes) {
  const auto refusal = [](auto&& change) -> std::string {
    GenerationConfig config;
    change(config);
    try {
      config.check(VaeConfig());
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal([](auto&) {}), "");
  EXPECT_EQ(refusal([](auto& c) { c.width = 850; }),
            "`width`: found 850, expected a multiple of 16: the nearest is 848 or 864");
  EXPECT_EQ(refusal([](auto& c) { c.num_frames = 80; }),
            "`num_frames`: found 80, expected 4k + 1: the nearest is 77 or 81");
  EXPECT_EQ(refusal([](auto& c) { c.height = 0; }), "`height`: found 0, expected 16 to 8192");
  EXPECT_NE(refusal([](auto& c) { c.num_frames = -3; }), "");
  EXPECT_NE(refusal([](auto& c) { c.fps = NAN; }), "");
  EXPECT_NE(refusal([](auto& c) { c.guidance_scale = -1; }), "");
  EXPECT_NE(refusal([](auto& c) { c.guidance_scale = INFINITY; }), "");
  EXPECT_NE(refusal([](auto& c) { c.steps = 0; }), "");
  EXPECT_NE(refusal([](auto& c) { c.shift = 0; }), "");
  EXPECT_NE(refusal([](auto& c) { c.scheduler = "x"; }), "");
  EXPECT_NE(refusal([](auto& c) { c.vae_tile = "x"; }), "");
}

TEST(Prompts, EndAtNewlinesOnly) {
  const TemporaryFolder folder;
  const auto prompts = [&](const std::string& text) {
    write_file(folder / "p.txt", text);
    return read_prompts(folder / "p.txt");
  };
  using List = std::vector<std::string>;
  EXPECT_EQ(prompts("one\ntwo\n"), (List{"one", "two"}));
  EXPECT_EQ(prompts("one\n\ntwo"), (List{"one", "", "two"}));
  EXPECT_EQ(prompts("one\r\ntwo\u2028three\v\n"), (List{"one", "two\u2028three\v"}));
  EXPECT_EQ(prompts("\n"), List{""});
  EXPECT_THROW(prompts(""), InputError);
  EXPECT_THROW(prompts("\xff\xfe"), InputError);
  EXPECT_THROW(read_prompts(folder / "none.txt"), InputError);
  EXPECT_THROW(read_prompts(folder.path()), InputError);
}

TEST(Prompts, TakeNothingOfTheFilesEncodingAlong) {
  const TemporaryFolder folder;
  const auto prompts = [&](const std::string& text) {
    write_file(folder / "p.txt", text);
    return read_prompts(folder / "p.txt");
  };
  const auto refusal = [&](const std::string& text) -> std::string {
    try {
      prompts(text);
    } catch (const InputError& error) {
      return std::string(error.what()).substr(("`prompts` " + (folder / "p.txt").string()).size());
    }
    return "";
  };
  using List = std::vector<std::string>;
  EXPECT_EQ(prompts("\xef\xbb\xbfone\r\n\r\ntwo\r"), (List{"one", "", "two"}));
  EXPECT_EQ(prompts("\xef\xbb\xbf\n"), List{""});
  EXPECT_EQ(prompts("one\r\r\n"), List{"one"});
  EXPECT_EQ(refusal("\xef\xbb\xbf"), ": found no prompt, expected one a line");
  EXPECT_EQ(
      refusal("one\ntwo\rthree\n"),
      ": line 2: found a carriage return inside the prompt, expected lines that end in a newline");
  EXPECT_EQ(refusal(std::string("\xff\xfeo\0n\0", 6)),
            ": found the byte-order mark of UTF-16, expected UTF-8 text");
  EXPECT_EQ(refusal(std::string("\xfe\xff\0o", 4)),
            ": found the byte-order mark of UTF-16, expected UTF-8 text");
  EXPECT_EQ(refusal(std::string("o\0n\0e\0", 6)),
            ": found zero bytes, as in UTF-16, expected UTF-8 text");
  EXPECT_EQ(refusal("caf\xe9\n"), ": expected UTF-8 text");
}

}  // namespace
}  // namespace ospnext
