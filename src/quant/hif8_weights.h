// Weights as HiFloat8: which weights are rounded, and how they are read from a checkpoint.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "io/weight_stream.h"

namespace ospnext::hif8 {

// Whether the transformer's weight of this name is rounded: q, k, v and o of self- and
// cross-attention and both layers of the feed-forward network. Embeddings, time projection and head
// are not rounded. Source: OSP-Next's configurations (quant: hif8).
bool is_rounded_weight(const std::string& name);

// weight_sources() of a checkpoint. Sources of weights that are stored as HiF8 codes decode them
// when they are streamed.
std::map<std::string, WeightSource> decoded_sources(const Checkpoint& checkpoint,
                                                    const KeyMap& rename);

// The scale for rounding a weight after LoRAs are added. If the weight is stored as codes and no
// LoRA changes it, this is stored_scale(). Otherwise it is amax_to / max(amax, kAmaxFloor) of the
// whole tensor in float32, for which the weight is streamed once to `device`. Throws InputError for
// NaN and infinite values.
float weight_scale(const WeightSource& source, const Checkpoint& checkpoint, const Loras& loras,
                   at::Device device, double amax_to);

// The scale stored with the codes of a weight; nullopt if it is not stored as codes or a LoRA
// changes it.
std::optional<float> stored_scale(const WeightSource& source, const Loras& loras);
// The largest magnitude in some rows of a weight after LoRAs are added, in float32. Streams these
// rows once to `device`. Throws InputError for NaN and infinite values.
float weight_amax(const WeightSource& source, const RowRange& rows, const Checkpoint& checkpoint,
                  const Loras& loras, at::Device device);

}  // namespace ospnext::hif8
