// Random generators, one per purpose, so that a draw in one place never shifts another's numbers.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/torch/torch.h"

namespace ospnext {

// A CPU generator whose stream depends on all of seed, purpose and index, and on nothing else.
at::Generator seeded_generator(uint64_t seed, std::string_view purpose, uint64_t index = 0);

// The same on `device`. Streams of a CPU and a GPU generator differ.
at::Generator seeded_generator(const at::Device& device, uint64_t seed, std::string_view purpose,
                               uint64_t index = 0);

// A CPU generator seeded with exactly `seed`, as torch.Generator("cpu").manual_seed(seed) is: for the
// initial noise, which must equal the reference implementation's.
at::Generator noise_generator(uint64_t seed);

// The 64-bit seed behind seeded_generator(): for generators that are not torch's.
uint64_t derived_seed(uint64_t seed, std::string_view purpose, uint64_t index = 0);

}  // namespace ospnext
