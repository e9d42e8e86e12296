// Requests as the documents of SGLang and vLLM-Omni show them: each of their fields means what it
// means there, or is refused by its name. Sources: docs/diffusion/api/openai_api.md of SGLang, and
// its class VideoGenerationsRequest; docs/serving/videos_api.md and
// examples/online_serving/text_to_video/README.md of vLLM-Omni.
#include "server/api_fixture.h"

namespace ospnext {
namespace {

using nlohmann::json;
using Fields = std::vector<std::pair<std::string, json>>;

constexpr const char* kCat = "A calico cat playing a piano on stage";
constexpr const char* kCity = "A cinematic view of a futuristic city at sunset";

// A field with its documented value, and the member of the video that then has the same value.
struct TakenField {
  const char* name;
  json value;
  const char* member;
};

class OtherServers : public Api {
 protected:
  HttpResponse ask_with_json(const Fields& fields) {
    json body = json::object();
    for (const auto& [name, value] : fields) {
      body[name] = value;
    }
    return call(post("/v1/videos", body));
  }
  // As curl's -F sends it.
  HttpResponse ask_with_form(const Fields& fields) {
    const std::string boundary = "------------------------d74496d66958873e";
    HttpRequest request = get("/v1/videos");
    request.method = "POST";
    request.headers["content-type"] = "multipart/form-data; boundary=" + boundary;
    for (const auto& [name, value] : fields) {
      request.body += "--" + boundary + "\r\nContent-Disposition: form-data; name=\"" + name +
                      "\"\r\n\r\n" + (value.is_string() ? value.get<std::string>() : value.dump()) +
                      "\r\n";
    }
    request.body += "--" + boundary + "--\r\n";
    return call(request);
  }
};

TEST_F(OtherServers, ExamplesOfSglangAreTaken) {
  const HttpResponse plain = ask_with_json({{"prompt", kCat}, {"size", "1280x720"}});
  ASSERT_EQ(plain.status, 200);
  const json video = json_of(plain);
  EXPECT_EQ(video["prompt"], kCat);
  EXPECT_EQ(video["size"], "1280x720");
  EXPECT_EQ(video["status"], "queued");
  const TakenField taken[] = {{"size", "1280x720", "size"},
                              {"seconds", "4", "seconds"},
                              {"fps", 24, "fps"},
                              {"num_frames", 121, "num_frames"},
                              {"seed", 1024, "seed"},
                              {"num_inference_steps", 50, "num_inference_steps"},
                              {"guidance_scale", 5.0, "guidance_scale"},
                              {"negative_prompt", "low quality, blurry", "negative_prompt"}};
  for (const TakenField& field : taken) {
    const HttpResponse response = ask_with_json({{"prompt", kCat}, {field.name, field.value}});
    ASSERT_EQ(response.status, 200) << field.name;
    EXPECT_EQ(json_of(response)[field.member], field.value) << field.name;
  }
  EXPECT_EQ(json_of(ask_with_json({{"prompt", kCat}, {"seconds", 4}, {"fps", 24}}))["num_frames"],
            97);
}

TEST_F(OtherServers, WhatSglangHasMoreIsRefusedByName) {
  const std::pair<const char*, json> refused[] = {
      {"input_reference", "cat.png"}, {"guidance_scale_2", 4.0},     {"true_cfg_scale", 4.0},
      {"enable_teacache", true},      {"output_quality", "default"}, {"output_compression", 90},
      {"output_path", "/tmp/videos"}, {"generator_device", "cuda"},  {"rollout", true}};
  for (const auto& [name, value] : refused) {
    const HttpResponse response = ask_with_json({{"prompt", kCat}, {name, value}});
    expect_error(response, 400, std::string("`") + name + "`: this model cannot do it", name);
    EXPECT_EQ(json_of(response)["error"]["code"], "unsupported_parameter") << name;
  }
}

// Its first example asks for 80 frames, of which Wan's pipelines make 81.
TEST_F(OtherServers, TheQuickStartOfVllmOmniIsTaken) {
  const HttpResponse response = ask_with_form({{"prompt", kCity},
                                               {"width", 1280},
                                               {"height", 720},
                                               {"num_frames", 80},
                                               {"fps", 16},
                                               {"num_inference_steps", 40}});
  ASSERT_EQ(response.status, 200) << std::get<std::string>(response.body);
  EXPECT_EQ(json_of(response)["num_frames"], 81);
  EXPECT_EQ(json_of(response)["seconds"], "5");
  const std::pair<int64_t, int64_t> made[] = {{1, 1}, {3, 1}, {4, 5}, {83, 81}, {161, 161}};
  for (const auto& [asked, frames] : made) {
    EXPECT_EQ(json_of(ask_with_json({{"prompt", kCity}, {"num_frames", asked}}))["num_frames"],
              frames);
  }
  // 854 is no multiple of 16.
  expect_error(ask_with_form({{"prompt", kCity}, {"width", 854}, {"height", 480}}), 400,
               "`width`: found 854, expected 16 to 1280, a multiple of 16", "width");
}

TEST_F(OtherServers, TheExampleOfVllmOmniIsTakenButForItsSecondTransformer) {
  Fields form = {{"prompt", kCity},
                 {"width", 832},
                 {"height", 480},
                 {"num_frames", 33},
                 {"negative_prompt", "low quality, blurry, static"},
                 {"fps", 16},
                 {"num_inference_steps", 40},
                 {"guidance_scale", 4.0},
                 {"flow_shift", 5.0},
                 {"seed", 42}};
  const HttpResponse response = ask_with_form(form);
  ASSERT_EQ(response.status, 200) << std::get<std::string>(response.body);
  const json video = json_of(response);
  EXPECT_EQ(video["size"], "832x480");
  for (const auto& [name, value] : form) {
    if (name != "width" && name != "height") {
      EXPECT_EQ(video[name], value) << name;
    }
  }
  form.emplace_back("guidance_scale_2", 4.0);
  expect_error(ask_with_form(form), 400, "`guidance_scale_2`: this model cannot do it: it has one",
               "guidance_scale_2");
  form.back() = {"boundary_ratio", 0.875};
  expect_error(ask_with_form(form), 400, "`boundary_ratio`: this model cannot do it: it has one",
               "boundary_ratio");
}

TEST_F(OtherServers, OtherFieldsOfVllmOmniAreTakenOrRefusedByName) {
  EXPECT_EQ(json_of(ask_with_form({{"prompt", kCity}, {"seconds", "4"}}))["num_frames"], 65);
  EXPECT_EQ(json_of(ask_with_form({{"prompt", kCity}, {"size", "832x480"}}))["size"], "832x480");
  EXPECT_EQ(json_of(ask_with_form({{"prompt", kCity}, {"model", "tiny"}}))["model"], "tiny");
  const std::pair<const char*, json> refused[] = {
      {"extra_params", json{{"sample_solver", "unipc"}}},
      {"image_reference", json{{"image_url", "https://example.org/cat.png"}}},
      {"video_reference", json{{"video_url", "https://example.org/cat.mp4"}}},
      {"audio_reference", json{{"audio_url", "https://example.org/cat.wav"}}},
      {"generate_sound", true},
      {"sound_duration", 2.5},
      {"control_reference", "edges.mp4"},
      {"control_type", "edge"},
      {"source_video", "source.mp4"},
      {"source_audio", "source.wav"},
      {"video_noise_mask", "mask.json"},
      {"audio_noise_mask", "mask.json"},
      {"true_cfg_scale", 4.0},
      {"enable_frame_interpolation", true},
      {"frame_interpolation_exp", 1},
      {"frame_interpolation_scale", 1.0},
      {"frame_interpolation_model_path", "rife"}};
  for (const auto& [name, value] : refused) {
    expect_error(ask_with_form({{"prompt", kCity}, {name, value}}), 400,
                 std::string("`") + name + "`: this model cannot do it", name);
  }
  // Their LoRA is an object with a path of the server's, ours a name.
  const json lora = {{"name", "style"}, {"path", "/loras/style"}, {"scale", 0.8}};
  expect_error(ask_with_form({{"prompt", kCity}, {"lora", lora}}), 404, "/v1/loras lists", "lora");
  expect_error(ask_with_json({{"prompt", kCity}, {"lora", lora}}), 400, "expected a text", "lora");
}

}  // namespace
}  // namespace ospnext
