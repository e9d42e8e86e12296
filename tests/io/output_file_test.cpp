// Files appear only when complete, and only one program writes a file at a time.
#include "io/output_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "core/error.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

using Names = std::vector<std::string>;

TEST(PendingFile, AppearsAtCommitAndReplacesAnOlderOne) {
  const TemporaryFolder folder;
  write_file(folder / "a", "old");
  PendingFile file(folder / "a");
  write_file(file.path(), "new");
  EXPECT_EQ(file_text(folder / "a"), "old");
  file.commit();
  EXPECT_EQ(file_text(folder / "a"), "new");
  EXPECT_EQ(folder.names(), Names{"a"});
}

TEST(PendingFile, LeavesNothingWithoutCommit) {
  const TemporaryFolder folder;
  { const PendingFile file(folder / "a"); }
  EXPECT_TRUE(folder.names().empty());
}

TEST(PendingFile, IsHeldByOneWriter) {
  const TemporaryFolder folder;
  const PendingFile file(folder / "a");
  try {
    const PendingFile second(folder / "a");
    ADD_FAILURE();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("another program is writing it"), std::string::npos);
  }
  EXPECT_THROW(check_writable(folder / "a", "`output`"), InputError);
  EXPECT_NO_THROW(PendingFile(folder / "b"));
}

TEST(PendingFile, ClearsAwayWhatAKilledProgramLeft) {
  const TemporaryFolder folder;
  const pid_t pid = ::fork();
  if (pid == 0) {
    const PendingFile file(folder / "a");
    const PendingFolder frames(folder / "b");
    write_file(file.path(), "half");
    write_file(frames.path() / "0", "half");
    ::raise(SIGKILL);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(folder.names(), (Names{".a.part", ".b.part"}));
  PendingFile file(folder / "a");
  EXPECT_EQ(file_text(file.path()), "");
  const PendingFolder frames(folder / "b");
  EXPECT_TRUE(std::filesystem::is_empty(frames.path()));
  write_file(file.path(), "whole");
  file.commit();
  EXPECT_EQ(file_text(folder / "a"), "whole");
}

TEST(PendingFile, DoesNotFollowALinkInItsPlace) {
  const TemporaryFolder folder;
  write_file(folder / "victim", "safe");
  std::filesystem::create_symlink(folder / "victim", folder / ".a.part");
  EXPECT_THROW(PendingFile(folder / "a"), InputError);
  EXPECT_EQ(file_text(folder / "victim"), "safe");
}

TEST(PendingFile, WritesWhatALinkLeadsTo) {
  const TemporaryFolder folder, other;
  write_file(other / "a", "old");
  std::filesystem::create_symlink(other / "a", folder / "link");
  std::filesystem::create_symlink("link", folder / "a");
  std::filesystem::create_symlink(other / "new", folder / "b");
  for (const char* const name : {"a", "b"}) {
    check_writable(folder / name, "`output`");
    PendingFile file(folder / name);
    EXPECT_EQ(file.path().parent_path(), other.path());
    write_file(file.path(), "new");
    file.commit();
    EXPECT_TRUE(std::filesystem::is_symlink(folder / name));
  }
  EXPECT_EQ(folder.names(), (Names{"a", "b", "link"}));
  EXPECT_EQ(other.names(), (Names{"a", "new"}));
  EXPECT_EQ(file_text(folder / "a"), "new");
  std::filesystem::create_symlink("c", folder / "c");
  EXPECT_THROW(PendingFile(folder / "c"), InputError);
  EXPECT_THROW(check_writable(folder / "c", "`output`"), InputError);
}

TEST(PendingFile, OfALongNameHasAShorterOne) {
  const TemporaryFolder folder;
  const std::string name(253, 'x');
  check_writable(folder / (name + "-1"), "`output`");
  PendingFile first(folder / (name + "-1")), second(folder / (name + "-2"));
  const OutputLock lock(folder / (name + "-1"));
  for (const std::string& hidden : folder.names()) {
    EXPECT_TRUE(hidden.starts_with(".xxx")) << hidden;
  }
  EXPECT_EQ(folder.names().size(), 3u);
  EXPECT_THROW(PendingFile(folder / (name + "-1")), InputError);
  first.write("1");
  first.commit();
  EXPECT_EQ(file_text(folder / (name + "-1")), "1");
  EXPECT_THROW(check_writable(folder / (name + "-10"), "`output`"), InputError);
  EXPECT_THROW(new_folder(folder / (name + "-10"), "`output`"), InputError);
}

TEST(PendingFile, OfAFolderThatIsGoneFails) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "gone");
  PendingFile file(folder / "gone" / "a");
  std::filesystem::remove_all(folder / "gone");
  EXPECT_THROW(file.commit(), RunError);
}

TEST(OutputLock, ExcludesASecondHolderUntilItGoes) {
  const TemporaryFolder folder;
  {
    const OutputLock lock(folder / "clip.mp4");
    EXPECT_THROW(OutputLock(folder / "clip.mp4"), InputError);
    EXPECT_NO_THROW(PendingFile(folder / "clip.mp4"));
  }
  EXPECT_NO_THROW(OutputLock(folder / "clip.mp4"));
  EXPECT_TRUE(folder.names().empty());
}

TEST(TextFile, ThatDoesNotFitIsNotLeftHalfWritten) {
  const TemporaryFolder folder;
  write_file(folder / "a", "old");
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_text_file(folder / "a", std::string(5000, 'x'));
    } catch (const RunError& error) {
      ::_exit(std::string(error.what()).find("a: cannot write: File too large") ==
              std::string::npos);
    }
    ::_exit(2);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(file_text(folder / "a"), "old");
  EXPECT_EQ(folder.names(), Names{"a"});
}

}  // namespace
}  // namespace ospnext
