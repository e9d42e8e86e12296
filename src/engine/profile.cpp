#include "engine/profile.h"

#include <nlohmann/json.hpp>

namespace ospnext {
namespace {

using nlohmann::json;

std::vector<uint8_t> encoded(const std::vector<SpanRecord>& records) {
  json list = json::array();
  for (const SpanRecord& one : records) {
    list.push_back({static_cast<int>(one.kind), one.name, one.number, one.parent, one.begin,
                    one.end, one.bytes});
  }
  return json::to_cbor(list);
}

std::vector<SpanRecord> decoded(const uint8_t* bytes, int64_t size) {
  std::vector<SpanRecord> records;
  for (const json& one : json::from_cbor(bytes, bytes + size)) {
    records.push_back({.kind = static_cast<SpanKind>(one.at(0).get<int>()),
                       .name = one.at(1),
                       .number = one.at(2),
                       .parent = one.at(3),
                       .begin = one.at(4),
                       .end = one.at(5),
                       .bytes = one.at(6)});
  }
  return records;
}

}  // namespace

void Profile::began(const Stage& stage) {
  spans_.begin(SpanKind::kStage, stage.name, stage.number);
}

void Profile::stepped(const Stage& stage) {
  constexpr int64_t kUntraced = 1, kTraced = 2;  // steps: the first one is a warm-up
  if (stage.kind != Stage::Kind::kDenoise) {
    return;
  }
  ++steps_;
  if (device_.is_cuda() && steps_ == kUntraced) {
    trace_.emplace();
  } else if (steps_ == kUntraced + kTraced) {
    stop_trace();
  }
}

void Profile::ended(const Stage& /*stage*/, double /*seconds*/) {
  stop_trace();
  spans_.end();
}

void Profile::stop_trace() {
  if (trace_) {
    for (const Interval& one : trace_->stop()) {
      kernels_.push_back(
          {.kind = SpanKind::kKernel, .name = one.name, .begin = one.begin, .end = one.end});
    }
    trace_.reset();
  }
}

std::vector<SpanRecord> Profile::records() {
  spans_.settle();
  std::vector<SpanRecord> records = spans_.records();
  records.insert(records.end(), kernels_.begin(), kernels_.end());
  return records;
}

SpansOfRanks gather_spans(const std::vector<SpanRecord>& own, World& world, at::Device device) {
  const ProcessGroup& all = world.all();
  if (all.size() == 1) {
    return {own};
  }
  world.meet();
  const std::vector<uint8_t> bytes = encoded(own);
  const int64_t size = std::ssize(bytes);
  const at::Tensor sizes = all.all_gather(at::tensor({size}, at::kLong).to(device),
                                          std::vector<int64_t>(all.size(), 1), "profile")
                               .to(at::kCPU);
  const int64_t* const size_of = sizes.const_data_ptr<int64_t>();
  std::vector<int64_t> sent(all.size()), received(all.size());
  sent[0] = size;
  if (all.rank() == 0) {
    received.assign(size_of, size_of + all.size());
  }
  const at::Tensor told =
      all.all_to_all(at::tensor(at::ArrayRef<uint8_t>(bytes), at::kByte).to(device), sent, received,
                     "profile")
          .to(at::kCPU);
  SpansOfRanks ranks;
  const uint8_t* next = told.const_data_ptr<uint8_t>();
  for (int rank = 0; all.rank() == 0 && rank < all.size(); ++rank) {
    ranks.push_back(decoded(next, size_of[rank]));
    next += size_of[rank];
  }
  return ranks;
}

}  // namespace ospnext
