// ospnext serve in two processes that make each video together.
#include "server/process/server_process.h"

#ifdef OSPNEXT_FFMPEG
namespace ospnext {
namespace {

const Arguments kLaunch = {"launch", "-n", "2", "--"};
// Not both passes of guidance at the same time, which is chosen otherwise and needs few exchanges.
const Arguments kMesh = {"--cfg-parallel=1"};

class ServeOnAMesh : public ServedModel {
 protected:
  static Arguments with_mesh(Arguments more) {
    more.insert(more.end(), kMesh.begin(), kMesh.end());
    return more;
  }
};

TEST_F(ServeOnAMesh, MakesGeneratesVideosAndOutlivesJobsThatEndOtherwise) {
  std::filesystem::create_directories(*folder_ / "loras");
  write_file(*folder_ / "loras/broken.safetensors", "not a LoRA");
  ServerProcess server(*folder_,
                       with_mesh({"--max-steps=10000", "--loras", (*folder_ / "loras").string()}),
                       kLaunch);
  const std::string red = server.submit("a red ball"), blue = server.submit("a blue cube");
  const std::string endless = server.submit("endless", 10'000);
  const auto [status, body] =
      server.call("POST", "/v1/videos", R"({"prompt": "a", "lora": "broken"})");
  ASSERT_EQ(status, 200) << body;
  const std::string broken = nlohmann::json::parse(body).at("id");
  const std::string last = server.submit("a red ball", 40);
  server.wait_for(endless, "in_progress");
  EXPECT_EQ(server.call("POST", "/v1/videos/" + endless + "/cancel").first, 200);
  server.wait_for(broken, "failed");
  EXPECT_EQ(server.get("/v1/videos/" + broken).at("error").at("code"), "generation_failed");
  server.wait_for(last, "in_progress");
  EXPECT_EQ(server.status_of_video(red), "completed");
  EXPECT_EQ(server.status_of_video(blue), "completed");
  EXPECT_EQ(server.status_of_video(endless), "cancelled");
  EXPECT_EQ(server.end(SIGTERM), 0) << server.err();
  for (const std::string& id : {blue, last}) {  // the last one while the server was draining
    expect_generated(id, kLaunch, kMesh);
  }
}

TEST_F(ServeOnAMesh, MakesWaitingVideosAtTheSameTimeEachByItsOwnRank) {
  std::string alone, red, blue;
  {
    ServerProcess server(*folder_, with_mesh({"--batch=2"}), kLaunch);
    EXPECT_NE(server.err().find("2 processes: data 1 "), std::string::npos) << server.err();
    EXPECT_NE(server.err().find("2 processes for 2 videos: data 2 "), std::string::npos)
        << server.err();
    alone = server.submit("a red ball", 40);
    server.wait_for(alone, "in_progress");
    red = server.submit("a red ball");
    blue = server.submit("a blue cube");
    server.wait_for(blue, "completed");
    EXPECT_EQ(server.get("/v1/videos/" + alone).at("batch_size"), 1);
    EXPECT_EQ(server.get("/v1/videos/" + red).at("batch_size"), 2);
    EXPECT_EQ(server.end(SIGTERM), 0) << server.err();
  }
  expect_generated(alone, kLaunch, kMesh);
  expect_generated(red);
  expect_generated(blue);
}

TEST_F(ServeOnAMesh, EndsWithALostRankAndMakesItsVideoAgain) {
  std::string id;
  {
    ServerProcess server(*folder_, with_mesh({"--max-steps=10000"}), kLaunch);
    id = server.submit("a red ball", 40);
    server.wait_for(id, "in_progress");
    const std::vector<pid_t> ranks = children_of(server.pid());
    ASSERT_EQ(ranks.size(), 2u);
    ::kill(ranks[1], SIGKILL);
    EXPECT_EQ(server.wait_for_end(), 1);
    EXPECT_NE(server.err().find("rank 1 was killed by signal 9"), std::string::npos)
        << server.err();
    wait_until([&] { return all_gone(ranks); });
    EXPECT_TRUE(all_gone(ranks));
  }
  const ServerProcess next(*folder_);
  next.wait_for(id, "completed");
  expect_generated(id);
}

TEST_F(ServeOnAMesh, RefusesSeveralDevices) {
  const Outcome outcome = run_binary(
      {"serve", "--model", (*folder_ / "model").string(), "--devices=cpu", "--devices=cpu"}, {},
      [] {
        ::setenv("RANK", "0", 1);
        ::setenv("WORLD_SIZE", "2", 1);
        ::setenv("LOCAL_RANK", "0", 1);
        ::setenv("MASTER_ADDR", "127.0.0.1", 1);
        ::setenv("MASTER_PORT", "29500", 1);
      });
  EXPECT_TRUE(
      refuses(outcome, "--devices: found 2 with 2 processes that make each video together"));
}

}  // namespace
}  // namespace ospnext
#endif
