// A TensorBoard event file of scalars, written while a training runs.
//
// The file is a sequence of records. A record is the length of its data (8 bytes), a checksum of
// the length, the data, and a checksum of the data. The data is an `Event`, a protobuf message; the
// few fields that are needed are written by hand.
// Source: TensorFlow's tensorflow/core/lib/io/record_writer.h (records), lib/hash/crc32c.h
// (checksums) and core/util/event.proto with core/framework/summary.proto (messages).
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace ospnext {

class EventFile {
 public:
  // Creates events.out.tfevents.SECONDS.HOST in `folder`, which exists. Older event files stay:
  // TensorBoard reads all files of the folder in the order of their names, so SECONDS (since 1970)
  // is the first one from now on whose name is free.
  //
  // `first_step` is the number of steps done before: 0, or the step of the checkpoint. The file
  // begins with a start of session, for which TensorBoard discards what older files say of later
  // steps. It keeps `first_step` itself, as TrainingLog does.
  //
  // Throws RunError when the file cannot be written.
  EventFile(const std::filesystem::path& folder, int64_t first_step);

  // Writes a point (step, value) for each tag (UTF-8) and hands them to the system, so that a
  // killed run keeps them. TensorBoard stores values as float32. `wall_time` is in seconds since
  // 1970. Throws RunError when the file cannot be written.
  void add(int64_t step, double wall_time,
           const std::vector<std::pair<std::string, double>>& scalars);

 private:
  void write_event(int64_t step, double wall_time, const std::string& content);

  std::filesystem::path file_;
  std::ofstream out_;
};

}  // namespace ospnext
