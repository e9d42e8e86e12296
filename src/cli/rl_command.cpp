// ospnext rl.
#include <unistd.h>

#include <iostream>

#include "cli/commands.h"
#include "parallel/process_place.h"
#include "rl/ospnext_rl_yaml.h"
#include "rl/policy_training.h"

namespace ospnext {

void run_rl(const Arguments& arguments, const CancellationToken& cancel) {
  RlConfig config;
  const ProcessPlace place = process_place();
  const auto translate = [&](const nlohmann::json& fields, const std::filesystem::path& file) {
    return is_ospnext_rl_yaml(fields) ? rl_fields_from_ospnext_yaml(fields, file, place.size)
                                      : fields;
  };
  const auto given =
      read_flags("rl",
                 "Improve a model by rewards for its videos, with Mix-GRPO. --config also reads "
                 "OSP-Next's YAML files of reinforcement learning.",
                 flags_of(config), arguments, translate);
  if (!given) {
    return;
  }
  given->apply(config);
  const bool leads = place.rank == 0;
  Progress progress(leads ? &std::cerr : nullptr, isatty(STDERR_FILENO) != 0);
  const bool finished = train_policy(config, progress, cancel);
  if (!leads) {
    return;
  }
  if (!finished) {
    std::cout << "stopped after --max-seconds; the same command goes on from " << config.output
              << "/checkpoints\n";
  } else if (config.lora.active()) {
    std::cout << "LoRA: " << config.output << "/lora\n";
  } else {
    std::cout << "model: " << config.output << "/model\n";
  }
}

}  // namespace ospnext
