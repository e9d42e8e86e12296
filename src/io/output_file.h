// Files that appear under their name only when they are complete, and are written by one program at a
// time.
//
// What is being written lies beside its place as a hidden ".NAME.part", locked (flock) by the program
// that writes it. A program that is killed leaves that file and no lock; the next one clears it away.
#pragma once

#include <filesystem>
#include <iosfwd>
#include <string>
#include <utility>

namespace ospnext {

// Throws InputError beginning with "`flag` `target`: " unless a file can be written at `target`: its
// folder exists and takes new files, nothing but a regular file has the name, and no other program is
// writing it. Leaves nothing.
void check_writable(const std::filesystem::path& target, const std::string& flag);

// A hidden entry beside a target, locked by this program as long as the object lives; the destructor
// removes it.
class LockedEntry {
 public:
  enum class Kind { kFile, kFolder };
  // Creates an empty ".NAME`suffix`" beside `target`. Throws InputError when the place cannot be written
  // to, or when another program holds the entry and keeps it for a second.
  LockedEntry(std::filesystem::path target, const std::string& suffix, Kind kind);
  ~LockedEntry();
  LockedEntry(const LockedEntry&) = delete;
  LockedEntry& operator=(const LockedEntry&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::filesystem::path& target() const { return target_; }
  // Flushes a file to disk. Throws RunError.
  void flush() const;
  // Renames it over the target. Throws RunError.
  void move_to_target();

 private:
  std::filesystem::path target_;
  std::filesystem::path path_;  // empty once moved
  Kind kind_;
  int descriptor_ = -1;
};

// A name beside the target to write to; commit() gives the file its name, and without commit() the
// destructor removes it.
class PendingFile {
 public:
  // Creates an empty file. Throws InputError as LockedEntry does.
  explicit PendingFile(std::filesystem::path target)
      : entry_(std::move(target), ".part", LockedEntry::Kind::kFile) {}

  const std::filesystem::path& path() const { return entry_.path(); }
  const std::filesystem::path& target() const { return entry_.target(); }
  // Makes `text` the whole content. Throws RunError.
  void write(const std::string& text) const;
  // Flushes what was written to disk, so that commit() has nothing left to fail for. Throws RunError.
  void flush() const { entry_.flush(); }
  // Flushes the file and renames it over the target. Throws RunError.
  void commit() {
    flush();
    entry_.move_to_target();
  }

 private:
  LockedEntry entry_;
};

// A hidden folder beside the target; commit() gives it the target's name, and without commit() the
// destructor removes it with all that is still in it.
class PendingFolder {
 public:
  // Creates an empty folder. Throws InputError as LockedEntry does.
  explicit PendingFolder(std::filesystem::path target)
      : entry_(std::move(target), ".part", LockedEntry::Kind::kFolder) {}

  const std::filesystem::path& path() const { return entry_.path(); }
  // Renames the folder to the target. Throws RunError, also when something has the name by now.
  void commit() { entry_.move_to_target(); }

 private:
  LockedEntry entry_;
};

// `target` without a closing slash. Throws InputError, beginning with `flag`, when the place cannot be
// written to, or when the target exists and is not an empty folder. Leaves nothing.
std::filesystem::path new_folder(std::filesystem::path target, const std::string& flag);

// Keeps other programs from writing the same set of outputs while this one computes.
class OutputLock {
 public:
  // `output` names the set. Throws InputError as LockedEntry does.
  explicit OutputLock(std::filesystem::path output)
      : entry_(std::move(output), ".lock", LockedEntry::Kind::kFile) {}

 private:
  LockedEntry entry_;
};

// Flushes `file` to disk. Throws RunError naming the target it is for.
void flush_file(const std::filesystem::path& file, const std::filesystem::path& target);
// Renames `file` to `target`. Throws RunError naming the target.
void move_file(const std::filesystem::path& file, const std::filesystem::path& target);

// Throws RunError "TARGET: cannot write: REASON" when `stream` has failed; call right after writing.
void check_written(const std::ostream& stream, const std::filesystem::path& target);

// Writes `text` as a whole file, by way of a PendingFile. Throws InputError or RunError.
void write_text_file(const std::filesystem::path& target, const std::string& text);

}  // namespace ospnext
