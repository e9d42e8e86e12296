// Describes a file or folder of weights by reading only the headers.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace ospnext {

// Describes a tensor file, an index of shards, a LoRA, or a folder that contains a part, a LoRA or
// a whole model. For a checkpoint: "kind" (transformer, text encoder, VAE, LoRA, unknown), "names"
// (the project that uses these tensor names), "tensors", "parameters", "bytes", "dtypes", "config"
// (sizes), the "missing" and "unused" tensors, the "unlisted" tensors that the index of its shards
// lacks, and "problem", a sentence, if the checkpoint cannot be used as it is. For a package and
// for a file with all parts: "layout" and "parts". Reads no weights. Throws InputError for files
// that cannot be read at all, and as find_model_files does.
nlohmann::ordered_json inspect_model(const std::filesystem::path& path);

// The description as lines of text.
std::string description_text(const nlohmann::ordered_json& description);

}  // namespace ospnext
