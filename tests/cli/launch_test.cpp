// `ospnext launch`: several processes make the same video as one. A failure of one process ends
// all, and the message names it.
#include <chrono>
#include <nlohmann/json.hpp>

#include "cli/generate_fixture.h"
#include "cli/launched_processes.h"
#include "io/weights.h"
#include "parallel/process_group.h"
#include "support/compare.h"
#include "support/text.h"

namespace ospnext {
namespace {

// A small sparse model with several heads.
class Launch : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = std::make_unique<TemporaryFolder>();
    write_sparse_model(model_->path());
  }
  static void TearDownTestSuite() { model_.reset(); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  // generate ..., in one process without the launcher.
  static Arguments generate(const Arguments& flags) {
    Arguments arguments = {"generate", "--device=cpu", "--model", model_->path().string(),
                           "--prompt", "a red ball"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return arguments;
  }
  // The same in `processes` processes.
  static Arguments launch(int processes, const Arguments& flags) {
    Arguments arguments = generate(flags);
    arguments.insert(arguments.begin(), {"launch", "-n", std::to_string(processes), "--"});
    return arguments;
  }
  // Runs in processes of one thread each.
  static Outcome run(const Arguments& arguments, const WhileRunning& while_running = {}) {
    return run_binary(arguments, while_running,
                      [] { ::setenv("OMP_NUM_THREADS", "1", /*overwrite=*/1); });
  }

  const TemporaryFolder folder_;
  static inline std::unique_ptr<TemporaryFolder> model_;
};

// The children of the launcher, once one of them has printed that it is at `stage`.
std::vector<pid_t> children_at(const std::string& stage, pid_t launcher, const std::string& err) {
  wait_until([&] { return holds(file_text(err), stage); });
  return children_of(launcher);
}

TEST_F(Launch, MakesTheSameVideosAsOneProcess) {
  write_file(folder_ / "prompts", "a red ball\na blue cube\none yellow star");
  const auto make = [&](Arguments arguments, const std::string& name, const Arguments& flags) {
    for (const std::string& flag : {std::string("--steps=2"), "--output=" + path(name + ".y4m"),
                                    "--save-latent=" + path(name + "_latent"),
                                    "--save-video-tensor=" + path(name + "_video")}) {
      arguments.push_back(flag);
    }
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome;
  };
  const auto expect_same = [&](const std::string& name, const std::string& expected) {
    for (const auto& [file, tensor] : {std::pair{"_latent", "latent"}, {"_video", "video"}}) {
      EXPECT_LT(relative_l2(read_tensors(path(name + file)).at(tensor),
                            read_tensors(path(expected + file)).at(tensor)),
                1e-5)
          << name;
    }
  };
  Arguments alone = generate({});
  make(alone, "one", {});
  const Outcome chosen = make(launch(4, {}), "four", {});
  EXPECT_TRUE(holds(chosen.err, "[0] 4 processes: data 1 x CFG 2 x SSP 2 x Ulysses 1 x ring 1"))
      << chosen.err;
  EXPECT_FALSE(holds(chosen.err, "[1] ")) << chosen.err;
  expect_same("four", "one");
  make(launch(4, {}), "ssp", {"--ssp=4"});
  expect_same("ssp", "one");
  make(launch(3, {}), "ring", {});
  expect_same("ring", "one");
  const Arguments tiles = {"--vae-tile=32,16"}, low = {"--height=16"};
  make(alone, "one_tiled", tiles);
  const Outcome tiled = make(launch(4, {}), "tiled", tiles);
  EXPECT_TRUE(holds(tiled.err, "exchanges \"tiles\"")) << tiled.err;
  expect_same("tiled", "one_tiled");
  make(alone, "one_low", low);
  make(launch(3, {}), "low", low);  // two rows of the latent
  expect_same("low", "one_low");

  alone.erase(alone.end() - 2, alone.end());
  Arguments several = launch(2, {});
  several.erase(several.end() - 2, several.end());
  const Arguments prompts = {"--prompts", path("prompts")};
  make(alone, "three", prompts);
  const Outcome data = make(several, "data", prompts);
  EXPECT_TRUE(holds(data.err, "data 2 x CFG 1")) << data.err;
  expect_same("data", "three");
}

// The videos are bitwise equal to those of the same processes with whole weights. A process may
// also have no video.
TEST_F(Launch, ShardedWeightsMakeTheSameVideos) {
  const auto make = [&](Arguments arguments, const std::string& name, const Arguments& flags) {
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    arguments.insert(arguments.end(),
                     {"--steps=2", "--width=32", "--height=32", "--output=" + path(name + ".y4m"),
                      "--save-latent=" + path(name)});
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome;
  };
  const auto expect_equal = [&](const std::string& name, const std::string& expected) {
    EXPECT_TRUE(
        at::equal(read_tensors(path(name)).at("latent"), read_tensors(path(expected)).at("latent")))
        << name;
  };
  for (const std::string& precision : {std::string("float32"), std::string("hif8-simulated")}) {
    const Arguments flags = {"--ssp=2", "--precision=" + precision};
    make(launch(2, flags), precision, {});
    const Outcome outcome = make(launch(2, flags), precision + "-sharded", {"--shard-weights"});
    EXPECT_TRUE(holds(outcome.err, "exchanges \"weights\"")) << outcome.err;
    expect_equal(precision + "-sharded", precision);
  }
  write_file(folder_ / "prompts", "a red ball\na blue cube\none yellow star");
  Arguments several = launch(2, {});
  several.erase(several.end() - 2, several.end());
  const Arguments prompts = {"--prompts", path("prompts")};
  make(several, "data", prompts);
  make(several, "data-sharded", {"--prompts", path("prompts"), "--shard-weights"});
  expect_equal("data-sharded", "data");
  const Arguments alone = generate({"--shard-weights"});
  EXPECT_FALSE(holds(make(alone, "alone", {}).err, "weights\""));
}

// If the transport is named, a single process uses the same code as several.
TEST_F(Launch, OneProcessExchangesWithItself) {
  const Arguments alone = generate({"--steps=2", "--width=32", "--height=32"});
  const auto make = [&](const std::string& name, Arguments flags) {
    flags.insert(flags.begin(), alone.begin(), alone.end());
    flags.insert(flags.end(), {"--output=" + path(name + ".y4m"), "--save-latent=" + path(name),
                               "--save-video-tensor=" + path(name + "_video")});
    const Outcome outcome = run(flags);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome.err;
  };
  EXPECT_FALSE(holds(make("alone", {}), "exchanges"));
  const std::string exchanged = make("itself", {"--transport=gloo", "--shard-weights"});
  for (const char* const purpose : {"switch", "ulysses in", "ulysses out", "gather", "weights",
                                    "share", "rows", "keys", "frames"}) {
    EXPECT_TRUE(holds(exchanged, std::string("exchanges \"") + purpose + "\", 0.00 MB"))
        << exchanged;
  }
  EXPECT_TRUE(at::equal(read_tensors(path("itself")).at("latent"),
                        read_tensors(path("alone")).at("latent")));
  EXPECT_LT(relative_l2(read_tensors(path("itself_video")).at("video"),
                        read_tensors(path("alone_video")).at("video")),
            1e-5);
}

// Of several processes, too, each text is embedded just before its video, and a seed that is drawn
// is that of all.
TEST_F(Launch, TheFirstVideoDoesNotWaitForTheLastText) {
  write_file(folder_ / "prompts", "a red ball\na blue cube\na red ball\n");
  Arguments two = launch(2, {});
  two.erase(two.end() - 2, two.end());
  two.insert(two.end(), {"--prompts", path("prompts"), "--data-parallel=1", "--seed=-1",
                         "--steps=1", "--output=" + path("a.y4m"), "--save-latent=" + path("two")});
  const Outcome outcome = run(two);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  size_t place = 0;
  for (const char* const stage : {"encode text 1: done", "decode 1: done", "encode text 2: done",
                                  "decode 2: done", "decode 3: done"}) {
    place = outcome.err.find(stage, place);
    ASSERT_NE(place, std::string::npos) << stage << " in " << outcome.err;
  }
  EXPECT_FALSE(holds(outcome.err, "encode text 3"));
  const auto seed = nlohmann::json::parse(file_text(folder_ / "a-0.json"))["config"]["seed"];
  Arguments alone = generate({});
  alone.erase(alone.end() - 2, alone.end());
  alone.insert(alone.end(), {"--prompts", path("prompts"), "--seed=" + seed.dump(), "--steps=1",
                             "--output=" + path("b.y4m"), "--save-latent=" + path("one")});
  EXPECT_EQ(run(alone).status, 0);
  EXPECT_LT(
      relative_l2(read_tensors(path("two")).at("latent"), read_tensors(path("one")).at("latent")),
      1e-5);
}

TEST_F(Launch, AKilledRankEndsTheOthersAndIsNamed) {
  std::vector<pid_t> children;
  std::chrono::steady_clock::time_point killed;
  const Outcome outcome = run(launch(3, {"--steps=1000", "--output=" + path("a.y4m")}),
                              [&](pid_t pid, const auto& err) {
                                children = children_at("denoise", pid, err);
                                ASSERT_EQ(children.size(), 3);
                                killed = std::chrono::steady_clock::now();
                                ::kill(children[1], SIGKILL);
                              });
  EXPECT_LT(std::chrono::steady_clock::now() - killed, std::chrono::seconds(10));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_TRUE(holds(outcome.err, "rank 1 was killed by signal 9 (Killed); the others were stopped"))
      << outcome.err;
  EXPECT_TRUE(all_gone(children));
  EXPECT_TRUE(folder_.names().empty());
}

TEST_F(Launch, AStoppedRankEndsTheOthersAndIsNamed) {
  std::vector<pid_t> children;
  const Outcome outcome = run(
      launch(3, {"--steps=1000", "--patience=3", "--shard-weights", "--output=" + path("a.y4m")}),
      [&](pid_t pid, const auto& err) {
        children = children_at("denoise", pid, err);
        ::kill(children[2], SIGSTOP);
      });
  EXPECT_EQ(outcome.status, 1);
  EXPECT_TRUE(holds(outcome.err, "error: rank 2 ")) << outcome.err;
  EXPECT_TRUE(all_gone(children));
  EXPECT_TRUE(folder_.names().empty());
}

// If a process dies or hangs while all decode a long clip, the others end and their partial files
// are removed.
TEST_F(Launch, ARankLostInDecodingEndsTheOthersAndIsNamed) {
  for (const auto& [signal, told] :
       {std::pair{SIGKILL, "rank 1 was killed by signal 9 (Killed); the others were stopped"},
        {SIGSTOP, " at the decoding"}}) {
    std::vector<pid_t> children;
    const Outcome outcome =
        run(launch(2, {"--steps=1", "--num-frames=1001", "--width=32", "--height=32",
                       "--patience=3", "--output=" + path("a.y4m")}),
            [&, signal = signal](pid_t pid, const auto& err) {
              children = children_at("decode", pid, err);
              wait_until([&] { return !folder_.names().empty(); });  // frames are being written
              ::kill(children.at(1), signal);
            });
    EXPECT_EQ(outcome.status, 1);
    EXPECT_TRUE(holds(outcome.err, "rank 1 ") && holds(outcome.err, told)) << outcome.err;
    EXPECT_TRUE(all_gone(children));
    EXPECT_TRUE(folder_.names().empty());
  }
}

TEST_F(Launch, AnInterruptEndsAllAndLeavesNothing) {
  std::vector<pid_t> children;
  const Outcome outcome = run(launch(2, {"--steps=1000", "--output=" + path("a.y4m")}),
                              [&](pid_t pid, const auto& err) {
                                children = children_at("denoise", pid, err);
                                ::kill(pid, SIGINT);
                              });
  EXPECT_EQ(outcome.status, 130) << outcome.err;
  EXPECT_TRUE(all_gone(children));
  EXPECT_TRUE(folder_.names().empty());
}

TEST_F(Launch, NoProcessOutlivesAKilledLauncher) {
  std::vector<pid_t> children;
  run(launch(2, {"--steps=1000", "--output=" + path("a.y4m")}), [&](pid_t pid, const auto& err) {
    children = children_at("denoise", pid, err);
    ::kill(pid, SIGKILL);
  });
  EXPECT_EQ(children.size(), 2);
  wait_until([&] { return all_gone(children); });
  EXPECT_TRUE(all_gone(children));
  EXPECT_TRUE(folder_.names().empty());
}

TEST_F(Launch, RefusesWhatCannotBe) {
  const Outcome mesh = run(launch(2, {"--ssp=3", "--output=" + path("a.y4m")}));
  EXPECT_EQ(mesh.status, 2) << mesh.err;
  EXPECT_TRUE(holds(mesh.err, "mesh: found --ssp 3 for 2 process(es)")) << mesh.err;
  EXPECT_TRUE(folder_.names().empty());
  EXPECT_TRUE(refuses(run_here({"launch", "-n", "2"}), "found no command"));
  EXPECT_TRUE(refuses(run_here({"launch", "--", "generate"}), "--processes: found 0"));
  const Store taken = Store::host(0, "test");
  EXPECT_TRUE(refuses(
      run_here({"launch", "-n", "2", "--port", std::to_string(taken.port()), "--", "generate"}),
      "--port: port " + std::to_string(taken.port()) + " is in use"));
}

TEST_F(Launch, AWrongNetworkInterfaceIsRefused) {
  const auto wrong = [] { ::setenv("GLOO_SOCKET_IFNAME", "nonsense", 1); };
  const std::string sentence = "error: GLOO_SOCKET_IFNAME: found \"nonsense\" in the environment";
  const Arguments flags = {"--steps=1", "--output=" + path("a.y4m"), "--transport=gloo"};
  const Outcome alone = run_binary(generate(flags), {}, wrong);
  EXPECT_TRUE(refuses(alone, "GLOO_SOCKET_IFNAME: found \"nonsense\"")) << alone.err;
  const Outcome two = run_binary(launch(2, flags), {}, wrong);
  EXPECT_EQ(two.status, 2) << two.err;
  EXPECT_TRUE(holds(two.err, sentence)) << two.err;
  EXPECT_TRUE(folder_.names().empty());
}

TEST_F(Launch, ABlankRankIsNone) {
  const Outcome outcome =
      run_binary(generate({"--steps=1", "--num-frames=1", "--output=" + path("a.y4m")}), {}, [] {
        for (const char* const name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) {
          ::setenv(name, "", 1);
        }
      });
  EXPECT_EQ(outcome.status, 0) << outcome.err;
}

TEST_F(Launch, ARankThatNeverArrivesIsNamed) {
  const Store store = Store::host(0, "test");
  const Arguments alone = generate({"--patience=2", "--output=" + path("a.y4m")});
  const Outcome outcome = run_binary(alone, {}, [&] {
    ::setenv("RANK", "0", 1);
    ::setenv("WORLD_SIZE", "2", 1);
    ::setenv("MASTER_ADDR", "127.0.0.1", 1);
    ::setenv("MASTER_PORT", std::to_string(store.port()).c_str(), 1);
    ::setenv("TORCHELASTIC_USE_AGENT_STORE", "True", 1);
  });
  EXPECT_EQ(outcome.status, 1);
  EXPECT_TRUE(holds(outcome.err, "rank 1 of 2 did not arrive within 2 s")) << outcome.err;
  EXPECT_TRUE(folder_.names().empty());
}

}  // namespace
}  // namespace ospnext
