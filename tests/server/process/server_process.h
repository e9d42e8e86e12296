// ospnext serve as a process, and the model that it serves.
#pragma once

#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>

#include "cli/launched_processes.h"
#include "cli/run_ospnext.h"
#include "support/http_client.h"
#include "support/tiny_model.h"

namespace ospnext {

// The program as a server of a tiny random model.
class ServerProcess {
 public:
  // `more`: further flags. `launch`: what stands before "serve" to start several processes.
  explicit ServerProcess(const TemporaryFolder& folder, const Arguments& more = {},
                         const Arguments& launch = {})
      : out_((folder / "out").string()), err_((folder / "err").string()) {
    std::filesystem::remove(out_);
    Arguments words = {program_path(),     "serve",
                       "--model",          (folder / "model").string(),
                       "--data",           (folder / "data").string(),
                       "--port=0",         "--preview=0",
                       "--lease-seconds=2"};
    words.insert(words.end(), more.begin(), more.end());
    words.insert(words.begin() + 1, launch.begin(), launch.end());
    pid_ = ::fork();
    if (pid_ == 0) {
      std::vector<char*> pointers;
      for (std::string& word : words) {
        pointers.push_back(word.data());
      }
      pointers.push_back(nullptr);
      ::dup2(::open(out_.c_str(), O_WRONLY | O_CREAT, 0600), STDOUT_FILENO);
      ::dup2(::open(err_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600), STDERR_FILENO);
      ::execv(pointers[0], pointers.data());
      ::_exit(127);
    }
    wait_until(
        [&] { return file_text(out_).ends_with("\n") || ::waitpid(pid_, nullptr, WNOHANG) != 0; });
    const std::string line = file_text(out_);
    EXPECT_NE(line.find("listening on http://127.0.0.1:"), std::string::npos)
        << line << file_text(err_);
    port_ = static_cast<uint16_t>(std::atoi(line.c_str() + line.rfind(':') + 1));
  }
  ~ServerProcess() {
    if (pid_ > 0) {
      end(SIGKILL);
    }
  }
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  // Sends a signal and waits for the end. Returns the exit status, or -signal.
  int end(int signal) {
    ::kill(pid_, signal);
    return wait_for_end();
  }
  int wait_for_end() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  pid_t pid() const { return pid_; }
  uint16_t port() const { return port_; }
  std::string err() const { return file_text(err_); }

  // An answer's status and body; 0 if the server has gone.
  std::pair<int, std::string> call(const std::string& method, const std::string& path,
                                   const std::string& body = "") const {
    RawClient client(port_, 30);
    client.send(method + " " + path +
                " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n" +
                "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    const auto [head, text] = client.read_answer();
    return {status_of(head), text};
  }
  nlohmann::json get(const std::string& path) const {
    return nlohmann::json::parse(call("GET", path).second);
  }
  std::string submit(const std::string& prompt, int64_t steps = 3) const {
    const nlohmann::json request = {
        {"prompt", prompt}, {"seed", 7}, {"num_inference_steps", steps}};
    const auto [status, body] = call("POST", "/v1/videos", request.dump());
    EXPECT_EQ(status, 200) << body;
    return nlohmann::json::parse(body).at("id");
  }
  std::string status_of_video(const std::string& id) const {
    return get("/v1/videos/" + id).at("status");
  }
  void wait_for(const std::string& id, const std::string& status) const {
    wait_until([&] { return status_of_video(id) == status; });
    EXPECT_EQ(status_of_video(id), status) << get("/v1/videos/" + id);
  }

 private:
  std::string out_, err_;
  pid_t pid_ = -1;
  uint16_t port_ = 0;
};

// A model in a folder, and a data folder beside it that is empty before each test.
class ServedModel : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TemporaryFolder>();
    write_tiny_diffusers_model(*folder_ / "model");
  }
  static void TearDownTestSuite() { folder_.reset(); }
  void SetUp() override { std::filesystem::remove_all(*folder_ / "data"); }

  static std::filesystem::path video_of(const std::string& id) {
    for (const auto& entry : std::filesystem::directory_iterator(*folder_ / "data/videos" / id)) {
      if (entry.path().extension() == ".mp4") {
        return entry.path();
      }
    }
    return {};
  }
  // Whether `generate` makes the same file from the record beside it. `launch`: what stands before
  // "generate" to start several processes, `more`: further flags.
  static void expect_generated(const std::string& id, const Arguments& launch = {},
                               const Arguments& more = {}) {
    const std::filesystem::path video = video_of(id);
    std::filesystem::path record = video;
    record.replace_extension(".json");
    const std::string again = (*folder_ / "again.mp4").string();
    Arguments words = {"generate", "--config", record.string(), "--output", again};
    words.insert(words.end(), more.begin(), more.end());
    words.insert(words.begin(), launch.begin(), launch.end());
    const Outcome outcome = launch.empty() ? run_here(words) : run_binary(words);
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(file_text(again), file_text(video));
  }

  static inline std::unique_ptr<TemporaryFolder> folder_;
};

}  // namespace ospnext
