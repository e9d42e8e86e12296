// Input: a line with adapter_config.json (or nothing), a line with the header of the weights, and
// their data.
#include "fuzz/fuzz_entry.h"
#include "io/readers/file_bytes.h"
#include "io/readers/lora_file.h"

FUZZ_ENTRY(lora) {
  const std::string config = ospnext::fuzz::take_line(input);
  const std::string header = ospnext::fuzz::take_line(input);
  const std::string weights = ospnext::safetensors_bytes(header, std::string(input));
  std::map<std::string, std::string_view> files{{"adapter_model.safetensors", weights}};
  if (!config.empty()) {
    files["adapter_config.json"] = config;
  }
  const ospnext::fuzz::Folder folder(files);
  const ospnext::LoraFile lora = ospnext::open_lora(folder / ".");
  ospnext::fuzz::require(ospnext::looks_like_lora(lora.checkpoint) && !lora.families.empty());
  ospnext::TensorShapes shapes;
  for (const auto& change : lora.changes) {
    shapes[change.target] = change.values.shape;
  }
  lora.check_fits(shapes);
}
