// The API of videos without sockets: what it takes, gives and refuses.
#include "server/video_api.h"

#include "server/api_fixture.h"

namespace ospnext {
namespace {

using nlohmann::json;

TEST_F(Api, AVideoHasTheModelsOwnValues) {
  const HttpResponse response = call(post("/v1/videos", {{"prompt", "a red ball"}, {"seed", 7}}));
  ASSERT_EQ(response.status, 200);
  const json video = json_of(response);
  const json expected = {{"object", "video"},
                         {"status", "queued"},
                         {"progress", 0},
                         {"created_at", 5000},
                         {"started_at", nullptr},
                         {"completed_at", nullptr},
                         {"expires_at", nullptr},
                         {"model", "tiny"},
                         {"prompt", "a red ball"},
                         {"negative_prompt", ""},
                         {"seconds", "2"},
                         {"size", "128x128"},
                         {"seed", 7},
                         {"num_frames", 33},
                         {"fps", 16.0},
                         {"num_inference_steps", 30},
                         {"guidance_scale", 4.0},
                         {"flow_shift", 3.0},
                         {"lora", nullptr},
                         {"lora_scale", nullptr},
                         {"priority", 0},
                         {"batch_size", nullptr},
                         {"remixed_from_video_id", nullptr},
                         {"eta_seconds", nullptr},
                         {"queue_position", 1},
                         {"error", nullptr}};
  json found = video;
  found.erase("id");
  EXPECT_EQ(found, expected);
  EXPECT_TRUE(video["id"].get<std::string>().starts_with("video_"));
  EXPECT_EQ(header_of(response, "openai-poll-after-ms"), "1000");
  EXPECT_EQ(new_jobs_, 1);
  EXPECT_EQ(json_of(call(get("/v1/videos/" + video["id"].get<std::string>()))), video);
}

TEST_F(Api, TakesTheFieldsOfOtherServers) {
  const json video = created({{"prompt", "a"},
                              {"model", "tiny"},
                              {"seconds", "4"},
                              {"size", "64x128"},
                              {"num_inference_steps", 5},
                              {"guidance_scale", 1},
                              {"negative_prompt", "grey"},
                              {"flow_shift", 2.5},
                              {"lora", "style"},
                              {"lora_scale", 0.5},
                              {"priority", 3}});
  EXPECT_EQ(video["num_frames"], 65);
  EXPECT_EQ(video["seconds"], "4");
  EXPECT_EQ(video["size"], "64x128");
  EXPECT_EQ(video["guidance_scale"], 1.0);
  EXPECT_EQ(video["lora"], "style");
  EXPECT_EQ(video["lora_scale"], 0.5);
  EXPECT_EQ(created({{"prompt", "a"}, {"seconds", 2}, {"fps", 8}})["num_frames"], 17);
  EXPECT_EQ(created({{"prompt", "a"}, {"seconds", "0.25"}})["num_frames"], 5);
  EXPECT_EQ(created({{"prompt", "a"}, {"num_frames", 17}, {"fps", 8}})["seconds"], "2");
  EXPECT_EQ(created({{"prompt", "a"}, {"width", 64}, {"height", 32}})["size"], "64x32");
  EXPECT_EQ(created({{"prompt", "a"}, {"seed", nullptr}, {"seconds", nullptr}})["num_frames"], 33);
}

TEST_F(Api, DrawsSeedsThatDiffer) {
  const json one = created({{"prompt", "a"}}), other = created({{"prompt", "a"}, {"seed", -1}});
  EXPECT_NE(one["seed"], other["seed"]);
  EXPECT_GE(other["seed"], 0);
}

TEST_F(Api, TakesForms) {
  HttpRequest request = get("/v1/videos");
  request.method = "POST";
  request.headers["content-type"] = "multipart/form-data; boundary=b";
  const auto form = [&](const std::string& extra) {
    request.body =
        "--b\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na red ball\r\n--b\r\n"
        "Content-Disposition: form-data; name=\"seed\"\r\n\r\n42\r\n" +
        extra + "--b--\r\n";
    return call(request);
  };
  const json video = json_of(form(""));
  EXPECT_EQ(video["prompt"], "a red ball");
  EXPECT_EQ(video["seed"], 42);
  const std::string part = "--b\r\nContent-Disposition: form-data; name=";
  expect_error(form(part + "\"input_reference\"; filename=\"a.png\"\r\n\r\n\x89PNG\r\n"), 400,
               "`input_reference`: this model cannot do it", "input_reference");
  expect_error(form(part + "fps\r\n\r\nfast\r\n"), 400, "found \"fast\", expected a number", "fps");
  expect_error(form(part + "seed\r\n\r\n1\r\n"), 400, "found it twice", "seed");
  request.headers["content-type"] = "multipart/form-data";
  expect_error(form(""), 400, "boundary");
}

TEST_F(Api, SaysWhatIsWrongWithAField) {
  const auto refused = [&](const json& fields, const std::string& words, const std::string& param,
                           int status = 400) {
    json body = {{"prompt", "a"}};
    body.update(fields);
    expect_error(call(post("/v1/videos", body)), status, words, param);
  };
  refused({{"prompt", nullptr}}, "`prompt`: missing", "prompt");
  refused({{"prompt", ""}}, "found 0 characters, expected 1 to 4000", "prompt");
  refused({{"prompt", std::string(4001, 'x')}}, "found 4001 characters", "prompt");
  refused({{"prompt", 5}}, "`prompt`: found 5, expected a text", "prompt");
  refused({{"size", "big"}}, "expected WIDTHxHEIGHT of multiples of 16 pixels, at most 1280x1280",
          "size");
  refused({{"size", "128x130"}}, "multiples of 16", "size");
  refused({{"size", "1296x128"}}, "at most 1280x1280", "size");
  refused({{"size", "128x128"}, {"width", 64}}, "another width", "size");
  refused({{"num_frames", 0}}, "found 0, expected 1 to 161", "num_frames");
  refused({{"num_frames", 165}}, "found 165", "num_frames");
  refused({{"num_frames", 5.5}}, "found 5.5, expected a whole number", "num_frames");
  refused({{"num_frames", "5"}}, "expected a whole number", "num_frames");
  refused({{"size", "0128x128"}}, "found \"0128x128\", expected WIDTHxHEIGHT", "size");
  refused({{"seconds", 10.5}}, "found 10.5, expected 0.0 to 10.0", "seconds");
  refused({{"seconds", 10}, {"fps", 32}}, "which is 321 frames, expected at most 161", "seconds");
  refused({{"seconds", "04"}}, "found \"04\", expected a number", "seconds");
  refused({{"fps", "16"}}, "found \"16\", expected a number", "fps");
  refused({{"seconds", "long"}}, "expected a number", "seconds");
  refused({{"seconds", 2}, {"num_frames", 5}}, "expected one of them", "seconds");
  refused({{"num_inference_steps", 0}}, "found 0, expected 1 to 100", "num_inference_steps");
  refused({{"guidance_scale", 1e9}}, "expected 0.001 to 100", "guidance_scale");
  refused({{"seed", -2}}, "found -2", "seed");
  refused({{"seed", 18446744073709551615u}}, "below 2^63", "seed");
  refused({{"fps", 0}}, "expected 1.0 to 120.0", "fps");
  refused({{"model", "sora-2"}}, "expected \"tiny\"", "model", 404);
  refused({{"lora", "../etc/passwd"}}, "expected one of those that /v1/loras lists", "lora", 404);
  refused({{"lora_scale", 1}}, "without lora", "lora_scale");
  refused({{"input_reference", "x"}}, "not of images", "input_reference");
  refused({{"output_path", "/etc"}}, "the server chooses", "output_path");
  refused({{"widht", 64}}, "`widht`: there is no such field, expected one of prompt, model",
          "widht");
  EXPECT_EQ(store_->counts().queued, 0);
}

TEST_F(Api, RefusesBodiesThatAreNone) {
  HttpRequest request = post("/v1/videos", {});
  for (const char* const body :
       {"", "{", "[]", "5", "{\"prompt\":\"a\",\"prompt\":\"b\"}", "{\"prompt\":\"\xff\"}"}) {
    request.body = body;
    EXPECT_EQ(call(request).status, 400) << body;
  }
  request.headers["content-type"] = "text/plain";
  EXPECT_EQ(call(request).status, 415);
}

TEST_F(Api, RemixesFromTheSameSeed) {
  const json first = created({{"prompt", "a red ball"}, {"seed", 99}, {"num_frames", 5}});
  const std::string id = first["id"];
  const json remix =
      json_of(call(post("/v1/videos/" + id + "/remix", {{"prompt", "a blue ball"}})));
  EXPECT_EQ(remix["seed"], 99);
  EXPECT_EQ(remix["num_frames"], 5);
  EXPECT_EQ(remix["prompt"], "a blue ball");
  EXPECT_EQ(remix["remixed_from_video_id"], id);
  expect_error(call(post("/v1/videos/" + id + "/remix", {{"prompt", "a"}, {"seed", 1}})), 400,
               "alone");
  expect_error(call(post("/v1/videos/video_0/remix", {{"prompt", "a"}})), 404, "no video");
}

TEST_F(Api, ListsInPages) {
  std::vector<std::string> ids;
  for (int i = 0; i < 3; ++i) {
    ids.push_back(created({{"prompt", std::to_string(i)}})["id"]);
  }
  const json page = json_of(call(get("/v1/videos?limit=2")));
  EXPECT_EQ(page["object"], "list");
  EXPECT_EQ(page["first_id"], ids[2]);
  EXPECT_EQ(page["last_id"], ids[1]);
  EXPECT_EQ(page["has_more"], true);
  const json rest = json_of(call(get("/v1/videos?limit=2&after=" + ids[1])));
  EXPECT_EQ(rest["data"].size(), 1u);
  EXPECT_EQ(rest["has_more"], false);
  EXPECT_EQ(json_of(call(get("/v1/videos?order=asc")))["first_id"], ids[0]);
  expect_error(call(get("/v1/videos?limit=0")), 400, "1 to 100", "limit");
  expect_error(call(get("/v1/videos?limit=5x")), 400, "1 to 100", "limit");
  expect_error(call(get("/v1/videos?order=up")), 400, "expected desc or asc", "order");
  expect_error(call(get("/v1/videos?after=video_0")), 404, "no video", "after");
}

TEST_F(Api, GivesTheModelByItsName) {
  settings_.model.id = "org/tiny model";
  start();
  const json model = json_of(call(get("/v1/models/org%2Ftiny%20model")));
  EXPECT_EQ(model["id"], "org/tiny model");
  EXPECT_EQ(model["object"], "model");
  EXPECT_EQ(json_of(call(get("/v1/models")))["data"], json::array({model}));
  for (const char* const other : {"sora-2", "tiny", "%ff%00"}) {
    const HttpResponse response = call(get(std::string("/v1/models/") + other));
    expect_error(response, 404, "expected \"org/tiny model\"", "model");
    EXPECT_EQ(json_of(response)["error"]["code"], "model_not_found");
  }
  EXPECT_EQ(call(get("/v1/models/%zz")).status, 404);
}

TEST_F(Api, CancelsAndDeletes) {
  const std::string id = created({{"prompt", "a"}})["id"];
  const std::string path = "/v1/videos/" + id;
  EXPECT_EQ(json_of(call(post(path + "/cancel", {})))["status"], "cancelled");
  EXPECT_EQ(json_of(call(post(path + "/cancel", {})))["status"], "cancelled");  // again
  created({{"prompt", "b"}});
  const Job done = complete_next("video");
  expect_error(call(post("/v1/videos/" + done.id + "/cancel", {})), 409, "completed");
  HttpRequest request = get(path);
  request.method = "DELETE";
  EXPECT_EQ(json_of(call(request)),
            (json{{"id", id}, {"object", "video.deleted"}, {"deleted", true}}));
  expect_error(call(request), 404, "no video");
  expect_error(call(get(path)), 404, "no video");
}

TEST_F(Api, GivesAFileWholeInPartsAndNotAgain) {
  created({{"prompt", "a"}});
  const std::string target =
      "/v1/videos/" + json_of(call(get("/v1/videos")))["first_id"].get<std::string>() + "/content";
  expect_error(call(get(target)), 404, "the video is queued");
  complete_next("0123456789");
  const auto bytes = [](const HttpResponse& response) {
    const auto& part = std::get<FilePart>(response.body);
    std::string text(part.length, '\0');
    part.file->seekg(static_cast<std::streamoff>(part.begin))
        .read(text.data(), static_cast<std::streamsize>(text.size()));
    return text;
  };
  const HttpResponse whole = call(get(target));
  EXPECT_EQ(whole.status, 200);
  EXPECT_EQ(bytes(whole), "0123456789");
  EXPECT_EQ(header_of(whole, "Content-Type"), "video/mp4");
  const std::string tag = header_of(whole, "ETag");
  const HttpResponse part = call(with(get(target), "range", "bytes=2-4"));
  EXPECT_EQ(part.status, 206);
  EXPECT_EQ(bytes(part), "234");
  EXPECT_EQ(header_of(part, "Content-Range"), "bytes 2-4/10");
  EXPECT_EQ(call(with(with(get(target), "range", "bytes=2-4"), "if-range", tag)).status, 206);
  EXPECT_EQ(call(with(with(get(target), "range", "bytes=2-4"), "if-range", "\"old\"")).status, 200);
  EXPECT_EQ(call(with(get(target), "if-none-match", tag)).status, 304);
  const HttpResponse outside = call(with(get(target), "range", "bytes=10-"));
  EXPECT_EQ(outside.status, 416);
  EXPECT_EQ(header_of(outside, "Content-Range"), "bytes */10");
  EXPECT_EQ(header_of(call(get(target + "?variant=thumbnail")), "Content-Type"), "image/png");
  expect_error(call(get(target + "?variant=spritesheet")), 404, "not there any more");
  expect_error(call(get(target + "?variant=../x")), 400, "video or thumbnail or spritesheet",
               "variant");
}

TEST_F(Api, TellsEventsAsTheyHappen) {
  const std::string id = created({{"prompt", "a"}})["id"];
  const HttpResponse response = call(get("/v1/videos/" + id + "/events"));
  EXPECT_EQ(header_of(response, "Content-Type"), "text/event-stream");
  EventSource next = std::get<EventSource>(response.body);
  EXPECT_TRUE(next()->starts_with("event: status\ndata: {"));
  EXPECT_EQ(*next(), "");
  const Job job = store_->claim("tiny", "w").front();
  EXPECT_NE(next()->find("\"status\":\"in_progress\""), std::string::npos);
  std::filesystem::create_directories(store_->folder_of(id));
  write_file(store_->file_of(job, "-preview.png"), "png");
  store_->report(id, "w", 40, 10);
  const std::string progress = *next();
  EXPECT_TRUE(progress.starts_with("event: progress\n"));
  EXPECT_NE(progress.find("\"progress\":40"), std::string::npos);
  EXPECT_NE(progress.find("event: preview\ndata: {\"png_base64\":\"cG5n\",\"step\":10}\n\n"),
            std::string::npos);
  store_->complete(id, "w", 1);
  EXPECT_NE(next()->find("\"status\":\"completed\""), std::string::npos);
  EXPECT_FALSE(next());
}

TEST_F(Api, EventsOfADeletedVideoEnd) {
  const std::string id = created({{"prompt", "a"}})["id"];
  EventSource next = std::get<EventSource>(call(get("/v1/videos/" + id + "/events")).body);
  next();
  store_->remove(id, "");
  EXPECT_FALSE(next());
}

TEST_F(Api, AFullQueueSaysWhenToComeBack) {
  start({.queued = 1});
  created({{"prompt", "a"}});
  const HttpResponse full = call(post("/v1/videos", {{"prompt", "b"}}));
  expect_error(full, 429, "the queue is full");
  EXPECT_EQ(header_of(full, "Retry-After"), "10");
  EXPECT_EQ(json_of(full)["error"]["code"], "queue_full");
  EXPECT_EQ(json_of(full)["error"]["type"], "rate_limit_error");
}

TEST_F(Api, ARepeatedRequestGivesTheSameVideo) {
  const HttpRequest request = with(post("/v1/videos", {{"prompt", "a"}}), "idempotency-key", "k1");
  const json first = json_of(call(request));
  EXPECT_EQ(json_of(call(request)), first);
  EXPECT_EQ(new_jobs_, 1);
  expect_error(call(with(post("/v1/videos", {{"prompt", "b"}}), "idempotency-key", "k1")), 409,
               "Idempotency-Key");
}

TEST_F(Api, ADrainingServerTakesNoVideos) {
  const std::string id = created({{"prompt", "a"}})["id"];
  api_->drain();
  expect_error(call(post("/v1/videos", {{"prompt", "b"}})), 503, "about to stop");
  EXPECT_EQ(call(get("/v1/videos/" + id)).status, 200);
  EXPECT_EQ(json_of(call(get("/health")))["status"], "draining");
}

}  // namespace
}  // namespace ospnext
