// The API on a store in a temporary folder, called without sockets.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "server/digest.h"
#include "server/video_api.h"
#include "support/temporary_folder.h"

namespace ospnext {

class Api : public testing::Test {
 protected:
  Api() {
    settings_.model = tiny_card();
    start();
  }

  // Begins again with other settings; the store stays.
  void start(StoreLimits limits = {}) {
    api_.reset();
    store_ = std::make_unique<JobStore>(folder_ / "data", limits, [this] { return now_ms_; });
    api_ = std::make_unique<VideoApi>(
        settings_, keys_, *store_, metrics_,
        [this](const std::string& line) { log_ += line + "\n"; }, [this] { ++new_jobs_; });
  }
  // Two keys, "alpha" of ann and "beta" of bob.
  void use_keys() {
    write_file(folder_ / "keys",
               "# keys\nann " + sha256_hex("alpha") + "\n\nbob " + sha256_hex("beta") + "\n");
    keys_ = KeyRing(folder_ / "keys");
    start();
  }

  // As the server calls it: refuse() first.
  HttpResponse call(HttpRequest request) {
    request.headers.emplace("host", "localhost:8000");
    auto refusal = api_->refuse(request);
    return refusal ? *refusal : api_->answer(request);
  }
  static HttpRequest get(const std::string& target) {
    HttpRequest request;
    request.method = "GET";
    EXPECT_TRUE(split_target(target, request));
    return request;
  }
  static HttpRequest post(const std::string& target, const nlohmann::json& body) {
    HttpRequest request = get(target);
    request.method = "POST";
    request.headers["content-type"] = "application/json";
    request.body = body.dump();
    return request;
  }
  static HttpRequest with(HttpRequest request, const std::string& header,
                          const std::string& value) {
    request.headers[header] = value;
    return request;
  }
  static HttpRequest with_key(HttpRequest request, const std::string& key) {
    return with(std::move(request), "authorization", "Bearer " + key);
  }

  static nlohmann::json json_of(const HttpResponse& response) {
    return nlohmann::json::parse(std::get<std::string>(response.body));
  }
  static std::string header_of(const HttpResponse& response, const std::string& name) {
    for (const auto& [header, value] : response.headers) {
      if (header == name) {
        return value;
      }
    }
    return "";
  }
  // Expects an error of this kind whose message has `words`, about the field `param`.
  static void expect_error(const HttpResponse& response, int status, const std::string& words,
                           const std::string& param = "") {
    EXPECT_EQ(response.status, status) << words;
    const nlohmann::json error = json_of(response).at("error");
    EXPECT_NE(error.at("message").get<std::string>().find(words), std::string::npos)
        << error << " lacks: " << words;
    EXPECT_EQ(error.at("param"), param.empty() ? nlohmann::json() : nlohmann::json(param)) << words;
    EXPECT_TRUE(error.at("type").is_string() && error.at("code").is_string());
  }
  nlohmann::json created(const nlohmann::json& body) {
    const HttpResponse response = call(post("/v1/videos", body));
    EXPECT_EQ(response.status, 200) << std::get<std::string>(response.body);
    return json_of(response);
  }
  // Claims the next job and completes it with a file of these bytes.
  Job complete_next(const std::string& bytes) {
    const Job job = store_->claim(settings_.model.id, "w").front();
    std::filesystem::create_directories(store_->folder_of(job.id));
    write_file(store_->file_of(job, ".mp4"), bytes);
    write_file(store_->file_of(job, "-thumbnail.png"), "thumb");
    EXPECT_TRUE(store_->complete(job.id, "w", 5));
    return job;
  }

  static ModelCard tiny_card() {
    ModelCard card;
    card.id = "tiny";
    card.width = card.height = 128;
    card.num_frames = 33;
    card.num_inference_steps = 30;
    card.guidance_scale = 4;
    card.flow_shift = 3;
    card.loras = {{"style", "/secret/style.safetensors"}};
    return card;
  }

  TemporaryFolder folder_;
  ApiSettings settings_;
  KeyRing keys_;
  Metrics metrics_;
  std::string log_;
  int new_jobs_ = 0;
  int64_t now_ms_ = 5'000'000;
  std::unique_ptr<JobStore> store_;
  std::unique_ptr<VideoApi> api_;
};

}  // namespace ospnext
