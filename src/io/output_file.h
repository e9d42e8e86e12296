// Files that get their name only when they are complete, and that only one program writes at a
// time.
//
// Data is first written to a hidden ".NAME.part" in the same folder. The writing program locks it
// (flock). If a program is killed, its file stays without a lock, and the next program removes it.
#pragma once

#include <filesystem>
#include <iosfwd>
#include <string>
#include <utility>

namespace ospnext {

// Throws InputError, beginning with "`flag` `target`: ", unless a file can be written at `target`:
// its folder exists and accepts new files, the name is free or belongs to a regular file, and no
// other program is writing it. Leaves no file.
void check_writable(const std::filesystem::path& target, const std::string& flag);

// A hidden file or folder beside a target, locked by this program while the object exists. The
// destructor removes it.
class LockedEntry {
 public:
  enum class Kind { kFile, kFolder };
  // Creates an empty ".NAME`suffix`" beside `target`. Throws InputError if the location is not
  // writable, or if another program holds the entry for more than a second.
  LockedEntry(std::filesystem::path target, const std::string& suffix, Kind kind);
  ~LockedEntry();
  LockedEntry(const LockedEntry&) = delete;
  LockedEntry& operator=(const LockedEntry&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::filesystem::path& target() const { return target_; }
  // Flushes the file to disk. Throws RunError.
  void flush() const;
  // Renames the entry to the target and replaces an existing target. Throws RunError.
  void move_to_target();

 private:
  std::filesystem::path target_;
  std::filesystem::path path_;  // empty after the move
  Kind kind_;
  int descriptor_ = -1;
};

// A hidden file beside the target. commit() renames it to the target; without commit() the
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
  // Flushes the written data to disk, so that commit() can hardly fail any more. Throws RunError.
  void flush() const { entry_.flush(); }
  // Flushes the file and renames it to the target. Throws RunError.
  void commit() {
    flush();
    entry_.move_to_target();
  }

 private:
  LockedEntry entry_;
};

// A hidden folder beside the target. commit() renames it to the target; without commit() the
// destructor removes it with its contents.
class PendingFolder {
 public:
  // Creates an empty folder. Throws InputError as LockedEntry does.
  explicit PendingFolder(std::filesystem::path target)
      : entry_(std::move(target), ".part", LockedEntry::Kind::kFolder) {}

  const std::filesystem::path& path() const { return entry_.path(); }
  // Renames the folder to the target. Throws RunError, also if the name has been taken meanwhile.
  void commit() { entry_.move_to_target(); }

 private:
  LockedEntry entry_;
};

// Returns `target` without a trailing slash. Throws InputError, beginning with `flag`, if the
// location is not writable, or if the target exists and is not an empty folder. Leaves nothing
// behind.
std::filesystem::path new_folder(std::filesystem::path target, const std::string& flag);

// Prevents other programs from writing the same set of outputs while this one computes.
class OutputLock {
 public:
  // `output` identifies the set. Throws InputError as LockedEntry does.
  explicit OutputLock(std::filesystem::path output)
      : entry_(std::move(output), ".lock", LockedEntry::Kind::kFile) {}

 private:
  LockedEntry entry_;
};

// Flushes `file` to disk. Throws RunError with the name `target`.
void flush_file(const std::filesystem::path& file, const std::filesystem::path& target);
// Renames `file` to `target`. Throws RunError with the name `target`.
void move_file(const std::filesystem::path& file, const std::filesystem::path& target);

// Throws RunError "TARGET: cannot write: REASON" if `stream` has failed. Call it right after
// writing.
void check_written(const std::ostream& stream, const std::filesystem::path& target);

// Writes `text` as a whole file through a PendingFile. Throws InputError or RunError.
void write_text_file(const std::filesystem::path& target, const std::string& text);

}  // namespace ospnext
