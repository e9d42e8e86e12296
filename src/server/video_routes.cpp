// The routes of the API that speak of videos.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <set>

#include "core/base64.h"
#include "core/file_bytes.h"
#include "core/utf8.h"
#include "io/readers/bounded_json.h"
#include "server/http/multipart.h"
#include "server/video_api.h"
#include "server/video_json.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

ApiError not_found() {
  return {404, "video_not_found", "there is no video with this id"};
}

// A form as an object of texts.
json object_of_form(const HttpRequest& request) {
  json object = json::object();
  for (const FormPart& part :
       parse_form(request.body, form_boundary(request.header("content-type")))) {
    if (!is_utf8(part.name) || (!part.is_file && !is_utf8(part.value))) {
      throw ApiError(400, "invalid_form", "the form: expected UTF-8");
    }
    if (object.contains(part.name)) {
      throw wrong_field(utf8_prefix(part.name, 60), "found it twice");
    }
    object[part.name] = part.is_file ? json("a file") : json(part.value);
  }
  return object;
}

// A parameter of the query that is one of `choices`; the first if there is none.
std::string choice_of(const HttpRequest& request, const std::string& name,
                      const std::vector<std::string>& choices) {
  const auto found = request.query.find(name);
  if (found == request.query.end()) {
    return choices.front();
  }
  if (std::find(choices.begin(), choices.end(), found->second) == choices.end()) {
    std::string expected;
    for (const std::string& choice : choices) {
      expected += (expected.empty() ? "" : " or ") + choice;
    }
    throw wrong_field(name, "expected " + expected);
  }
  return found->second;
}

int64_t limit_of(const HttpRequest& request) {
  constexpr int64_t kUsual = 20, kMost = 100;
  const auto found = request.query.find("limit");
  if (found == request.query.end()) {
    return kUsual;
  }
  const std::string& text = found->second;
  int64_t limit = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), limit);
  if (error != std::errc() || end != text.data() + text.size() || limit < 1 || limit > kMost) {
    throw wrong_field("limit", "expected a number from 1 to " + std::to_string(kMost));
  }
  return limit;
}

// The file of a variant, and its media type.
std::pair<fs::path, std::string> variant_file(const JobStore& store, const Job& job,
                                              const std::string& variant) {
  if (variant != "video") {
    return {store.file_of(job, "-" + variant + ".png"), "image/png"};
  }
  const fs::path mp4 = store.file_of(job, ".mp4");
  std::error_code ignored;
  return fs::exists(mp4, ignored)
             ? std::pair(mp4, std::string("video/mp4"))
             : std::pair(store.file_of(job, ".webm"), std::string("video/webm"));
}

std::string event_text(const std::string& name, const json& data) {
  return "event: " + name + "\ndata: " + data.dump() + "\n\n";
}

// What a client knows of a video so far, and what it is told next.
class VideoEvents {
 public:
  VideoEvents(JobStore& store, Job job) : store_(store), job_(std::move(job)) {}

  std::optional<std::string> next() {
    if (is_over_) {
      return std::nullopt;
    }
    const std::optional<Job> found = store_.find(job_.id, job_.owner);
    if (!found) {  // deleted
      return std::nullopt;
    }
    const Job& now = *found;
    const Outlook outlook = store_.outlook(now);
    std::string text;
    if (is_first_ || now.status != job_.status) {
      text += event_text("status", video_object(now, outlook));
    } else if (now.progress != job_.progress || outlook.queue_position != queue_position_) {
      text += event_text("progress", video_object(now, outlook));
    }
    if (now.preview_step != preview_step_ && now.preview_step > 0) {
      const std::string picture = file_bytes(store_.file_of(now, "-preview.png"));
      if (!picture.empty()) {
        text +=
            event_text("preview", {{"png_base64", base64(picture)}, {"step", now.preview_step}});
      }
    }
    is_first_ = false;
    is_over_ = now.is_finished();
    queue_position_ = outlook.queue_position;
    preview_step_ = now.preview_step;
    job_ = now;
    return text;
  }

 private:
  JobStore& store_;
  Job job_;
  bool is_first_ = true;
  bool is_over_ = false;
  int64_t queue_position_ = 0;
  int64_t preview_step_ = 0;
};

}  // namespace

std::vector<Route> VideoApi::video_routes() {
  using Method = HttpResponse (VideoApi::*)(const HttpRequest&, const PathValues&);
  const auto call = [this](Method method) {
    return [this, method](const HttpRequest& request, const PathValues& values) {
      return (this->*method)(request, values);
    };
  };
  const auto plain = [this](HttpResponse (VideoApi::*method)(const HttpRequest&)) {
    return [this, method](const HttpRequest& request, const PathValues&) {
      return (this->*method)(request);
    };
  };
  return {
      {"POST", "/v1/videos", "ask for a video", "VideoRequest", "Video", true,
       plain(&VideoApi::create)},
      {"GET", "/v1/videos", "the videos of this key", "", "VideoList", true,
       plain(&VideoApi::list)},
      {"GET", "/v1/videos/{id}", "a video's state", "", "Video", true, call(&VideoApi::retrieve)},
      {"DELETE", "/v1/videos/{id}", "end and forget a video", "", "DeletedVideo", true,
       call(&VideoApi::remove)},
      {"POST", "/v1/videos/{id}/cancel", "end a video that is not finished", "", "Video", true,
       call(&VideoApi::cancel)},
      {"POST", "/v1/videos/{id}/remix", "ask for the video of another prompt, from the same seed",
       "RemixRequest", "Video", true, call(&VideoApi::remix)},
      {"GET", "/v1/videos/{id}/content", "the file of a completed video, or a picture of it", "",
       "video/mp4", true, call(&VideoApi::content)},
      {"GET", "/v1/videos/{id}/events", "a video's state, progress and previews as they change", "",
       "text/event-stream", true, call(&VideoApi::events)},
  };
}

Job VideoApi::job_of(const HttpRequest& request, const PathValues& values) {
  const auto job = store_.find(values.at("id"), owner_of(request));
  if (!job) {
    throw not_found();
  }
  return *job;
}

json VideoApi::body_of(const HttpRequest& request, bool& is_form) const {
  const std::string type = request.header("content-type");
  const std::string kind = type.substr(0, std::min(type.find(';'), type.size()));
  is_form = kind == "multipart/form-data";
  if (is_form) {
    return object_of_form(request);
  }
  if (kind != "application/json") {
    throw ApiError(415, "unsupported_media_type",
                   "Content-Type: expected application/json or multipart/form-data");
  }
  return parse_bounded_json(request.body, "the body");
}

HttpResponse VideoApi::submit(const HttpRequest& request, const VideoSettings& settings,
                              const std::string& remixed_from, const json& body) {
  const std::string owner = owner_of(request), key = request.header("idempotency-key");
  if (is_draining_) {
    ApiError draining(503, "draining", "the server is about to stop and takes no videos");
    draining.retry_after = 10;
    throw draining;
  }
  if (key.size() > kLongestIdempotencyKey || !is_utf8(key)) {
    throw wrong_field("Idempotency-Key", "expected at most 255 bytes of UTF-8");
  }
  if (const int64_t wait = rate_.take(owner); wait > 0) {
    ApiError early(429, "rate_limit_exceeded", "this key asked for too many videos");
    early.retry_after = static_cast<int>(wait);
    throw early;
  }
  const SubmitResult result = store_.submit({.owner = owner,
                                             .model = settings_.model.id,
                                             .settings = settings,
                                             .remixed_from = remixed_from,
                                             .idempotency_key = key,
                                             .request = remixed_from + body.dump()});
  switch (result.kind) {
    case SubmitResult::Kind::kAccepted:
      on_new_job_();
      break;
    case SubmitResult::Kind::kRepeated:
      break;
    case SubmitResult::Kind::kOtherRequest:
      throw ApiError(409, "idempotency_key_reused",
                     "the header Idempotency-Key: found one of another request");
    case SubmitResult::Kind::kQueueFull: {
      constexpr double kShortest = 1, kLongest = 600, kUnknown = 10;
      ApiError full(
          429, "queue_full",
          "the queue is full: " + std::to_string(store_.limits().queued) + " videos wait");
      full.retry_after = static_cast<int>(std::ceil(
          std::clamp(store_.seconds_to_make(settings, settings_.model.id).value_or(kUnknown),
                     kShortest, kLongest)));
      throw full;
    }
    case SubmitResult::Kind::kDiskFull: {
      ApiError full(429, "storage_full", "the server keeps as many videos as it may; delete some");
      full.retry_after = 60;
      throw full;
    }
  }
  return video_response(result.job, store_.outlook(result.job));
}

HttpResponse VideoApi::create(const HttpRequest& request) {
  bool is_form = false;
  const json body = body_of(request, is_form);
  const VideoRequest wish = read_request(body, is_form, settings_.limits, settings_.model);
  return submit(request, settle(wish, settings_.limits, settings_.model), "", body);
}

HttpResponse VideoApi::remix(const HttpRequest& request, const PathValues& values) {
  const Job original = job_of(request, values);
  bool is_form = false;
  const json body = body_of(request, is_form);
  if (body.is_object() && body.size() > body.count("prompt")) {
    throw ApiError(400, "unknown_parameter", "a remix has the field `prompt` alone");
  }
  VideoSettings settings = original.settings;
  settings.prompt = *read_request(body, is_form, settings_.limits, settings_.model).prompt;
  if (!settings.lora.empty() && !settings_.model.loras.contains(settings.lora)) {
    throw ApiError(409, "lora_not_found", "the LoRA of this video is not there any more");
  }
  return submit(request, settings, original.id, body);
}

HttpResponse VideoApi::list(const HttpRequest& request) {
  const std::string owner = owner_of(request);
  const int64_t limit = limit_of(request);
  const bool ascending = choice_of(request, "order", {"desc", "asc"}) == "asc";
  const auto after = request.query.find("after");
  const std::string last = after == request.query.end() ? "" : after->second;
  if (!last.empty() && !store_.find(last, owner)) {
    throw ApiError(404, "video_not_found", "`after`: there is no video with this id", "after");
  }
  std::vector<Job> jobs = store_.list(owner, last, limit + 1, ascending);
  const bool has_more = std::ssize(jobs) > limit;
  jobs.resize(std::min(jobs.size(), static_cast<size_t>(limit)));
  json data = json::array();
  for (const Job& job : jobs) {
    data.push_back(video_object(job, store_.outlook(job)));
  }
  return json_response({{"object", "list"},
                        {"data", data},
                        {"first_id", jobs.empty() ? json() : json(jobs.front().id)},
                        {"last_id", jobs.empty() ? json() : json(jobs.back().id)},
                        {"has_more", has_more}});
}

HttpResponse VideoApi::retrieve(const HttpRequest& request, const PathValues& values) {
  const Job job = job_of(request, values);
  return video_response(job, store_.outlook(job));
}

HttpResponse VideoApi::remove(const HttpRequest& request, const PathValues& values) {
  const std::string& id = values.at("id");
  if (!store_.remove(id, owner_of(request))) {
    throw not_found();
  }
  return json_response({{"id", id}, {"object", "video.deleted"}, {"deleted", true}});
}

HttpResponse VideoApi::cancel(const HttpRequest& request, const PathValues& values) {
  store_.cancel(values.at("id"), owner_of(request));
  const Job job = job_of(request, values);
  if (job.status != JobStatus::kCancelled) {
    throw ApiError(409, "video_finished", std::string("the video is ") + status_name(job.status));
  }
  return video_response(job, {});
}

HttpResponse VideoApi::content(const HttpRequest& request, const PathValues& values) {
  const Job job = job_of(request, values);
  const std::string variant = choice_of(request, "variant", {"video", "thumbnail", "spritesheet"});
  if (job.status != JobStatus::kCompleted) {
    throw ApiError(404, "video_not_ready", std::string("the video is ") + status_name(job.status));
  }
  const auto [path, type] = variant_file(store_, job, variant);
  const auto file = std::make_shared<std::ifstream>(path, std::ios::binary | std::ios::ate);
  if (!*file) {
    throw ApiError(404, "content_gone", "the file of this video is not there any more");
  }
  const auto size = static_cast<uint64_t>(file->tellg());
  const std::string tag = "\"" + job.id + "-" + std::to_string(job.attempt) + "-" + variant + "\"";
  HttpResponse response = {200,
                           {{"Content-Type", type},
                            {"ETag", tag},
                            {"Accept-Ranges", "bytes"},
                            {"Cache-Control", "private, no-cache"}},
                           ""};
  if (request.header("if-none-match") == tag) {
    response.status = 304;
    return response;
  }
  const std::string condition = request.header("if-range");
  const bool may_be_part = condition.empty() || condition == tag;
  const ByteRange range = parse_range(may_be_part ? request.header("range") : "", size);
  const std::string of_size = "/" + std::to_string(size);
  if (range.kind == ByteRange::Kind::kOutside) {
    HttpResponse refusal = error_response(
        {416, "range_not_satisfiable", "Range: the file has " + std::to_string(size) + " bytes"});
    refusal.headers.emplace_back("Content-Range", "bytes *" + of_size);
    return refusal;
  }
  if (range.kind == ByteRange::Kind::kPart) {
    response.status = 206;
    response.headers.emplace_back("Content-Range",
                                  "bytes " + std::to_string(range.begin) + "-" +
                                      std::to_string(range.begin + range.length - 1) + of_size);
  }
  response.headers.emplace_back("Content-Disposition",
                                "inline; filename=\"" + job.id + path.extension().string() + "\"");
  response.body = FilePart{file, range.begin, range.length};
  return response;
}

HttpResponse VideoApi::events(const HttpRequest& request, const PathValues& values) {
  VideoEvents events(store_, job_of(request, values));
  return {200,
          {{"Content-Type", "text/event-stream"},
           {"Cache-Control", "no-store"},
           {"X-Accel-Buffering", "no"}},  // nginx passes events on at once
          EventSource([events]() mutable { return events.next(); })};
}

}  // namespace ospnext
