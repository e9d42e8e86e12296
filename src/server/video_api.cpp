#include "server/video_api.h"

#include <algorithm>
#include <chrono>

#include "core/error.h"
#include "core/version.h"
#include "server/openapi.h"
#include "server/page_files.h"
#include "server/video_json.h"

namespace ospnext {
namespace {

using nlohmann::json;

constexpr const char* kPagePolicy =
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob: data:; object-src "
    "'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

// "localhost" of "localhost:8000", "[::1]" of "[::1]:8000".
std::string without_port(const std::string& host) {
  const size_t from = host.starts_with('[') ? std::min(host.find(']'), host.size()) : 0;
  return host.substr(0, std::min(host.find(':', from), host.size()));
}

bool contains(const std::vector<std::string>& list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

HttpResponse page_response(const PageFile& file) {
  return {200,
          {{"Content-Type", std::string(file.type)},
           {"Cache-Control", "no-cache"},
           {"Content-Security-Policy", kPagePolicy}},
          std::string(file.text)};
}

// Sizes and lengths to choose from: the model's own, lying and standing, and smaller ones.
json presets_of(const ModelCard& model, const RequestLimits& limits) {
  const auto half = [&](int64_t side) {
    return std::max(side / 2 / model.side_step, int64_t{1}) * model.side_step;
  };
  json sizes = json::array(), frames = json::array(), steps = json::array();
  const auto add = [](json& list, const json& value) {
    if (std::find(list.begin(), list.end(), value) == list.end()) {
      list.push_back(value);
    }
  };
  const auto add_size = [&](int64_t width, int64_t height) {
    if (width <= limits.width && height <= limits.height) {
      add(sizes, size_text(width, height));
    }
  };
  add_size(model.width, model.height);
  add_size(model.height, model.width);
  add_size(half(model.width), half(model.height));
  add_size(half(model.height), half(model.width));
  for (const int64_t part : {4, 2, 1}) {
    add(frames, (model.num_frames - 1) / part / model.frame_step * model.frame_step + 1);
    add(steps, std::max<int64_t>(model.num_inference_steps / part, 1));
  }
  return {{"sizes", sizes}, {"num_frames", frames}, {"num_inference_steps", steps}};
}

json model_object(const ModelCard& model, const RequestLimits& limits) {
  return {{"id", model.id},
          {"object", "model"},
          {"created", model.created},
          {"owned_by", "ospnext"},
          {"limits",
           {{"width", limits.width},
            {"height", limits.height},
            {"side_step", model.side_step},
            {"num_frames", limits.frames},
            {"frame_step", model.frame_step},
            {"num_inference_steps", limits.steps},
            {"prompt", limits.prompt}}},
          {"defaults",
           {{"size", size_text(model.width, model.height)},
            {"num_frames", model.num_frames},
            {"fps", model.fps},
            {"num_inference_steps", model.num_inference_steps},
            {"guidance_scale", model.guidance_scale},
            {"flow_shift", model.flow_shift},
            {"negative_prompt", model.negative_prompt}}},
          {"presets", presets_of(model, limits)}};
}

}  // namespace

VideoApi::VideoApi(ApiSettings settings, KeyRing keys, JobStore& store, Metrics& metrics, Log log,
                   std::function<void()> on_new_job)
    : settings_(std::move(settings)),
      keys_(std::move(keys)),
      store_(store),
      metrics_(metrics),
      log_(std::move(log)),
      on_new_job_(std::move(on_new_job)),
      rate_(settings_.creations_per_minute, [&store] { return store.now_ms(); }),
      routes_(make_routes()) {}

std::vector<Route> VideoApi::make_routes() {
  std::vector<Route> routes = video_routes();
  const auto add = [&](const char* pattern, const char* summary, const char* gives, bool needs_key,
                       const std::function<HttpResponse()>& answer) {
    routes.push_back({"GET", pattern, summary, "", gives, needs_key,
                      [answer](const HttpRequest&, const PathValues&) { return answer(); }});
  };
  add("/v1/models", "the model that is served, its limits and its own values", "ModelList", true,
      [this] { return models(); });
  routes.push_back(
      {"GET", "/v1/models/{id}", "one of these models", "", "Model", true,
       [this](const HttpRequest&, const PathValues& values) { return model(values); }});
  add("/v1/loras", "the LoRAs that a video may name", "LoraList", true, [this] { return loras(); });
  add("/health", "whether the server works", "Health", false, [this] { return health(); });
  add("/metrics", "numbers for Prometheus", "text/plain", true, [this] { return metrics(); });
  add("/openapi.json", "this description", "application/json", false, [this] {
    return json_response(
        openapi_document(routes_, settings_.limits, settings_.model, !keys_.is_empty()));
  });
  for (const PageFile& file : page_files()) {
    add(std::string(file.path).c_str(), "a file of the page", std::string(file.type).c_str(), false,
        [&file] { return page_response(file); });
  }
  return routes;
}

std::string VideoApi::owner_of(const HttpRequest& request) const {
  const auto owner = keys_.owner_of(request.header("authorization"));
  if (!owner) {
    throw ApiError(401, "invalid_api_key",
                   request.header("authorization").empty()
                       ? "the key is missing, expected the header Authorization: Bearer KEY"
                       : "the key is not one of this server's");
  }
  return *owner;
}

void VideoApi::check_host(const HttpRequest& request) const {
  if (!settings_.hosts.empty() &&
      !contains(settings_.hosts, without_port(request.header("host")))) {
    throw ApiError(403, "host_not_allowed", "the server is not known by this name");
  }
}

std::string VideoApi::foreign_origin(const HttpRequest& request) const {
  const std::string host = request.header("host");
  std::string origin = request.header("origin");
  if (origin.empty() || origin == "http://" + host || origin == "https://" + host) {
    return "";
  }
  if (!contains(settings_.origins, origin)) {
    throw ApiError(403, "origin_not_allowed", "pages of other hosts may not use this server");
  }
  return origin;
}

HttpResponse VideoApi::guarded(const HttpRequest& request,
                               const std::function<HttpResponse()>& work) const {
  try {
    return work();
  } catch (const ApiError& error) {
    return error_response(error);
  } catch (const InputError& error) {
    return error_response({400, "invalid_request", error.what()});
  } catch (const DatabaseError& error) {
    log_("database: " + std::string(error.what()));
    ApiError busy(503, "database_busy", "the server's database cannot be used now");
    busy.retry_after = 1;
    return error_response(busy);
  } catch (const std::exception& error) {
    log_(request.method + " " + request.path + ": " + error.what());
    return error_response({500, "internal_error", "the server failed; its log says why"});
  }
}

// What every answer has.
HttpResponse VideoApi::finish(HttpResponse response, const HttpRequest& request) const {
  response.headers.emplace_back("X-Content-Type-Options", "nosniff");
  response.headers.emplace_back("X-Frame-Options", "DENY");
  response.headers.emplace_back("Referrer-Policy", "no-referrer");
  const std::string origin = request.header("origin");
  if (contains(settings_.origins, origin)) {
    response.headers.emplace_back("Access-Control-Allow-Origin", origin);
    response.headers.emplace_back("Access-Control-Expose-Headers",
                                  "ETag, Retry-After, openai-poll-after-ms");
    response.headers.emplace_back("Vary", "Origin");
  } else {
    response.headers.emplace_back("Cross-Origin-Resource-Policy", "same-origin");
  }
  return response;
}

HttpResponse VideoApi::preflight(const HttpRequest& request) const {
  HttpResponse response = {204, {}, ""};
  if (!foreign_origin(request).empty()) {
    response.headers = {
        {"Access-Control-Allow-Methods", "GET, POST, DELETE"},
        {"Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, Range"},
        {"Access-Control-Max-Age", "600"}};
  }
  return response;
}

std::optional<HttpResponse> VideoApi::refuse(const HttpRequest& head) {
  bool is_refused = true;
  HttpResponse response = guarded(head, [&]() -> HttpResponse {
    check_host(head);
    const Match match = find_route(routes_, head.method, head.path);
    if (head.method == "OPTIONS" && !match.allowed.empty()) {
      return preflight(head);
    }
    foreign_origin(head);
    if (match.allowed.empty()) {
      throw ApiError(404, "not_found",
                     "there is nothing at this path; /openapi.json lists what is");
    }
    if (match.route == nullptr) {
      HttpResponse refusal = error_response(
          {405, "method_not_allowed", "found " + head.method + ", expected " + match.allowed});
      refusal.headers.emplace_back("Allow", match.allowed);
      return refusal;
    }
    if (match.route->needs_key) {
      owner_of(head);
    }
    is_refused = false;
    return {};
  });
  if (!is_refused) {
    return std::nullopt;
  }
  metrics_.add("ospnext_http_requests_total",
               "route=\"refused\",status=\"" + std::to_string(response.status) + "\"");
  return finish(std::move(response), head);
}

HttpResponse VideoApi::answer(const HttpRequest& request) {
  const auto began = std::chrono::steady_clock::now();
  const Match match = find_route(routes_, request.method, request.path);
  HttpResponse response =
      finish(guarded(request, [&] { return match.route->answer(request, match.values); }), request);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
  const std::string route = "route=\"" + match.route->method + " " + match.route->pattern + "\"";
  const std::string status = std::to_string(response.status);
  metrics_.add("ospnext_http_requests_total", route + ",status=\"" + status + "\"");
  metrics_.add("ospnext_http_request_seconds_total", route, seconds.count());
  if (settings_.logs_requests) {
    log_(status + " " + request.method + " " + request.path + " " +
         std::to_string(static_cast<int64_t>(seconds.count() * 1000)) + " ms");
  }
  return response;
}

HttpResponse VideoApi::malformed(int status, const std::string& message) {
  metrics_.add("ospnext_http_requests_total",
               "route=\"malformed\",status=\"" + std::to_string(status) + "\"");
  const char* const code = status == 413 ? "body_too_large" : "malformed_request";
  return finish(error_response({status, code, message}), {});
}

HttpResponse VideoApi::models() const {
  return json_response(
      {{"object", "list"}, {"data", {model_object(settings_.model, settings_.limits)}}});
}

HttpResponse VideoApi::model(const PathValues& values) const {
  if (values.at("id") != settings_.model.id) {
    throw no_such_model(values.at("id"), settings_.model);
  }
  return json_response(model_object(settings_.model, settings_.limits));
}

HttpResponse VideoApi::loras() const {
  json data = json::array();
  for (const auto& [name, file] : settings_.model.loras) {
    data.push_back({{"id", name}, {"object", "lora"}});
  }
  return json_response({{"object", "list"}, {"data", data}});
}

HttpResponse VideoApi::health() {
  const StoreCounts counts = store_.counts();
  return json_response({{"status", is_draining_ ? "draining" : "ok"},
                        {"version", kVersion},
                        {"queued", counts.queued},
                        {"in_progress", counts.in_progress}});
}

HttpResponse VideoApi::metrics() {
  const StoreCounts counts = store_.counts();
  const std::pair<const char*, int64_t> jobs[] = {{"queued", counts.queued},
                                                  {"in_progress", counts.in_progress},
                                                  {"completed", counts.completed},
                                                  {"failed", counts.failed},
                                                  {"cancelled", counts.cancelled}};
  for (const auto& [status, count] : jobs) {
    metrics_.set("ospnext_jobs", std::string("status=\"") + status + "\"",
                 static_cast<double>(count));
  }
  metrics_.set("ospnext_queue_bound", "", static_cast<double>(store_.limits().queued));
  metrics_.set("ospnext_video_bytes", "", static_cast<double>(counts.bytes));
  metrics_.set("ospnext_draining", "", is_draining_ ? 1 : 0);
  return {
      200,
      {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}, {"Cache-Control", "no-store"}},
      metrics_.text()};
}

}  // namespace ospnext
