// Code shared by tests of `ospnext generate`: a tiny random model, an empty folder, runs and
// refusals.
#pragma once

#include <chrono>
#include <thread>

#include "cli/tiny_model_fixture.h"

namespace ospnext {

using Names = std::vector<std::string>;

class Generate : public WithTinyModel {
 protected:
  std::string text(const std::string& name) const { return file_text(folder_ / name); }

  static Arguments with_model(Arguments arguments) {
    arguments.insert(arguments.begin(),
                     {"generate", "--device=cpu", "--model", model_->path().string()});
    return arguments;
  }
  void make(const Arguments& arguments) const {
    const Outcome outcome = run_here(with_model(arguments));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
  }
  // A refusal that writes nothing at all.
  void expect_refusal(const Arguments& arguments, const std::string& part) const {
    const Names before = folder_.names();
    EXPECT_TRUE(refuses(run_here(with_model(arguments)), part));
    EXPECT_EQ(folder_.names(), before);
  }
  // Runs until `ready`, interrupts, and expects that nothing is left.
  void expect_clean_interrupt(const Arguments& arguments, int signal,
                              const std::function<bool(const std::string& printed)>& ready) const {
    const Outcome outcome = run_binary(with_model(arguments), [&](pid_t pid, const auto& err) {
      for (int i = 0; i < 600 && !ready(file_text(err)); ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
      }
      ::kill(pid, signal);
    });
    EXPECT_EQ(outcome.status, 130) << outcome.err;
    EXPECT_NE(outcome.err.find("ospnext: error: interrupted\n"), std::string::npos);
    EXPECT_TRUE(folder_.names().empty());
  }
};

}  // namespace ospnext
