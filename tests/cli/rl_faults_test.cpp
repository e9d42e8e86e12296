// `ospnext rl` under failures, with real processes and servers: each costs at most the epoch that
// it strikes, and the same command goes on.
#include <sys/resource.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "cli/launched_processes.h"
#include "cli/run_ospnext.h"
#include "core/fields.h"
#include "rl/small_grpo.h"
#include "support/canned_server.h"
#include "support/text.h"
#include "train/training_checkpoint.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class RlFaults : public testing::Test {
 protected:
  // A training of three epochs of one update each, with a checkpoint after each.
  RlConfig config(const std::string& output, const std::vector<std::string>& reward) const {
    RlConfig config = it_.config(output);
    config.rollout.batches_per_epoch = 1;
    config.rollout.steps = 3;
    config.epochs = 3;
    config.save_every = 1;
    config.reward = reward;
    config.watch = {};
    config.scoring.reward_seconds = 10;
    return config;
  }
  Outcome run(RlConfig config, const Arguments& before = {},
              const WhileRunning& running = {}) const {
    const std::string file = config.output + ".json";
    write_file(file, fields_to_json(config).dump());
    Arguments arguments = before;
    arguments.insert(arguments.end(), {"rl", "--config", file});
    return run_binary(arguments, running, [] { ::setenv("OMP_NUM_THREADS", "1", 1); });
  }
  static std::string newest(const RlConfig& config) {
    const auto folder = newest_checkpoint(fs::path(config.output) / "checkpoints");
    return folder ? folder->filename().string() : "none";
  }
  static std::string lora_of(const RlConfig& config) {
    return file_text(fs::path(config.output) / "lora/adapter_model.safetensors");
  }
  static void wait_for_checkpoint(const RlConfig& config) {
    wait_until([&] { return newest(config) != "none"; });
  }

  const SmallGrpo it_;
};

// What a service answers to four videos, two of two prompts.
std::string scores(const std::string& first = "0.25") {
  return http_answer(R"({"results": [{"r": {"a": )" + first +
                     R"(}}, {"r": {"a": 2}}, {"r": {"a": -1}}, {"r": {"a": 4}}]})");
}

TEST_F(RlFaults, AServiceThatGoesDownEndsTheRunWithACheckpointAndTheRunGoesOn) {
  std::atomic<int> answers = 0, most = 2;
  const CannedServer server([&](const auto&) {
    return ++answers <= most ? scores() : std::string();  // gone before the answer
  });
  RlConfig struck = config("struck", {"score:" + server.url() + "#r"});
  struck.save_every = 100;
  struck.scoring.reward_seconds = 1;
  const Outcome stopped = run(struck);
  EXPECT_EQ(stopped.status, 1) << stopped.err;
  EXPECT_TRUE(holds(stopped.err, "error: none of the videos of an epoch got a score: score:" +
                                     server.url() + "#r: the connection was lost before"))
      << stopped.err;
  EXPECT_EQ(newest(struck), name_of_step(2));
  most = 1000;
  EXPECT_EQ(run(struck).status, 0);
  RlConfig whole = struck;
  whole.output = it_.config("whole").output;
  EXPECT_EQ(run(whole).status, 0);
  EXPECT_TRUE(lora_of(struck) == lora_of(whole));
  EXPECT_FALSE(lora_of(whole).empty());
}

TEST_F(RlFaults, AServiceThatLiesOrIsSlowCostsTheVideosThatItScores) {
  std::atomic<int> answers = 0;
  const CannedServer server([&](const auto&) {
    switch (++answers) {
      case 1:
        return scores("\"no\"");  // one video without a score
      case 2:
        return http_answer(R"({"results": [{"r": {"a": 1}}]})");
      case 3:
        std::this_thread::sleep_for(std::chrono::milliseconds(2500));
        return scores();
      default:
        return scores();
    }
  });
  RlConfig struck = config("struck", {"score:" + server.url() + "#r"});
  struck.rollout.batches_per_epoch = 2;
  struck.scoring.reward_seconds = 2;
  struck.epochs = 2;
  const Outcome outcome = run(struck);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(holds(outcome.err, "its answer: results: found 1, expected 4")) << outcome.err;
  EXPECT_TRUE(holds(outcome.err, "found no answer after 2.0 seconds")) << outcome.err;
  const std::vector<double> without = log_column(struck.output, "without_score");
  EXPECT_EQ(without.front(), 5.0 / 8);
  EXPECT_EQ(without.back(), 4.0 / 8);
}

TEST_F(RlFaults, ARankThatIsKilledCostsTheEpochsSinceTheLastCheckpoint) {
  RlConfig struck = config("struck", {"motion"});
  struck.mesh.data_parallel = 2;
  struck.rollout.sample_batch_size = struck.update.train_batch_size = 2;
  struck.world.patience = 3;
  struck.epochs = 6;
  const Arguments launch = {"launch", "-n", "2", "--"};
  std::vector<pid_t> children;
  const Outcome killed = run(struck, launch, [&](pid_t launcher, const auto& /*err*/) {
    wait_for_checkpoint(struck);
    children = children_of(launcher);
    ASSERT_EQ(children.size(), 2U);
    ::kill(children[1], SIGKILL);
  });
  EXPECT_EQ(killed.status, 1) << killed.err;
  EXPECT_TRUE(holds(killed.err, "error: rank 1 was killed by signal 9 (Killed)")) << killed.err;
  wait_until([&] { return all_gone(children); });
  EXPECT_NE(newest(struck), "none");
  EXPECT_LT(newest(struck), name_of_step(6));
  EXPECT_EQ(run(struck, launch).status, 0);
  RlConfig whole = struck;
  whole.output = it_.config("whole").output;
  EXPECT_EQ(run(whole, launch).status, 0);
  EXPECT_TRUE(lora_of(struck) == lora_of(whole));
}

TEST_F(RlFaults, AFullDiskLeavesTheCheckpointsOfBefore) {
  RlConfig struck = config("struck", {"motion"});
  struck.epochs = 12;
  const Outcome full = run(struck, {}, [&](pid_t pid, const auto& /*err*/) {
    wait_for_checkpoint(struck);
    const rlimit bytes{4096, 4096};
    ::prlimit(pid, RLIMIT_FSIZE, &bytes, nullptr);
  });
  EXPECT_EQ(full.status, 1) << full.err;
  EXPECT_TRUE(holds(full.err, "cannot write: File too large\n")) << full.err;
  EXPECT_NE(newest(struck), "none");
  EXPECT_EQ(run(struck).status, 0);
  EXPECT_EQ(newest(struck), name_of_step(12));
}

}  // namespace
}  // namespace ospnext
