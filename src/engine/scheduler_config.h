// Sampling settings of a diffusers package: scheduler/scheduler_config.json.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace ospnext {

struct SchedulerChoice {
  std::string scheduler = "euler";
  double shift = 7.0;
};

// UniPCMultistepScheduler becomes diffusers-unipc with its flow_shift,
// FlowMatchEulerDiscreteScheduler becomes diffusers-euler with its shift. Any other class gives
// `otherwise`, with a warning. Settings that these schedulers have and ours lack also cause a
// warning. Throws InputError, beginning with `origin`, if the shift is not a positive number.
SchedulerChoice scheduler_choice(const nlohmann::json& json, const std::string& origin,
                                 const SchedulerChoice& otherwise);

}  // namespace ospnext
