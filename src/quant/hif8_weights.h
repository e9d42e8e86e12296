// Weights as HiFloat8: which ones are, and their way from a checkpoint.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "io/weight_stream.h"

namespace ospnext::hif8 {

// Whether a weight of the transformer, by its module name, is rounded: q, k, v and o of self- and
// cross-attention and both layers of the feed-forward network. Embeddings, time and head stay.
// Source: OSP-Next's configurations (quant: hif8).
bool is_rounded_weight(const std::string& name);

// weight_sources() of a checkpoint, ready to be streamed when weights are stored as HiF8 codes, too.
std::map<std::string, WeightSource> decoded_sources(const Checkpoint& checkpoint,
                                                    const KeyMap& rename);

// The scale that a weight is rounded with, LoRAs added: the one it was stored with where it is unchanged
// codes, else amax_to / max(amax, floor) of the whole tensor, in float32. Streams the weight once, to
// `device`. Throws InputError for NaN and infinite values.
float weight_scale(const WeightSource& source, const Checkpoint& checkpoint, const Loras& loras,
                   at::Device device, double amax_to);

// The two cases of it: the scale that is known; else the largest magnitude, of some rows.
std::optional<float> stored_scale(const WeightSource& source, const Loras& loras);
float weight_amax(const WeightSource& source, const RowRange& rows, const Checkpoint& checkpoint,
                  const Loras& loras, at::Device device);

}  // namespace ospnext::hif8
