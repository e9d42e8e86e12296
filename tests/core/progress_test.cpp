#include "core/progress.h"

#include <gtest/gtest.h>

#include <sstream>
#include <thread>

#include "core/cancel.h"

namespace ospnext {
namespace {

TEST(Progress, ShowsStageStepTimeLeftAndNoteOnATerminal) {
  std::ostringstream out;
  Progress progress(&out, /*in_place=*/true);
  progress.begin("denoise", 4);
  std::this_thread::sleep_for(std::chrono::milliseconds(120));
  progress.step("loss 0.5");
  EXPECT_NE(out.str().find("denoise: step 1/4"), std::string::npos) << out.str();
  EXPECT_NE(out.str().find("s/step"), std::string::npos);
  EXPECT_NE(out.str().find("left, loss 0.5"), std::string::npos) << out.str();
  progress.end();
  EXPECT_NE(out.str().find("denoise: done in"), std::string::npos);
}

TEST(Progress, KeepsTheSecondsOfEachStageInOrderAlsoWhenSilent) {
  Progress progress(nullptr, false);
  progress.begin("load", 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  progress.begin("decode", 1);
  progress.end();
  progress.end();  // does nothing, because no stage is open
  ASSERT_EQ(progress.stage_seconds().size(), 2U);
  EXPECT_EQ(progress.stage_seconds()[0].first, "load");
  EXPECT_GE(progress.stage_seconds()[0].second, 0.02);
  EXPECT_EQ(progress.stage_seconds()[1].first, "decode");
}

TEST(Progress, TellsAWatcherOfStagesAndStepsAndDoesNotCountItsTime) {
  struct Notes : StageWatcher {
    void began(const Stage& stage) override {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      told += "+" + stage.name;
    }
    void stepped(const Stage& stage) override { told += "." + stage.name; }
    void ended(const Stage& stage, double seconds) override {
      EXPECT_LT(seconds, 0.03);
      told += "-" + stage.name;
    }
    std::string told;
  } notes;
  Progress progress(nullptr, false, &notes);
  progress.begin("a", 2);
  progress.step();
  progress.step();
  progress.begin("b", 0);
  progress.end();
  progress.end();
  EXPECT_EQ(notes.told, "+a.a.a-a+b-b");
}

TEST(CancellationToken, ThrowsOnceItWasCancelled) {
  CancellationToken token;
  EXPECT_NO_THROW(token.check());
  std::thread([&] { token.cancel(); }).join();
  EXPECT_TRUE(token.cancelled());
  EXPECT_THROW(token.check(), Cancelled);
}

}  // namespace
}  // namespace ospnext
