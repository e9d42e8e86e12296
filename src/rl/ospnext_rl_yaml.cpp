#include "rl/ospnext_rl_yaml.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/fields.h"
#include "core/log.h"
#include "io/readers/bounded_json.h"
#include "io/readers/tensor_file.h"
#include "models/transformer_config.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Keys and the fields of RlConfig that take their values as they are. Keys at the top level have no
// section.
const std::map<std::string, std::string> kFieldOfKey = {
    {"seed", "seed"},
    {"output_dir", "output"},
    {"weight_dtype", "precision"},
    {"num_epochs", "epochs"},
    {"save_interval", "save_every"},
    {"log_interval", "log_interval"},
    {"gradient_accumulation_steps", "accumulate"},
    {"init_max_grad_norm", "max_gradient_norm"},
    {"ema_decay", "ema_decay"},
    {"ema_update_interval", "ema_every"},
    {"ddp_size", "data_parallel"},
    {"model_config.pretrained_model_dir_or_checkpoint", "transformer"},
    {"scheduler_config.shift", "shift"},
    {"vae_config.vae_path", "vae"},
    {"text_encoder_config.checkpoint_path", "text_encoder"},
    {"text_encoder_config.text_tokenizer_path", "tokenizer"},
    {"data_config.dataset_config.text_tokenizer_path", "tokenizer"},
    {"optimizer_config.lr", "learning_rate"},
    {"optimizer_config.weight_decay", "weight_decay"},
    {"optimizer_config.eps", "epsilon"},
    {"lora_config.rank", "lora_rank"},
    {"lora_config.alpha", "lora_alpha"},
    {"lora_config.target_modules", "lora_targets"},
    {"lora_config.lora_path", "initial_lora"},
    {"rl_config.prompt_file", "prompts"},
    {"rl_config.eval_prompt_file", "eval_prompts"},
    {"rl_config.height", "height"},
    {"rl_config.width", "width"},
    {"rl_config.num_frames", "num_frames"},
    {"rl_config.num_inference_steps", "steps"},
    {"rl_config.sde_steps", "sde_steps"},
    {"rl_config.guidance_scale", "guidance_scale"},
    {"rl_config.use_cfg_in_train", "guidance_in_update"},
    {"rl_config.sample_batch_size", "sample_batch_size"},
    {"rl_config.train_batch_size", "train_batch_size"},
    {"rl_config.num_batches_per_epoch", "batches_per_epoch"},
    {"rl_config.num_inner_epochs", "inner_epochs"},
    {"rl_config.num_image_per_prompt", "group_size"},
    {"rl_config.sample_time_per_prompt", "group_rollouts"},
    {"rl_config.timestep_fraction", "timestep_fraction"},
    {"rl_config.clip_range", "clip"},
    {"rl_config.adv_clip_max", "adv_clip"},
    {"rl_config.kl_beta", "kl_beta"},
    {"rl_config.per_prompt_stat_tracking", "per_prompt_advantages"},
    {"rl_config.global_std", "global_std"},
    {"rl_config.eval_freq", "eval_every"},
    {"rl_config.eval_num_steps", "eval_steps"},
};

// Keys that are translated by name below.
const std::set<std::string> kTranslated = {"fsdp_size",
                                           "sp_size",
                                           "skiparse_sp_size",
                                           "use_sequence_parallel",
                                           "use_skiparse_sequence_parallel",
                                           "gradient_checkpointing",
                                           "optimizer_config.betas",
                                           "rl_config.reward_fn"};

// Keys that must have one of these values if they are there.
const std::map<std::string, std::vector<json>> kExpected = {
    {"model_name", {"osp_next", "wan_t2v"}},
    {"scheduler_config.scheduler_name", {"flow_matching"}},
    {"text_encoder_config.text_len", {512}},
    {"data_config.dataset_config.tokenizer_max_length", {512}},
    {"rl_config.kl_reward", {0}},
};

// Keys without meaning here: how the reference moves weights and data, and what it trains with
// clips.
const std::set<std::string> kUnused = {"reshard_after_forward",
                                       "explicit_prefetching_num_blocks",
                                       "model_cpu_offload",
                                       "encoder_cpu_offload",
                                       "save_with_dcp_api",
                                       "profiling",
                                       "deterministic_training",
                                       "resume_epoch",
                                       "task",
                                       "vae_config.dtype",
                                       "text_encoder_config.use_fsdp",
                                       "scheduler_config.num_inference_steps",
                                       "scheduler_config.guidance_scale",
                                       "scheduler_config.use_dynamic_shifting",
                                       "scheduler_config.use_logitnorm_time_sampling",
                                       "optimizer_config.resume_override_lr",
                                       "optimizer_config.resume_lr",
                                       "wandb_config.project_name",
                                       "wandb_config.exp_name"};

const std::set<std::string> kSections = {"model_config",     "scheduler_config",
                                         "vae_config",       "text_encoder_config",
                                         "data_config",      "data_config.dataset_config",
                                         "optimizer_config", "wandb_config",
                                         "lora_config",      "rl_config"};

// model_config's sizes, which are read from the file itself when a single file has the weights.
bool is_model_key(const std::string& name) {
  static const std::set<std::string> names = [] {
    std::set<std::string> all;
    TransformerConfig().visit([&](const char* field, const auto&, const char*) {
      all.insert(std::string("model_config.") + field);
    });
    return all;
  }();
  return names.contains(name);
}

using Flat = std::map<std::string, json>;

// Joins sections and their keys: {"a": {"b": 1}} -> {"a.b": 1}.
void flatten(const json& section, const std::string& prefix, const std::string& origin,
             Flat& flat) {
  for (const auto& [key, value] : section.items()) {
    const std::string name = prefix + key;
    if (!kSections.contains(name)) {
      flat[name] = value;
    } else if (value.is_object()) {
      flatten(value, name + ".", origin, flat);
    } else if (!value.is_null()) {
      throw InputError(origin + ": " + name + ": found " + shown(value) +
                       ", expected keys below it");
    }
  }
}

// Throws unless the value is of the type of `example`.
template <class Value>
Value typed(const Flat& flat, const std::string& key, Value otherwise, const std::string& origin) {
  const auto found = flat.find(key);
  if (found == flat.end() || found->second.is_null()) {
    return otherwise;
  }
  if (!JsonFit<Value>::of(found->second)) {
    throw InputError(origin + ": " + key + ": found " + shown(found->second) +
                     ", expected a value like " + json(otherwise).dump());
  }
  return found->second.get<Value>();
}

// Throws InputError for an unknown key and for a value that means something else. Warns about keys
// without meaning.
void check_keys(const Flat& flat, const std::string& origin) {
  std::string unused;
  for (const auto& [name, value] : flat) {
    if (const auto found = kExpected.find(name); found != kExpected.end()) {
      const auto& accepted = found->second;
      if (std::ranges::find(accepted, value) == accepted.end()) {
        throw InputError(origin + ": " + name + ": found " + shown(value) + ", expected " +
                         accepted.front().dump());
      }
    } else if (kUnused.contains(name)) {
      unused += (unused.empty() ? "" : ", ") + quoted(name);
    } else if (!kFieldOfKey.contains(name) && !kTranslated.contains(name) && !is_model_key(name)) {
      throw InputError(origin + ": unknown key " + quoted(name));
    }
  }
  if (!unused.empty()) {
    warn(origin + ": these keys have no effect here: " + unused);
  }
}

// {"videoalign": 1.0} -> ["videoalign:1.0"]
json rewards_of(const Flat& flat, const std::string& origin) {
  const auto found = flat.find("rl_config.reward_fn");
  json list = json::array();
  if (found == flat.end() || found->second.is_null()) {
    return list;
  }
  if (!found->second.is_object()) {
    throw InputError(origin + ": rl_config.reward_fn: found " + shown(found->second) +
                     ", expected names and weights like {\"videoalign\": 1.0}");
  }
  for (const auto& [name, weight] : found->second.items()) {
    if (!weight.is_number()) {
      throw InputError(origin + ": rl_config.reward_fn." + name + ": found " + shown(weight) +
                       ", expected a weight");
    }
    list.push_back(name + ":" + weight.dump());
  }
  return list;
}

// The fields of the mesh, and of what blocks compute again.
void add_translated(json& fields, const Flat& flat, const std::string& origin, int processes) {
  const auto side = [&](const char* size, const char* use) {
    const int64_t ranks = typed(flat, size, int64_t{1}, origin);
    return typed(flat, use, false, origin) ? ranks : 1;
  };
  const int64_t shards = typed(flat, "fsdp_size", int64_t{8}, origin);
  fields["shard_group"] = std::min(shards, static_cast<int64_t>(processes));
  fields["ulysses"] = side("sp_size", "use_sequence_parallel");
  fields["ssp"] = side("skiparse_sp_size", "use_skiparse_sequence_parallel");
  fields["recompute"] = typed(flat, "gradient_checkpointing", false, origin) ? "all" : "none";
  fields["reward"] = rewards_of(flat, origin);
  const auto betas = typed(flat, "optimizer_config.betas", std::vector<double>{0.9, 0.999}, origin);
  if (betas.size() != 2) {
    throw InputError(origin + ": optimizer_config.betas: found " + json(betas).dump() +
                     ", expected two numbers");
  }
  fields["beta1"] = betas[0];
  fields["beta2"] = betas[1];
}

}  // namespace

bool is_ospnext_rl_yaml(const json& config) {
  return config.is_object() && config.contains("rl_config");
}

json rl_fields_from_ospnext_yaml(const json& config, const fs::path& file, int processes) {
  const std::string origin = file.string();
  if (!is_ospnext_rl_yaml(config)) {
    throw InputError(origin +
                     ": found no section rl_config, expected a file as OSP-Next's "
                     "osp_14b_RL.yaml");
  }
  Flat flat;
  flatten(config, "", origin, flat);
  check_keys(flat, origin);
  json fields = json::object();
  for (const auto& [key, field] : kFieldOfKey) {
    if (const auto found = flat.find(key); found != flat.end() && !found->second.is_null()) {
      RlConfig trial;  // a value of another type is refused under the name of its key
      fields_from_json(trial, json::object({{field, found->second}}), origin + ": " + key);
      fields[field] = found->second;
    }
  }
  if (!fields.contains("sde_steps")) {  // all of them
    fields["sde_steps"] = fields.value("steps", json(RolloutConfig().steps));
  }
  add_translated(fields, flat, origin, processes);
  if (const auto weights = fields.find("transformer");
      weights != fields.end() && weights->is_string() &&
      !fs::is_directory(weights->get<std::string>())) {
    fields["transformer_config"] = origin;
  }
  return fields;
}

}  // namespace ospnext
