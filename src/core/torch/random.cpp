#include "core/torch/random.h"

#include <ATen/CPUGeneratorImpl.h>

namespace ospnext {
namespace {

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit changes about half of the
// output bits.
uint64_t mix(uint64_t z) {
  z += 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

}  // namespace

uint64_t derived_seed(uint64_t seed, std::string_view purpose, uint64_t index) {
  uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a
  for (const char c : purpose) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  }
  return mix(mix(mix(seed) ^ hash) ^ index);
}

at::Generator seeded_generator(uint64_t seed, std::string_view purpose, uint64_t index) {
  return at::detail::createCPUGenerator(derived_seed(seed, purpose, index));
}

at::Generator seeded_generator(const at::Device& device, uint64_t seed, std::string_view purpose,
                               uint64_t index) {
  if (device.is_cpu()) {
    return seeded_generator(seed, purpose, index);
  }
  at::Generator generator = at::globalContext()
                                .getAcceleratorHooksInterface(device.type())
                                .getNewGenerator(device.has_index() ? device.index() : 0);
  generator.set_current_seed(derived_seed(seed, purpose, index));
  return generator;
}

at::Generator noise_generator(uint64_t seed) {
  return at::detail::createCPUGenerator(seed);
}

}  // namespace ospnext
