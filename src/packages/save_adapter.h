// LoRAs as PEFT saves them: a folder with adapter_model.safetensors and adapter_config.json.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "io/readers/tensor_file.h"
#include "io/safetensors_writer.h"
#include "packages/load_adapter.h"

namespace ospnext {

// The layers of a transformer that a LoRA can be trained for, by name: its linear layers, whose
// weights are matrices [out, in] in `shapes`.
std::vector<std::string> linear_layers(const TensorShapes& shapes);

// The matrices of an adapter by PEFT's names, "base_model.model.blocks.0.self_attn.q.lora_A.weight"
// [r, in] and "....lora_B.weight" [out, r]. They share the adapter's memory.
std::vector<std::pair<std::string, at::Tensor>> peft_tensors(const Adapter& adapter);

// PEFT's configuration for an adapter of a transformer with these shapes: the rank and the alpha
// that most layers have, and rank_pattern and alpha_pattern for the others. alpha is factor · r.
// Names in target_modules are endings ("self_attn.q") where PEFT then finds no further layers.
// lowest_noise_level, which PEFT does not have, is there where it is above 0.
// Source: LoraConfig in peft tuners/lora/config.py.
nlohmann::json peft_config(const Adapter& adapter, const TensorShapes& shapes);

// Writes both files into a folder that exists, the configuration first: weights without it would
// have another factor. Each file is atomic. Throws InputError and RunError.
void write_peft_folder(const std::filesystem::path& folder, const TensorOutputs& tensors,
                       const nlohmann::json& config);

}  // namespace ospnext
