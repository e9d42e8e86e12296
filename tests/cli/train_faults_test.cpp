// `ospnext train` under failures, with real processes: each costs at most the steps since the last
// checkpoint, and the same command goes on.
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <nlohmann/json.hpp>

#include "cli/launched_processes.h"
#include "cli/run_ospnext.h"
#include "support/text.h"
#include "train/training_checkpoint.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class TrainFaults : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    made_ = std::make_unique<TemporaryFolder>();
    write_file(*made_ / "transformer.json", json({{"dim", 32},
                                                  {"ffn_dim", 64},
                                                  {"freq_dim", 32},
                                                  {"in_dim", 16},
                                                  {"out_dim", 16},
                                                  {"num_heads", 2},
                                                  {"num_layers", 2},
                                                  {"text_len", 96},
                                                  {"text_dim", 16},
                                                  {"skiparse_model_type", "uniform"},
                                                  {"sparse_ratio", 2},
                                                  {"num_full_blocks", 0}})
                                                .dump());
    write_file(*made_ / "text_encoder.json", json({{"model_type", "umt5"},
                                                   {"vocab_size", 640},
                                                   {"d_model", 16},
                                                   {"num_heads", 1},
                                                   {"d_kv", 16},
                                                   {"d_ff", 32},
                                                   {"num_layers", 1},
                                                   {"feed_forward_proj", "gated-gelu"}})
                                                 .dump());
  }
  static void TearDownTestSuite() { made_.reset(); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  // A training of few weights on few clips, with a checkpoint every third step.
  static Arguments train(const std::string& output, const Arguments& flags = {}) {
    const std::string tiny = source_path("configs/tiny"), model = source_path("models/tiny");
    Arguments arguments = {"train",
                           "--output=" + output,
                           "--transformer-config=" + (*made_ / "transformer.json").string(),
                           "--text-encoder-config=" + (*made_ / "text_encoder.json").string(),
                           "--generation-config=" + tiny + "/generation_config.json",
                           "--tokenizer=" + model + "/tokenizer/spiece.model",
                           "--vae=" + model + "/vae",
                           "--latent-cache=" + (*made_ / "cache.safetensors").string(),
                           "--sizes=32x32",
                           "--clips=8",
                           "--batch-size=2",
                           "--steps=90",
                           "--warmup-steps=1",
                           "--checkpoint-interval=3"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return arguments;
  }
  static Arguments launch_two(const std::string& output) {
    Arguments arguments = train(output, {"--data-parallel=2", "--shard-group=2", "--patience=3"});
    arguments.insert(arguments.begin(), {"launch", "-n", "2", "--"});
    return arguments;
  }
  // Runs in processes of one thread each.
  static Outcome run(const Arguments& arguments, const WhileRunning& while_running = {},
                     const std::function<void()>& more_in_child = {}) {
    return run_binary(arguments, while_running, [&] {
      ::setenv("OMP_NUM_THREADS", "1", /*overwrite=*/1);
      if (more_in_child) {
        more_in_child();
      }
    });
  }

  // The finished steps of the newest checkpoint; 0 if there is none.
  static int64_t newest_step(const std::string& output) {
    const auto newest = newest_checkpoint(fs::path(output) / "checkpoints");
    return newest ? std::stoll(newest->filename().string().substr(5)) : 0;
  }
  // Waits until the training has written a checkpoint, and returns its step.
  static int64_t wait_for_checkpoint(const std::string& output) {
    const int64_t before = newest_step(output);
    wait_until([&] { return newest_step(output) > before; });
    return newest_step(output);
  }
  static std::string weights_of(const std::string& output) {
    return file_text(fs::path(output) / "model/transformer/diffusion_pytorch_model.safetensors");
  }

  const TemporaryFolder folder_;
  static inline std::unique_ptr<TemporaryFolder> made_;
};

// What is done to two processes of a training, and how the launcher ends.
struct Fault {
  const char* name;
  std::function<void(pid_t launcher, pid_t rank_1)> strike;
  int status;
  std::string told;
  bool saves = false;  // whether a checkpoint of the steps so far is written
};

std::vector<Fault> faults() {
  const auto to_rank = [](int signal) {
    return [signal](pid_t /*launcher*/, pid_t rank_1) { ::kill(rank_1, signal); };
  };
  const auto to_launcher = [](int signal) {
    return [signal](pid_t launcher, pid_t /*rank_1*/) { ::kill(launcher, signal); };
  };
  const auto no_large_files = [](pid_t /*launcher*/, pid_t rank_1) {
    const rlimit bytes{4096, 4096};
    ::prlimit(rank_1, RLIMIT_FSIZE, &bytes, nullptr);
  };
  return {
      {"a rank is killed", to_rank(SIGKILL), 1,
       "error: rank 1 was killed by signal 9 (Killed); the others were stopped"},
      {"a rank is stopped", to_rank(SIGSTOP), 1, "error: rank 1 "},
      {"a rank cannot write its part", no_large_files, 1,
       "rank-00001.safetensors: cannot write: File too large"},
      {"a rank is told to end", to_rank(SIGTERM), 130, "error: interrupted", /*saves=*/true},
      {"the launcher is told to end", to_launcher(SIGTERM), 130, "error: interrupted",
       /*saves=*/true},
      {"the launcher is killed", to_launcher(SIGKILL), -SIGKILL, ""},
  };
}

TEST_F(TrainFaults, OfTwoProcessesCostAtMostTheStepsSinceTheLastCheckpoint) {
  const Arguments command = launch_two(path("struck"));
  for (const Fault& fault : faults()) {
    std::vector<pid_t> children;
    int64_t saved = 0;
    const Outcome outcome = run(command, [&](pid_t launcher, const auto& /*err*/) {
      saved = wait_for_checkpoint(path("struck"));
      children = children_of(launcher);
      ASSERT_EQ(children.size(), 2) << fault.name;
      fault.strike(launcher, children[1]);
    });
    wait_until([&] { return all_gone(children); });
    EXPECT_TRUE(all_gone(children)) << fault.name;
    EXPECT_EQ(outcome.status, fault.status) << fault.name << ": " << outcome.err;
    EXPECT_TRUE(holds(outcome.err, fault.told)) << fault.name << ": " << outcome.err;
    EXPECT_GE(newest_step(path("struck")), saved + (fault.saves ? 1 : 0)) << fault.name;
    EXPECT_LT(newest_step(path("struck")), 90) << fault.name;
  }
  const Outcome rest = run(command);
  EXPECT_EQ(rest.status, 0) << rest.err;
  EXPECT_EQ(run(launch_two(path("whole"))).status, 0);
  EXPECT_TRUE(weights_of(path("struck")) == weights_of(path("whole")));
  EXPECT_FALSE(weights_of(path("whole")).empty());
}

TEST_F(TrainFaults, AFileThatMayNotGrowLeavesTheCheckpointsOfBefore) {
  const Outcome outcome = run(train(path("run")), [&](pid_t pid, const auto& /*err*/) {
    wait_for_checkpoint(path("run"));
    const rlimit bytes{4096, 4096};
    ::prlimit(pid, RLIMIT_FSIZE, &bytes, nullptr);
  });
  EXPECT_EQ(outcome.status, 1) << outcome.err;
  EXPECT_TRUE(holds(outcome.err, "cannot write: File too large\n")) << outcome.err;
  EXPECT_GT(newest_step(path("run")), 0);
  EXPECT_LT(newest_step(path("run")), 90);
  EXPECT_EQ(run(train(path("run"))).status, 0);
  EXPECT_EQ(newest_step(path("run")), 90);
}

TEST_F(TrainFaults, AFullDiskIsSaidSo) {
  constexpr int kCannotMount = 77;
  fs::create_directory(folder_ / "disk");
  const Outcome outcome = run(train(path("disk/run")), {}, [&] {
    const bool done =
        ::unshare(CLONE_NEWNS) == 0 &&
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
        ::mount("tmpfs", path("disk").c_str(), "tmpfs", 0, "size=2m") == 0;  // two checkpoints
    if (!done) {
      ::_exit(kCannotMount);
    }
  });
  if (outcome.status == kCannotMount) {
    GTEST_SKIP() << "may not mount a small disk here";
  }
  EXPECT_EQ(outcome.status, 1) << outcome.err;
  EXPECT_TRUE(holds(outcome.err,
                    "step-00000009/rank-00000.safetensors: cannot write: No space "
                    "left on device\n"))
      << outcome.err;
}

TEST_F(TrainFaults, ASecondTrainingInTheSameFolderIsRefusedWhileTheFirstGoesOn) {
  const Outcome first = run(train(path("run")), [&](pid_t pid, const auto& /*err*/) {
    wait_for_checkpoint(path("run"));
    ::kill(pid, SIGSTOP);  // it must still run when the second one starts
    const Outcome second = run(train(path("run"), {"--seed=1"}));
    EXPECT_TRUE(refuses(second, path("run") + "/checkpoints: another program is writing it"));
    ::kill(pid, SIGCONT);
  });
  EXPECT_EQ(first.status, 0) << first.err;
}

TEST_F(TrainFaults, SigtermWritesACheckpointOfTheStepsSoFar) {
  Arguments rare = train(path("run"));
  rare.back() = "--checkpoint-interval=1000";
  rare.push_back("--log-interval=1");
  const Outcome outcome = run(rare, [&](pid_t pid, const auto& /*err*/) {
    wait_until([&] { return fs::exists(folder_ / "run" / "log.csv"); });
    ::kill(pid, SIGTERM);
  });
  EXPECT_EQ(outcome.status, 130) << outcome.err;
  EXPECT_TRUE(holds(outcome.err, "ospnext: error: interrupted\n")) << outcome.err;
  EXPECT_GT(newest_step(path("run")), 0);
}

}  // namespace
}  // namespace ospnext
