// Output of `profile`: the table and the trace.
#include <algorithm>
#include <cstdio>
#include <limits>
#include <list>
#include <nlohmann/json.hpp>

#include "engine/profile.h"
#include "io/output_file.h"

namespace ospnext {
namespace {

using nlohmann::json;

// Spans with the same name in the same place, and the places inside.
struct Place {
  struct Sum {
    int64_t calls = 0, bytes = 0, nanoseconds = 0;
  };
  SpanKind kind = SpanKind::kStage;
  std::string name = {};
  Place* outer = nullptr;
  std::vector<Sum> of_rank = {};
  std::list<Place> inner = {};  // in order of first appearance

  Place& in(SpanKind wanted, const std::string& wanted_name) {
    for (Place& one : inner) {
      if (one.kind == wanted && one.name == wanted_name) {
        return one;
      }
    }
    inner.push_back({.kind = wanted,
                     .name = wanted_name,
                     .outer = this,
                     .of_rank = std::vector<Sum>(of_rank.size())});
    return inner.back();
  }

  double seconds(size_t rank) const { return static_cast<double>(of_rank[rank].nanoseconds) / 1e9; }
  // Seconds of all places inside.
  double inner_seconds(size_t rank) const {
    double sum = 0;
    for (const Place& one : inner) {
      sum += one.seconds(rank);
    }
    return sum;
  }
};

void add_spans(const std::vector<SpanRecord>& records, size_t rank, Place& root) {
  std::vector<Place*> places;  // of each record: its own, or the parent of inner ones
  for (const SpanRecord& one : records) {
    Place* place = one.parent < 0 ? &root : places[one.parent];
    if (one.kind == SpanKind::kExchange && place->kind == SpanKind::kPart) {
      place = place->outer;  // belongs to the block, not to the part
    }
    if (one.kind != SpanKind::kStep && one.kind != SpanKind::kPass &&
        one.kind != SpanKind::kKernel) {
      place = &place->in(one.kind, one.name);
      Place::Sum& sum = place->of_rank[rank];
      ++sum.calls;
      sum.bytes += one.bytes;
      sum.nanoseconds += one.end - one.begin;
    }
    places.push_back(place);
  }
}

// Adds the rows of a place and of all places inside it. `whole`: the seconds that its share refers
// to.
void add_rows(const Place& place, int64_t depth, double whole, std::vector<ProfileRow>& rows) {
  const auto add = [&](ProfileRow row, double all, const auto& seconds) {
    row.seconds = seconds(0);
    row.share = all == 0 ? 0 : row.seconds / all;
    for (size_t rank = 0; rank < place.of_rank.size(); ++rank) {
      row.most_seconds = std::max(row.most_seconds, seconds(rank));
    }
    rows.push_back(row);
  };
  const Place::Sum& first = place.of_rank.front();
  add({.depth = depth,
       .kind = place.kind,
       .name = place.name,
       .calls = first.calls,
       .bytes = first.bytes},
      whole, [&](size_t rank) { return place.seconds(rank); });
  const double inside = depth == 0 ? place.seconds(0) : whole;
  for (const Place& one : place.inner) {
    add_rows(one, depth + 1, inside, rows);
  }
  if (depth == 0 && !place.inner.empty()) {
    add({.depth = 1, .kind = SpanKind::kBlock, .name = "the rest"}, inside,
        [&](size_t rank) { return place.seconds(rank) - place.inner_seconds(rank); });
  }
}

const char* category(SpanKind kind) {
  switch (kind) {
    case SpanKind::kStage:
      return "stage";
    case SpanKind::kStep:
      return "step";
    case SpanKind::kPass:
      return "pass";
    case SpanKind::kBlock:
      return "block";
    case SpanKind::kPart:
      return "part";
    case SpanKind::kExchange:
      return "exchange";
    case SpanKind::kKernel:
      return "kernel";
  }
  return "";
}

}  // namespace

std::vector<ProfileRow> profile_rows(const SpansOfRanks& ranks) {
  Place root{.of_rank = std::vector<Place::Sum>(ranks.size())};
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    add_spans(ranks[rank], rank, root);
  }
  std::vector<ProfileRow> rows;
  for (const Place& stage : root.inner) {
    add_rows(stage, 0, root.inner_seconds(0), rows);
  }
  return rows;
}

std::string profile_table(const SpansOfRanks& ranks) {
  constexpr double kMega = 1e6;
  const bool several = ranks.size() > 1;
  std::string table = several ? "        s   at most    share    calls   MB sent\n"
                              : "        s    share    calls\n";
  const auto cell = [&](const char* format, auto value) {
    char text[32];
    std::snprintf(text, sizeof text, format, value);
    table += text;
  };
  for (const ProfileRow& row : profile_rows(ranks)) {
    cell("%9.3f", row.seconds);
    if (several) {
      cell("%10.3f", row.most_seconds);
    }
    cell("%7.1f %%", 100 * row.share);
    cell("%9s", row.calls == 0 ? "" : std::to_string(row.calls).c_str());
    if (several && row.kind == SpanKind::kExchange) {
      cell("%10.2f", static_cast<double>(row.bytes) / kMega);
    } else if (several) {
      cell("%10s", "");
    }
    table.append(2 + 2 * row.depth, ' ');
    table += row.kind == SpanKind::kExchange ? "exchange \"" + row.name + "\"" : row.name;
    table += "\n";
  }
  return table;
}

std::string chrome_trace(const SpansOfRanks& ranks) {
  constexpr double kMicroseconds = 1e3;  // nanoseconds per microsecond
  int64_t first = std::numeric_limits<int64_t>::max();
  for (const auto& records : ranks) {
    for (const SpanRecord& one : records) {
      first = std::min(first, one.begin);
    }
  }
  const auto microseconds = [&](int64_t time) { return static_cast<double>(time) / kMicroseconds; };
  json events = json::array();
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    events.push_back({{"ph", "M"},
                      {"name", "process_name"},
                      {"pid", rank},
                      {"args", {{"name", "rank " + std::to_string(rank)}}}});
    for (const SpanRecord& one : ranks[rank]) {
      json event = {{"ph", "X"},
                    {"cat", category(one.kind)},
                    {"name", one.name},
                    {"pid", rank},
                    {"tid", one.kind == SpanKind::kKernel ? 1 : 0},
                    {"ts", microseconds(one.begin - first)},
                    {"dur", microseconds(one.end - one.begin)}};
      if (one.number >= 0) {
        event["args"]["number"] = one.number;
      }
      if (one.kind == SpanKind::kExchange) {
        event["args"]["bytes"] = one.bytes;
      }
      events.push_back(std::move(event));
    }
  }
  return json({{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}}).dump();
}

void report_profile(const SpansOfRanks& ranks, const std::filesystem::path& trace,
                    std::ostream& out) {
  if (!ranks.empty()) {
    out << profile_table(ranks) << std::flush;
    write_text_file(trace, chrome_trace(ranks));
  }
}

}  // namespace ospnext
