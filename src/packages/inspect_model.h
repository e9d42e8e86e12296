// What a file or folder of weights is, told from headers alone.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace ospnext {

// A description of a tensor file, an index of shards, a LoRA, or a folder that holds a part, a LoRA
// or a whole model. Of a checkpoint: "kind" (transformer, text encoder, VAE, LoRA, unknown),
// "names" (whose tensor names), "tensors", "parameters", "bytes", "dtypes", "config" (sizes),
// "missing" and "unused" tensors, "unlisted" ones that the index of its shards leaves out, and
// "problem", a sentence, where it cannot be used as it is. Of a package and of a file with all
// parts: "layout" and "parts". No weights are read. Throws InputError for files that cannot be read
// at all and as find_model_files does.
nlohmann::ordered_json inspect_model(const std::filesystem::path& path);

// The same for people, in lines.
std::string description_text(const nlohmann::ordered_json& description);

}  // namespace ospnext
