#include "server/openapi.h"

#include <algorithm>
#include <map>
#include <string>

#include "core/version.h"

namespace ospnext {
namespace {

using nlohmann::json;

json text_schema() {
  return {{"type", "string"}};
}
json whole_schema() {
  return {{"type", "integer"}};
}
json number_schema() {
  return {{"type", "number"}};
}
json nullable(json schema) {
  schema["nullable"] = true;
  return schema;
}

json object_schema(const json& properties) {
  json required = json::array();
  for (const auto& [name, schema] : properties.items()) {
    required.push_back(name);
  }
  return {{"type", "object"}, {"properties", properties}, {"required", required}};
}

json reference(const std::string& name) {
  return {{"$ref", "#/components/schemas/" + name}};
}

json list_schema(const std::string& name) {
  return object_schema({{"object", {{"type", "string"}, {"enum", {"list"}}}},
                        {"data", {{"type", "array"}, {"items", reference(name)}}}});
}

json video_schema() {
  const json status = {{"type", "string"},
                       {"enum", {"queued", "in_progress", "completed", "failed", "cancelled"}}};
  const json error = object_schema({{"code", text_schema()}, {"message", text_schema()}});
  return object_schema({{"id", text_schema()},
                        {"object", {{"type", "string"}, {"enum", {"video"}}}},
                        {"status", status},
                        {"progress", {{"type", "integer"}, {"minimum", 0}, {"maximum", 100}}},
                        {"created_at", whole_schema()},
                        {"started_at", nullable(whole_schema())},
                        {"completed_at", nullable(whole_schema())},
                        {"expires_at", nullable(whole_schema())},
                        {"model", text_schema()},
                        {"prompt", text_schema()},
                        {"negative_prompt", text_schema()},
                        {"seconds", text_schema()},
                        {"size", text_schema()},
                        {"seed", whole_schema()},
                        {"num_frames", whole_schema()},
                        {"fps", number_schema()},
                        {"num_inference_steps", whole_schema()},
                        {"guidance_scale", number_schema()},
                        {"flow_shift", number_schema()},
                        {"lora", nullable(text_schema())},
                        {"lora_scale", nullable(number_schema())},
                        {"priority", whole_schema()},
                        {"batch_size", nullable(whole_schema())},
                        {"remixed_from_video_id", nullable(text_schema())},
                        {"eta_seconds", nullable(number_schema())},
                        {"queue_position", nullable(whole_schema())},
                        {"error", nullable(error)}});
}

json schemas(const RequestLimits& limits, const ModelCard& model) {
  const json request = request_schema(limits, model, /*is_form=*/false);
  json list = list_schema("Video");
  list["properties"]["first_id"] = list["properties"]["last_id"] = nullable(text_schema());
  list["properties"]["has_more"] = {{"type", "boolean"}};
  const json error = object_schema({{"message", text_schema()},
                                    {"type", text_schema()},
                                    {"param", nullable(text_schema())},
                                    {"code", text_schema()}});
  const json remix = {{"type", "object"},
                      {"required", {"prompt"}},
                      {"additionalProperties", false},
                      {"properties", {{"prompt", request["properties"]["prompt"]}}}};
  return {{"VideoRequest", request},
          {"VideoForm", request_schema(limits, model, /*is_form=*/true)},
          {"RemixRequest", remix},
          {"Video", video_schema()},
          {"VideoList", list},
          {"DeletedVideo", object_schema({{"id", text_schema()},
                                          {"object", text_schema()},
                                          {"deleted", {{"type", "boolean"}}}})},
          {"ModelList", list_schema("Model")},
          {"Model", object_schema({{"id", text_schema()},
                                   {"object", text_schema()},
                                   {"created", whole_schema()},
                                   {"owned_by", text_schema()},
                                   {"limits", {{"type", "object"}}},
                                   {"defaults", {{"type", "object"}}},
                                   {"presets", {{"type", "object"}}}})},
          {"LoraList", list_schema("Lora")},
          {"Lora", object_schema({{"id", text_schema()}, {"object", text_schema()}})},
          {"Health", object_schema({{"status", text_schema()},
                                    {"version", text_schema()},
                                    {"queued", whole_schema()},
                                    {"in_progress", whole_schema()}})},
          {"Error", object_schema({{"error", error}})}};
}

json parameter(const char* name, const char* place, const json& schema, const char* help) {
  return {{"name", name},
          {"in", place},
          {"required", std::string(place) == "path"},
          {"schema", schema},
          {"description", help}};
}

json parameters_of(const Route& route) {
  json list = json::array();
  if (route.pattern.find("{id}") != std::string::npos) {
    list.push_back(parameter("id", "path", text_schema(),
                             route.gives == "Model" ? "of a model" : "of a video"));
  }
  if (route.gives == "VideoList") {
    list.push_back(parameter("after", "query", text_schema(), "the video behind which to begin"));
    list.push_back(parameter(
        "limit", "query", {{"type", "integer"}, {"minimum", 1}, {"maximum", 100}, {"default", 20}},
        "videos of an answer"));
    list.push_back(parameter("order", "query",
                             {{"type", "string"}, {"enum", {"desc", "asc"}}, {"default", "desc"}},
                             "by the time of the request"));
  }
  if (route.pattern.ends_with("/content")) {
    const json variants = {{"type", "string"}, {"enum", {"video", "thumbnail", "spritesheet"}}};
    list.push_back(parameter("variant", "query", variants, "the video (the default) or a picture"));
    list.push_back(parameter("Range", "header", text_schema(), "bytes of the file"));
  }
  if (!route.takes.empty()) {
    list.push_back(parameter("Idempotency-Key", "header",
                             {{"type", "string"}, {"maxLength", kLongestIdempotencyKey}},
                             "a repeated request with the same key gives the same video"));
  }
  return list;
}

json answers_of(const Route& route) {
  json content;
  if (route.gives.find('/') == std::string::npos) {
    content["application/json"]["schema"] = reference(route.gives);
  } else {
    const std::string type = route.gives.substr(0, route.gives.find(';'));
    content[type]["schema"] = type == "application/json"    ? json{{"type", "object"}}
                              : type == "text/event-stream" ? json::object()  // not of one event
                                                            : text_schema();
  }
  if (route.pattern.ends_with("/content")) {
    content["video/webm"] = content["image/png"] = content["video/mp4"];
  }
  const json error = {{"description", "what is wrong"},
                      {"content", {{"application/json", {{"schema", reference("Error")}}}}}};
  json answers = {{"200", {{"description", route.summary}, {"content", content}}},
                  {"default", error}};
  if (route.pattern.ends_with("/content")) {
    answers["206"] = answers["200"];
    answers["304"] = {{"description", "the file has not changed"}};
  }
  return answers;
}

json operation_of(const Route& route) {
  json operation = {{"summary", route.summary},
                    {"parameters", parameters_of(route)},
                    {"responses", answers_of(route)}};
  if (!route.needs_key) {
    operation["security"] = json::array();
  }
  if (!route.takes.empty()) {
    json content;
    content["application/json"]["schema"] = reference(route.takes);
    if (route.takes == "VideoRequest") {
      content["multipart/form-data"]["schema"] = reference("VideoForm");
    }
    operation["requestBody"] = {{"required", true}, {"content", content}};
  }
  return operation;
}

}  // namespace

json openapi_document(const std::vector<Route>& routes, const RequestLimits& limits,
                      const ModelCard& model, bool has_keys) {
  json paths = json::object();
  for (const Route& route : routes) {
    std::string method = route.method;
    std::transform(method.begin(), method.end(), method.begin(),
                   [](unsigned char letter) { return std::tolower(letter); });
    paths[route.pattern][method] = operation_of(route);
  }
  json security = json::array();
  if (has_keys) {
    security.push_back({{"key", json::array()}});
  }
  return {
      {"openapi", "3.0.3"},
      {"info", {{"title", "ospnext"}, {"version", kVersion}, {"description", "Videos from text."}}},
      {"security", security},
      {"paths", paths},
      {"components",
       {{"schemas", schemas(limits, model)},
        {"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}}}}};
}

}  // namespace ospnext
