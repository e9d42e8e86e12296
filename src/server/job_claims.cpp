// What workers do with the jobs of a store, and what time does.
#include <algorithm>
#include <tuple>

#include "server/job_store.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostLosses = 3;  // servers that a job may take with it

// Whether two videos can be made as one batch of a model.
bool are_alike(const VideoSettings& a, const VideoSettings& b) {
  const auto shared = [](const VideoSettings& one) {
    return std::tie(one.width, one.height, one.num_frames, one.num_inference_steps,
                    one.guidance_scale, one.flow_shift, one.negative_prompt, one.lora,
                    one.lora_scale);
  };
  return shared(a) == shared(b);
}

}  // namespace

int64_t JobStore::expiry_of(int64_t end_ms) const {
  return limits_.keep_seconds == 0 ? 0 : end_ms + limits_.keep_seconds * 1000;
}

std::optional<JobStore::NextJob> JobStore::next_job(Database& database, const std::string& model) {
  Statement next(database,
                 std::string("SELECT ") + kColumns +
                     ", losses, alone FROM videos WHERE model = ? AND (status = 'queued' OR "
                     "(status = 'in_progress' "
                     "AND lease_ms < ?)) ORDER BY status, priority DESC, sequence LIMIT 1");
  next.bind(model, clock_());
  if (!next.step()) {
    return std::nullopt;
  }
  Job job = job_of(next);
  const bool is_lost = job.status == JobStatus::kInProgress;
  const int64_t losses = next.whole(kAfterColumns);
  const bool alone = next.whole(kAfterColumns + 1) != 0;
  return NextJob{.job = std::move(job),
                 .is_lost_too_often = is_lost && losses + 1 >= kMostLosses,
                 .goes_alone = alone || is_lost || losses > 0};
}

// The job and those that wait and can be made with it, in the order of the queue.
std::vector<Job> JobStore::with_its_like(const NextJob& next, int64_t most) {
  std::vector<Job> jobs = {next.job};
  if (next.goes_alone || most == 1) {
    return jobs;
  }
  Statement rows(durable_.database,
                 std::string("SELECT ") + kColumns +
                     "FROM videos WHERE model = ? AND status = 'queued' AND alone = 0 AND losses = "
                     "0 AND id <> ? ORDER BY priority DESC, sequence");
  rows.bind(next.job.model, next.job.id);
  while (std::ssize(jobs) < most && rows.step()) {
    if (Job job = job_of(rows); are_alike(job.settings, next.job.settings)) {
      jobs.push_back(std::move(job));
    }
  }
  return jobs;
}

std::vector<Job> JobStore::claim(const std::string& model, const std::string& worker,
                                 int64_t most) {
  {
    const std::lock_guard lock(quick_.mutex);
    if (!next_job(quick_.database, model)) {
      return {};  // mostly; without making others wait
    }
  }
  const std::lock_guard lock(durable_.mutex);
  Transaction transaction(durable_.database);
  auto next = next_job(durable_.database, model);
  while (next && next->is_lost_too_often) {
    Statement(
        durable_.database,
        "UPDATE videos SET status = 'failed', completed_ms = ?, expires_ms = ?, error_code = "
        "'server_stopped', error_message = 'the server stopped three times while it made this "
        "video' WHERE id = ?")
        .bind(clock_(), expiry_of(clock_()), next->job.id)
        .run();
    next = next_job(durable_.database, model);
  }
  std::vector<Job> jobs = next ? with_its_like(*next, most) : std::vector<Job>();
  for (Job& job : jobs) {
    job.status = JobStatus::kInProgress;
    job.attempt += 1;
    job.started_ms = clock_();
    job.progress = job.preview_step = 0;
    job.batch_size = std::ssize(jobs);
    Statement(
        durable_.database,
        "UPDATE videos SET losses = losses + (status = 'in_progress'), status = 'in_progress', "
        "worker = ?, lease_ms = ?, attempt = attempt + 1, started_ms = ?, progress = 0, "
        "preview_step = 0, batch_size = ? WHERE id = ?")
        .bind(worker, job.started_ms + limits_.lease_ms, job.started_ms, job.batch_size, job.id)
        .run();
  }
  transaction.commit();
  return jobs;
}

bool JobStore::renew(const std::string& id, const std::string& worker) {
  const std::lock_guard lock(quick_.mutex);
  Statement update(quick_.database,
                   "UPDATE videos SET lease_ms = ? WHERE id = ? AND worker = ? AND status = "
                   "'in_progress'");
  return update.bind(clock_() + limits_.lease_ms, id, worker).run() > 0;
}

bool JobStore::report(const std::string& id, const std::string& worker, int64_t progress,
                      int64_t preview_step) {
  const std::lock_guard lock(quick_.mutex);
  Statement update(
      quick_.database,
      "UPDATE videos SET progress = ?, preview_step = ? WHERE id = ? AND worker = ? AND "
      "status = 'in_progress'");
  return update.bind(progress, preview_step, id, worker).run() > 0;
}

bool JobStore::end(const std::string& id, const std::string& worker, JobStatus status,
                   int64_t bytes, const std::string& code, const std::string& message) {
  const std::lock_guard lock(durable_.mutex);
  Statement update(
      durable_.database,
      "UPDATE videos SET status = ?, progress = CASE WHEN ? THEN 100 ELSE progress END, "
      "completed_ms = ?, expires_ms = ?, bytes = ?, error_code = ?, error_message = ?, "
      "worker = '' WHERE id = ? AND worker = ? AND status = 'in_progress'");
  const int64_t now = clock_();
  return update
             .bind(status_name(status), status == JobStatus::kCompleted, now, expiry_of(now), bytes,
                   code, message, id, worker)
             .run() > 0;
}

bool JobStore::complete(const std::string& id, const std::string& worker, int64_t bytes) {
  return end(id, worker, JobStatus::kCompleted, bytes, "", "");
}

bool JobStore::fail(const std::string& id, const std::string& worker, const std::string& code,
                    const std::string& message) {
  return end(id, worker, JobStatus::kFailed, 0, code, message);
}

bool JobStore::release(const std::string& id, const std::string& worker, bool alone) {
  const std::lock_guard lock(durable_.mutex);
  Statement update(
      durable_.database,
      "UPDATE videos SET status = 'queued', worker = '', progress = 0, preview_step = 0, "
      "started_ms = 0, batch_size = 0, alone = MAX(alone, ?) WHERE id = ? AND worker = ? AND "
      "status = 'in_progress'");
  return update.bind(static_cast<int64_t>(alone), id, worker).run() > 0;
}

std::optional<Job> JobStore::next_webhook() {
  constexpr int64_t kMostTries = 9;
  constexpr int64_t kFirstPauseMs = 40'000;  // doubled each time: five hours in all
  const std::lock_guard lock(durable_.mutex);
  Transaction transaction(durable_.database);
  Statement next(
      durable_.database,
      "SELECT id, owner, webhook_tries FROM videos WHERE webhook_ms > 0 AND webhook_ms <= ? "
      "AND status <> 'deleted' ORDER BY webhook_ms LIMIT 1");
  if (!next.bind(clock_()).step()) {
    return std::nullopt;
  }
  const std::string id = next.text(0), owner = next.text(1);
  const int64_t tries = next.whole(2) + 1;
  const int64_t again = tries < kMostTries ? clock_() + (kFirstPauseMs << (tries - 1)) : 0;
  Statement(durable_.database, "UPDATE videos SET webhook_tries = ?, webhook_ms = ? WHERE id = ?")
      .bind(tries, again, id)
      .run();
  transaction.commit();
  return find(id, owner);
}

void JobStore::forget_webhook(const std::string& id) {
  const std::lock_guard lock(durable_.mutex);
  Statement(durable_.database, "UPDATE videos SET webhook_ms = 0 WHERE id = ?").bind(id).run();
}

void JobStore::expire() {
  std::vector<std::string> gone;
  {
    const std::lock_guard lock(durable_.mutex);
    const int64_t now = clock_();
    Statement(
        durable_.database,
        "UPDATE videos SET status = 'deleted', idempotency_key = '', bytes = 0 WHERE expires_ms > "
        "0 AND expires_ms < ? AND status IN ('completed', 'failed', 'cancelled')")
        .bind(now)
        .run();
    // A worker stops writing soon after its lease is refused.
    Statement rows(durable_.database,
                   "SELECT id FROM videos WHERE status = 'deleted' AND lease_ms < ?");
    rows.bind(now - 2 * limits_.lease_ms);
    while (rows.step()) {
      gone.push_back(rows.text(0));
    }
  }
  for (const std::string& id : gone) {
    std::error_code error;
    fs::remove_all(folder_of(id), error);
    if (!error) {
      const std::lock_guard lock(durable_.mutex);
      Statement(durable_.database, "DELETE FROM videos WHERE id = ? AND status = 'deleted'")
          .bind(id)
          .run();
    }
  }
}

}  // namespace ospnext
