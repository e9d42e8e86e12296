// `--profile`: where the time of a run of the pipeline went.
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

// Each rank's spans.
using SpansOfRanks = std::vector<std::vector<SpanRecord>>;

// Makes spans of a run's stages, for others to add what lies inside; and on a GPU of the kernels that run from the end
// of the first step of denoising to that of the third.
class Profile final : public StageWatcher {
 public:
  explicit Profile(at::Device device) : device_(device), spans_(device) {}

  Spans& spans() { return spans_; }
  // All, kernels last, once the stages have ended.
  std::vector<SpanRecord> records();

  void began(const std::string& stage) override;
  void stepped(const std::string& stage) override;
  void ended(const std::string& stage, double seconds) override;

 private:
  void stop_trace();

  const at::Device device_;
  Spans spans_;
  int64_t steps_ = 0;  // of denoising that are done
  std::optional<GpuTrace> trace_;
  std::vector<SpanRecord> kernels_;
};

// What each rank recorded, on rank 0; on the others nothing. Called by all, who wait for the last to come; what they
// exchange travels by `device`.
SpansOfRanks gather_spans(const std::vector<SpanRecord>& own, World& world, at::Device device);

// What the spans of one name in one place come to: a stage, a block in it, a part or an exchange in that, or the rest
// of a stage outside of all these.
struct ProfileRow {
  int64_t depth = 0;  // 0: a stage
  SpanKind kind = SpanKind::kStage;
  std::string name = {};
  int64_t calls = 0, bytes = 0;          // rank 0's; bytes it sent to others
  double seconds = 0, most_seconds = 0;  // rank 0's; of the rank with the most
  double share = 0;  // of rank 0's seconds of the stage; of a stage: of all stages
};

// Stage by stage; spans of steps and passes count as what lies in them.
std::vector<ProfileRow> profile_rows(const SpansOfRanks& ranks);
std::string profile_table(const SpansOfRanks& ranks);

// JSON for chrome://tracing and Perfetto ("Trace Event Format"): a process a rank, its kernels in a thread of their own.
std::string chrome_trace(const SpansOfRanks& ranks);

// Prints the table to `out` and writes the trace; of no ranks neither. Throws InputError or RunError.
void report_profile(const SpansOfRanks& ranks, const std::filesystem::path& trace,
                    std::ostream& out);

}  // namespace ospnext
