// What a diffusers package says about sampling: scheduler/scheduler_config.json.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace ospnext {

struct SchedulerChoice {
  std::string scheduler = "euler";
  double shift = 7.0;
};

// UniPCMultistepScheduler -> diffusers-unipc with its flow_shift, FlowMatchEulerDiscreteScheduler
// -> diffusers-euler with its shift. Another class leaves `otherwise`; that, and every setting that
// these schedulers have and ours do not, is named in a warning. Throws InputError, beginning with
// `origin`, for a shift that is no positive number.
SchedulerChoice scheduler_choice(const nlohmann::json& json, const std::string& origin,
                                 const SchedulerChoice& otherwise);

}  // namespace ospnext
