// LoRAs as adapters beside the weights of an open transformer (models/transformer_linear.h).
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/torch/torch.h"
#include "io/loras.h"
#include "models/transformer.h"

namespace ospnext {

// The changes of one LoRA or of several, by linear: "blocks.0.self_attn.q". Copies share their
// tensors.
struct Adapter {
  std::multimap<std::string, LowRank> changes;
  at::Tensor values;  // [n]: all of the changes' tensors are views of it, so one copy moves them

  // The adapter on another device. From pinned host memory, the copy runs beside other work of the
  // host.
  Adapter on(at::Device device) const;
  int64_t bytes() const { return static_cast<int64_t>(values.nbytes()); }
};

// Reads a LoRA file, or a directory saved by PEFT or diffusers, for a transformer with these sizes.
// Its tensors have the dtype and the device of `options`, in pinned memory if these ask for it; the
// factors are alpha / r. Prints the remarks on the file as warnings. Throws InputError for a file
// that is broken, does not fit, or changes something other than matrices by low rank, which can
// only be merged into the weights when they are loaded.
Adapter load_adapter(const std::filesystem::path& file, const TransformerConfig& config,
                     at::TensorOptions options = at::kFloat);

// Puts changes of low rank into an adapter.
Adapter make_adapter(const std::vector<LowRankChange>& changes, at::TensorOptions options);

// The largest lowest_noise_level of its changes; 0: it acts at all noise levels.
double lowest_noise_level(const Adapter& adapter);
// Throws InputError that begins with `what` for an adapter that does not act at all noise levels.
void check_all_noise_levels(const Adapter& adapter, const std::string& what);

// Adapters to compute with, and their strengths.
using AdapterChoices = std::vector<std::pair<const Adapter*, double>>;
// Makes the linears of the transformer use these adapters and no others. Their tensors are on its
// device. A linear that an adapter changes and that is not there fails a TORCH_CHECK.
void set_adapters(Transformer& transformer, const AdapterChoices& adapters);
// The noise levels from which on other adapters act, and 0: from one to the next, all act alike.
std::set<float> switching_levels(Transformer& transformer);

}  // namespace ospnext
