// Random generators, one per purpose, so that a draw for one purpose never changes the numbers of
// another.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/torch/torch.h"

namespace ospnext {

// A CPU generator. Its stream depends on seed, purpose and index, and on nothing else.
at::Generator seeded_generator(uint64_t seed, std::string_view purpose, uint64_t index = 0);

// The same on `device`. A CPU and a GPU generator give different streams.
at::Generator seeded_generator(const at::Device& device, uint64_t seed, std::string_view purpose,
                               uint64_t index = 0);

// A CPU generator with exactly this seed, like torch.Generator("cpu").manual_seed(seed). For the
// initial noise, which must equal that of the reference implementation.
at::Generator noise_generator(uint64_t seed);

// The 64-bit seed that seeded_generator() uses, for generators other than torch's.
uint64_t derived_seed(uint64_t seed, std::string_view purpose, uint64_t index = 0);

}  // namespace ospnext
