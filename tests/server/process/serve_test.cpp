// ospnext serve as a process: what clients see, kills, restarts and signals.
#include <random>
#include <set>

#include "server/process/server_process.h"

namespace ospnext {
namespace {

using std::chrono::milliseconds;

class Serve : public ServedModel {};

#ifdef OSPNEXT_FFMPEG
TEST_F(Serve, MakesAVideoThatEqualsGenerates) {
  const ServerProcess server(*folder_);
  EXPECT_EQ(server.get("/health").at("status"), "ok");
  EXPECT_EQ(server.get("/v1/models").at("data")[0].at("id"), "model");
  const std::string id = server.submit("a red ball");
  server.wait_for(id, "completed");
  const auto [status, bytes] = server.call("GET", "/v1/videos/" + id + "/content");
  EXPECT_EQ(status, 200);
  EXPECT_EQ(bytes, file_text(video_of(id)));
  EXPECT_EQ(bytes.substr(4, 4), "ftyp");
  expect_generated(id);
  EXPECT_EQ(server.call("GET", "/").first, 200);
  EXPECT_EQ(server.err().find("red ball"), std::string::npos);
}

// Every job that was acknowledged ends once, whenever the server is killed.
TEST_F(Serve, LosesNothingWhenItIsKilled) {
  std::set<std::string> ids;
  std::minstd_rand random(3);
  for (int kill = 0; kill < 2; ++kill) {  // a third one of the same video would let that fail
    ServerProcess server(*folder_);
    for (int i = 0; i < 3; ++i) {
      ids.insert(server.submit("a red ball", 40));
    }
    std::this_thread::sleep_for(milliseconds(random() % 400));
    EXPECT_EQ(server.end(SIGKILL), -SIGKILL);
  }
  const ServerProcess server(*folder_);
  for (const std::string& id : ids) {
    server.wait_for(id, "completed");
  }
  EXPECT_EQ(server.get("/v1/videos").at("data").size(), ids.size());
  expect_generated(*ids.begin());
  expect_generated(*ids.rbegin());
}

TEST_F(Serve, TwoServersShareADatabase) {
  const ServerProcess one(*folder_);
  ServerProcess other(*folder_);
  std::vector<std::string> ids;
  for (int i = 0; i < 6; ++i) {
    ids.push_back((i % 2 == 0 ? one : other).submit("a", 30));
  }
  other.end(SIGKILL);
  for (const std::string& id : ids) {
    one.wait_for(id, "completed");
  }
}

TEST_F(Serve, EndsWithItsJobWhenToldToStop) {
  ServerProcess server(*folder_);
  const std::string id = server.submit("a", 60);
  server.wait_for(id, "in_progress");
  const std::string waiting = server.submit("b");
  ::kill(server.pid(), SIGTERM);
  wait_until([&] { return server.get("/health").at("status") == "draining"; });
  EXPECT_EQ(server.call("POST", "/v1/videos", R"({"prompt": "c"})").first, 503);
  EXPECT_EQ(server.end(SIGTERM), 0);
  const ServerProcess next(*folder_);
  EXPECT_EQ(next.status_of_video(id), "completed");
  next.wait_for(waiting, "completed");
}

TEST_F(Serve, PutsALongJobBackWhenToldToStop) {
  ServerProcess server(*folder_, {"--drain-seconds=0", "--max-steps=10000"});
  const std::string id = server.submit("a", 10'000);
  server.wait_for(id, "in_progress");
  EXPECT_EQ(server.end(SIGTERM), 0);
  const ServerProcess next(*folder_);
  const std::string status = next.status_of_video(id);
  EXPECT_TRUE(status == "queued" || status == "in_progress") << status;  // at once, without a lease
}

TEST_F(Serve, WorkersOfAServerShareItsQueue) {
  const ServerProcess server(*folder_, {"--devices=cpu", "--devices=cpu"});
  const std::string one = server.submit("a", 90), other = server.submit("b", 90);
  wait_until([&] { return server.get("/health").at("in_progress") == 2; });
  EXPECT_EQ(server.get("/health").at("queued"), 0);
  server.wait_for(one, "completed");
  server.wait_for(other, "completed");
}

TEST_F(Serve, SlowAndGreedyClientsDoNotStopIt) {
  const ServerProcess server(*folder_);
  std::vector<std::unique_ptr<RawClient>> slow;
  for (int i = 0; i < 100; ++i) {
    slow.push_back(std::make_unique<RawClient>(server.port()));
    slow.back()->send(
        "POST /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500\r\n\r\n{");
  }
  RawClient greedy(server.port());
  greedy.send("POST /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000\r\n\r\n{");
  EXPECT_EQ(status_of(greedy.read_answer().first), 413);
  const auto began = std::chrono::steady_clock::now();
  const std::string id = server.submit("a");
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(2));
  server.wait_for(id, "completed");
}
#endif

TEST_F(Serve, RefusesBadConfigurations) {
  const auto refused = [&](Arguments arguments, const std::string& part) {
    arguments.insert(arguments.begin(), {"serve", "--model", (*folder_ / "model").string(),
                                         "--data", (*folder_ / "data").string(), "--port=0"});
    EXPECT_TRUE(refuses(run_here(arguments), part)) << part;
  };
  refused({"--host=0.0.0.0"}, "--host: found 0.0.0.0 without --keys, which lets everybody in");
  refused({"--host=nowhere", "--open-to-all"}, "--host: found \"nowhere\"");
  refused({"--keys", (*folder_ / "none").string()}, "none: cannot read it");
  refused({"--container=avi"}, "--container: found \"avi\", expected mp4 or webm");
  refused({"--max-queued=0"}, "--max-queued: found 0");
  refused({"--batch=0"}, "--batch: found 0, expected 1 to 64");
  refused({"--ssp=2"}, "mesh: found --ssp 2 for 1 process(es)");
  refused({"--patience=0"}, "--patience: found 0");
  refused({"--max-width=16"}, "expected at least the model's own 48");
  refused({"--loras", (*folder_ / "none").string()}, "cannot read it");
  refused({"--devices=tpu"}, "--devices: found \"tpu\"");
  write_file(*folder_ / "serve.yaml", "port: many\n");
  refused({"--config", (*folder_ / "serve.yaml").string()}, "port");
  write_file(*folder_ / "taken", "");
  EXPECT_TRUE(refuses(run_here({"serve", "--model", (*folder_ / "model").string(), "--data",
                                (*folder_ / "taken").string()}),
                      "--data"));
  EXPECT_TRUE(refuses(run_here({"serve", "--port=0"}), "transformer"));
}

TEST_F(Serve, DrawsKeys) {
  const Outcome outcome = run_here({"serve", "--new-key", "ann"});
  EXPECT_EQ(outcome.status, 0);
  EXPECT_TRUE(outcome.out.starts_with("key:  osp-")) << outcome.out;
  EXPECT_NE(outcome.out.find("\nline: ann "), std::string::npos);
}

}  // namespace
}  // namespace ospnext
