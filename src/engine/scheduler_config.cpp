#include "engine/scheduler_config.h"

#include <vector>

#include "core/error.h"
#include "core/log.h"

namespace ospnext {
namespace {

using nlohmann::json;

// A setting of a diffusers scheduler: its default there, and the only value supported here.
struct Setting {
  const char* key;
  json default_value;
  json understood;
};

struct KnownScheduler {
  const char* class_name;
  const char* name;       // in make_sampler()
  const char* shift_key;  // default 1 in both
  std::vector<Setting> settings;
};

const std::vector<KnownScheduler>& known_schedulers() {
  static const std::vector<KnownScheduler> all = {
      {"UniPCMultistepScheduler",
       "diffusers-unipc",
       "flow_shift",
       {{"prediction_type", "epsilon", "flow_prediction"},
        {"use_flow_sigmas", false, true},
        {"num_train_timesteps", 1000, 1000},
        {"solver_order", 2, 2},
        {"solver_type", "bh2", "bh2"},
        {"predict_x0", true, true},
        {"lower_order_final", true, true},
        {"final_sigmas_type", "zero", "zero"},
        {"disable_corrector", json::array(), json::array()},
        {"solver_p", nullptr, nullptr},
        {"thresholding", false, false},
        {"use_karras_sigmas", false, false},
        {"use_exponential_sigmas", false, false},
        {"use_beta_sigmas", false, false},
        {"use_dynamic_shifting", false, false},
        {"shift_terminal", nullptr, nullptr}}},
      {"FlowMatchEulerDiscreteScheduler",
       "diffusers-euler",
       "shift",
       {{"num_train_timesteps", 1000, 1000},
        {"use_dynamic_shifting", false, false},
        {"invert_sigmas", false, false},
        {"shift_terminal", nullptr, nullptr},
        {"use_karras_sigmas", false, false},
        {"use_exponential_sigmas", false, false},
        {"use_beta_sigmas", false, false},
        {"stochastic_sampling", false, false}}},
  };
  return all;
}

}  // namespace

SchedulerChoice scheduler_choice(const json& json, const std::string& origin,
                                 const SchedulerChoice& otherwise) {
  if (!json.is_object()) {
    throw InputError(origin + ": expected a JSON object, found " + json.type_name());
  }
  const nlohmann::json class_name = json.value("_class_name", nlohmann::json());
  for (const KnownScheduler& known : known_schedulers()) {
    if (class_name != known.class_name) {
      continue;
    }
    for (const Setting& setting : known.settings) {
      const nlohmann::json found = json.value(setting.key, setting.default_value);
      if (found != setting.understood) {
        warn(origin + ": " + setting.key + ": found " + found.dump() + ", which " + known.name +
             " does not know: it samples as with " + setting.understood.dump());
      }
    }
    const nlohmann::json shift = json.value(known.shift_key, nlohmann::json(1.0));
    if (!shift.is_number() || !(shift.get<double>() > 0)) {
      throw InputError(origin + ": " + known.shift_key + ": found " + shift.dump() +
                       ", expected a positive number");
    }
    return {known.name, shift.get<double>()};
  }
  warn(origin + ": _class_name: found " + class_name.dump() +
       ", which is not known here: sampling defaults to " + otherwise.scheduler);
  return otherwise;
}

}  // namespace ospnext
