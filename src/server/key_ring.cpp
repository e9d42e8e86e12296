#include "server/key_ring.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <fstream>
#include <sstream>

#include "core/error.h"
#include "server/digest.h"

namespace ospnext {
namespace {

constexpr size_t kDigestDigits = 64;

bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= 64 &&
         std::all_of(text.begin(), text.end(), [](unsigned char letter) {
           return std::isalnum(letter) != 0 || letter == '-' || letter == '_' || letter == '.';
         });
}

bool is_digest(const std::string& text) {
  return text.size() == kDigestDigits &&
         std::all_of(text.begin(), text.end(), [](unsigned char letter) {
           return std::isdigit(letter) != 0 || (letter >= 'a' && letter <= 'f');
         });
}

}  // namespace

KeyRing::KeyRing(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) {
    throw InputError("`keys` " + file.string() + ": cannot read it, expected a file of keys");
  }
  int64_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    std::istringstream words(line);
    std::string name, digest, rest;
    words >> name >> digest >> rest;
    if (name.empty() || name.starts_with('#')) {
      continue;
    }
    const bool is_known =
        std::any_of(keys_.begin(), keys_.end(), [&](const Key& key) { return key.name == name; });
    if (!is_name(name) || !is_digest(digest) || !rest.empty() || is_known) {
      throw InputError(
          "`keys` " + file.string() + " line " + std::to_string(number) +
          (is_known ? ": the name is there twice" : ": expected a name and 64 hexadecimal digits"));
    }
    keys_.push_back({name, digest});
  }
  if (keys_.empty()) {
    throw InputError("`keys` " + file.string() + ": found no key in it");
  }
}

std::optional<std::string> KeyRing::owner_of(const std::string& authorization) const {
  constexpr std::string_view kScheme = "Bearer ";
  if (keys_.empty()) {
    return "";
  }
  if (!authorization.starts_with(kScheme)) {
    return std::nullopt;
  }
  const std::string digest = sha256_hex(std::string_view(authorization).substr(kScheme.size()));
  std::optional<std::string> owner;
  for (const Key& key : keys_) {  // all of them, so that the time does not tell which it was
    if (equal_in_constant_time(key.digest, digest)) {
      owner = key.name;
    }
  }
  return owner;
}

NewKey new_key(const std::string& name) {
  if (!is_name(name)) {
    throw InputError("`new_key`: found \"" + name +
                     "\", expected a name of letters, digits, -, _ and .");
  }
  const std::string key = "osp-" + random_hex(24);
  return {key, name + " " + sha256_hex(key)};
}

int64_t RateLimit::take(const std::string& name) {
  if (per_minute_ == 0) {
    return 0;
  }
  const std::lock_guard lock(mutex_);
  constexpr double kMinuteMs = 60'000;
  const auto most = static_cast<double>(per_minute_);
  const int64_t now = clock_();
  const auto [place, is_new] = buckets_.try_emplace(name, Bucket{most, now});
  Bucket& bucket = place->second;
  const auto passed = static_cast<double>(now - bucket.filled_ms);
  bucket.left = std::min(most, bucket.left + passed * most / kMinuteMs);
  bucket.filled_ms = now;
  if (bucket.left >= 1) {
    bucket.left -= 1;
    return 0;
  }
  return static_cast<int64_t>(std::ceil((1 - bucket.left) * kMinuteMs / most / 1000));
}

}  // namespace ospnext
