// Captions of procedural clips. There are several sentence forms; each states every attribute.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tiny_world/procedural_clips.h"

namespace ospnext {

// The number of captions of a clip with `num_objects` objects (1 or 2). The second half of the
// forms repeats the first half with capital letters and a full stop.
int64_t num_caption_forms(size_t num_objects);

// A caption such as "a small red circle moving left on a striped gray background". `form` counts
// from 0 to num_caption_forms(clip.objects.size()) - 1. Throws c10::Error for any other form, and
// for a clip that does not have one or two objects.
std::string caption(const ClipSpec& clip, int64_t form);

// The attributes that a caption states: those of caption(), in any form, and other sentences of
// these words. Of several objects, each attribute is named in the order of the objects. Paths and
// sizes in pixels are those of a default ClipSpec. Throws InputError unless there are one or two
// objects, each with size, colour, shape and motion, and one background with colour and pattern.
ClipSpec clip_of_caption(const std::string& text);

// `count` captions of training clips (ClipSplit::kTrain) with one or two objects, in all forms. A
// large corpus holds every word of the world. The tokenizer is trained on it.
std::vector<std::string> caption_corpus(uint64_t seed, int64_t count);

}  // namespace ospnext
