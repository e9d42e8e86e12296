// The keys that open the API, kept as digests, and how often each may ask for a video.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace ospnext {

// The digests of keys and their names.
class KeyRing {
 public:
  KeyRing() = default;  // without keys, everybody may come in
  // A line of the file is a name and the SHA-256 of the key in hexadecimal digits, as
  // new_key_line() makes it; empty lines and those that begin with # are skipped. Throws InputError
  // for another line, a name twice, or a file without keys.
  explicit KeyRing(const std::filesystem::path& file);

  bool is_empty() const { return keys_.empty(); }
  // The name of the key of an Authorization header ("Bearer KEY"), or nothing. Without keys: "".
  std::optional<std::string> owner_of(const std::string& authorization) const;

 private:
  struct Key {
    std::string name, digest;
  };
  std::vector<Key> keys_;
};

// A new random key and the line for it.
struct NewKey {
  std::string key, line;
};
// Throws InputError for a name that is no word.
NewKey new_key(const std::string& name);

// Lets each name do something `per_minute` times a minute, and so many at once.
class RateLimit {
 public:
  using Clock = std::function<int64_t()>;  // milliseconds
  RateLimit(int64_t per_minute, Clock clock) : per_minute_(per_minute), clock_(std::move(clock)) {}

  // Counts one. Returns the seconds to wait if it is too early, else 0. Without a limit (0): 0.
  int64_t take(const std::string& name);

 private:
  struct Bucket {
    double left = 0;
    int64_t filled_ms = 0;
  };
  int64_t per_minute_;
  Clock clock_;
  std::mutex mutex_;
  std::map<std::string, Bucket> buckets_;  // names are those of keys, so they are few
};

}  // namespace ospnext
