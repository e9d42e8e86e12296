#include "server/video_request.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <random>
#include <type_traits>

#include "core/utf8.h"
#include "io/readers/bounded_json.h"

namespace ospnext {
namespace {

using nlohmann::json;

// Fields of other servers that are not ignored: the video would be another than they ask for.
constexpr std::pair<const char*, const char*> kImpossible[] = {
    {"input_reference", "it makes videos of text alone, not of images or videos"},
    {"image_reference", "it makes videos of text alone, not of images or videos"},
    {"video_reference", "it makes videos of text alone, not of images or videos"},
    {"audio_reference", "it makes no sound"},
    {"generate_sound", "it makes no sound"},
    {"sound_duration", "it makes no sound"},
    {"control_reference", "it makes videos of text alone, not of images or videos"},
    {"control_type", "it makes videos of text alone, not of images or videos"},
    {"source_video", "it makes videos of text alone, not of images or videos"},
    {"source_audio", "it makes no sound"},
    {"video_noise_mask", "it makes videos of text alone, not of images or videos"},
    {"audio_noise_mask", "it makes no sound"},
    {"video", "it makes videos of text alone, not of images or videos"},
    {"characters", "it knows no characters"},
    {"guidance_scale_2", "it has one transformer, so guidance_scale is the only one"},
    {"boundary_ratio", "it has one transformer, so there is no boundary"},
    {"true_cfg_scale", "expected guidance_scale"},
    {"output_path", "the server chooses where its files are"},
    {"output_quality", "the server chooses how its files are compressed"},
    {"output_compression", "the server chooses how its files are compressed"},
    {"enable_teacache", "it computes every step"},
    {"enable_frame_interpolation", "it makes every frame; expected num_frames and fps"},
    {"frame_interpolation_exp", "it makes every frame; expected num_frames and fps"},
    {"frame_interpolation_scale", "it makes every frame; expected num_frames and fps"},
    {"frame_interpolation_model_path", "it makes every frame; expected num_frames and fps"},
    {"generator_device", "a seed means the same noise on every device"},
    {"rollout", "`ospnext rl` makes the videos that it learns from itself"},
    {"extra_params", "expected their fields in the request itself"},
};

// Fields that say the same in two ways.
constexpr std::pair<const char*, const char*> kEither[] = {
    {"seconds", "num_frames"}, {"size", "width"}, {"size", "height"}};

std::string number_text(double number) {
  return json(number).dump();
}

// A number that is written as text. Nothing if it is none.
template <class Number>
std::optional<Number> parse_number(const std::string& text) {
  Number number = 0;
  const auto [stopped, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && stopped == text.data() + text.size() ? std::optional(number)
                                                                      : std::nullopt;
}

// Whether a text is a number such as 4 or 2.5.
bool is_decimal(std::string_view text) {
  const auto has_digits = [](std::string_view part) {
    return !part.empty() && part.find_first_not_of("0123456789") == part.npos;
  };
  const size_t point = std::min(text.find('.'), text.size());
  return has_digits(text.substr(0, point)) && (point == 1 || text[0] != '0') &&
         (point == text.size() || has_digits(text.substr(point + 1)));
}

struct Size {
  int64_t width, height;
};

// Nothing for a text that is not exactly as size_text() writes it.
std::optional<Size> parse_size(const std::string& text) {
  const size_t cross = std::min(text.find('x'), text.size());
  const auto width = parse_number<int64_t>(text.substr(0, cross));
  const auto height = parse_number<int64_t>(text.substr(std::min(cross + 1, text.size())));
  return width && height && size_text(*width, *height) == text
             ? std::optional(Size{*width, *height})
             : std::nullopt;
}

void check_value(const std::string& name, const std::string& text, const SizeRule& rule) {
  const auto fits = [&](int64_t side, int64_t most) {
    return side >= rule.step && side <= most && side % rule.step == 0;
  };
  const auto size = parse_size(text);
  if (!size || !fits(size->width, rule.width) || !fits(size->height, rule.height)) {
    throw wrong_field(name, "found " + shown(json(text)) +
                                ", expected WIDTHxHEIGHT of multiples of " +
                                std::to_string(rule.step) + " pixels, at most " +
                                size_text(rule.width, rule.height));
  }
}

void check_value(const std::string& name, const std::string& text, const TextRule& rule) {
  if (!is_utf8(text)) {
    throw wrong_field(name, "expected UTF-8");
  }
  const int64_t size = std::count_if(text.begin(), text.end(), [](unsigned char byte) {
    return (byte & 0xc0) != 0x80;  // the first byte of a character
  });
  if (size < rule.low || size > rule.high) {
    throw wrong_field(name, "found " + std::to_string(size) + " characters, expected " +
                                std::to_string(rule.low) + " to " + std::to_string(rule.high));
  }
}

void check_value(const std::string& name, int64_t value, const WholeRule& rule) {
  const bool is_step = rule.step == 0 || value % rule.step == 0;
  if (value < rule.low || value > rule.high || !is_step) {
    std::string expected = std::to_string(rule.low) + " to " + std::to_string(rule.high);
    if (rule.step > 0) {
      expected += ", a multiple of " + std::to_string(rule.step);
    }
    throw wrong_field(name, "found " + std::to_string(value) + ", expected " + expected);
  }
}

void check_value(const std::string& name, double value, const RealRule& rule) {
  if (!(value >= rule.low && value <= rule.high)) {
    throw wrong_field(name, "found " + number_text(value) + ", expected " + number_text(rule.low) +
                                " to " + number_text(rule.high));
  }
}

[[noreturn]] void refuse_type(const std::string& name, const json& found, const char* expected) {
  throw wrong_field(name, "found " + shown(found) + ", expected " + expected);
}

template <class Rule>
void read_value(const std::string& name, const json& found, bool, const Rule&,
                std::optional<std::string>& value) {
  if (!found.is_string()) {
    refuse_type(name, found, "a text");
  }
  value = found.get<std::string>();
}

void read_value(const std::string& name, const json& found, bool is_form, const WholeRule&,
                std::optional<int64_t>& value) {
  if (found.is_string() && is_form) {
    value = parse_number<int64_t>(found.get<std::string>());
  } else if (found.is_number_integer() &&
             !(found.is_number_unsigned() && found.get<uint64_t>() > uint64_t{INT64_MAX})) {
    value = found.get<int64_t>();
  }
  if (!value) {
    refuse_type(name, found, "a whole number below 2^63");
  }
}

void read_value(const std::string& name, const json& found, bool is_form, const RealRule& rule,
                std::optional<double>& value) {
  if (found.is_string() &&
      (is_form || (rule.is_text_too && is_decimal(found.get_ref<const std::string&>())))) {
    value = parse_number<double>(found.get<std::string>());
  } else if (found.is_number()) {
    value = found.get<double>();
  }
  if (!value || !std::isfinite(*value)) {
    refuse_type(name, found, "a number");
  }
}

void refuse_unknown(const std::string& name, const std::string& known) {
  for (const auto& [impossible, reason] : kImpossible) {
    if (name == impossible) {
      throw ApiError(400, "unsupported_parameter",
                     "`" + name + "`: this model cannot do it: " + reason, name);
    }
  }
  throw ApiError(
      400, "unknown_parameter",
      "`" + utf8_prefix(name, 60) + "`: there is no such field, expected one of " + known,
      utf8_prefix(name, 60));
}

Size size_of(const VideoRequest& request, const ModelCard& model) {
  if (!request.size) {
    return {request.width.value_or(model.width), request.height.value_or(model.height)};
  }
  const Size size = parse_size(*request.size).value();
  if (request.width.value_or(size.width) != size.width ||
      request.height.value_or(size.height) != size.height) {
    throw wrong_field("size", "found " + *request.size + " and another width or height");
  }
  return size;
}

// The frames that the model makes when `count` are asked for: step·(count / step) + 1, or fewer
// where that is beyond the limit. Source: diffusers, WanPipeline.
int64_t frames_for(int64_t count, const RequestLimits& limits, const ModelCard& model) {
  const int64_t step = model.frame_step;
  return std::min(count / step, (limits.frames - 1) / step) * step + 1;
}

int64_t frames_of(const VideoRequest& request, const RequestLimits& limits,
                  const ModelCard& model) {
  if (!request.seconds) {
    return request.num_frames ? frames_for(*request.num_frames, limits, model) : model.num_frames;
  }
  const double frames = *request.seconds * request.fps.value_or(model.fps);
  const int64_t rounded =
      model.frame_step * std::llround(frames / static_cast<double>(model.frame_step)) + 1;
  if (request.num_frames && frames_for(*request.num_frames, limits, model) != rounded) {
    throw wrong_field("seconds", "found it and num_frames, expected one of them");
  }
  if (rounded > limits.frames) {
    throw wrong_field("seconds", "found " + number_text(*request.seconds) + ", which is " +
                                     std::to_string(rounded) + " frames, expected at most " +
                                     std::to_string(limits.frames));
  }
  return rounded;
}

// "(16|32|48)": a regular expression of the numbers up to `last`.
std::string any_number(int64_t first, int64_t last, int64_t step) {
  std::string numbers;
  for (int64_t number = first; number <= last; number += step) {
    numbers += (numbers.empty() ? "(" : "|") + std::to_string(number);
  }
  return numbers + ")";
}

json schema_of(const TextRule& rule, bool) {
  return {{"type", "string"}, {"minLength", rule.low}, {"maxLength", rule.high}};
}
json schema_of(const SizeRule& rule, bool) {
  return {{"type", "string"},
          {"pattern", "^" + any_number(rule.step, rule.width, rule.step) + "x" +
                          any_number(rule.step, rule.height, rule.step) + "$"}};
}
json schema_of(const WholeRule& rule, bool) {
  json schema = {{"type", "integer"}, {"minimum", rule.low}, {"maximum", rule.high}};
  if (rule.step > 0) {
    schema["multipleOf"] = rule.step;
  }
  return schema;
}
json schema_of(const RealRule& rule, bool is_form) {
  const json number = {{"type", "number"}, {"minimum", rule.low}, {"maximum", rule.high}};
  if (!rule.is_text_too || is_form) {  // in a form every number is a text
    return number;
  }
  const auto last = static_cast<int64_t>(rule.high);
  const std::string below = last == 0 ? "" : any_number(0, last - 1, 1) + "([.][0-9]+)?|";
  const json text = {{"type", "string"},
                     {"pattern", "^(" + below + std::to_string(last) + "([.]0+)?)$"}};
  return {{"anyOf", {number, text}}};
}

// What the schemas of the fields, one by one, do not say.
json schema_of_pairs() {
  json rules = json::array();
  for (const auto& [one, other] : kEither) {
    rules.push_back({{"not", {{"required", {one, other}}}}});
  }
  rules.push_back(
      {{"anyOf", {{{"required", {"lora"}}}, {{"not", {{"required", {"lora_scale"}}}}}}}});
  return rules;
}

}  // namespace

VideoRequest read_request(const json& body, bool is_form, const RequestLimits& limits,
                          const ModelCard& model) {
  if (!body.is_object()) {
    throw ApiError(400, "invalid_json", "the body: found " + shown(body) + ", expected an object");
  }
  VideoRequest request;
  json unknown = body;
  std::string known;
  request.visit(limits, model, [&](const char* name, auto& value, const auto& rule, const char*) {
    known += (known.empty() ? "" : ", ") + std::string(name);
    const auto found = body.find(name);
    if (found == body.end()) {
      return;
    }
    unknown.erase(name);
    if (!found->is_null()) {
      read_value(name, *found, is_form, rule, value);
      check_value(name, *value, rule);
    }
  });
  if (!unknown.empty()) {
    refuse_unknown(unknown.begin().key(), known);
  }
  if (!request.prompt) {
    throw ApiError(400, "missing_parameter",
                   "`prompt`: missing, expected what the video should show", "prompt");
  }
  return request;
}

double VideoSettings::work() const {
  const double passes = guidance_scale > 1 ? 2 : 1;
  return static_cast<double>(width * height) * static_cast<double>(num_frames) *
         static_cast<double>(num_inference_steps) * passes;
}

ApiError no_such_model(const std::string& found, const ModelCard& model) {
  return {404, "model_not_found",
          "`model`: found " + shown(json(found)) + ", expected \"" + model.id + "\"", "model"};
}

VideoSettings settle(const VideoRequest& request, const RequestLimits& limits,
                     const ModelCard& model) {
  if (request.model.value_or(model.id) != model.id) {
    throw no_such_model(*request.model, model);
  }
  if (request.lora && !model.loras.contains(*request.lora)) {
    throw ApiError(404, "lora_not_found",
                   "`lora`: found " + shown(json(*request.lora)) +
                       ", expected one of those that /v1/loras lists",
                   "lora");
  }
  if (request.lora_scale && !request.lora) {
    throw wrong_field("lora_scale", "found it without lora");
  }
  if (request.webhook_url && !is_at(limits.webhooks, *request.webhook_url)) {
    throw wrong_field("webhook_url", "the operator of this server does not allow this address");
  }
  const Size size = size_of(request, model);
  int64_t seed = request.seed.value_or(-1);
  if (seed == -1) {
    seed = std::random_device()();  // 32 bits, which programs of every language keep exactly
  }
  return {.prompt = *request.prompt,
          .negative_prompt = request.negative_prompt.value_or(model.negative_prompt),
          .width = size.width,
          .height = size.height,
          .num_frames = frames_of(request, limits, model),
          .fps = request.fps.value_or(model.fps),
          .num_inference_steps = request.num_inference_steps.value_or(model.num_inference_steps),
          .guidance_scale = request.guidance_scale.value_or(model.guidance_scale),
          .flow_shift = request.flow_shift.value_or(model.flow_shift),
          .seed = seed,
          .lora = request.lora.value_or(""),
          .lora_scale = request.lora_scale.value_or(1),
          .priority = request.priority.value_or(0),
          .webhook_url = request.webhook_url.value_or("")};
}

json request_schema(const RequestLimits& limits, const ModelCard& model, bool is_form) {
  json properties = json::object();
  VideoRequest().visit(limits, model,
                       [&](const char* name, auto&, const auto& rule, const char* help) {
                         json schema = schema_of(rule, is_form);
                         schema["description"] = help;
                         if (!is_form && name != std::string("prompt")) {
                           schema["nullable"] = true;  // as if it were not there
                         }
                         properties[name] = schema;
                       });
  if (limits.webhooks.empty()) {
    properties.erase("webhook_url");  // none is allowed
  }
  return {{"type", "object"},
          {"required", {"prompt"}},
          {"additionalProperties", false},
          {"properties", properties},
          {"allOf", schema_of_pairs()}};
}

}  // namespace ospnext
