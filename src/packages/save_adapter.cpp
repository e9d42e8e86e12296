#include "packages/save_adapter.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/name_pattern.h"
#include "io/output_file.h"

namespace ospnext {
namespace {

using nlohmann::json;

constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kBlocks = "blocks.";

// The alpha of a change; a whole number where rounding alone keeps it from being one.
json alpha_of(const LowRank& change) {
  const double alpha = change.factor * static_cast<double>(change.down.size(0));
  const double whole = std::round(alpha);
  if (std::abs(alpha - whole) <= 1e-12 * std::abs(alpha) && std::abs(whole) < 1e15) {
    return static_cast<int64_t>(whole);
  }
  return alpha;
}

// The name of a layer without its block: "self_attn.q" of "blocks.0.self_attn.q".
std::string ending_of(const std::string& layer) {
  return layer.starts_with(kBlocks) ? layer.substr(layer.find('.', kBlocks.size()) + 1) : layer;
}

json target_modules(const Adapter& adapter, const TensorShapes& shapes) {
  const std::vector<std::string> layers = linear_layers(shapes);
  std::map<std::string, bool> complete;  // ending -> whether all layers with it are changed
  std::vector<std::string> targets;
  for (const auto& [layer, change] : adapter.changes) {
    const std::string ending = ending_of(layer);
    const auto [found, is_new] = complete.try_emplace(ending, false);
    if (is_new) {
      found->second = std::ranges::all_of(layers, [&](const std::string& one) {
        return !fits_ending(one, ending) || adapter.changes.contains(one);
      });
    }
    if (is_new || !found->second) {
      targets.push_back(found->second ? ending : layer);
    }
  }
  return targets;
}

}  // namespace

std::vector<std::string> linear_layers(const TensorShapes& shapes) {
  std::vector<std::string> layers;
  for (const auto& [name, shape] : shapes) {
    if (name.ends_with(kWeight) && shape.size() == 2) {
      layers.push_back(name.substr(0, name.size() - kWeight.size()));
    }
  }
  return layers;
}

std::vector<std::pair<std::string, at::Tensor>> peft_tensors(const Adapter& adapter) {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const auto& [layer, change] : adapter.changes) {
    tensors.emplace_back("base_model.model." + layer + ".lora_A.weight", change.down);
    tensors.emplace_back("base_model.model." + layer + ".lora_B.weight", change.up);
  }
  return tensors;
}

json peft_config(const Adapter& adapter, const TensorShapes& shapes) {
  std::map<std::pair<int64_t, json>, int64_t> counts;  // of layers by rank and alpha
  for (const auto& [layer, change] : adapter.changes) {
    ++counts[{change.down.size(0), alpha_of(change)}];
  }
  const auto [rank, alpha] =
      std::ranges::max_element(counts, {}, [](const auto& entry) { return entry.second; })->first;
  json ranks = json::object(), alphas = json::object();
  for (const auto& [layer, change] : adapter.changes) {
    if (change.down.size(0) != rank) {
      ranks[layer] = change.down.size(0);
    }
    if (alpha_of(change) != alpha) {
      alphas[layer] = alpha_of(change);
    }
  }
  json config = {{"peft_type", "LORA"},
                 {"base_model_name_or_path", nullptr},
                 {"task_type", nullptr},
                 {"inference_mode", true},
                 {"r", rank},
                 {"lora_alpha", alpha},
                 {"rank_pattern", ranks},
                 {"alpha_pattern", alphas},
                 {"target_modules", target_modules(adapter, shapes)},
                 {"bias", "none"},
                 {"fan_in_fan_out", false},
                 {"init_lora_weights", true},
                 {"lora_dropout", 0.0},
                 {"use_dora", false},
                 {"use_rslora", false}};
  if (const double level = lowest_noise_level(adapter); level > 0) {
    config["lowest_noise_level"] = level;
  }
  return config;
}

void write_peft_folder(const std::filesystem::path& folder, const TensorOutputs& tensors,
                       const json& config) {
  write_text_file(folder / "adapter_config.json", config.dump(2) + "\n");
  write_safetensors(folder / "adapter_model.safetensors", tensors);
}

}  // namespace ospnext
