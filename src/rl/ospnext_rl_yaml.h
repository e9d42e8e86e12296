// Reads OSP-Next's YAML files of reinforcement learning (configs/train/*/osp_14b_RL.yaml).
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "rl/rl_config.h"

namespace ospnext {

// Whether `config` is one of OSP-Next's files of this kind: it has their section rl_config.
bool is_ospnext_rl_yaml(const nlohmann::json& config);

// The names and values of RlConfig's fields for `config`, which was read from `file`, in a run of
// `processes` processes. Keys that are absent keep RlConfig's defaults, which are OSP-Next's.
// Keys without meaning here are listed in one warning. Throws an InputError that names the file and
// the key for an unknown key, for a value of the wrong type, and for a model or scheduler other
// than text-to-video by flow matching.
//
//   fsdp_size                               shard_group, at most `processes`
//   sp_size, with use_sequence_parallel     ulysses
//   skiparse_sp_size, with its switch       ssp
//   a checkpoint that is a file             transformer_config is this file, for its model_config
//   rl_config.reward_fn {name: weight}      reward
//
// Source: OSP-Next train/train_osp_RL.py.
nlohmann::json rl_fields_from_ospnext_yaml(const nlohmann::json& config,
                                           const std::filesystem::path& file, int processes);

}  // namespace ospnext
