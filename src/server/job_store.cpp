#include "server/job_store.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "core/error.h"
#include "core/fields.h"
#include "server/digest.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Kind = SubmitResult::Kind;

constexpr std::array<const char*, 5> kStatusNames = {"queued", "in_progress", "completed", "failed",
                                                     "cancelled"};
constexpr int64_t kTablesVersion = 2;  // of the tables

// A row also has the status "deleted" until its files are removed.
constexpr const char* kTables = R"(
CREATE TABLE videos (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  owner TEXT NOT NULL,
  model TEXT NOT NULL,
  status TEXT NOT NULL,
  progress INTEGER NOT NULL DEFAULT 0,
  priority INTEGER NOT NULL,
  created_ms INTEGER NOT NULL,
  started_ms INTEGER NOT NULL DEFAULT 0,
  completed_ms INTEGER NOT NULL DEFAULT 0,
  expires_ms INTEGER NOT NULL DEFAULT 0,
  settings TEXT NOT NULL,
  work REAL NOT NULL,
  remixed_from TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  request TEXT NOT NULL,
  error_code TEXT NOT NULL DEFAULT '',
  error_message TEXT NOT NULL DEFAULT '',
  worker TEXT NOT NULL DEFAULT '',
  lease_ms INTEGER NOT NULL DEFAULT 0,
  attempt INTEGER NOT NULL DEFAULT 0,
  losses INTEGER NOT NULL DEFAULT 0,
  preview_step INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0,
  webhook_tries INTEGER NOT NULL DEFAULT 0,
  webhook_ms INTEGER NOT NULL DEFAULT 0,
  batch_size INTEGER NOT NULL DEFAULT 0,
  alone INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX queue ON videos(status, model, priority DESC, sequence);
CREATE INDEX owners ON videos(owner, sequence);
CREATE INDEX ends ON videos(status, completed_ms);
CREATE INDEX webhooks ON videos(webhook_ms) WHERE webhook_ms > 0;
CREATE TRIGGER ended AFTER UPDATE OF status ON videos
  WHEN new.status IN ('completed', 'failed', 'cancelled') AND new.status <> old.status
    AND json_extract(new.settings, '$.webhook_url') <> ''
  BEGIN UPDATE videos SET webhook_ms = new.completed_ms WHERE id = new.id; END;
CREATE UNIQUE INDEX keys ON videos(owner, idempotency_key) WHERE idempotency_key <> '';
)";

// What version 2 has and version 1 had not.
constexpr const char* kSinceVersion1 = R"(
ALTER TABLE videos ADD COLUMN batch_size INTEGER NOT NULL DEFAULT 0;
ALTER TABLE videos ADD COLUMN alone INTEGER NOT NULL DEFAULT 0;
)";

fs::path made_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder / "videos", error);
  if (error) {
    throw InputError("`data` " + folder.string() + ": cannot make it: " + error.message());
  }
  return folder;
}

// Nothing for "deleted".
std::optional<JobStatus> status_of(const std::string& name) {
  const auto found = std::ranges::find(kStatusNames, name);
  return found == kStatusNames.end()
             ? std::nullopt
             : std::optional(static_cast<JobStatus>(found - kStatusNames.begin()));
}

int64_t count_of(Database& database, const std::string& sql) {
  Statement statement(database, sql);
  return statement.step() ? statement.whole(0) : 0;
}

}  // namespace

const char* status_name(JobStatus status) {
  return kStatusNames[static_cast<size_t>(status)];
}

int64_t JobStore::system_clock_ms() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

JobStore::JobStore(const fs::path& folder, const StoreLimits& limits, Clock clock)
    : folder_(made_folder(folder)),
      limits_(limits),
      clock_(std::move(clock)),
      durable_(folder / "jobs.sqlite", Database::Durability::kFull),
      quick_(folder / "jobs.sqlite", Database::Durability::kProcess) {
  make_tables();
}

void JobStore::make_tables() {
  const std::string name = (folder_ / "jobs.sqlite").string();
  try {
    Transaction transaction(durable_.database);
    const int64_t version = count_of(durable_.database, "PRAGMA user_version");
    const int64_t tables = count_of(durable_.database, "SELECT COUNT(*) FROM sqlite_master");
    if ((version == 0 && tables == 0) || version == 1) {
      durable_.database.run(version == 0 ? kTables : kSinceVersion1);
      durable_.database.run("PRAGMA user_version = " + std::to_string(kTablesVersion));
    } else if (version != kTablesVersion) {
      throw InputError("`data`: " + name + " is a database of version " + std::to_string(version) +
                       ", expected " + std::to_string(kTablesVersion));
    }
    transaction.commit();
  } catch (const DatabaseError& error) {
    throw InputError("`data`: " + name + ": cannot use this database: " + error.what());
  }
}

fs::path JobStore::file_of(const Job& job, const std::string& ending) const {
  return folder_of(job.id) / (std::to_string(job.attempt) + ending);
}

Job JobStore::job_of(const Statement& row) const {
  Job job;
  job.id = row.text(0);
  job.owner = row.text(1);
  job.model = row.text(2);
  job.status = status_of(row.text(3)).value_or(job.status);
  job.progress = row.whole(4);
  job.created_ms = row.whole(5);
  job.started_ms = row.whole(6);
  job.completed_ms = row.whole(7);
  job.expires_ms = row.whole(8);
  fields_from_json(job.settings, json::parse(row.text(9)), "jobs.sqlite");
  job.remixed_from = row.text(10);
  job.error_code = row.text(11);
  job.error_message = row.text(12);
  job.attempt = row.whole(13);
  job.preview_step = row.whole(14);
  job.batch_size = row.whole(15);
  return job;
}

SubmitResult JobStore::submit(const Submission& submission) {
  const std::lock_guard lock(durable_.mutex);
  Database& database = durable_.database;
  Transaction transaction(database);
  if (!submission.idempotency_key.empty()) {
    Statement same(database, std::string("SELECT ") + kColumns +
                                 ", request FROM videos WHERE owner = ? AND idempotency_key = ?");
    same.bind(submission.owner, submission.idempotency_key);
    if (same.step()) {
      return {
          same.text(kAfterColumns) == submission.request ? Kind::kRepeated : Kind::kOtherRequest,
          job_of(same)};
    }
  }
  if (count_of(database, "SELECT COUNT(*) FROM videos WHERE status = 'queued'") >= limits_.queued) {
    return {Kind::kQueueFull, {}};
  }
  if (count_of(database, "SELECT SUM(bytes) FROM videos") >= limits_.disk_bytes) {
    return {Kind::kDiskFull, {}};
  }
  Job job;
  job.id = "video_" + random_hex(12);  // nobody can guess it
  job.owner = submission.owner;
  job.model = submission.model;
  job.created_ms = clock_();
  job.settings = submission.settings;
  job.remixed_from = submission.remixed_from;
  Statement insert(
      database,
      "INSERT INTO videos(id, owner, model, status, priority, created_ms, settings, work, "
      "remixed_from, idempotency_key, request) "
      "VALUES(?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?)");
  insert
      .bind(job.id, job.owner, job.model, job.settings.priority, job.created_ms,
            fields_to_json(job.settings).dump(), job.settings.work(), job.remixed_from,
            submission.idempotency_key, submission.request)
      .run();
  transaction.commit();
  return {Kind::kAccepted, job};
}

std::optional<Job> JobStore::find(const std::string& id, const std::string& owner) {
  const std::lock_guard lock(quick_.mutex);
  Statement row(quick_.database,
                std::string("SELECT ") + kColumns +
                    "FROM videos WHERE id = ? AND owner = ? AND status <> 'deleted'");
  row.bind(id, owner);
  return row.step() ? std::optional(job_of(row)) : std::nullopt;
}

std::vector<Job> JobStore::list(const std::string& owner, const std::string& after, int64_t limit,
                                bool ascending) {
  const std::lock_guard lock(quick_.mutex);
  std::string sql =
      std::string("SELECT ") + kColumns + "FROM videos WHERE owner = ? AND status <> 'deleted'";
  if (!after.empty()) {
    sql += std::string(" AND sequence ") + (ascending ? ">" : "<") +
           " (SELECT sequence FROM videos WHERE id = ?)";
  }
  sql += std::string(" ORDER BY sequence ") + (ascending ? "ASC" : "DESC") + " LIMIT ?";
  Statement rows(quick_.database, sql);
  rows.bind(owner);
  if (!after.empty()) {
    rows.bind(after);
  }
  rows.bind(limit);
  std::vector<Job> jobs;
  while (rows.step()) {
    jobs.push_back(job_of(rows));
  }
  return jobs;
}

double JobStore::pace_of(const std::string& model) {
  Statement row(quick_.database,
                "SELECT AVG((completed_ms - started_ms) / (work * MAX(batch_size, 1))) / 1000 FROM "
                "(SELECT completed_ms, started_ms, work, batch_size FROM videos WHERE status = "
                "'completed' AND model = ? ORDER BY completed_ms DESC LIMIT 10)");
  row.bind(model);
  return row.step() ? row.real(0) : 0;
}

std::optional<double> JobStore::seconds_to_make(const VideoSettings& settings,
                                                const std::string& model) {
  const std::lock_guard lock(quick_.mutex);
  const double pace = pace_of(model);
  return pace > 0 ? std::optional(settings.work() * pace) : std::nullopt;
}

Outlook JobStore::outlook(const Job& job) {
  if (job.is_finished()) {
    return {};
  }
  const std::lock_guard lock(quick_.mutex);
  constexpr double kAll = 100;
  const double pace = pace_of(job.model);
  const double own_seconds =
      job.settings.work() * pace * static_cast<double>(std::max<int64_t>(job.batch_size, 1));
  if (job.status == JobStatus::kInProgress) {
    constexpr int64_t kEnough = 10;  // percent, from which a job's own pace says more
    const auto done = static_cast<double>(job.progress);
    if (job.progress >= kEnough) {
      const double elapsed = static_cast<double>(clock_() - job.started_ms) / 1000;
      return {0, elapsed * (kAll - done) / done};
    }
    return {0, pace > 0 ? std::optional(own_seconds * (kAll - done) / kAll) : std::nullopt};
  }
  Statement ahead(
      quick_.database,
      "SELECT COUNT(*), SUM(work) FROM videos WHERE status = 'queued' AND model = ? AND "
      "(priority > ? OR (priority = ? AND sequence < (SELECT sequence FROM videos WHERE "
      "id = ?)))");
  ahead.bind(job.model, job.settings.priority, job.settings.priority, job.id).step();
  Statement running(
      quick_.database,
      "SELECT COUNT(DISTINCT worker), SUM(work * (100 - progress) / 100.0) FROM videos WHERE "
      "status = 'in_progress' AND model = ?");
  running.bind(job.model).step();
  const double waits = (ahead.real(1) + running.real(1)) * pace /
                       static_cast<double>(std::max<int64_t>(running.whole(0), 1));
  return {ahead.whole(0) + 1, pace > 0 ? std::optional(waits + own_seconds) : std::nullopt};
}

bool JobStore::cancel(const std::string& id, const std::string& owner) {
  const std::lock_guard lock(durable_.mutex);
  Statement update(
      durable_.database,
      "UPDATE videos SET status = 'cancelled', completed_ms = ?, expires_ms = ? WHERE id "
      "= ? AND owner = ? AND status IN ('queued', 'in_progress')");
  const int64_t now = clock_();
  return update.bind(now, expiry_of(now), id, owner).run() > 0;
}

bool JobStore::remove(const std::string& id, const std::string& owner) {
  {
    const std::lock_guard lock(durable_.mutex);
    Statement update(
        durable_.database,
        "UPDATE videos SET status = 'deleted', idempotency_key = '', bytes = 0 WHERE id = "
        "? AND owner = ? AND status <> 'deleted'");
    if (update.bind(id, owner).run() == 0) {
      return false;
    }
  }
  std::error_code ignored;  // a worker that has not noticed yet may write here: expire() comes back
  fs::remove_all(folder_of(id), ignored);
  return true;
}

StoreCounts JobStore::counts() {
  const std::lock_guard lock(quick_.mutex);
  Statement rows(quick_.database,
                 "SELECT status, COUNT(*), SUM(bytes) FROM videos GROUP BY status");
  StoreCounts counts;
  while (rows.step()) {
    int64_t* const places[] = {&counts.queued, &counts.in_progress, &counts.completed,
                               &counts.failed, &counts.cancelled};
    if (const auto status = status_of(rows.text(0))) {
      *places[static_cast<size_t>(*status)] = rows.whole(1);
    }
    counts.bytes += rows.whole(2);
  }
  return counts;
}

}  // namespace ospnext
