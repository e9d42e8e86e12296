// ospnext stage sde-step, rewards, advantages, policy-loss and schedule --flash against a float64
// reference (tools/make_rl_fixtures.py), and their refusals.
#include <gtest/gtest.h>

#include <cmath>

#include "cli/run_ospnext.h"
#include "data/tiny_world/captions.h"
#include "io/video.h"
#include "support/compare.h"
#include "support/fixture_settings.h"

namespace ospnext {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

constexpr double kRounded = 1e-6;  // of the largest value: results are rounded to float32

class RlStages : public testing::Test {
 protected:
  Outcome stage(const std::string& name, const Arguments& flags, const Tensors& tensors) const {
    save_safetensors(input(), tensors);
    Arguments arguments = {"stage", name, "--input", input(), "--output", output()};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return run_here(arguments);
  }
  Tensors result(const std::string& name, const Arguments& flags, const Tensors& tensors) const {
    const Outcome outcome = stage(name, flags, tensors);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return outcome.status == 0 ? read_tensors(output()) : Tensors();
  }
  void expect_refusal(const std::string& name, const Arguments& flags, const Tensors& tensors,
                      const std::string& part) const {
    EXPECT_TRUE(refuses(stage(name, flags, tensors), part));
    EXPECT_FALSE(std::filesystem::exists(output())) << part;
  }
  std::string input() const { return (folder_ / "in.safetensors").string(); }
  std::string output() const { return (folder_ / "out.safetensors").string(); }

  const TemporaryFolder folder_;
};

TEST_F(RlStages, SdeStepFollowsTheFormulas) {
  const Fixture fixture("rl/sde_step.safetensors");
  for (const auto& [name, settings] : fixture.settings.items()) {
    const at::Tensor& levels = fixture.at(name + ".levels");
    const std::string inputs = settings.contains("frames") ? "cells." : "";
    Tensors in = {{"latent", fixture.at(inputs + "latent")},
                  {"velocity", fixture.at(inputs + "velocity")},
                  {"noise", fixture.at(inputs + "noise")},
                  {"sigma", levels.slice(0, 0, 1)},
                  {"next_sigma", levels.slice(0, 1, 2)}};
    Arguments flags = {"--kind", settings.at("kind")};
    if (settings.at("kind") == "mix") {
      in["first_sigma"] = levels.slice(0, 2, 3);
    }
    if (!settings.at("eta").is_null()) {
      flags.insert(flags.end(), {"--eta", settings.at("eta").dump()});
    }
    if (settings.contains("frames")) {
      flags.insert(flags.end(), {"--noise-frames", settings.at("frames").dump(), "--noise-side",
                                 settings.at("side").dump()});
    }
    const Tensors out = result("sde-step", flags, in);
    ASSERT_EQ(out.size(), 4U) << name;
    for (const std::string what : {"mean", "std", "next"}) {
      EXPECT_EQ(out.at(what).scalar_type(), at::kFloat);
      EXPECT_LE(relative_max(out.at(what), fixture.at(name + "." + what)), kRounded)
          << name << " " << what;
    }
    EXPECT_LE(relative_max(out.at("log_prob"), fixture.at(name + ".log_prob")), kRounded) << name;

    in["next"] = out.at("next");
    in.erase("noise");
    EXPECT_TRUE(same_bits(result("sde-step", flags, in).at("log_prob"), out.at("log_prob")));
    in.erase("next");
    flags.emplace_back("--last");
    const Tensors last = result("sde-step", flags, in);
    EXPECT_TRUE(same_bits(last.at("next"), out.at("mean"))) << name;
  }
}

TEST_F(RlStages, SdeStepRefusesBadInput) {
  torch::manual_seed(1);
  const Tensors good = {{"latent", at::randn({2, 3})},
                        {"velocity", at::randn({2, 3})},
                        {"noise", at::randn({2, 3})},
                        {"sigma", at::tensor({1.0F})},
                        {"next_sigma", at::tensor({0.9F})}};
  const auto refused = [&](const Arguments& flags, const std::string& part,
                           const Tensors& changed = {}) {
    Tensors tensors = good;
    for (const auto& [name, tensor] : changed) {
      tensors[name] = tensor;
    }
    expect_refusal("sde-step", flags, tensors, part);
  };
  refused({}, "--kind: found \"\", expected osp, mix or dance");
  refused({"--kind", "osp", "--eta", "0.5"}, "--eta: found with the kind osp");
  refused({"--kind", "mix", "--eta", "0"}, "--eta: found 0.0");
  refused({"--kind", "osp", "--noise-side", "0"}, "--noise-side: found 0");
  refused({"--kind", "osp", "--noise-frames", "2"},
          "latent: found [2, 3], expected [B, C, F, h, w] with F a multiple of --noise-frames, 2");
  refused({"--kind", "mix"}, "there is no tensor \"first_sigma\", expected first_sigma [1]");
  refused({"--kind", "mix"}, "first_sigma: found 1.0", {{"first_sigma", at::tensor({1.0F})}});
  refused({"--kind", "osp"}, "next_sigma: found 1.0, expected less than sigma, 1.0",
          {{"next_sigma", at::tensor({1.0F})}});
  refused({"--kind", "osp"}, "sigma: found 0.0", {{"sigma", at::tensor({0.0F})}});
  refused({"--kind", "osp"}, "sigma: holds NaN", {{"sigma", at::tensor({NAN})}});
  refused({"--kind", "osp"}, "velocity: found shape [2, 4], expected [2, 3] as latent",
          {{"velocity", at::randn({2, 4})}});
  refused({"--kind", "osp"}, "noise: found shape [3, 2]", {{"noise", at::randn({3, 2})}});
  refused({"--kind", "osp"}, "next: found shape [2]", {{"next", at::randn({2})}});
}

TEST_F(RlStages, AdvantagesFollowTheFormulas) {
  const Fixture fixture("rl/advantages.safetensors");
  for (const std::string name : {"even", "uneven", "flat", "far"}) {
    const Tensors in = {{"rewards", fixture.at(name + ".rewards")},
                        {"weights", fixture.at(name + ".weights")},
                        {"groups", fixture.at(name + ".groups")}};
    const Tensors osp = result("advantages", {"--kind", "osp"}, in);
    EXPECT_LE(relative_max(osp.at("advantages"), fixture.at(name + ".osp")), kRounded) << name;
    EXPECT_TRUE(osp.at("kept").equal(fixture.at(name + ".kept"))) << name;
    const Tensors mix = result("advantages", {"--kind", "mix"}, in);
    EXPECT_LE(relative_max(mix.at("advantages"), fixture.at(name + ".mix")), kRounded) << name;
    EXPECT_TRUE(mix.at("kept").equal(at::ones_like(fixture.at(name + ".kept")))) << name;
  }
  const Tensors flat = {{"rewards", fixture.at("even.rewards").flatten()},  // [n]
                        {"groups", fixture.at("even.groups")}};
  EXPECT_LE(relative_max(result("advantages", {"--kind", "osp"}, flat).at("advantages"),
                         fixture.at("even.osp")),
            kRounded);
}

TEST_F(RlStages, AdvantagesRefuseBadInput) {
  torch::manual_seed(1);
  const at::Tensor groups = at::zeros({3}, at::kLong), rewards = at::randn({3, 2});
  const auto refused = [&](const std::string& part, const Tensors& tensors) {
    expect_refusal("advantages", {"--kind", "osp"}, tensors, part);
  };
  refused("rewards: holds NaN", {{"rewards", at::tensor({1.0F, NAN, 2.0F})}, {"groups", groups}});
  refused("weights: found shape [3], expected [K] with",
          {{"rewards", rewards}, {"weights", at::ones({3})}, {"groups", groups}});
  refused("there is no tensor \"weights\"", {{"rewards", rewards}, {"groups", groups}});
  refused("groups: found float, expected int64",
          {{"rewards", at::randn({3})}, {"groups", at::zeros({3})}});
  refused("groups: found shape [4]",
          {{"rewards", at::randn({3})}, {"groups", at::zeros({4}, at::kLong)}});
  expect_refusal("advantages", {"--kind", "dance"}, {{"rewards", rewards}},
                 "--kind: found \"dance\", expected osp or mix");
}

TEST_F(RlStages, PolicyLossFollowsTheFormulas) {
  const Fixture fixture("rl/policy_loss.safetensors");
  for (const auto& [name, settings] : fixture.settings.items()) {
    Arguments flags;
    for (const auto& [flag, value] : settings.items()) {
      std::string dashed = flag;
      std::replace(dashed.begin(), dashed.end(), '_', '-');
      flags.insert(flags.end(), {"--" + dashed, value.dump()});
    }
    Tensors in;
    for (const char* what :
         {"log_prob", "old_log_prob", "advantages", "mean", "reference_mean", "std"}) {
      in[what] = fixture.at(name + "." + what);
    }
    const Tensors out = result("policy-loss", flags, in);
    ASSERT_EQ(out.size(), 8U) << name;
    for (const auto& [what, tensor] : out) {
      const at::Tensor& expected = fixture.at(name + "." + what);
      if (expected.abs().max().item<double>() == 0) {
        EXPECT_TRUE(tensor.eq(0).all().item<bool>()) << name << " " << what;
      } else {
        EXPECT_LE(relative_max(tensor, expected), kRounded) << name << " " << what;
      }
    }
  }
}

TEST_F(RlStages, PolicyLossNeedsMeansForTheDistanceAlone) {
  const Tensors in = {{"log_prob", at::tensor({0.1F, 0.2F})},
                      {"old_log_prob", at::tensor({0.1F, 0.2F})},
                      {"advantages", at::tensor({1.0F, -1.0F})}};
  const Tensors out = result("policy-loss", {}, in);
  EXPECT_FALSE(out.contains("gradient.mean"));
  EXPECT_TRUE(out.at("ratio").eq(1).all().item<bool>());
}

TEST_F(RlStages, PolicyLossRefusesBadInput) {
  torch::manual_seed(1);
  const Tensors in = {{"log_prob", at::tensor({0.1F, 0.2F})},
                      {"old_log_prob", at::tensor({0.1F, 0.2F})},
                      {"advantages", at::tensor({1.0F, -1.0F})}};
  const auto refused = [&](const Arguments& flags, const std::string& part,
                           const Tensors& changed = {}) {
    Tensors tensors = in;
    for (const auto& [name, tensor] : changed) {
      tensors[name] = tensor;
    }
    expect_refusal("policy-loss", flags, tensors, part);
  };
  refused({"--kl-beta", "0.1"}, "there is no tensor \"mean\"");
  refused({"--clip", "0"}, "--clip: found 0.0");
  refused({"--sde-steps", "0"}, "--sde-steps: found 0");
  refused({"--adv-clip", "-1"}, "--adv-clip: found -1.0");
  refused({}, "old_log_prob: found shape [3]", {{"old_log_prob", at::randn({3})}});
  refused({}, "log_prob and old_log_prob: found values",
          {{"old_log_prob", at::tensor({500.0F, 0.2F})}});
  const at::Tensor mean = at::randn({2, 3});
  refused({}, "std: found 0.0",
          {{"mean", mean}, {"reference_mean", mean}, {"std", at::zeros({1})}});
  refused({}, "reference_mean: found shape [2, 2]",
          {{"mean", mean}, {"reference_mean", at::randn({2, 2})}, {"std", at::ones({1})}});
}

TEST_F(RlStages, ScheduleWritesTheLevelsOfFlash) {
  const Fixture fixture("rl/schedules.safetensors");
  const auto& cases = fixture.settings.at("flash");
  for (size_t i = 0; i < cases.size(); ++i) {
    const Outcome outcome =
        run_here({"stage", "schedule", "--scheduler", "euler", "--steps", cases[i][0].dump(),
                  "--shift", cases[i][1].dump(), "--flash",
                  cases[i][2].dump() + "," + cases[i][3].dump(), "--output", output()});
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    const Tensors out = read_tensors(output());
    EXPECT_LE(relative_max(out.at("sigmas"), fixture.at("flash_" + std::to_string(i))), kRounded);
    EXPECT_TRUE(out.at("timesteps").equal(1000 * out.at("sigmas").slice(0, 0, -1)));
  }
}

TEST_F(RlStages, ScheduleRefusesABadFlash) {
  const auto refused = [&](Arguments flags, const std::string& part) {
    flags.insert(flags.begin(), {"stage", "schedule", "--output", output(), "--steps", "10"});
    EXPECT_TRUE(refuses(run_here(flags), part));
  };
  refused({"--flash", "3"}, "--flash: found [3.0], expected LAST,RATIO");
  refused({"--flash", "1.5,0.4"}, "--flash: found [1.5,0.4]");
  refused({"--flash", "10,0.4"}, "--flash: LAST: found 10.0, expected 0.0 to 9.0");
  refused({"--flash", "3,0"}, "--flash: RATIO: found 0.0");
  refused({"--flash", "3,1.5"}, "--flash: RATIO: found 1.5");
  refused({"--flash", "3,0.4", "--scheduler", "unipc"}, "--flash: found with the scheduler unipc");
  refused({"--flash", "3,0.4", "--input", "x"}, "--flash: found with --input");
}

TEST_F(RlStages, RewardsGoStraightToAdvantages) {
  std::vector<ClipSpec> clips;
  std::string prompts;
  for (uint64_t i = 0; i < 3; ++i) {
    clips.push_back(
        sample_clip(5, i, ClipSplit::kSeen, {.height = 64, .width = 64, .num_frames = 9}));
    prompts += caption(clips.back(), 0) + "\n";
  }
  const std::string file = (folder_ / "prompts.txt").string();
  write_file(file, prompts);
  const Tensors video = {{"video", render_clips(clips)}};
  Tensors out = result("rewards",
                       {"--reward", "world:2", "--reward", "motion:0.5", "--prompts", file}, video);
  EXPECT_EQ(out.at("rewards").sizes(), (std::vector<int64_t>{3, 2}));
  EXPECT_TRUE(out.at("weights").equal(at::tensor({2.0F, 0.5F})));
  EXPECT_TRUE(out.at("reward.world.total").equal(out.at("rewards").select(1, 0)));
  EXPECT_TRUE(out.contains("reward.motion.frozen"));
  const Tensors next = {{"rewards", out.at("rewards")},
                        {"weights", out.at("weights")},
                        {"groups", at::zeros({3}, at::kLong)}};
  EXPECT_EQ(result("advantages", {"--kind", "mix"}, next).at("advantages").size(0), 3);

  std::filesystem::remove(output());
  const auto refused = [&](const Arguments& flags, const std::string& part) {
    expect_refusal("rewards", flags, video, part);
  };
  refused({"--prompts", file}, "--reward: missing");
  refused({"--reward", "beauty", "--prompts", file}, "--reward: found \"beauty\"");
  refused({"--reward", "world"}, "--prompts: missing");
  refused({"--reward", "command:exit 4", "--prompts", file},
          "--reward command:exit 4: video 0: exit 4: found exit status 4");
  write_file(file, "a\nb\nc\n");
  refused({"--reward", "world", "--prompts", file}, "video 0: the caption \"a\": found 0 sizes");
  write_file(file, "a\n");
  refused({"--reward", "world", "--prompts", file}, "--prompts: found 1 in");
}

TEST(ScoreCommand, PrintsATableAndWritesAllNumbers) {
  const TemporaryFolder folder;
  const auto path = [&](const char* name) { return (folder / name).string(); };
  const auto writer =
      open_video(folder / "1.y4m", {.width = 16, .height = 16, .fps = 8, .comment = ""});
  writer->write(at::full({2, 16, 16, 3}, 128, at::kByte));
  writer->finish();
  writer->commit();
  write_file(path("prompts.txt"), "a wall\n");
  const Arguments score = {"score",       "--reward",    "motion",
                           "--reward",    "exposure",    "--videos",
                           path("1.y4m"), "--prompts",   path("prompts.txt"),
                           "--output",    path("s.json")};
  const Outcome outcome = run_here(score);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "video" + std::string(path("1.y4m").size() - 5, ' ') +
                             "  motion  exposure\n" + path("1.y4m") + "  0.0000    1.0000\nmean" +
                             std::string(path("1.y4m").size() - 4, ' ') + "  0.0000    1.0000\n");
  const auto numbers = nlohmann::json::parse(file_text(path("s.json"))).at("scores").at(0);
  EXPECT_EQ(numbers.at("prompt"), "a wall");
  EXPECT_EQ(numbers.at("motion"), nlohmann::json({{"frozen", 1.0}, {"total", 0.0}}));

  const auto changed = [&](size_t word, const std::string& to) {
    Arguments arguments = score;
    arguments[word] = to;
    return run_here(arguments);
  };
  EXPECT_TRUE(refuses(changed(10, path("s.txt")), "expected a name that ends in .json or .csv"));
  EXPECT_TRUE(refuses(changed(10, path("none/s.csv")), "--output"));
  EXPECT_TRUE(refuses(changed(8, path("none.txt")), "none.txt"));
  EXPECT_TRUE(refuses(changed(6, path("2.y4m")), "2.y4m: there is no such file or folder"));
  EXPECT_TRUE(refuses(changed(2, "score:nowhere"), "--reward score: found \"nowhere\""));
  EXPECT_TRUE(refuses(changed(2, "videoalign"), "--videoalign-url: missing"));
}

}  // namespace
}  // namespace ospnext
