// Runs the two trainings at the smallest sizes. The pipeline loads the model that they write.
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "data/tiny_world/captions.h"
#include "io/readers/bounded_json.h"
#include "io/weights.h"
#include "packages/load_model.h"
#include "schedulers/schedules.h"
#include "train/checkpoint_model.h"
#include "train/flow_objective.h"
#include "train/flow_training.h"
#include "train/latent_cache.h"
#include "train/training_checkpoint.h"
#include "train/vae_training.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

class TrainingsTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("ospnext_trainings_" + std::to_string(getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string write(const std::string& name, const nlohmann::json& json) const {
    std::ofstream(folder_ / name) << json.dump();
    return (folder_ / name).string();
  }

  template <class Config>
  void make_short(Config& config, const std::string& name) const {
    config.output = (folder_ / name).string();
    config.steps = 2;
    config.warmup_steps = 1;
    config.log_interval = 1;
  }

  VaeTrainingConfig small_vae_training() const {
    VaeTrainingConfig vae;
    make_short(vae, "vae_run");
    vae.vae_config = write("vae.json", {{"base_dim", 8},
                                        {"z_dim", 16},
                                        {"dim_mult", {1, 1, 1, 1}},
                                        {"num_res_blocks", 1},
                                        {"temperal_downsample", {false, true, true}}});
    vae.frames_per_step = 33;
    vae.sizes = {"32x48"};
    vae.full_length_share = 0;
    vae.evaluation_clips = 1;
    return vae;
  }

  FlowTrainingConfig small_flow_training(const std::string& vae) const {
    FlowTrainingConfig flow;
    make_short(flow, "flow_run");
    flow.vae = vae;
    flow.tokenizer = (folder_ / "tokenizer" / "spiece.model").string();
    flow.transformer_config = write("transformer.json", {{"_class_name", "OSPNextModel"},
                                                         {"model_type", "t2v"},
                                                         {"dim", 32},
                                                         {"ffn_dim", 32},
                                                         {"freq_dim", 16},
                                                         {"in_dim", 16},
                                                         {"out_dim", 16},
                                                         {"num_heads", 2},
                                                         {"num_layers", 8},
                                                         {"text_len", 64},
                                                         {"text_dim", 16},
                                                         {"skiparse_model_type", "dual_end"},
                                                         {"sparse_ratio", 2},
                                                         {"num_full_blocks", 4}});
    flow.text_encoder_config = write("text_encoder.json", {{"model_type", "umt5"},
                                                           {"vocab_size", 640},
                                                           {"d_model", 16},
                                                           {"num_heads", 1},
                                                           {"d_kv", 16},
                                                           {"d_ff", 16},
                                                           {"num_layers", 1},
                                                           {"feed_forward_proj", "gated-gelu"}});
    flow.generation_config =
        write("generation_config.json", {{"width", 128}, {"height", 128}, {"num_frames", 33}});
    flow.latent_cache = (folder_ / "cache.safetensors").string();
    flow.clips = 4;
    flow.sizes = {"32x48", "32x32"};
    flow.batch_size = 2;
    return flow;
  }

  // Looking at a training changes nothing in it.
  void expect_the_same_model_with_validation_and_samples(const FlowTrainingConfig& flow);

  fs::path folder_;
  Progress progress_{nullptr, false};
  CancellationToken cancel_;
};

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

std::map<std::string, at::Tensor> vae_weights(const VaeTrainingConfig& run) {
  return read_tensors(fs::path(run.output) / "vae/diffusion_pytorch_model.safetensors");
}

fs::path transformer_file(const FlowTrainingConfig& run) {
  return fs::path(run.output) / "model/transformer/diffusion_pytorch_model.safetensors";
}

void expect_only_the_decoder_changed(const VaeTrainingConfig& before,
                                     const VaeTrainingConfig& after) {
  const auto first = vae_weights(before);
  const auto second = vae_weights(after);
  EXPECT_TRUE(at::equal(first.at("encoder.conv1.weight"), second.at("encoder.conv1.weight")));
  EXPECT_FALSE(at::equal(first.at("decoder.conv1.weight"), second.at("decoder.conv1.weight")));
  const auto config_of = [](const VaeTrainingConfig& run) {
    return read_json_file(fs::path(run.output) / "vae/config.json");
  };
  EXPECT_EQ(config_of(before), config_of(after));
}

void expect_a_model_that_the_pipeline_loads(const fs::path& folder) {
  const ModelFiles files = find_model_files({.model = folder});
  const ComputeOptions compute;
  EXPECT_EQ(
      load_transformer(files.require(ModelPart::kTransformer), compute)->config().num_full_blocks,
      4);
  EXPECT_EQ(load_vae(files.require(ModelPart::kVae), compute)->config.latents_std.size(), 16U);
  EXPECT_EQ(load_text_encoder(files.require(ModelPart::kTextEncoder), compute)->config().d_model,
            16);
  EXPECT_LE(load_tokenizer(files.require(ModelPart::kTokenizer)).vocab_size(), 640);
  EXPECT_TRUE(files.generation_config.has_value());
}

void expect_close_weights(const FlowTrainingConfig& before, const FlowTrainingConfig& after) {
  const auto old_weights = read_tensors(transformer_file(before));
  const auto new_weights = read_tensors(transformer_file(after));
  for (const auto& [key, tensor] : old_weights) {
    EXPECT_TRUE(at::allclose(tensor.to(at::kFloat), new_weights.at(key).to(at::kFloat), 1e-2, 1e-6))
        << key;
  }
}

void TrainingsTest::expect_the_same_model_with_validation_and_samples(
    const FlowTrainingConfig& flow) {
  FlowTrainingConfig watched = flow;
  make_short(watched, "watched_run");
  watched.validation_interval = 1;
  watched.validation_clips = 3;
  watched.samples.sample_interval = 2;
  watched.samples.sample_format = "y4m";
  watched.samples.sample_prompts = (folder_ / "prompts.txt").string();
  std::ofstream(watched.samples.sample_prompts) << "a red ball\na blue ring\n";
  watched.generation_config =
      write("small_clips.json", {{"width", 48}, {"height", 32}, {"num_frames", 5}, {"steps", 2}});
  ASSERT_TRUE(train_flow(watched, progress_, cancel_));
  EXPECT_EQ(bytes_of(transformer_file(watched)), bytes_of(transformer_file(flow)));
  const fs::path folder = watched.output;
  const std::string log = bytes_of(folder / "log.csv");
  EXPECT_NE(log.find(",model_tflops,peak_gib,validation_loss\n"), std::string::npos) << log;
  EXPECT_FALSE(fs::exists(folder / "samples" / "step-00000001"));
  EXPECT_GT(fs::file_size(folder / "samples" / "step-00000002" / "1.y4m"), 48U * 32 * 5);
  EXPECT_NE(bytes_of(folder / "samples" / "step-00000002" / "1.y4m"),
            bytes_of(folder / "samples" / "step-00000002" / "2.y4m"));

  watched.samples.sample_format = "tiff";
  EXPECT_THROW(train_flow(watched, progress_, cancel_), InputError);
}

void expect_the_same_model_of_its_checkpoint(const FlowTrainingConfig& run,
                                             const fs::path& output) {
  const StoredCheckpoint stored(*newest_checkpoint(fs::path(run.output) / "checkpoints"));
  ModelFields rest;
  rest.vae = run.vae;
  rest.tokenizer = run.tokenizer;
  Progress progress(nullptr, false);
  const CancellationToken cancel;
  convert_checkpoint(stored, TrainedWeights::kAveraged, rest,
                     {.dtype = std::nullopt, .max_shard_bytes = int64_t{1} << 30}, output, progress,
                     cancel);
  const fs::path model = fs::path(run.output) / "model";
  for (const char* file :
       {"transformer/diffusion_pytorch_model.safetensors", "tokenizer/spiece.model"}) {
    EXPECT_TRUE(bytes_of(output / file) == bytes_of(model / file)) << file;
  }
  const auto encoder_of =
      [](const fs::path& folder) {  // its tensors have other names in the layout
        return load_text_encoder(
            find_model_files({.model = folder}).require(ModelPart::kTextEncoder), {});
      };
  const Umt5Encoder expected = encoder_of(model), found = encoder_of(output);
  for (const auto& item : expected->named_parameters()) {
    EXPECT_TRUE(at::equal(found->named_parameters()[item.key()], item.value())) << item.key();
  }
}

TEST_F(TrainingsTest, WriteAModelFolderThatThePipelineLoads) {
  const VaeTrainingConfig vae = small_vae_training();
  const auto quality = train_vae(vae, progress_, cancel_);
  ASSERT_TRUE(quality.has_value());
  EXPECT_EQ(quality->position_db.size(), 33U);
  EXPECT_LE(quality->worst_position_db(), quality->mean_db);

  // Further training of only the decoder does not change the encoder or the latent statistics.
  VaeTrainingConfig decoder = vae;
  make_short(decoder, "decoder_run");
  decoder.initial_vae = vae.output + "/vae";
  decoder.decoder_only = true;
  ASSERT_TRUE(train_vae(decoder, progress_, cancel_).has_value());
  expect_only_the_decoder_changed(vae, decoder);

  const FlowTrainingConfig flow = small_flow_training(vae.output + "/vae");
  ASSERT_TRUE(train_flow(flow, progress_, cancel_));
  expect_a_model_that_the_pipeline_loads(fs::path(flow.output) / "model");

  expect_the_same_model_of_its_checkpoint(flow, folder_ / "converted");

  // A second run finds the cache and the finished checkpoint, and writes the same model.
  const std::string before = bytes_of(transformer_file(flow));
  ASSERT_TRUE(train_flow(flow, progress_, cancel_));
  EXPECT_EQ(before, bytes_of(transformer_file(flow)));

  expect_the_same_model_with_validation_and_samples(flow);

  // Other clips need another cache.
  const std::string cached = bytes_of(flow.latent_cache);
  FlowTrainingConfig other = flow;
  make_short(other, "other_run");
  other.steps = 1;
  other.shape_shares = {1, 1, 1, 1, 1, 9};
  ASSERT_TRUE(train_flow(other, progress_, cancel_));
  EXPECT_NE(bytes_of(flow.latent_cache), cached);

  // A run with `initial_model` starts from the weights of that model.
  FlowTrainingConfig more = flow;
  make_short(more, "more_run");
  more.initial_model = flow.output + "/model";
  more.steps = 1;
  more.learning_rate = 1e-9;
  ASSERT_TRUE(train_flow(more, progress_, cancel_));
  expect_close_weights(flow, more);
}

TEST_F(TrainingsTest, RefuseSharesThatAreNone) {
  FlowTrainingConfig flow;
  make_short(flow, "run");
  EXPECT_NO_THROW(flow.check());
  const std::vector<std::vector<double>> bad = {
      {}, {1, 1, 1}, {1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 0, 1, 1}, {1, 1, 1, -2, 1, 1}};
  for (const std::vector<double>& shares : bad) {
    flow.shape_shares = shares;
    EXPECT_THROW(flow.check(), InputError) << shares.size();
  }
  flow.shape_shares = {1, 1, 1, 1, 2, 2};
  EXPECT_NO_THROW(flow.check());
  flow.patterned = 1.5;
  EXPECT_THROW(flow.check(), InputError);
}

TEST_F(TrainingsTest, RefuseATokenizerWithMoreIdsThanTheEncoder) {
  FlowTrainingConfig flow;
  make_short(flow, "run");
  flow.tokenizer = (folder_ / "spiece.model").string();
  train_tokenizer(caption_corpus(1, 2000), 200, flow.tokenizer, 1);
  flow.transformer_config = std::string(OSPNEXT_SOURCE) + "/configs/tiny/transformer.json";
  flow.generation_config = write("generation_config.json", nlohmann::json::object());
  flow.text_encoder_config = write("text_encoder.json", {{"model_type", "umt5"},
                                                         {"vocab_size", 320},
                                                         {"d_model", 128},
                                                         {"num_heads", 2},
                                                         {"d_kv", 64},
                                                         {"d_ff", 64},
                                                         {"num_layers", 1},
                                                         {"feed_forward_proj", "gated-gelu"}});
  EXPECT_THROW(train_flow(flow, progress_, cancel_), InputError);
}

TEST_F(TrainingsTest, RefuseDefaultsOfTheFinishedModelThatCannotBeReadBeforeTheyBegin) {
  FlowTrainingConfig flow = small_flow_training("no_vae");
  for (const std::string& name :
       {std::string("missing.json"), write("unknown.json", {{"stepz", 3}})}) {
    flow.generation_config = name;
    try {
      train_flow(flow, progress_, cancel_);
      ADD_FAILURE() << name;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    }
  }
  EXPECT_FALSE(fs::exists(flow.output));
}

TEST(NoiseLevels, AreShiftedByTheSizeOfTheLatentOnlyIfTheyAreDynamic) {
  EXPECT_EQ((NoiseLevels{.shift = 3}.shift_of(90, 160)), 3);
  EXPECT_EQ((NoiseLevels{.shift = 3, .dynamic = true}.shift_of(90, 160)), dynamic_shift(90, 160));
  EXPECT_THROW((NoiseLevels{.dynamic = true}.shift_of(512, 512)), InputError);
}

TEST(FrameSizes, TheFirstTakesHalfAndBadOnesAreRefused) {
  const auto sizes = parse_frame_sizes("sizes", {"128x128", "112x144", "144x112"});
  EXPECT_EQ(pick_frame_size(sizes, 0.0), 0U);
  EXPECT_EQ(pick_frame_size(sizes, 0.49), 0U);
  EXPECT_EQ(pick_frame_size(sizes, 0.5), 1U);
  EXPECT_EQ(pick_frame_size(sizes, 0.999), 2U);
  for (const char* bad :
       {"", "128", "128x", "128x100", "-16x32", "128x128x3", "99999999999999999999x32"}) {
    EXPECT_THROW(parse_frame_sizes("sizes", {bad}), InputError) << bad;
  }
  EXPECT_THROW(parse_frame_sizes("sizes", {}), InputError);
}

}  // namespace
}  // namespace ospnext
