// Reads event files back: record by record here, and with TensorBoard itself where that is
// installed.
#include "train/event_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <tuple>

#include "core/error.h"
#include "support/paths.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using Scalars = std::vector<std::pair<std::string, double>>;

template <class Number>
Number reversed_bits(Number value) {
  Number reversed = 0;
  for (size_t i = 0; i < 8 * sizeof value; ++i) {
    reversed = static_cast<Number>(reversed << 1 | (value >> i & 1));
  }
  return reversed;
}

// CRC-32C as the remainder of a division of polynomials, the highest power first. The writer
// computes it the other way round.
uint32_t crc32c(const std::string& data) {
  uint32_t remainder = 0xFFFFFFFF;
  for (const char byte : data) {
    remainder ^= uint32_t{reversed_bits(static_cast<uint8_t>(byte))} << 24;
    for (int bit = 0; bit < 8; ++bit) {
      const bool divides = remainder >> 31 != 0;
      remainder = remainder << 1 ^ (divides ? 0x1EDC6F41 : 0);
    }
  }
  return ~reversed_bits(remainder);
}

uint32_t masked(uint32_t crc) {
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8;
}

// The bytes of a file or a message that have not been read yet.
struct Bytes {
  std::string left;

  std::string take(size_t count) {
    EXPECT_LE(count, left.size());
    const std::string taken = left.substr(0, count);
    left.erase(0, count);
    return taken;
  }
  template <class Number>
  Number number() {
    Number value = 0;
    const std::string taken = take(sizeof value);
    std::memcpy(&value, taken.data(), taken.size());
    return value;
  }
  uint64_t varint() {
    uint64_t value = 0, byte = 0x80;
    for (int shift = 0; byte >= 0x80; shift += 7) {
      byte = number<uint8_t>();
      value |= (byte & 0x7F) << shift;
    }
    return value;
  }
};

// A message of protobuf, its values as they stand in the file.
std::vector<std::pair<uint64_t, std::string>> fields(const std::string& message) {
  std::vector<std::pair<uint64_t, std::string>> fields;
  for (Bytes bytes{message}; !bytes.left.empty() && !testing::Test::HasFailure();) {
    const uint64_t key = bytes.varint();
    std::string value;
    switch (key & 7) {
      case 0: {
        const std::string before = bytes.left;
        bytes.varint();
        value = before.substr(0, before.size() - bytes.left.size());
        break;
      }
      case 1:
        value = bytes.take(8);
        break;
      case 2:
        value = bytes.take(bytes.varint());
        break;
      case 5:
        value = bytes.take(4);
        break;
      default:
        ADD_FAILURE() << "wire type " << (key & 7);
    }
    fields.emplace_back(key >> 3, value);
  }
  return fields;
}

struct Event {
  double wall_time = 0;
  int64_t step = -1;
  std::string file_version;
  std::string session_log;
  std::vector<std::pair<std::string, float>> scalars;
};

Event parsed_event(const std::string& message) {
  Event event;
  for (const auto& [field, value] : fields(message)) {
    if (field == 1) {
      event.wall_time = Bytes{value}.number<double>();
    } else if (field == 2) {
      event.step = static_cast<int64_t>(Bytes{value}.varint());
    } else if (field == 3) {
      event.file_version = value;
    } else if (field == 7) {
      event.session_log = value;
    } else {
      EXPECT_EQ(field, 5U);
      for (const auto& [one, scalar] : fields(value)) {
        const auto parts = fields(scalar);
        EXPECT_EQ(one, 1U);
        EXPECT_EQ(parts.size(), 2U);
        EXPECT_EQ(parts.front().first, 1U);
        EXPECT_EQ(parts.back().first, 2U);
        event.scalars.emplace_back(parts.front().second,
                                   Bytes{parts.back().second}.number<float>());
      }
    }
  }
  return event;
}

std::vector<Event> read_events(const fs::path& file) {
  std::vector<Event> events;
  for (Bytes bytes{file_text(file)}; !bytes.left.empty() && !testing::Test::HasFailure();) {
    const std::string length = bytes.take(8);
    EXPECT_EQ(bytes.number<uint32_t>(), masked(crc32c(length)));
    const std::string data = bytes.take(Bytes{length}.number<uint64_t>());
    EXPECT_EQ(bytes.number<uint32_t>(), masked(crc32c(data)));
    events.push_back(parsed_event(data));
  }
  return events;
}

TEST(EventFile, ChecksumOfTheTestIsCrc32c) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283);
}

TEST(EventFile, BeginsWithItsVersionAndAStartOfSessionAfterTheStepsDone) {
  const TemporaryFolder folder;
  const EventFile file(folder.path(), /*first_step=*/20);
  const std::vector<Event> events = read_events(folder / folder.names().at(0));
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].file_version, "brain.Event:2");
  EXPECT_EQ(events[0].step, 0);
  EXPECT_GT(events[0].wall_time, 1.7e9);  // seconds: after 2023
  EXPECT_LT(events[0].wall_time, 1.7e10);
  EXPECT_EQ(events[1].session_log, "\x08\x01");  // field 1, status: 1, START
  EXPECT_EQ(events[1].step, 21);
}

TEST(EventFile, HasEveryPointOnDiskAfterEachAdd) {
  const TemporaryFolder folder;
  EventFile file(folder.path(), 0);
  const std::string name = folder.names().at(0);
  const std::string long_tag = std::string(300, 'x') + "/µ";  // its length takes two bytes
  const std::vector<std::tuple<int64_t, double, Scalars>> points = {
      {1, 1000.25, {{"loss", 0.1}, {"gradient_norm", -3e-20}}},
      {300, 1001.5, {{"loss", 1e300}}},
      {(int64_t{1} << 40) + 5, 1e9, {{long_tag, 0.0}}},
      {400, 2.0, {}},
  };
  for (size_t i = 0; i < points.size(); ++i) {
    const auto& [step, wall_time, scalars] = points[i];
    file.add(step, wall_time, scalars);
    const std::vector<Event> events = read_events(folder / name);
    ASSERT_EQ(events.size(), 3 + i);
    EXPECT_EQ(events.back().step, step);
    EXPECT_EQ(events.back().wall_time, wall_time);
    ASSERT_EQ(events.back().scalars.size(), scalars.size());
    for (size_t k = 0; k < scalars.size(); ++k) {
      EXPECT_EQ(events.back().scalars[k].first, scalars[k].first);
      EXPECT_EQ(events.back().scalars[k].second, static_cast<float>(scalars[k].second));
    }
  }
}

TEST(EventFile, OfTheSameSecondGetsALaterName) {
  const TemporaryFolder folder;
  std::vector<std::string> names;
  for (int i = 0; i < 3; ++i) {
    const EventFile file(folder.path(), i);
    const std::vector<std::string> all = folder.names();
    ASSERT_EQ(all.size(), names.size() + 1);
    EXPECT_TRUE(std::equal(names.begin(), names.end(), all.begin()));  // the new one is the last
    names = all;
  }
  EXPECT_EQ(names[0].rfind("events.out.tfevents.", 0), 0U) << names[0];
}

TEST(EventFile, SaysThatItCannotBeWritten) {
  const TemporaryFolder folder;
  const auto message = [](auto&& action) -> std::string {
    try {
      action();
    } catch (const RunError& error) {
      return error.what();
    }
    return "";
  };
  const std::string missing = message([&] { EventFile(folder / "missing", 0); });
  EXPECT_NE(missing.find("missing/events.out.tfevents."), std::string::npos) << missing;
  EXPECT_NE(missing.find("No such file or directory"), std::string::npos) << missing;

  EventFile file(folder.path(), 0);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small = {100, before.rlim_max};  // bytes; the file has more already
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string full = message([&] { file.add(1, 1.0, {{"loss", 0.5}}); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_NE(full.find("File too large"), std::string::npos) << full;
}

// A run that was killed while it wrote a record after step 40 goes on from its checkpoint at step
// 20.
TEST(EventFile, TensorBoardReadsItAndDiscardsWhatAResumedRunDoesAgain) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "events");
  EventFile killed(folder / "events", 0);
  for (const int step : {10, 20, 30, 40}) {
    killed.add(step, 1000 + step, {{"loss", 1.0 / step}, {"only_before", 7}});
  }
  for (const auto& entry : fs::directory_iterator(folder / "events")) {
    std::ofstream(entry.path(), std::ios::app) << "half a record";
  }
  EventFile resumed(folder / "events", 20);
  resumed.add(25, 2000.25, {{"loss", -0.5}});
  resumed.add(35, 2001.75, {{"loss", 0.25}});

  const char* python = std::getenv("OSPNEXT_PYTHON");
  const std::string command = std::string(python ? python : "python3") + " '" +
                              source_path("tests/tools/print_events.py") + "' '" +
                              (folder / "events").string() + "' > '" + (folder / "out").string() +
                              "' 2> '" + (folder / "err").string() + "'";
  const int status = std::system(command.c_str());
  if (WIFEXITED(status) && (WEXITSTATUS(status) == 77 || WEXITSTATUS(status) == 127)) {
    GTEST_SKIP() << "needs a Python (`python3`, or that of the variable OSPNEXT_PYTHON) with "
                    "tools/requirements-tensorboard.txt";
  }
  EXPECT_EQ(status, 0) << file_text(folder / "err");
  EXPECT_EQ(file_text(folder / "out"),
            "loss 10 1010.0 0.10000000149011612\n"
            "loss 20 1020.0 0.05000000074505806\n"
            "loss 25 2000.25 -0.5\n"
            "loss 35 2001.75 0.25\n"
            "only_before 10 1010.0 7.0\n"
            "only_before 20 1020.0 7.0\n");
}

}  // namespace
}  // namespace ospnext
