#include "io/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <system_error>
#include <thread>
#include <utility>

#include "core/error.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using Kind = LockedEntry::Kind;

[[noreturn]] void fail(const fs::path& target, const std::string& action, int error) {
  std::string reason = std::strerror(error);
  if (error == ENOENT) {
    reason = "its folder, or what was written there, has been removed";
  }
  throw RunError(target.string() + ": cannot " + action + ": " + reason);
}

[[noreturn]] void refuse(const fs::path& target, int error) {
  throw InputError(target.string() + ": cannot write here: " + std::strerror(error));
}

// Creates a file or folder and opens it. Returns -1 and sets errno on failure.
int create(const fs::path& path, Kind kind) {
  if (kind == Kind::kFile) {
    return ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
  }
  return ::mkdir(path.c_str(), 0777) != 0
             ? -1
             : ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

bool same_entry(int descriptor, const fs::path& path) {
  struct stat opened {};
  struct stat named {};
  return ::fstat(descriptor, &opened) == 0 && ::lstat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

// Takes the lock and returns whether it was free. On a file system without locks it counts as free.
bool lock(int descriptor) {
  return ::flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

void remove_entry(const fs::path& path, Kind kind) {
  std::error_code ignored;
  if (kind == Kind::kFile) {
    ::unlink(path.c_str());
  } else {
    fs::remove_all(path, ignored);
  }
}

// Tries once to create and lock `path`. Returns the descriptor, or -1 if another program holds it
// or was faster. An entry that no program holds was left by a killed program and is removed.
int try_create_locked(const fs::path& path, Kind kind, const fs::path& target) {
  const int made = create(path, kind);
  if (made >= 0) {
    if (lock(made) && same_entry(made, path)) {
      return made;
    }
    ::close(made);  // the holder of the lock is about to remove it
    return -1;
  }
  if (errno != EEXIST) {
    refuse(target, errno);
  }
  const int left = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (left < 0) {
    if (errno == ENOENT) {
      return -1;
    }
    refuse(target, errno);
  }
  if (lock(left) && same_entry(left, path)) {
    remove_entry(path, kind);
  }
  ::close(left);
  return -1;
}

int create_locked(const fs::path& path, Kind kind, const fs::path& target) {
  constexpr int kAttempts = 50;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const int descriptor = try_create_locked(path, kind, target);
    if (descriptor >= 0) {
      return descriptor;
    }
    if (attempt > 1) {  // the first attempt may have removed a leftover
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  throw InputError(target.string() + ": another program is writing it (it holds " + path.string() +
                   ")");
}

}  // namespace

void check_writable(const fs::path& target, const std::string& flag) {
  const std::string what = flag + " " + target.string() + ": ";
  if (target.filename().empty()) {
    throw InputError(what + "expected the name of a file");
  }
  const fs::path folder = target.has_parent_path() ? target.parent_path() : fs::path(".");
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) {
    throw InputError(what + "there is no folder " + folder.string());
  }
  const fs::file_status status = fs::status(target, ignored);
  if (fs::is_directory(status)) {
    throw InputError(what + "is a folder, expected the name of a file");
  }
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    throw InputError(what + "exists and is not a regular file");
  }
  try {
    const PendingFile probe(target);
  } catch (const InputError& error) {
    throw InputError(flag + " " + error.what());
  }
}

LockedEntry::LockedEntry(fs::path target, const std::string& suffix, Kind kind)
    : target_(std::move(target)),
      path_(target_.parent_path() /
            std::string(".").append(target_.filename().string()).append(suffix)),
      kind_(kind),
      descriptor_(create_locked(path_, kind, target_)) {}

LockedEntry::~LockedEntry() {
  if (!path_.empty() && same_entry(descriptor_, path_)) {
    remove_entry(path_, kind_);
  }
  ::close(descriptor_);
}

void LockedEntry::flush() const {
  flush_file(path_, target_);
}

void LockedEntry::move_to_target() {
  move_file(path_, target_);
  path_.clear();
}

void flush_file(const fs::path& file, const fs::path& target) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    fail(target, "finish the file", errno);
  }
  const int flushed = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  if (flushed != 0) {
    fail(target, "flush the file to disk", error);
  }
}

void move_file(const fs::path& file, const fs::path& target) {
  if (::rename(file.c_str(), target.c_str()) != 0) {
    fail(target, "rename the finished file", errno);
  }
}

void PendingFile::write(const std::string& text) const {
  std::ofstream out(path(), std::ios::binary);
  out << text << std::flush;
  check_written(out, target());
}

void check_written(const std::ostream& stream, const fs::path& target) {
  if (!stream) {
    throw RunError(target.string() + ": cannot write: " +
                   (errno != 0 ? std::strerror(errno) : "the disk may be full"));
  }
}

fs::path new_folder(fs::path target, const std::string& flag) {
  if (target.empty()) {
    throw InputError(flag + ": missing, expected the name of a folder");
  }
  if (target.filename().empty()) {
    target = target.parent_path();  // for "folder/"
  }
  std::error_code error;
  const fs::file_status status = fs::symlink_status(target, error);
  if (fs::exists(status) && (!fs::is_directory(status) || !fs::is_empty(target, error) || error)) {
    throw InputError(flag + " " + target.string() + ": exists, expected a new or an empty folder");
  }
  try {
    const PendingFolder probe(target);
  } catch (const InputError& refused) {
    throw InputError(flag + " " + refused.what());
  }
  return target;
}

void write_text_file(const fs::path& target, const std::string& text) {
  PendingFile file(target);
  file.write(text);
  file.commit();
}

}  // namespace ospnext
