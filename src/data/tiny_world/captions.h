// Captions of procedural clips: several sentence forms, each stating every attribute.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tiny_world/procedural_clips.h"

namespace ospnext {

// How many captions a clip with that many objects (1 or 2) has; the second half of them are the first
// half again with capital letters and a full stop.
int64_t num_caption_forms(size_t num_objects);

// "a small red circle moving left on a striped gray background" and its like. `form` counts from 0 to
// num_caption_forms(clip.objects.size()) - 1; throws for another.
std::string caption(const ClipSpec& clip, int64_t form);

// `count` captions of training clips in all forms, one or two objects, every word of the world: the
// text a tokenizer is trained on.
std::vector<std::string> caption_corpus(uint64_t seed, int64_t count);

}  // namespace ospnext
