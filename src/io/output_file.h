// Files that get their name only when they are complete, and that only one program writes at a
// time.
//
// Until then a file is a hidden ".NAME.part" in the same folder, locked (flock) by the program that
// writes it. A killed program leaves this file without a lock; the next program removes it. A
// symbolic link is followed: its target is written, and the hidden file lies beside the target.
#pragma once

#include <filesystem>
#include <iosfwd>
#include <string>

namespace ospnext {

// Throws InputError beginning with "`flag` `target`: " unless a file can be written at `target`:
// its folder exists and takes new files of such a name, no folder or device has the name, and no
// other program is writing it. Leaves nothing behind.
void check_writable(const std::filesystem::path& target, const std::string& flag);

// Throws InputError beginning with "`target`: " when the name is longer than its file system
// allows.
void check_name(const std::filesystem::path& target);

// `target` itself, or the target of the symbolic link with this name, whether it exists or not.
// Throws InputError for links without end.
std::filesystem::path linked_target(const std::filesystem::path& target);

// A hidden entry beside a target, locked by this program as long as the object lives. The
// destructor removes it.
class LockedEntry {
 public:
  enum class Kind { kFile, kFolder };
  // Creates an empty ".NAME`suffix`" beside linked_target(target), NAME cut where the whole would
  // be too long. Throws InputError when the place cannot be written to, or when another program
  // holds the entry and keeps it for a second.
  LockedEntry(const std::filesystem::path& target, const std::string& suffix, Kind kind);
  ~LockedEntry();
  LockedEntry(const LockedEntry&) = delete;
  LockedEntry& operator=(const LockedEntry&) = delete;

  const std::filesystem::path& path() const { return path_; }
  // Where the link leads, if it was one.
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
  explicit PendingFile(const std::filesystem::path& target)
      : entry_(target, ".part", LockedEntry::Kind::kFile) {}

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
  explicit PendingFolder(const std::filesystem::path& target)
      : entry_(target, ".part", LockedEntry::Kind::kFolder) {}

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
  // `output` names the set. Throws InputError as LockedEntry does.
  explicit OutputLock(const std::filesystem::path& output)
      : entry_(output, ".lock", LockedEntry::Kind::kFile) {}

 private:
  LockedEntry entry_;
};

// Flushes `file` to disk. Throws RunError with the name `target`.
void flush_file(const std::filesystem::path& file, const std::filesystem::path& target);
// Renames `file` to linked_target(target), or copies it where that is on another file system.
// Throws RunError naming the target.
void move_file(const std::filesystem::path& file, const std::filesystem::path& target);

// Throws RunError "TARGET: cannot write: REASON" if `stream` has failed. Call it right after
// writing.
void check_written(const std::ostream& stream, const std::filesystem::path& target);

// Writes `text` as a whole file through a PendingFile. Throws InputError or RunError.
void write_text_file(const std::filesystem::path& target, const std::string& text);

}  // namespace ospnext
