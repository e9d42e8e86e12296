#include "io/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <system_error>
#include <thread>
#include <utility>

#include "core/error.h"
#include "core/utf8.h"

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

size_t longest_name(const fs::path& folder) {
  constexpr long kUsual = 255;  // bytes
  const long longest = ::pathconf(folder.c_str(), _PC_NAME_MAX);
  return static_cast<size_t>(longest > 0 ? longest : kUsual);
}

fs::path folder_of(const fs::path& target) {
  return target.has_parent_path() ? target.parent_path() : fs::path(".");
}

// ".NAME`suffix`" beside the target; of a long name the beginning and a number that stands for all
// of it.
fs::path hidden_path(const fs::path& target, const std::string& suffix) {
  const std::string name = target.filename().string();
  std::string hidden = "." + name + suffix;
  if (const size_t longest = longest_name(folder_of(target)); hidden.size() > longest) {
    char number[20];
    std::snprintf(number, sizeof number, "~%016zx", std::hash<std::string>()(name));
    const std::string end = number + suffix;
    hidden = utf8_prefix(hidden, longest - std::min(longest, end.size())) + end;
  }
  return target.parent_path() / hidden;
}

// A new file or folder, open; -1 and errno when it cannot be made.
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
  if (target.filename().empty()) {
    throw InputError(flag + " " + target.string() + ": expected the name of a file");
  }
  try {
    const fs::path end = linked_target(target);
    std::error_code ignored;
    if (const fs::path folder = folder_of(end); !fs::is_directory(folder, ignored)) {
      throw InputError(target.string() + ": there is no folder " + folder.string());
    }
    const fs::file_status status = fs::status(end, ignored);
    if (fs::is_directory(status)) {
      throw InputError(target.string() + ": is a folder, expected the name of a file");
    }
    if (fs::exists(status) && !fs::is_regular_file(status)) {
      throw InputError(target.string() + ": exists and is not a regular file");
    }
    check_name(end);
    const PendingFile probe(end);
  } catch (const InputError& error) {
    throw InputError(flag + " " + error.what());
  }
}

void check_name(const fs::path& target) {
  const size_t bytes = target.filename().string().size(), longest = longest_name(folder_of(target));
  if (bytes > longest) {
    throw InputError(target.string() + ": found a name of " + std::to_string(bytes) +
                     " bytes, expected at most " + std::to_string(longest));
  }
}

fs::path linked_target(const fs::path& target) {
  constexpr int kMostLinks = 40;  // as Linux has it
  fs::path path = target;
  std::error_code error;
  for (int i = 0; i < kMostLinks; ++i) {
    if (!fs::is_symlink(fs::symlink_status(path, error))) {
      return path;
    }
    const fs::path next = fs::read_symlink(path, error);
    path = next.is_absolute() ? next : path.parent_path() / next;
  }
  throw InputError(target.string() + ": found a symbolic link that leads to no end");
}

LockedEntry::LockedEntry(const fs::path& target, const std::string& suffix, Kind kind)
    : target_(linked_target(target)),
      path_(hidden_path(target_, suffix)),
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
  const fs::path end = linked_target(target);
  if (::rename(file.c_str(), end.c_str()) == 0) {
    return;
  }
  if (errno != EXDEV) {
    fail(target, "rename the finished file", errno);
  }
  PendingFile copy(end);
  std::error_code error;
  if (!fs::copy_file(file, copy.path(), fs::copy_options::overwrite_existing, error)) {
    fail(target, "copy the finished file", error.value());
  }
  copy.commit();
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
    check_name(target);
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
