// The videos that clients asked for, in a database that several servers of one host may share.
//
// A video is queued, then in_progress, and ends as completed, failed or cancelled. One that is in
// progress belongs to a worker as long as its lease holds, which the worker renews. When a lease
// has run out, its server is gone, and another worker takes the video and makes it again from its
// seed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "server/database.h"
#include "server/video_request.h"

namespace ospnext {

enum class JobStatus { kQueued, kInProgress, kCompleted, kFailed, kCancelled };
// "queued", "in_progress", ... as the API and the database have it.
const char* status_name(JobStatus status);

struct Job {
  std::string id;     // "video_" and 24 hexadecimal digits
  std::string owner;  // the name of the key that it was made with; "": there are no keys
  std::string model;
  JobStatus status = JobStatus::kQueued;
  int64_t progress = 0;  // 0 to 100
  // milliseconds since 1970; 0: not yet, or never
  int64_t created_ms = 0;
  int64_t started_ms = 0;
  int64_t completed_ms = 0;
  int64_t expires_ms = 0;
  VideoSettings settings;
  std::string remixed_from;  // a video's id, or ""
  std::string error_code;
  std::string error_message;
  int64_t attempt = 0;       // times that a worker began it; its files are named by it
  int64_t preview_step = 0;  // of the newest preview; 0: none
  int64_t batch_size = 0;    // videos that are made together with it, itself included; 0: not begun

  bool is_finished() const {
    return status != JobStatus::kQueued && status != JobStatus::kInProgress;
  }
};

// Where a video that is not finished stands.
struct Outlook {
  int64_t queue_position = 0;         // 1: the next; 0: not queued
  std::optional<double> eta_seconds;  // nothing until it can be told
};

struct StoreLimits {
  int64_t queued = 64;
  int64_t keep_seconds = int64_t{7} * 24 * 3600;  // after the end of a job; 0: for ever
  int64_t disk_bytes = int64_t{1} << 40;  // of finished videos, above which none is accepted
  int64_t lease_ms = 10'000;
};

struct Submission {
  std::string owner;
  std::string model;
  VideoSettings settings;
  std::string remixed_from = {};
  std::string idempotency_key = {};  // "": none
  std::string request;               // what was sent, to tell a repeated request from another one
};

struct SubmitResult {
  enum class Kind {
    kAccepted,
    kRepeated,      // the job of an earlier request with this key
    kOtherRequest,  // its key belongs to another request
    kQueueFull,
    kDiskFull
  };
  Kind kind = Kind::kAccepted;
  Job job;  // of kAccepted and kRepeated
};

struct StoreCounts {
  int64_t queued = 0;
  int64_t in_progress = 0;
  int64_t completed = 0;
  int64_t failed = 0;
  int64_t cancelled = 0;
  int64_t bytes = 0;  // of the files of completed videos
};

// Methods may be called by several threads. They throw DatabaseError; then nothing has changed.
class JobStore {
 public:
  using Clock = std::function<int64_t()>;  // milliseconds since 1970
  static int64_t system_clock_ms();

  // Opens or makes `folder`/jobs.sqlite. Throws InputError for a folder or a database that cannot
  // be used.
  JobStore(const std::filesystem::path& folder, const StoreLimits& limits,
           Clock clock = system_clock_ms);

  // A file of a video: ATTEMPT + `ending`, in the folder of its id.
  std::filesystem::path file_of(const Job& job, const std::string& ending) const;
  std::filesystem::path folder_of(const std::string& id) const { return folder_ / "videos" / id; }
  int64_t now_ms() const { return clock_(); }
  const StoreLimits& limits() const { return limits_; }

  // For clients. A job that is accepted is on the disk. What belongs to another owner is not found.
  SubmitResult submit(const Submission& submission);
  std::optional<Job> find(const std::string& id, const std::string& owner);
  // Up to `limit` jobs behind the job `after` ("": from the beginning).
  std::vector<Job> list(const std::string& owner, const std::string& after, int64_t limit,
                        bool ascending);
  Outlook outlook(const Job& job);
  // Seconds to make such a video, by those that were made last. Nothing if there are none.
  std::optional<double> seconds_to_make(const VideoSettings& settings, const std::string& model);
  // Ends a job that has not ended. Returns whether it did; its worker notices it soon.
  bool cancel(const std::string& id, const std::string& owner);
  // Makes a job unknown, ends it, and removes its files.
  bool remove(const std::string& id, const std::string& owner);
  StoreCounts counts();

  // For workers. What a worker says of a job that is not its own any more is ignored: then these
  // return false, and it must stop.
  //
  // claim() takes the next job, and up to `most` in all that wait and can be made as one batch with
  // it. A job that was lost, or released to be made alone, is taken alone. Empty: there is none.
  std::vector<Job> claim(const std::string& model, const std::string& worker, int64_t most = 1);
  bool renew(const std::string& id, const std::string& worker);
  bool report(const std::string& id, const std::string& worker, int64_t progress,
              int64_t preview_step);
  bool complete(const std::string& id, const std::string& worker, int64_t bytes);
  bool fail(const std::string& id, const std::string& worker, const std::string& code,
            const std::string& message);
  // Puts a job back into the queue, in its old place; `alone`: never to be made in a batch again.
  bool release(const std::string& id, const std::string& worker, bool alone = false);

  // The job of the webhook that has been due for longest; if it is not forgotten, it is due again
  // later, until it has been tried nine times. Nothing if none is due.
  std::optional<Job> next_webhook();
  void forget_webhook(const std::string& id);

  // Forgets jobs whose time is over. Call it now and then.
  void expire();

 private:
  // A connection and who uses it.
  struct Connection {
    Connection(const std::filesystem::path& file, Database::Durability durability)
        : database(file, durability) {}
    std::mutex mutex;
    Database database;
  };
  // What job_of() reads.
  static constexpr const char* kColumns =
      "id, owner, model, status, progress, created_ms, started_ms, completed_ms, expires_ms, "
      "settings, remixed_from, error_code, error_message, attempt, preview_step, batch_size ";
  static constexpr int kAfterColumns = 16;  // the place of what is selected after them
  struct NextJob {
    Job job;
    bool is_lost_too_often;
    bool goes_alone;
  };
  void make_tables();
  Job job_of(const Statement& row) const;
  std::optional<NextJob> next_job(Database& database, const std::string& model);
  std::vector<Job> with_its_like(const NextJob& next, int64_t most);
  bool end(const std::string& id, const std::string& worker, JobStatus status, int64_t bytes,
           const std::string& code, const std::string& message);
  int64_t expiry_of(int64_t end_ms) const;
  double pace_of(const std::string& model);  // seconds for one of work(); quick_ is locked

  std::filesystem::path folder_;
  StoreLimits limits_;
  Clock clock_;
  Connection durable_;  // for what must not be lost
  Connection quick_;    // for reading, and for what the next report repeats
};

}  // namespace ospnext
