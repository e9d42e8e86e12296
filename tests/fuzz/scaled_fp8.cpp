// Input: a line with the header of a safetensors file of scaled weights, its data.
#include "io/readers/scaled_fp8.h"

#include <cmath>

#include "fuzz/fuzz_entry.h"
#include "io/readers/file_bytes.h"

FUZZ_ENTRY(scaled_fp8) {
  const std::string header = ospnext::fuzz::take_line(input);
  const ospnext::fuzz::MemoryFile file(ospnext::safetensors_bytes(header, std::string(input)));
  const auto checkpoint = ospnext::open_checkpoint(file.path());
  for (const auto& [name, scale] : ospnext::fp8_scales(checkpoint)) {
    ospnext::fuzz::require(std::isfinite(scale) && checkpoint.tensors().contains(name));
    ospnext::fuzz::require(!ospnext::is_fp8_companion(name));
  }
}
