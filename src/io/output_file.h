// Files that appear under their name only when they are complete.
#pragma once

#include <filesystem>
#include <string>

namespace ospnext {

// Throws InputError beginning with "`flag` `target`: " unless a file can be written at `target`: its
// folder exists and takes new files, and nothing but a regular file has the name. Leaves nothing.
void check_writable(const std::filesystem::path& target, const std::string& flag);

// A name beside the target to write to; commit() gives the file its name, and without commit() the
// destructor removes it.
class PendingFile {
 public:
  // Creates an empty file. Throws InputError when the place cannot be written to.
  explicit PendingFile(std::filesystem::path target);
  ~PendingFile();
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::filesystem::path& target() const { return target_; }
  // Flushes the file to disk and renames it over the target. Throws RunError.
  void commit();

 private:
  std::filesystem::path target_;
  std::filesystem::path path_;  // empty once committed
};

// A folder beside the target to write files to; commit() gives it its name, and without commit() the
// destructor removes it with all that is in it.
class PendingFolder {
 public:
  // Creates an empty folder. Throws InputError, beginning with `flag`, when the place cannot be written
  // to, or when the target exists and is not an empty folder.
  PendingFolder(std::filesystem::path target, const std::string& flag);
  ~PendingFolder();
  PendingFolder(const PendingFolder&) = delete;
  PendingFolder& operator=(const PendingFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  // Renames the folder to the target. Throws RunError, also when something has the name by now.
  void commit();

 private:
  std::filesystem::path target_;
  std::filesystem::path path_;  // empty once committed
};

// Writes `text` as a whole file, by way of a PendingFile. Throws InputError or RunError.
void write_text_file(const std::filesystem::path& target, const std::string& text);

}  // namespace ospnext
