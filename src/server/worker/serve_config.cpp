#include "server/worker/serve_config.h"

#include "core/choice.h"
#include "core/number_check.h"

namespace ospnext {

void ServeConfig::check() const {
  constexpr int64_t kMany = 1'000'000'000;
  constexpr double kLargest = 1e9;
  one_of<bool>("`container`", container,
               std::array{std::pair{"mp4", true}, std::pair{"webm", true}});
  check_range<int64_t>("`batch`", batch, 1, 64);
  world.check();
  check_range<int64_t>("`port`", port, 0, 65535);
  check_range<int64_t>("`preview`", preview, 0, 10'000);
  check_range<int64_t>("`max_queued`", max_queued, 1, 1'000'000);
  check_range<int64_t>("`max_prompt`", max_prompt, 1, 100'000);
  check_range<int64_t>("`max_width`", max_width, 1, 8192);
  check_range<int64_t>("`max_height`", max_height, 1, 8192);
  check_range<int64_t>("`max_frames`", max_frames, 1, 100'001);
  check_range<int64_t>("`max_steps`", max_steps, 1, 10'000);
  check_range<int64_t>("`max_minutes`", max_minutes, 1, 100'000);
  check_range<int64_t>("`max_per_minute`", max_per_minute, 0, 1'000'000);
  check_range<int64_t>("`max_body`", max_body, 1024, kMany);
  check_range<int64_t>("`max_connections`", max_connections, 1, 100'000);
  check_range<double>("`max_disk_gb`", max_disk_gb, 0, kLargest);
  check_range<double>("`keep_hours`", keep_hours, 0, kLargest);
  check_range<int64_t>("`lease_seconds`", lease_seconds, 2, 3600);
  check_range<int64_t>("`drain_seconds`", drain_seconds, 0, 100'000);
  if (devices.empty()) {
    throw InputError("`devices`: found none, expected at least one");
  }
  if (webhooks.empty() != webhook_secret.empty()) {
    throw InputError("`webhooks` and `webhook_secret`: found one of them, expected both or none");
  }
  const bool is_own_machine = host.starts_with("127.") || host == "::1";
  if (keys.empty() && !is_own_machine && !open_to_all) {
    throw InputError("`host`: found " + host +
                     " without `keys`, which lets everybody in; expected 127.0.0.1, `keys`, or "
                     "`open_to_all`");
  }
}

}  // namespace ospnext
