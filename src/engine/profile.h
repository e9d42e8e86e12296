// `profile`: measures how a run of the pipeline spends its time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "core/progress.h"
#include "core/torch/spans.h"
#include "engine/gpu_trace.h"
#include "parallel/world.h"

namespace ospnext {

// The spans of each rank.
using SpansOfRanks = std::vector<std::vector<SpanRecord>>;

// Records a span for each stage of a run; other code adds the spans inside a stage. On a GPU it
// also records the kernels from the end of the first denoising step to the end of the third.
class Profile final : public StageWatcher {
 public:
  explicit Profile(at::Device device) : device_(device), spans_(device) {}

  Spans& spans() { return spans_; }
  // All spans, with kernels last. Call it after the stages have ended.
  std::vector<SpanRecord> records();

  void began(const Stage& stage) override;
  void stepped(const Stage& stage) override;
  void ended(const Stage& stage, double seconds) override;

 private:
  void stop_trace();

  const at::Device device_;
  Spans spans_;
  int64_t steps_ = 0;  // finished denoising steps
  std::optional<GpuTrace> trace_;
  std::vector<SpanRecord> kernels_;
};

// The records of all ranks on rank 0; empty on the others. All ranks call it and wait for the
// slowest. Data is exchanged through memory of `device`.
SpansOfRanks gather_spans(const std::vector<SpanRecord>& own, World& world, at::Device device);

// The sum of all spans with the same name in the same place: a stage, a block in it, a part or an
// exchange in a block, or the rest of a stage outside all of these.
struct ProfileRow {
  int64_t depth = 0;  // 0: a stage
  SpanKind kind = SpanKind::kStage;
  std::string name = {};
  int64_t calls = 0, bytes = 0;          // of rank 0; bytes sent to others
  double seconds = 0, most_seconds = 0;  // of rank 0; of the slowest rank
  double share = 0;  // of rank 0's seconds of the stage; for a stage: of all stages
};

// Rows in order of stages. Spans of steps and passes get no row; their contents count directly.
std::vector<ProfileRow> profile_rows(const SpansOfRanks& ranks);
std::string profile_table(const SpansOfRanks& ranks);

// JSON for chrome://tracing and Perfetto ("Trace Event Format"). Each rank is a process; its
// kernels form a separate thread.
std::string chrome_trace(const SpansOfRanks& ranks);

// Prints the table to `out` and writes the trace file. Does nothing if `ranks` is empty. Throws
// InputError or RunError.
void report_profile(const SpansOfRanks& ranks, const std::filesystem::path& trace,
                    std::ostream& out);

}  // namespace ospnext
