#include "cli/ospnext_yaml.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/log.h"
#include "io/readers/tensor_file.h"
#include "models/transformer_config.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Names = std::set<std::string>;

// Keys of OSP-Next and the flags that take their values. Keys at the top level have no section.
const std::map<std::string, std::string>& flag_of_key() {
  static const std::map<std::string, std::string> names = {
      {"seed", "seed"},
      {"prompt_txt", "prompts"},
      {"num_frames", "num_frames"},
      {"height", "height"},
      {"width", "width"},
      {"save_fps", "fps"},
      {"weight_dtype", "precision"},
      {"model_config.pretrained_model_dir_or_checkpoint", "transformer"},
      {"scheduler_config.num_inference_steps", "steps"},
      {"scheduler_config.shift", "shift"},
      {"scheduler_config.guidance_scale", "guidance_scale"},
      {"vae_config.vae_path", "vae"},
      {"vae_config.dtype", "vae_precision"},
      {"text_encoder_config.checkpoint_path", "text_encoder"},
      {"text_encoder_config.text_tokenizer_path", "tokenizer"},
  };
  return names;
}

const Names kParallelKeys = {"fsdp_size",
                             "ddp_size",
                             "sp_size",
                             "skiparse_sp_size",
                             "cp_size",
                             "skiparse_cp_size",
                             "use_sequence_parallel",
                             "use_skiparse_sequence_parallel",
                             "use_context_parallel",
                             "use_skiparse_context_parallel",
                             "reshard_after_forward",
                             "explicit_prefetching_num_blocks",
                             "model_cpu_offload",
                             "encoder_cpu_offload",
                             "text_encoder_config.use_fsdp"};

// Keys that are known but have no effect on generating one video after another.
const Names kUnusedKeys = {"batch_size",
                           "save_with_dcp_api",
                           "scheduler_config.use_dynamic_shifting",
                           "scheduler_config.use_logitnorm_time_sampling",
                           "text_encoder_config.dtype",
                           "training_iteration",
                           "gradient_checkpointing",
                           "gradient_accumulation_steps",
                           "init_max_grad_norm",
                           "log_interval",
                           "save_interval",
                           "ema_decay",
                           "ema_update_interval",
                           "profiling",
                           "num_epochs",
                           "data_config",
                           "optimizer_config",
                           "wandb_config",
                           "lora_config",
                           "rl_config"};

const Names kSections = {"model_config", "scheduler_config", "vae_config", "text_encoder_config"};

bool is_model_key(const std::string& name) {
  static const Names names = [] {
    Names all = {"skiparse_1d", "skiparse_2d", "num_register_tokens"};
    TransformerConfig().visit(
        [&](const char* field, const auto&, const char*) { all.insert(field); });
    return all;
  }();
  const std::string section = "model_config.";
  return name.starts_with(section) && names.contains(name.substr(section.size()));
}

// Joins sections and their keys: {"a": {"b": 1}, "c": 2} -> {"a.b": 1, "c": 2}. Drops nulls,
// except at keys for parallel runs.
std::map<std::string, json> flattened(const json& config, const std::string& origin) {
  std::map<std::string, json> flat;
  for (const auto& [key, value] : config.items()) {
    if (!kSections.contains(key)) {
      if (!value.is_null() || kParallelKeys.contains(key)) {
        flat[key] = value;
      }
      continue;
    }
    if (!value.is_object()) {
      throw InputError(origin + ": " + key + ": found " + value.dump() +
                       ", expected keys below it");
    }
    for (const auto& [inner, inner_value] : value.items()) {
      if (!inner_value.is_null()) {
        flat[std::string(key).append(".").append(inner)] = inner_value;
      }
    }
  }
  return flat;
}

// Throws InputError if the key is present and its value is not one of `accepted`.
void expect(const std::map<std::string, json>& flat, const std::string& origin,
            const std::string& name, const std::vector<json>& accepted) {
  const auto found = flat.find(name);
  if (found != flat.end() &&
      std::find(accepted.begin(), accepted.end(), found->second) == accepted.end()) {
    throw InputError(origin + ": " + name + ": found " + found->second.dump() + ", expected " +
                     accepted.front().dump());
  }
}

void warn_of(const std::string& origin, const std::string& what, const Names& names) {
  if (names.empty()) {
    return;
  }
  std::string list;
  for (const std::string& name : names) {
    list += (list.empty() ? "" : ", ") + quoted(name);
  }
  warn(origin + ": " + what + ": " + list);
}

// Translates OSP-Next's names of number formats into ours.
void rename_precisions(json& flags, const std::string& origin) {
  json& vae = flags["vae_precision"];
  if (vae == "fp16" || vae == "float16") {
    warn(origin + ": vae_config.dtype: fp16 is computed in float32 here");
    vae = "float32";
  }
  if (vae.is_null()) {
    vae = "float32";  // the default of OSP-Next
  }
}

}  // namespace

bool is_ospnext_yaml(const json& config) {
  return std::any_of(kSections.begin(), kSections.end(),
                     [&](const std::string& section) { return config.contains(section); });
}

json flags_from_ospnext_yaml(const json& config, const fs::path& file) {
  const std::string origin = "--config " + file.string();
  const std::map<std::string, json> flat = flattened(config, origin);
  expect(flat, origin, "pipeline_name", {"t2v"});
  expect(flat, origin, "model_name", {"osp_next", "wan_t2v"});
  expect(flat, origin, "scheduler_config.scheduler_name", {"flow_matching"});
  expect(flat, origin, "text_encoder_config.text_len", {512});

  json flags = {{"scheduler", "euler"}, {"seed_step", 0}};
  Names parallel, unused, unknown;
  const Names read_above = {"pipeline_name", "model_name", "scheduler_config.scheduler_name",
                            "text_encoder_config.text_len", "output_dir"};
  for (const auto& [name, value] : flat) {
    if (const auto flag = flag_of_key().find(name); flag != flag_of_key().end()) {
      flags[flag->second] = value;
    } else if (kParallelKeys.contains(name)) {
      parallel.insert(name);
    } else if (kUnusedKeys.contains(name)) {
      unused.insert(name);
    } else if (!is_model_key(name) && !read_above.contains(name)) {
      unknown.insert(name);
    }
  }
  if (const auto folder = flat.find("output_dir"); folder != flat.end()) {
    if (!folder->second.is_string()) {
      throw InputError(origin + ": output_dir: found " + folder->second.dump() +
                       ", expected a folder's name");
    }
    flags["output"] = (fs::path(folder->second.get<std::string>()) / "video.mp4").string();
  }
  // A folder contains its model's configuration; a single file needs model_config.
  std::error_code ignored;
  if (flags.contains("transformer") && flags["transformer"].is_string() &&
      !fs::is_directory(flags["transformer"].get<std::string>(), ignored)) {
    flags["transformer_config"] = file.string();
  }
  rename_precisions(flags, origin);
  warn_of(origin, "running in parallel is not there yet, so these keys are ignored", parallel);
  warn_of(origin, "these keys mean nothing to generate and are ignored", unused);
  warn_of(origin, "unknown keys are ignored", unknown);
  return flags;
}

}  // namespace ospnext
