#include "packages/load_adapter.h"

#include <algorithm>

#include "core/error.h"
#include "packages/part_layouts.h"

namespace ospnext {
namespace {

constexpr std::string_view kWeight = ".weight";

}  // namespace

Adapter make_adapter(const std::vector<LowRankChange>& changes, at::TensorOptions options) {
  int64_t count = 0;
  for (const LowRankChange& change : changes) {
    count += change.down.numel() + change.up.numel();
  }
  Adapter adapter{{}, at::empty({count}, options)};
  int64_t next = 0;
  const auto placed = [&](const at::Tensor& matrix) {
    const at::Tensor place =
        adapter.values.narrow(0, next, matrix.numel()).view(matrix.sizes());  // matrix's shape
    next += matrix.numel();
    return place.copy_(matrix);
  };
  for (const LowRankChange& change : changes) {
    const std::string linear = change.parameter.substr(0, change.parameter.size() - kWeight.size());
    const at::Tensor down = placed(change.down), up = placed(change.up);
    adapter.changes.emplace(linear, LowRank{down, up, change.factor, change.lowest_noise_level});
  }
  return adapter;
}

Adapter Adapter::on(at::Device device) const {
  Adapter moved{{}, values.to(device, /*non_blocking=*/true)};
  const auto same_place = [&](const at::Tensor& matrix) {
    return moved.values.narrow(0, matrix.storage_offset(), matrix.numel())
        .view(matrix.sizes());  // matrix's shape
  };
  for (const auto& [linear, change] : changes) {
    moved.changes.emplace(linear, LowRank{same_place(change.down), same_place(change.up),
                                          change.factor, change.lowest_noise_level});
  }
  return moved;
}

Adapter load_adapter(const std::filesystem::path& file, const TransformerConfig& config,
                     at::TensorOptions options) {
  Loras loras({LoraChoice{file, 1.0}});
  loras.check_fits(part_shapes(config));
  loras.warn_of_remarks();
  const std::vector<LowRankChange> changes = loras.take_low_rank();
  if (const std::string rest = loras.any_changed(); !rest.empty()) {
    throw InputError(file.string() + ": changes " + quoted(rest) +
                     " by more than a product of two matrices, expected changes of low rank of "
                     "linear layers; the rest can only be merged when a model is loaded");
  }
  Adapter adapter = make_adapter(changes, options);
  for (const auto& [linear, change] : adapter.changes) {
    TORCH_CHECK(adapter.changes.count(linear) == 1, "adapter: ", linear, " is changed twice");
  }
  return adapter;
}

double lowest_noise_level(const Adapter& adapter) {
  double level = 0;
  for (const auto& [name, change] : adapter.changes) {
    level = std::max(level, change.lowest_noise_level);
  }
  return level;
}

void check_all_noise_levels(const Adapter& adapter, const std::string& what) {
  if (const double level = lowest_noise_level(adapter); level > 0) {
    throw InputError(what + ": acts at noise levels from " + std::to_string(level) +
                     " on alone, expected a LoRA for all levels");
  }
}

std::set<float> switching_levels(Transformer& transformer) {
  std::set<float> levels = {0};
  for (const auto& module : transformer->modules(/*include_self=*/false)) {
    if (const auto* linear = module->as<LinearImpl>()) {
      for (const LowRank& one : linear->adapters) {
        levels.insert(static_cast<float>(one.lowest_noise_level));
      }
    }
  }
  return levels;
}

void set_adapters(Transformer& transformer, const AdapterChoices& adapters) {
  std::map<std::string, LinearImpl*> linears;
  for (const auto& item : transformer->named_modules("", /*include_self=*/false)) {
    if (auto* linear = item.value()->as<LinearImpl>()) {
      linear->adapters.clear();
      linears.emplace(item.key(), linear);
    }
  }
  for (const auto& [adapter, strength] : adapters) {
    for (const auto& [name, change] : adapter->changes) {
      const auto found = linears.find(name);
      TORCH_CHECK(found != linears.end(), "adapter: the transformer has no linear ", name);
      found->second->adapters.push_back(
          {change.down, change.up, change.factor * strength, change.lowest_noise_level});
    }
  }
}

}  // namespace ospnext
