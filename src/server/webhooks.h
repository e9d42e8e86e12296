// Tells other servers of the end of videos: signed, retried, to addresses that the operator allows.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "server/job_store.h"

namespace ospnext {

// Signs and sends. Source of the headers and the signature: the specification "Standard Webhooks"
// 1.0, which OpenAI's clients check.
class Webhooks {
 public:
  using Log = std::function<void(const std::string& line)>;
  // `secret`: a file with "whsec_" and the base64 of the key. Throws InputError for another.
  Webhooks(JobStore& store, const std::filesystem::path& secret, Log log);

  // Sends all that is due, one after the other, each for at most ten seconds. An answer of 200 to
  // 299 ends it; else it is tried again, nine times in five hours.
  void send_due();

 private:
  JobStore& store_;
  std::string key_;
  Log log_;
};

}  // namespace ospnext
