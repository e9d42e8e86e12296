// The settings of a training by reinforcement learning, and OSP-Next's YAML files of them.
#include "rl/rl_config.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/fields.h"
#include "io/readers/bounded_yaml.h"
#include "rl/ospnext_rl_yaml.h"
#include "support/paths.h"

namespace ospnext {
namespace {

using nlohmann::json;

template <class Action>
void expect_refusal(const Action& action, const std::string& part) {
  try {
    action();
    ADD_FAILURE() << part;
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

RlConfig config_of(const json& yaml, int processes = 8) {
  RlConfig config;
  fields_from_json(config, rl_fields_from_ospnext_yaml(yaml, "run.yaml", processes), "run.yaml");
  return config;
}

RlConfig valid() {
  RlConfig config;
  config.prompts = "prompts.txt";
  config.reward = {"world:1"};
  return config;
}

TEST(OspNextRlYaml, SetsAllFieldsOfTheReleasedFile) {
  const std::string file = fixture_path("configs/osp_14b_RL.yaml");
  const json fields = rl_fields_from_ospnext_yaml(read_yaml_file(file), file, 32);
  const json expected = {{"seed", 1024},
                         {"output", "/path/to/output"},
                         {"precision", "bf16"},
                         {"epochs", 1000},
                         {"save_every", 1000},
                         {"log_interval", 1},
                         {"accumulate", 1},
                         {"max_gradient_norm", 1.0},
                         {"ema_decay", 0.9999},
                         {"ema_every", 1},
                         {"transformer", "/path/to/model"},
                         {"transformer_config", file},
                         {"vae", "/path/to/vae"},
                         {"text_encoder", "/path/to/text_encoder"},
                         {"tokenizer", "/path/to/text_tokenizer"},
                         {"learning_rate", 2e-5},
                         {"weight_decay", 0},
                         {"beta1", 0.9},
                         {"beta2", 0.999},
                         {"lora_rank", 32},
                         {"lora_alpha", 64},
                         {"lora_targets", LoraTrainingFields().lora_targets},
                         {"prompts", "/path/to/prompts.txt"},
                         {"eval_prompts", "/path/to/eval_prompts.txt"},
                         {"height", 720},
                         {"width", 1280},
                         {"num_frames", 81},
                         {"sde_steps", 10},
                         {"steps", 25},
                         {"kl_beta", 0.004},
                         {"batches_per_epoch", 4},
                         {"group_size", 4},
                         {"sample_batch_size", 2},
                         {"train_batch_size", 2},
                         {"reward", json::array({"videoalign:1.0"})},
                         {"shard_group", 8},
                         {"ulysses", 1},
                         {"ssp", 4},
                         {"recompute", "all"}};
  EXPECT_EQ(fields, expected) << json::diff(fields, expected);
  RlConfig config;
  fields_from_json(config, fields, file);
  EXPECT_EQ(config.update.loss.clip, 5e-3);  // the code's default: the file has none
  EXPECT_EQ(config.rollout.shift, 1.0);
  EXPECT_EQ(config.rollout.guidance_scale, 5.0);
}

TEST(OspNextRlYaml, TakesTheKeysThatOnlyTheCodeKnows) {
  const RlConfig config = config_of({{"rl_config",
                                      {{"num_inference_steps", 12},
                                       {"clip_range", 1e-4},
                                       {"adv_clip_max", 4.0},
                                       {"use_cfg_in_train", false},
                                       {"sample_time_per_prompt", 2},
                                       {"num_inner_epochs", 3},
                                       {"timestep_fraction", 0.5},
                                       {"kl_reward", 0.0},
                                       {"per_prompt_stat_tracking", false},
                                       {"global_std", true},
                                       {"eval_freq", 20},
                                       {"eval_num_steps", 50},
                                       {"guidance_scale", 4.5}}},
                                     {"scheduler_config", {{"shift", 7.5}}},
                                     {"optimizer_config", {{"betas", {0.8, 0.9}}, {"eps", 1e-8}}},
                                     {"deterministic_training", true},
                                     {"use_sequence_parallel", true},
                                     {"sp_size", 2}},
                                    1);
  EXPECT_EQ(config.rollout.steps, 12);
  EXPECT_EQ(config.rollout.window.sde_steps, 12);  // all, as the code has it
  EXPECT_EQ(config.update.loss.clip, 1e-4);
  EXPECT_EQ(config.update.spread(), SpreadOf::kAll);
  EXPECT_FALSE(config.update.per_prompt_advantages);
  EXPECT_FALSE(config.rollout.guidance_in_update);
  EXPECT_EQ(config.rollout.shift, 7.5);
  EXPECT_EQ(config.update.adamw.beta1, 0.8);
  EXPECT_EQ(config.mesh.ulysses, 2);
  EXPECT_EQ(config.mesh.shard_group, 1);  // at most the processes there are
  EXPECT_EQ(config.checkpointing.recompute, "none");
  EXPECT_EQ(config.seed, 42U);
}

TEST(OspNextRlYaml, RefusesUnknownKeysAndWrongValuesByName) {
  const auto refused = [](const json& yaml, const std::string& part) {
    expect_refusal([&] { config_of(yaml); }, part);
  };
  refused({{"rl_config", {{"sde_stepz", 3}}}}, "run.yaml: unknown key \"rl_config.sde_stepz\"");
  refused({{"rl_config", json::object()}, {"sede", 3}}, "run.yaml: unknown key \"sede\"");
  refused({{"rl_config", {{"sde_steps", "ten"}}}},
          "run.yaml: rl_config.sde_steps: sde_steps: found \"ten\"");
  refused({{"rl_config", 3}}, "run.yaml: rl_config: found 3, expected keys below it");
  refused({{"seed", 3}}, "run.yaml: found no section rl_config");
  refused({{"rl_config", {{"kl_reward", 0.5}}}}, "rl_config.kl_reward: found 0.5, expected 0");
  refused({{"rl_config", json::object()}, {"scheduler_config", {{"scheduler_name", "ddpm"}}}},
          "scheduler_config.scheduler_name: found \"ddpm\"");
  refused({{"rl_config", {{"reward_fn", "videoalign"}}}}, "rl_config.reward_fn: found");
  refused({{"rl_config", {{"reward_fn", {{"videoalign", "much"}}}}}},
          "rl_config.reward_fn.videoalign: found \"much\"");
  refused({{"rl_config", json::object()}, {"optimizer_config", {{"betas", json::array({0.9})}}}},
          "optimizer_config.betas: found [0.9]");
  refused({{"rl_config", json::object()}, {"fsdp_size", 1.5}}, "fsdp_size: found 1.5");
}

TEST(RlConfig, HasValidDefaultsBesidePromptsAndReward) {
  EXPECT_NO_THROW(valid().check());
  EXPECT_EQ(valid().sde_rule().eta, 1);
}

TEST(RlConfig, NamesTheFieldThatIsWrong) {
  const auto refused = [](const auto& change, const std::string& part) {
    RlConfig config = valid();
    change(config);
    expect_refusal([&] { config.check(); }, part);
  };
  refused([](auto& c) { c.prompts = ""; }, "`prompts`: missing");
  refused([](auto& c) { c.reward = {}; }, "`reward`: missing");
  refused([](auto& c) { c.reward = {"beauty:1"}; }, "`reward`: found \"beauty\"");
  refused([](auto& c) { c.epochs = 0; }, "`epochs`: found 0");
  refused([](auto& c) { c.rollout.group_size = 1; }, "`group_size`: found 1");
  refused([](auto& c) { c.rollout.shift = NAN; }, "`shift`: found");
  refused([](auto& c) { c.rollout.eta = 0.5; }, "`eta`: found with the kind osp");
  refused([](auto& c) { c.rollout.sde_kind = "ode"; }, "`sde_kind`: found \"ode\"");
  refused([](auto& c) { c.rollout.window.sde_steps = 30; }, "`sde_steps`: found 30");
  refused([](auto& c) { c.update.advantages = "gae"; }, "`advantages`: found \"gae\"");
  refused([](auto& c) { c.update.loss.clip = 2; }, "`clip`: found 2.0");
  refused([](auto& c) { c.update.timestep_fraction = 0; }, "`timestep_fraction`: found 0.0");
  refused([](auto& c) { c.lora.lora_rank = -1; }, "`lora_rank`: found -1");
  refused([](auto& c) { c.checkpointing.recompute = "some"; }, "`recompute`");
}

}  // namespace
}  // namespace ospnext
