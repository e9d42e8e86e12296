#include "server/video_json.h"

#include <algorithm>
#include <cmath>

namespace ospnext {
namespace {

using nlohmann::json;

json seconds_or_null(int64_t ms) {
  return ms == 0 ? json() : json(ms / 1000);
}

json text_or_null(const std::string& text) {
  return text.empty() ? json() : json(text);
}

// OpenAI's `seconds` is a number in a text.
std::string seconds_text(const VideoSettings& settings) {
  const double seconds = static_cast<double>(settings.num_frames - 1) / settings.fps;
  const double rounded = std::round(seconds * 100) / 100;
  return rounded == std::floor(rounded) ? std::to_string(static_cast<int64_t>(rounded))
                                        : json(rounded).dump();
}

// The text of an object that may hold bytes of a client that are not UTF-8.
std::string text_of(const json& body) {
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

const char* type_of(int status) {
  return status == 401 || status == 403 ? "authentication_error"
         : status == 429                ? "rate_limit_error"
         : status >= 500                ? "server_error"
                                        : "invalid_request_error";
}

}  // namespace

json video_object(const Job& job, const Outlook& outlook) {
  const VideoSettings& settings = job.settings;
  json error;
  if (!job.error_code.empty()) {
    error = {{"code", job.error_code}, {"message", job.error_message}};
  }
  json eta;
  if (outlook.eta_seconds) {
    eta = std::round(*outlook.eta_seconds * 10) / 10;
  }
  return {{"id", job.id},
          {"object", "video"},
          {"status", status_name(job.status)},
          {"progress", job.progress},
          {"created_at", job.created_ms / 1000},
          {"started_at", seconds_or_null(job.started_ms)},
          {"completed_at", seconds_or_null(job.completed_ms)},
          {"expires_at", seconds_or_null(job.expires_ms)},
          {"model", job.model},
          {"prompt", settings.prompt},
          {"negative_prompt", settings.negative_prompt},
          {"seconds", seconds_text(settings)},
          {"size", size_text(settings.width, settings.height)},
          {"seed", settings.seed},
          {"num_frames", settings.num_frames},
          {"fps", settings.fps},
          {"num_inference_steps", settings.num_inference_steps},
          {"guidance_scale", settings.guidance_scale},
          {"flow_shift", settings.flow_shift},
          {"lora", text_or_null(settings.lora)},
          {"lora_scale", settings.lora.empty() ? json() : json(settings.lora_scale)},
          {"priority", settings.priority},
          {"batch_size", job.batch_size == 0 ? json() : json(job.batch_size)},
          {"remixed_from_video_id", text_or_null(job.remixed_from)},
          {"eta_seconds", eta},
          {"queue_position", outlook.queue_position == 0 ? json() : json(outlook.queue_position)},
          {"error", error}};
}

HttpResponse json_response(const json& body, int status) {
  return {status,
          {{"Content-Type", "application/json"}, {"Cache-Control", "no-store"}},
          text_of(body) + "\n"};
}

HttpResponse video_response(const Job& job, const Outlook& outlook, int status) {
  HttpResponse response = json_response(video_object(job, outlook), status);
  if (!job.is_finished()) {
    constexpr double kShortest = 500, kLongest = 5000, kUsual = 1000;  // milliseconds
    const double pause =
        outlook.eta_seconds ? std::clamp(*outlook.eta_seconds * 100, kShortest, kLongest) : kUsual;
    response.headers.emplace_back("openai-poll-after-ms", std::to_string(std::llround(pause)));
  }
  return response;
}

HttpResponse error_response(const ApiError& error) {
  HttpResponse response = json_response({{"error",
                                          {{"message", error.what()},
                                           {"type", type_of(error.status)},
                                           {"param", text_or_null(error.param)},
                                           {"code", error.code}}}},
                                        error.status);
  if (error.retry_after > 0) {
    response.headers.emplace_back("Retry-After", std::to_string(error.retry_after));
  }
  if (error.status == 401) {
    response.headers.emplace_back("WWW-Authenticate", "Bearer");
  }
  return response;
}

}  // namespace ospnext
