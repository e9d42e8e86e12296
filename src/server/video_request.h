// What a client may ask for, and what is made of it: the one list of the API's fields.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "io/http/web_address.h"
#include "server/api_error.h"
#include "server/model_card.h"

namespace ospnext {

constexpr size_t kLongestIdempotencyKey = 255;  // bytes

// What the operator allows.
struct RequestLimits {
  int64_t prompt = 4000;  // characters
  int64_t width = 1280;   // pixels
  int64_t height = 1280;
  int64_t frames = 161;
  int64_t steps = 100;
  std::vector<WebAddress> webhooks = {};  // where they may go
};

// "832x480", as the field `size` has it.
inline std::string size_text(int64_t width, int64_t height) {
  return std::to_string(width) + "x" + std::to_string(height);
}

// Rules of fields, which check values and make the schema. A text has `low` to `high` characters.
struct TextRule {
  int64_t low, high;
};
// "832x480": sides that are multiples of `step`.
struct SizeRule {
  int64_t step, width, height;
};
// A number is a multiple of `step`, unless `step` is 0.
struct WholeRule {
  int64_t low, high, step = 0;
};
struct RealRule {
  double low, high;
  bool is_text_too = false;  // "2.5", as OpenAI's `seconds` is; then `low` is 0
};

// A request as it was sent; what was not said is the model's own choice. The names are those of
// OpenAI's API, and for the rest those of SGLang and vLLM-Omni.
struct VideoRequest {
  std::optional<std::string> prompt, model, size, negative_prompt, lora, webhook_url;
  std::optional<int64_t> width, height, num_frames, num_inference_steps, seed, priority;
  std::optional<double> seconds, fps, guidance_scale, flow_shift, lora_scale;

  template <class Visitor>
  void visit(const RequestLimits& limits, const ModelCard& model_card, Visitor&& field) {
    constexpr int64_t kLongestName = 200;
    constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
    const int64_t side = model_card.side_step;
    field("prompt", prompt, TextRule{1, limits.prompt}, "what the video should show");
    field("model", model, TextRule{1, kLongestName}, "the name of the model, as /v1/models has it");
    const double longest = static_cast<double>(limits.frames - 1) / model_card.fps;
    field("seconds", seconds, RealRule{0, std::min(longest, 3600.0), /*is_text_too=*/true},
          "length of the video: fps * seconds frames and one more, rounded to what the model "
          "makes; a larger fps than the model's leaves room for fewer seconds");
    field("size", size, SizeRule{side, limits.width, limits.height}, "WIDTHxHEIGHT in pixels");
    field("width", width, WholeRule{side, limits.width, side}, "pixels, instead of size");
    field("height", height, WholeRule{side, limits.height, side}, "pixels, instead of size");
    field("num_frames", num_frames, WholeRule{1, limits.frames},
          "instead of seconds; where the model cannot make as many, the number that diffusers "
          "makes of it: 81 for 80");
    field("fps", fps, RealRule{1, 120}, "frames a second of the file");
    field("num_inference_steps", num_inference_steps, WholeRule{1, limits.steps},
          "denoising steps");
    field("guidance_scale", guidance_scale, RealRule{0.001, 100},
          "strength of the prompt; up to 1: no guidance");
    field("flow_shift", flow_shift, RealRule{0.01, 100},
          "time shift; larger spends more steps at high noise");
    field("seed", seed, WholeRule{-1, kLargest}, "of the noise; -1 or nothing: drawn");
    field("negative_prompt", negative_prompt, TextRule{0, limits.prompt},
          "what the video should not show");
    field("lora", lora, TextRule{1, kLongestName}, "a LoRA, by its name in /v1/loras");
    field("lora_scale", lora_scale, RealRule{-10, 10}, "strength of the LoRA; 1 if not said");
    field("priority", priority, WholeRule{-100, 100},
          "videos of a higher one are made first; 0 if not said");
    field("webhook_url", webhook_url, TextRule{8, 2000},
          "is told of the end of the video, where the operator allows it");
  }
};

// Reads a request. Values that came in a form are texts, which are read as numbers where a number
// is meant. Throws ApiError (400) for a wrong type or value, an unknown name, and what no model
// here can do, by its name.
VideoRequest read_request(const nlohmann::json& body, bool is_form, const RequestLimits& limits,
                          const ModelCard& model);

// One video, with every value decided.
struct VideoSettings {
  std::string prompt = {};
  std::string negative_prompt = {};
  int64_t width = 0;
  int64_t height = 0;
  int64_t num_frames = 0;
  double fps = 0;
  int64_t num_inference_steps = 0;
  double guidance_scale = 0;
  double flow_shift = 0;
  int64_t seed = 0;
  std::string lora = {};  // "": none
  double lora_scale = 1;
  int64_t priority = 0;
  std::string webhook_url = {};  // "": none

  template <class Visitor>
  void visit(Visitor&& field) {
    field("prompt", prompt, "");
    field("negative_prompt", negative_prompt, "");
    field("width", width, "");
    field("height", height, "");
    field("num_frames", num_frames, "");
    field("fps", fps, "");
    field("num_inference_steps", num_inference_steps, "");
    field("guidance_scale", guidance_scale, "");
    field("flow_shift", flow_shift, "");
    field("seed", seed, "");
    field("lora", lora, "");
    field("lora_scale", lora_scale, "");
    field("priority", priority, "");
    field("webhook_url", webhook_url, "");
  }

  // Pixels that the transformer computes, over all steps and passes: what its time grows with.
  double work() const;
};

// Fills in the model's own values, and a drawn seed where none is given. Throws ApiError: 404 for
// another model or LoRA than there is, 400 for what does not go together.
VideoSettings settle(const VideoRequest& request, const RequestLimits& limits,
                     const ModelCard& model);

// The error of a request that names another model than there is.
ApiError no_such_model(const std::string& found, const ModelCard& model);

// The fields as a JSON schema, of JSON or of forms. It lacks one rule, which no schema can say: fps
// and seconds together give at most `limits.frames` frames.
nlohmann::json request_schema(const RequestLimits& limits, const ModelCard& model, bool is_form);

}  // namespace ospnext
