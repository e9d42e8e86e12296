// The store of jobs: nothing is lost, nothing is made twice, and what ends a server ends no job.
#include "server/job_store.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <set>
#include <thread>

#include "core/error.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

using Kind = SubmitResult::Kind;

class Jobs : public testing::Test {
 protected:
  // A store on the same folder, as another server has it.
  JobStore open(StoreLimits limits = {}) {
    return {folder_.path(), limits, [this] { return now_ms_; }};
  }
  static Submission request(const std::string& prompt, int64_t priority = 0) {
    return {.owner = "me",
            .model = "m",
            .settings = {.prompt = prompt,
                         .width = 16,
                         .height = 16,
                         .num_frames = 1,
                         .fps = 16,
                         .num_inference_steps = 10,
                         .guidance_scale = 1,
                         .flow_shift = 3,
                         .seed = 7,
                         .priority = priority},
            .request = prompt};
  }
  // "a b" for the jobs of these prompts.
  static std::string prompts_of(const std::vector<Job>& jobs) {
    std::string prompts;
    for (const Job& job : jobs) {
      prompts += (prompts.empty() ? "" : " ") + job.settings.prompt;
    }
    return prompts.empty() ? "none" : prompts;
  }

  TemporaryFolder folder_;
  int64_t now_ms_ = 1'000'000;
};

TEST_F(Jobs, AJobIsThereAfterTheStoreIsOpenedAgain) {
  std::string id;
  {
    JobStore store = open();
    id = store.submit(request("a red ball")).job.id;
  }
  JobStore store = open();
  const auto job = store.find(id, "me");
  ASSERT_TRUE(job);
  EXPECT_EQ(job->settings.prompt, "a red ball");
  EXPECT_EQ(job->settings.seed, 7);
  EXPECT_EQ(job->status, JobStatus::kQueued);
  EXPECT_EQ(job->created_ms, 1'000'000);
  EXPECT_FALSE(store.find(id, "somebody else"));
}

TEST_F(Jobs, OfHigherPriorityComeFirstThenEarlierOnes) {
  JobStore store = open();
  store.submit(request("first"));
  store.submit(request("second"));
  const Job urgent = store.submit(request("urgent", 5)).job;
  const Job third = store.submit(request("third")).job;
  EXPECT_EQ(store.outlook(urgent).queue_position, 1);
  EXPECT_EQ(store.outlook(third).queue_position, 4);
  for (const char* const expected : {"urgent", "first", "second", "third", "none"}) {
    EXPECT_EQ(prompts_of(store.claim("m", "w")), expected);
  }
}

TEST_F(Jobs, OfAnotherModelAreLeftToItsServer) {
  JobStore store = open();
  store.submit(request("a"));
  EXPECT_TRUE(store.claim("another", "w").empty());
  EXPECT_FALSE(store.claim("m", "w").empty());
}

TEST_F(Jobs, TheQueueIsBounded) {
  JobStore store = open({.queued = 2});
  EXPECT_EQ(store.submit(request("a")).kind, Kind::kAccepted);
  EXPECT_EQ(store.submit(request("b")).kind, Kind::kAccepted);
  EXPECT_EQ(store.submit(request("c")).kind, Kind::kQueueFull);
  store.claim("m", "w");
  EXPECT_EQ(store.submit(request("d")).kind, Kind::kAccepted);
  EXPECT_EQ(store.counts().queued, 2);
}

TEST_F(Jobs, TheBoundHoldsForManyAtOnce) {
  JobStore one = open({.queued = 10}), other = open({.queued = 10});
  std::vector<std::thread> clients;
  std::atomic<int> accepted{0};
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&, i] {
      for (int n = 0; n < 5; ++n) {
        accepted += (i % 2 == 0 ? one : other).submit(request("x")).kind == Kind::kAccepted ? 1 : 0;
      }
    });
  }
  for (std::thread& client : clients) {
    client.join();
  }
  EXPECT_EQ(accepted, 10);
  EXPECT_EQ(one.counts().queued, 10);
}

TEST_F(Jobs, TheSameIdempotencyKeyGivesTheSameJob) {
  JobStore store = open({.queued = 1});
  Submission keyed = request("a");
  keyed.idempotency_key = "k";
  const Job job = store.submit(keyed).job;
  const SubmitResult again = store.submit(keyed);  // although the queue is full
  EXPECT_EQ(again.kind, Kind::kRepeated);
  EXPECT_EQ(again.job.id, job.id);
  Submission other = request("b");
  other.idempotency_key = "k";
  EXPECT_EQ(store.submit(other).kind, Kind::kOtherRequest);
  keyed.owner = "you";  // keys of others are others
  EXPECT_EQ(store.submit(keyed).kind, Kind::kQueueFull);
  store.remove(job.id, "me");
  EXPECT_EQ(store.submit(other).kind, Kind::kAccepted);
}

TEST_F(Jobs, ADeadServersJobIsTakenOverWhenItsLeaseHasRunOut) {
  JobStore dead = open(), living = open();
  const Job job = dead.submit(request("a")).job;
  EXPECT_EQ(dead.claim("m", "dead").front().attempt, 1);
  now_ms_ += 9'000;
  EXPECT_TRUE(dead.renew(job.id, "dead"));
  now_ms_ += 9'000;
  EXPECT_TRUE(living.claim("m", "living").empty());
  now_ms_ += 2'000;
  const std::vector<Job> taken = living.claim("m", "living");
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_EQ(taken[0].id, job.id);
  EXPECT_EQ(taken[0].attempt, 2);
  // What the first one says, should it live after all, is ignored.
  EXPECT_FALSE(dead.renew(job.id, "dead"));
  EXPECT_FALSE(dead.report(job.id, "dead", 50, 0));
  EXPECT_FALSE(dead.complete(job.id, "dead", 10));
  EXPECT_FALSE(dead.fail(job.id, "dead", "x", "y"));
  EXPECT_FALSE(dead.release(job.id, "dead"));
  EXPECT_TRUE(living.complete(job.id, "living", 10));
  EXPECT_EQ(dead.find(job.id, "me")->status, JobStatus::kCompleted);
}

TEST_F(Jobs, AJobThatStopsThreeServersFails) {
  JobStore store = open();
  const Job job = store.submit(request("a")).job;
  for (int server = 0; server < 3; ++server) {
    EXPECT_FALSE(store.claim("m", "w").empty()) << server;
    now_ms_ += 11'000;
  }
  EXPECT_TRUE(store.claim("m", "w").empty());
  const auto failed = store.find(job.id, "me");
  EXPECT_EQ(failed->status, JobStatus::kFailed);
  EXPECT_EQ(failed->error_code, "server_stopped");
}

TEST_F(Jobs, AReleasedJobKeepsItsPlace) {
  JobStore store = open();
  const Job first = store.submit(request("first")).job;
  store.submit(request("second"));
  store.claim("m", "w");
  EXPECT_TRUE(store.release(first.id, "w"));
  EXPECT_EQ(store.outlook(*store.find(first.id, "me")).queue_position, 1);
  EXPECT_EQ(prompts_of(store.claim("m", "w")), "first");
}

TEST_F(Jobs, ThatAreAlikeAreTakenTogether) {
  JobStore store = open();
  const auto submit = [&](const std::string& prompt, int64_t priority, int64_t steps) {
    Submission submission = request(prompt, priority);
    submission.settings.num_inference_steps = steps;
    submission.settings.seed = static_cast<int64_t>(prompt[0]);  // as prompts, seeds may differ
    submission.settings.fps = static_cast<double>(steps + priority);
    return store.submit(submission).job.id;
  };
  const std::string a = submit("a", 0, 10);
  submit("b", 0, 20);
  submit("c", 0, 10);
  submit("d", 5, 10);
  submit("e", -1, 10);
  EXPECT_EQ(store.find(a, "me")->batch_size, 0);
  const std::vector<Job> batch = store.claim("m", "w", 3);
  EXPECT_EQ(prompts_of(batch), "d a c");
  for (const Job& job : batch) {
    EXPECT_EQ(job.batch_size, 3);
    EXPECT_TRUE(store.renew(job.id, "w"));
  }
  EXPECT_EQ(store.find(a, "me")->batch_size, 3);
  EXPECT_EQ(prompts_of(store.claim("m", "w", 3)), "b");
  EXPECT_EQ(prompts_of(store.claim("m", "w", 3)), "e");
}

TEST_F(Jobs, OfAnythingThatABatchSharesAreNotTakenTogether) {
  const std::function<void(VideoSettings&)> changes[] = {
      [](VideoSettings& one) { one.width = 32; },
      [](VideoSettings& one) { one.height = 32; },
      [](VideoSettings& one) { one.num_frames = 5; },
      [](VideoSettings& one) { one.guidance_scale = 2; },
      [](VideoSettings& one) { one.flow_shift = 4; },
      [](VideoSettings& one) { one.negative_prompt = "grey"; },
      [](VideoSettings& one) { one.lora = "style"; },
      [](VideoSettings& one) { one.lora_scale = 0.5; }};
  JobStore store = open();
  store.submit(request("plain"));
  for (const auto& change : changes) {
    Submission other = request("other");
    change(other.settings);
    store.submit(other);
  }
  EXPECT_EQ(prompts_of(store.claim("m", "w", 9)), "plain");
}

TEST_F(Jobs, ThatWereLostOrFailedTogetherAreTakenAlone) {
  JobStore store = open();
  for (const char* const prompt : {"a", "b", "c", "d"}) {
    store.submit(request(prompt));
  }
  std::vector<Job> batch = store.claim("m", "w", 2);  // and then its server dies
  now_ms_ += 11'000;
  batch = store.claim("m", "w", 2);
  EXPECT_EQ(prompts_of(batch), "a");
  EXPECT_TRUE(store.release(batch[0].id, "w"));
  EXPECT_EQ(store.find(batch[0].id, "me")->batch_size, 0);
  EXPECT_EQ(prompts_of(store.claim("m", "w", 2)), "b");
  EXPECT_EQ(prompts_of(store.claim("m", "w", 2)), "a");
  batch = store.claim("m", "w", 2);
  EXPECT_EQ(prompts_of(batch), "c d");
  for (const Job& job : batch) {
    EXPECT_TRUE(store.release(job.id, "w", /*alone=*/true));
  }
  EXPECT_EQ(prompts_of(store.claim("m", "w", 2)), "c");
}

TEST_F(Jobs, OfABatchShareItsTime) {
  JobStore store = open();
  store.submit(request("a"));
  store.submit(request("b"));
  for (const Job& job : store.claim("m", "w", 2)) {
    now_ms_ += job.settings.prompt == "a" ? 40'000 : 0;
    store.complete(job.id, "w", 1);
  }
  const Job next = store.submit(request("c")).job;
  EXPECT_DOUBLE_EQ(*store.outlook(next).eta_seconds, 20);
  store.submit(request("d"));
  store.claim("m", "w", 2);
  const Job last = store.submit(request("e")).job;
  EXPECT_DOUBLE_EQ(*store.outlook(*store.find(next.id, "me")).eta_seconds, 40);
  EXPECT_DOUBLE_EQ(*store.outlook(last).eta_seconds, 40 + 20);  // one worker has both
}

TEST_F(Jobs, OfADatabaseOfVersion1AreKept) {
  std::string id;
  {
    JobStore store = open();
    id = store.submit(request("a")).job.id;
    store.submit(request("b"));
  }
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open((folder_ / "jobs.sqlite").c_str(), &other), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(other,
                         "ALTER TABLE videos DROP COLUMN batch_size; ALTER TABLE videos DROP "
                         "COLUMN alone; PRAGMA user_version = 1",
                         nullptr, nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(other);
  JobStore store = open();
  EXPECT_EQ(store.find(id, "me")->settings.prompt, "a");
  EXPECT_EQ(prompts_of(store.claim("m", "w", 2)), "a b");
}

TEST_F(Jobs, OfTwoWorkersOneGetsAJob) {
  JobStore one = open(), other = open();
  for (int i = 0; i < 40; ++i) {
    one.submit(request(std::to_string(i)));
  }
  std::vector<std::string> taken[2];
  const auto work = [](JobStore& store, std::vector<std::string>& ids) {
    const auto next = [&] { return store.claim("m", "w" + std::to_string(ids.size())); };
    for (auto jobs = next(); !jobs.empty(); jobs = next()) {
      ids.push_back(jobs.front().id);
    }
  };
  std::thread thread([&] { work(other, taken[1]); });
  work(one, taken[0]);
  thread.join();
  std::set<std::string> all(taken[0].begin(), taken[0].end());
  all.insert(taken[1].begin(), taken[1].end());
  EXPECT_EQ(taken[0].size() + taken[1].size(), 40u);
  EXPECT_EQ(all.size(), 40u);
}

TEST_F(Jobs, ACancelledJobIsNoWorkersAnyMore) {
  JobStore store = open();
  const Job queued = store.submit(request("queued", -1)).job;
  const Job running = store.submit(request("running")).job;
  store.claim("m", "w");
  EXPECT_TRUE(store.cancel(running.id, "me"));
  EXPECT_FALSE(store.renew(running.id, "w"));
  EXPECT_FALSE(store.complete(running.id, "w", 1));
  EXPECT_TRUE(store.cancel(queued.id, "me"));
  EXPECT_FALSE(store.cancel(queued.id, "me"));  // ended already
  EXPECT_TRUE(store.claim("m", "w").empty());
  EXPECT_EQ(store.find(running.id, "me")->status, JobStatus::kCancelled);
}

TEST_F(Jobs, DeletingRemovesTheFilesAndStopsTheWorker) {
  JobStore store = open();
  const Job job = store.submit(request("a")).job;
  const Job claimed = store.claim("m", "w").front();
  std::filesystem::create_directories(store.folder_of(job.id));
  write_file(store.file_of(claimed, ".mp4"), "video");
  EXPECT_FALSE(store.remove(job.id, "somebody else"));
  EXPECT_TRUE(std::filesystem::exists(store.folder_of(job.id)));
  EXPECT_TRUE(store.remove(job.id, "me"));
  EXPECT_FALSE(std::filesystem::exists(store.folder_of(job.id)));
  EXPECT_FALSE(store.find(job.id, "me"));
  EXPECT_FALSE(store.renew(job.id, "w"));
  EXPECT_FALSE(store.remove(job.id, "me"));
}

TEST_F(Jobs, ExpireWithTheirFiles) {
  JobStore store = open({.keep_seconds = 60});
  const Job job = store.submit(request("a")).job;
  const Job waiting = store.submit(request("b", -1)).job;
  store.claim("m", "w");
  store.complete(job.id, "w", 100);
  std::filesystem::create_directories(store.folder_of(job.id));
  EXPECT_EQ(store.counts().bytes, 100);
  now_ms_ += 59'000;
  store.expire();
  EXPECT_EQ(store.find(job.id, "me")->expires_ms, 1'060'000);
  now_ms_ += 2'000;
  store.expire();
  EXPECT_FALSE(store.find(job.id, "me"));
  EXPECT_FALSE(std::filesystem::exists(store.folder_of(job.id)));
  EXPECT_EQ(store.counts().bytes, 0);
  EXPECT_TRUE(store.find(waiting.id, "me"));
}

TEST_F(Jobs, AreRefusedWhenTheVideosTakeTooMuchOfTheDisk) {
  JobStore store = open({.disk_bytes = 100});
  const Job job = store.submit(request("a")).job;
  store.claim("m", "w");
  store.complete(job.id, "w", 100);
  EXPECT_EQ(store.submit(request("b")).kind, Kind::kDiskFull);
  store.remove(job.id, "me");
  EXPECT_EQ(store.submit(request("b")).kind, Kind::kAccepted);
}

TEST_F(Jobs, AreListedInPages) {
  JobStore store = open();
  std::vector<std::string> ids;
  for (int i = 0; i < 5; ++i) {
    ids.push_back(store.submit(request(std::to_string(i))).job.id);
  }
  const auto listed = [&](const std::string& after, int64_t limit, bool ascending) {
    std::string prompts;
    for (const Job& job : store.list("me", after, limit, ascending)) {
      prompts += job.settings.prompt;
    }
    return prompts;
  };
  EXPECT_EQ(listed("", 3, true), "012");
  EXPECT_EQ(listed(ids[2], 3, true), "34");
  EXPECT_EQ(listed("", 2, false), "43");
  EXPECT_EQ(listed(ids[3], 9, false), "210");
  EXPECT_TRUE(store.list("you", "", 9, true).empty());
}

TEST_F(Jobs, TimeLeftComesFromVideosThatWereMade) {
  JobStore store = open();
  const Job first = store.submit(request("a")).job;
  EXPECT_FALSE(store.outlook(first).eta_seconds);
  store.claim("m", "w");
  now_ms_ += 20'000;
  store.complete(first.id, "w", 1);
  const Job second = store.submit(request("b")).job, third = store.submit(request("c")).job;
  EXPECT_DOUBLE_EQ(*store.outlook(second).eta_seconds, 20);
  EXPECT_DOUBLE_EQ(*store.outlook(third).eta_seconds, 40);
  store.claim("m", "w");
  now_ms_ += 8'000;
  store.report(second.id, "w", 50, 0);
  EXPECT_DOUBLE_EQ(*store.outlook(*store.find(second.id, "me")).eta_seconds, 8);  // by its own pace
  EXPECT_DOUBLE_EQ(*store.outlook(third).eta_seconds, 10 + 20);
}

TEST_F(Jobs, AWebhookIsDueAtTheEndAndThenLessAndLessOften) {
  JobStore store = open();
  Submission told = request("told");
  told.settings.webhook_url = "https://hooks.example.org/x";
  const Job job = store.submit(told).job;
  const Job silent = store.submit(request("silent")).job;
  EXPECT_FALSE(store.next_webhook());
  store.cancel(silent.id, "me");
  EXPECT_FALSE(store.next_webhook());
  store.claim("m", "w");
  store.fail(job.id, "w", "x", "y");
  const auto due = store.next_webhook();
  ASSERT_TRUE(due);
  EXPECT_EQ(due->id, job.id);
  EXPECT_EQ(due->status, JobStatus::kFailed);
  int tries = 1;
  for (int64_t minutes = 0; minutes < 24 * 60; ++minutes) {
    EXPECT_FALSE(store.next_webhook() && store.next_webhook());  // never twice at a time
    now_ms_ += 60'000;
    tries += store.next_webhook() ? 1 : 0;
  }
  EXPECT_GE(tries, 4);
  EXPECT_LE(tries, 9);
}

TEST_F(Jobs, AWebhookThatWasTakenIsNotDueAgain) {
  JobStore store = open();
  Submission told = request("told");
  told.settings.webhook_url = "https://hooks.example.org/x";
  const Job job = store.submit(told).job;
  store.cancel(job.id, "me");
  ASSERT_TRUE(store.next_webhook());
  store.forget_webhook(job.id);
  now_ms_ += 100'000'000;
  EXPECT_FALSE(store.next_webhook());
}

TEST_F(Jobs, ALockedDatabaseIsAnErrorThatChangesNothing) {
  JobStore store = open();
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open((folder_ / "jobs.sqlite").c_str(), &other), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(other, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK);
  EXPECT_THROW(store.submit(request("a")), DatabaseError);  // after five seconds
  EXPECT_TRUE(store.list("me", "", 9, true).empty());       // reading goes on
  sqlite3_exec(other, "COMMIT", nullptr, nullptr, nullptr);
  sqlite3_close(other);
  EXPECT_EQ(store.submit(request("a")).kind, Kind::kAccepted);
}

TEST_F(Jobs, RefuseOtherDatabases) {
  write_file(folder_ / "jobs.sqlite", std::string(5000, 'x'));
  EXPECT_THROW(open(), InputError);
  std::filesystem::remove(folder_ / "jobs.sqlite");
  open();
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open((folder_ / "jobs.sqlite").c_str(), &other), SQLITE_OK);
  sqlite3_exec(other, "PRAGMA user_version = 9", nullptr, nullptr, nullptr);
  sqlite3_close(other);
  try {
    open();
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("version 9, expected 2"), std::string::npos);
  }
}

}  // namespace
}  // namespace ospnext
