// `ospnext generate` under failures: full disk, removed folder, kill, two runs at once.
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "cli/generate_fixture.h"
#include "io/moving_picture.h"

namespace ospnext {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

class GenerateFaults : public Generate {
 protected:
  // Status 1, and one sentence at the end of standard error.
  static void expect_failure(const Outcome& outcome, const std::string& part) {
    EXPECT_EQ(outcome.status, 1) << outcome.err;
    const size_t error = outcome.err.find("ospnext: error: ");
    ASSERT_NE(error, std::string::npos) << outcome.err;
    EXPECT_NE(outcome.err.find(part, error), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.err.find('\n', error) + 1, outcome.err.size()) << outcome.err;
  }
};

TEST_F(GenerateFaults, AFileThatMayNotGrowLeavesNothingAndKeepsTheOldOne) {
  const auto limit = [] {
    const rlimit bytes{4096, 4096};
    ::setrlimit(RLIMIT_FSIZE, &bytes);
  };
  for (const std::string& name : video_names("a")) {
    write_file(folder_ / "a.mp4", "old");
    write_file(folder_ / "a.json", "old");
    const Names before = folder_.names();
    const Outcome outcome =
        run_binary(with_model({"--prompt", "a", "--steps=1", "--num-frames=33", "--width=96",
                               "--height=96", "--output", path(name)}),
                   {}, limit);
    expect_failure(outcome, "File too large");
    EXPECT_EQ(folder_.names(), before) << name;
    EXPECT_EQ(text("a.mp4"), "old") << name;
    EXPECT_EQ(text("a.json"), "old") << name;
  }
}

TEST_F(GenerateFaults, AFullDiskIsSaidSo) {
  constexpr int kCannotMount = 77;
  const auto mount_small_disk = [&] {
    const bool is_root = ::geteuid() == 0;
    const std::string map = "0 " + std::to_string(::geteuid()) + " 1";
    bool done = ::unshare(CLONE_NEWNS | (is_root ? 0 : CLONE_NEWUSER)) == 0;
    if (done && !is_root) {
      std::ofstream("/proc/self/setgroups") << "deny";
      std::ofstream("/proc/self/uid_map") << map;
    }
    done = done && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
           ::mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, "size=32k") == 0;
    if (!done) {
      ::_exit(kCannotMount);
    }
  };
  for (const std::string& name : video_names("a")) {
    const Outcome outcome =
        run_binary(with_model({"--prompt", "a", "--steps=1", "--num-frames=65", "--width=96",
                               "--height=96", "--output", path(name)}),
                   {}, mount_small_disk);
    if (outcome.status == kCannotMount) {
      GTEST_SKIP() << "may not mount a small disk here";
    }
    expect_failure(outcome, "No space left on device");
  }
}

TEST_F(GenerateFaults, AFolderThatGoesAwayIsSaidSo) {
  for (const std::string& name : video_names("a")) {
    std::filesystem::create_directory(folder_ / "gone");
    const Outcome outcome = run_binary(
        with_model({"--prompt", "a", "--steps=20", "--output", path("gone/" + name)}),
        [&](pid_t, const std::string& err) {
          for (int i = 0; i < 600 && file_text(err).find("encode text: done") == std::string::npos;
               ++i) {
            std::this_thread::sleep_for(milliseconds(10));
          }
          std::filesystem::remove_all(folder_ / "gone");
        });
    // Status 2 if the writer cannot be opened, 1 if it cannot be finished. Both can happen here.
    EXPECT_TRUE(outcome.status == 1 || outcome.status == 2) << outcome.status;
    EXPECT_NE(outcome.err.find("ospnext: error: " + path("gone")), std::string::npos)
        << outcome.err;
    EXPECT_TRUE(folder_.names().empty());
  }
}

TEST_F(GenerateFaults, KilledAtAnyMomentItLeavesOldOrNewAndNeverAForeignRecord) {
  const Arguments arguments = {"--prompt", "a red ball", "--seed=7", "--num-frames=33"};
  std::mt19937 random(1);
  for (const std::string name : {"a.y4m", "a_%02d.png"}) {
    const std::string video = name == "a.y4m" ? name : "a_05.png";
    Arguments with_output = with_model(arguments);
    with_output.insert(with_output.end(), {"--output", path(name)});
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_EQ(run_binary(with_output).status, 0);
    const auto duration =
        std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin);
    const std::string whole = text(video);
    std::uniform_int_distribution<int64_t> moment(0, duration.count());
    for (int round = 0; round < 8; ++round) {
      write_file(folder_ / video, "old");
      write_file(folder_ / "a.json", "old");
      run_binary(with_output, [&](pid_t pid, const std::string&) {
        std::this_thread::sleep_for(milliseconds(moment(random)));
        ::kill(pid, SIGKILL);
      });
      const std::string found = text(video);
      EXPECT_TRUE(found == "old" || found == whole) << name;
      if (std::filesystem::exists(folder_ / "a.json")) {
        const std::string record = text("a.json");
        EXPECT_EQ(record == "old", found == "old") << name;
        EXPECT_TRUE(record == "old" || json::parse(record)["config"]["seed"] == 7) << name;
      }
    }
    ASSERT_EQ(run_binary(with_output).status, 0);  // removes the files of killed runs
    EXPECT_TRUE(text(video) == whole);
    for (const std::string& left : folder_.names()) {
      EXPECT_FALSE(left.starts_with(".")) << left;
    }
  }
}

TEST_F(GenerateFaults, ASecondRunToTheSameOutputIsRefusedWhileTheFirstGoesOn) {
  Arguments first =
      with_model({"--prompt", "a", "--seed=7", "--steps=200", "--output", path("a.y4m")});
  Arguments second =
      with_model({"--prompt", "a", "--seed=8", "--steps=1", "--output", path("a.y4m")});
  const Outcome outcome = run_binary(first, [&](pid_t pid, const std::string& err) {
    for (int i = 0; i < 600 && file_text(err).find("encode text: done") == std::string::npos; ++i) {
      std::this_thread::sleep_for(milliseconds(10));
    }
    ::kill(pid, SIGSTOP);  // it must still run when the second one starts
    EXPECT_TRUE(refuses(run_binary(second), "a.y4m: another program is writing it"));
    ::kill(pid, SIGCONT);
  });
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(folder_.names(), (Names{"a.json", "a.y4m"}));
  EXPECT_EQ(json::parse(text("a.json"))["config"]["seed"], 7);
}

TEST_F(GenerateFaults, RunsStartedTogetherLeaveAVideoAndItsOwnRecord) {
  std::map<int, std::string> made;
  for (const int seed : {7, 8}) {
    make({"--prompt", "a", "--seed", std::to_string(seed), "--output", path("reference.y4m")});
    made[seed] = text("reference.y4m");
  }
  const auto run = [&](int seed) {
    return with_model({"--prompt", "a", "--seed", std::to_string(seed), "--output", path("a.y4m")});
  };
  Outcome one, other;
  std::thread thread([&] { one = run_binary(run(7)); });
  other = run_binary(run(8));
  thread.join();
  for (const Outcome& outcome : {one, other}) {
    EXPECT_TRUE(outcome.status == 0 || refuses(outcome, "another program is writing it"))
        << outcome.err;
  }
  EXPECT_TRUE(one.status == 0 || other.status == 0);
  EXPECT_TRUE(text("a.y4m") == made.at(json::parse(text("a.json"))["config"]["seed"].get<int>()));
}

}  // namespace
}  // namespace ospnext
