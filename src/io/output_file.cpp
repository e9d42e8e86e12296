#include "io/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>
#include <utility>

#include "core/error.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& target, const std::string& action) {
  throw RunError(target.string() + ": cannot " + action + ": " + std::strerror(errno));
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

PendingFile::PendingFile(fs::path target) : target_(std::move(target)) {
  std::string name = target_.string() + ".XXXXXX";
  const int descriptor = ::mkstemp(name.data());
  if (descriptor < 0) {
    throw InputError(target_.string() + ": cannot write here: " + std::strerror(errno));
  }
  path_ = name;
  const mode_t mask = ::umask(0);
  ::umask(mask);
  ::fchmod(descriptor, 0666 & ~mask);
  ::close(descriptor);
}

PendingFile::~PendingFile() {
  if (!path_.empty()) {
    ::unlink(path_.c_str());
  }
}

void PendingFile::commit() {
  const int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    fail(target_, "finish the file");
  }
  const int flushed = ::fsync(descriptor);
  ::close(descriptor);
  if (flushed != 0) {
    fail(target_, "flush the file to disk");
  }
  if (::rename(path_.c_str(), target_.c_str()) != 0) {
    fail(target_, "rename the finished file");
  }
  path_.clear();
}

PendingFolder::PendingFolder(fs::path target, const std::string& flag)
    : target_(std::move(target)) {
  if (target_.empty()) {
    throw InputError(flag + ": missing, expected the name of a folder");
  }
  if (target_.filename().empty()) {
    target_ = target_.parent_path();  // "folder/"
  }
  const std::string what = flag + " " + target_.string() + ": ";
  std::error_code error;
  const bool is_there = fs::exists(fs::symlink_status(target_, error));
  if (is_there && (!fs::is_directory(fs::symlink_status(target_, error)) ||
                   !fs::is_empty(target_, error) || error)) {
    throw InputError(what + "exists, expected a new or an empty folder");
  }
  std::string name = target_.string() + ".XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) {
    throw InputError(what + "cannot write here: " + std::strerror(errno));
  }
  path_ = name;
  const mode_t mask = ::umask(0);
  ::umask(mask);
  ::chmod(name.c_str(), 0777 & ~mask);
}

PendingFolder::~PendingFolder() {
  if (!path_.empty()) {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
}

void PendingFolder::commit() {
  if (::rename(path_.c_str(), target_.c_str()) != 0) {
    fail(target_, "rename the finished folder");
  }
  path_.clear();
}

void write_text_file(const fs::path& target, const std::string& text) {
  PendingFile file(target);
  std::ofstream out(file.path(), std::ios::binary);
  out << text << std::flush;
  if (!out) {
    fail(target, "write");
  }
  out.close();
  file.commit();
}

}  // namespace ospnext
