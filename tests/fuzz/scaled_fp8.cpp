// Input: a line with the header of a safetensors file of scaled weights, its data.
#include "io/readers/scaled_fp8.h"

#include <cmath>

#include "fuzz/fuzz_entry.h"
#include "io/readers/file_bytes.h"
#include "io/readers/weight_companions.h"

FUZZ_ENTRY(scaled_fp8) {
  const std::string header = ospnext::fuzz::take_line(input);
  const ospnext::fuzz::MemoryFile file(ospnext::safetensors_bytes(header, std::string(input)));
  const auto checkpoint = ospnext::open_checkpoint(file.path());
  for (const auto& [name, companion] : ospnext::unknown_companions(checkpoint)) {
    ospnext::fuzz::require(checkpoint.tensors().contains(name));
    ospnext::fuzz::require(checkpoint.tensors().contains(companion) && companion != name);
  }
  for (const auto& [name, scale] : ospnext::fp8_scales(checkpoint)) {
    ospnext::fuzz::require(!ospnext::is_weight_companion(name));
    ospnext::fuzz::touch({{name, scale.values}});
    const auto& weight = checkpoint.tensors().at(name);
    const auto& blocks = scale.values.shape;
    const int64_t rows = weight.shape.empty() ? 1 : weight.shape[0];
    const int64_t columns = weight.element_count() / rows;
    ospnext::fuzz::require(blocks.size() == 2);
    ospnext::fuzz::require((rows - 1) / scale.block_rows + 1 == blocks[0]);
    ospnext::fuzz::require((columns - 1) / scale.block_columns + 1 == blocks[1]);
    const auto value = ospnext::scalar_value(scale.values);
    ospnext::fuzz::require(!value || std::isfinite(*value));
  }
  ospnext::refuse_other_formats(checkpoint);
}
