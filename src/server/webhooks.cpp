#include "server/webhooks.h"

#include <chrono>
#include <fstream>

#include "core/base64.h"
#include "core/error.h"
#include "io/http/client.h"
#include "server/digest.h"
#include "server/video_json.h"

namespace ospnext {
namespace {

constexpr std::chrono::seconds kPatience(10);

std::string read_key(const std::filesystem::path& file) {
  const std::string prefix = "whsec_";
  std::ifstream in(file);
  std::string secret;
  in >> secret;
  const auto key =
      secret.starts_with(prefix) ? bytes_of_base64(secret.substr(prefix.size())) : std::nullopt;
  if (!key || key->size() < 16) {
    throw InputError("`webhook_secret` " + file.string() +
                     ": expected a file with whsec_ and the base64 of at least 16 bytes");
  }
  return *key;
}

}  // namespace

Webhooks::Webhooks(JobStore& store, const std::filesystem::path& secret, Log log)
    : store_(store), key_(read_key(secret)), log_(std::move(log)) {}

void Webhooks::send_due() {
  while (const auto job = store_.next_webhook()) {
    const std::string time = std::to_string(store_.now_ms() / 1000), id = "evt_" + job->id;
    const nlohmann::json event = {{"id", id},
                                  {"object", "event"},
                                  {"type", std::string("video.") + status_name(job->status)},
                                  {"created_at", job->completed_ms / 1000},
                                  {"data", video_object(*job, {})}};
    const std::string body = event.dump();
    const std::string signature = "v1," + base64(hmac_sha256(key_, id + "." + time + "." + body));
    bool is_taken = false;
    try {
      const int status = send_request({.address = parse_url(job->settings.webhook_url).value(),
                                       .method = "POST",
                                       .headers = {{"webhook-id", id},
                                                   {"webhook-timestamp", time},
                                                   {"webhook-signature", signature}},
                                       .json = body},
                                      {.time = kPatience})
                             .status;
      is_taken = status >= 200 && status < 300;
      log_(job->id + ": its webhook was answered with " + std::to_string(status));
    } catch (const RunError& error) {
      log_(job->id + ": its webhook failed: " + error.what());
    }
    if (is_taken) {
      store_.forget_webhook(job->id);
    }
  }
}

}  // namespace ospnext
