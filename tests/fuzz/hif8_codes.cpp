// Input: a line with the header of a safetensors file of HiF8 codes, its data.
#include "io/readers/hif8_codes.h"

#include <cmath>

#include "fuzz/fuzz_entry.h"
#include "io/readers/file_bytes.h"

FUZZ_ENTRY(hif8_codes) {
  const std::string header = ospnext::fuzz::take_line(input);
  const ospnext::fuzz::MemoryFile file(ospnext::safetensors_bytes(header, std::string(input)));
  const auto checkpoint = ospnext::open_checkpoint(file.path());
  for (const auto& [name, scale] : ospnext::hif8_scales(checkpoint)) {
    ospnext::fuzz::require(std::isfinite(scale) && scale > 0);
    ospnext::fuzz::require(checkpoint.tensors().at(name).dtype == ospnext::DType::kU8);
    ospnext::fuzz::require(checkpoint.tensors().contains(ospnext::hif8_scale_name(name)));
  }
}
