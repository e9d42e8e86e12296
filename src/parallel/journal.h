// A process's record of its collectives: its position, which other processes can read, and its
// traffic.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "core/torch/spans.h"

namespace ospnext {

// The collectives of one rank with one purpose.
struct Traffic {
  int64_t calls = 0;
  int64_t bytes = 0;   // sent by this rank to other ranks
  double seconds = 0;  // spent in calls, including the wait for other ranks
};

class Journal {
 public:
  // Set the position that position() prints. Steps and blocks count from 0.
  void at_step(int64_t step) {
    decodes_ = false;
    step_ = step;
  }
  void at_block(int64_t block) { block_ = block; }
  void at_decoding() { decodes_ = true; }

  // Mark the start and the end of a collective; `purpose` is a string literal. A synchronous one
  // calls begin() and end(). An asynchronous one calls start() and leave() when it is started, then
  // begin() and end() around the wait for its result.
  void start(const char* purpose) {
    waits_in_ = purpose;
    began_ = Clock::now();
  }
  void begin(const char* purpose) {
    start(purpose);
    if (spans_ != nullptr) {
      spans_->begin(SpanKind::kExchange, purpose);
    }
  }
  void leave(const char* purpose) {
    traffic_[purpose].seconds += std::chrono::duration<double>(Clock::now() - began_).count();
    waits_in_ = nullptr;
  }
  void end(const char* purpose, int64_t bytes) {
    if (spans_ != nullptr) {
      spans_->end(bytes);
    }
    Traffic& traffic = traffic_[purpose];
    ++traffic.calls;
    traffic.bytes += bytes;
    leave(purpose);
    ++collectives_;
  }

  // The traffic by purpose. Only for the thread that calls the collectives.
  const std::map<std::string, Traffic>& traffic() const { return traffic_; }
  void forget_traffic() { traffic_.clear(); }
  // From now on records each collective in `spans` too, which must outlive this journal's use. Only
  // for the thread that calls the collectives.
  void record_to(Spans& spans) { spans_ = &spans; }

  // The following are safe on any thread. collectives() counts finished collectives; waits() says
  // whether this process is inside one.
  int64_t collectives() const { return collectives_; }
  bool waits() const { return waits_in_ != nullptr; }
  // "step 3, block 5, in the exchange "switch"", "the decoding", or "the start".
  std::string position() const {
    std::string text = step_ < 0 ? "the start" : "step " + std::to_string(step_ + 1);
    if (decodes_) {
      text = "the decoding";
    } else if (block_ >= 0) {
      text += ", block " + std::to_string(block_);
    }
    const char* const purpose = waits_in_;
    if (purpose != nullptr) {
      text += std::string(", in the exchange \"") + purpose + "\"";
    }
    return text;
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::atomic<int64_t> step_{-1}, block_{-1}, collectives_{0};
  std::atomic<bool> decodes_{false};
  std::atomic<const char*> waits_in_{nullptr};
  Clock::time_point began_;
  std::map<std::string, Traffic> traffic_;
  Spans* spans_ = nullptr;
};

}  // namespace ospnext
