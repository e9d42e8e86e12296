#include "train/csv_log.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

class CsvLogTest : public testing::Test {
 protected:
  // What is on disk after a row of step 10 is added to a file with the content `before`.
  std::string added_to(const std::string& before, const Scalars& scalars) {
    write_file(folder_ / "log.csv", before);
    CsvLog log(folder_ / "log.csv", /*first_step=*/8);
    testing::internal::CaptureStderr();
    log.add(10, scalars);
    said_ = testing::internal::GetCapturedStderr();
    return file_text(folder_ / "log.csv");
  }

  const TemporaryFolder folder_;
  std::string said_;
};

TEST_F(CsvLogTest, BeginsWithTheColumnsOfItsFirstRow) {
  CsvLog log(folder_ / "log.csv", 0);
  log.add(5, {{"loss", 0.125}, {"rate", 1e-9}});
  log.add(10, {{"loss", 1234567.0}, {"rate", 2}});
  EXPECT_EQ(file_text(folder_ / "log.csv"), "step,loss,rate\n5,0.125,1e-09\n10,1234567,2\n");
}

TEST_F(CsvLogTest, DropsRowsOfLaterStepsAndALineWithoutItsEnd) {
  EXPECT_EQ(added_to("step,loss\n4,1\n8,2\n9,3\n12,4\n16", {{"loss", 5}}),
            "step,loss\n4,1\n8,2\n10,5\n");
  EXPECT_EQ(said_, "");
}

TEST_F(CsvLogTest, GetsNewColumnsWithoutLosingOldOnes) {
  EXPECT_EQ(added_to("step,old,loss\n4,7,1\n8,8,2\n", {{"loss", 5}, {"new", 6}, {"newer", 7}}),
            "step,old,loss,new,newer\n4,7,1,,\n8,8,2,,\n10,,5,6,7\n");
  EXPECT_NE(said_.find("log.csv: from step 10 on it also has new, newer, which is empty in the "
                       "rows before"),
            std::string::npos)
      << said_;
}

TEST_F(CsvLogTest, KeepsAFileThatIsNoLogUnderAnotherName) {
  const std::vector<std::string> strange = {
      "loss,step\n1,2\n", "step,loss\n4,1\n5\n", "step,loss\nx,1\n",
      "step,loss\n99999999999999999999,1\n", std::string("\0\n", 2)};
  for (size_t i = 0; i < strange.size(); ++i) {
    EXPECT_EQ(added_to(strange[i], {{"loss", 5}}), "step,loss\n10,5\n") << strange[i];
    EXPECT_EQ(file_text(folder_ / ("log-" + std::to_string(i + 1) + ".csv")), strange[i]);
  }
}

TEST_F(CsvLogTest, TakesAnEmptyFileForNone) {
  for (const char* text : {"", "ste", "step,loss\n"}) {
    EXPECT_EQ(added_to(text, {{"loss", 5}}), "step,loss\n10,5\n") << text;
  }
  EXPECT_EQ(folder_.names(), std::vector<std::string>{"log.csv"});
}

}  // namespace
}  // namespace ospnext
