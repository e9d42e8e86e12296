// Models and LoRAs made of a training's checkpoint.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "models/transformer_config.h"
#include "models/umt5.h"
#include "packages/convert_model.h"
#include "packages/model_fields.h"
#include "train/stored_checkpoint.h"

namespace ospnext {

// What stands before the names of the trained tensors of the two models.
inline constexpr const char* kTransformerPrefix = "transformer.";
inline constexpr const char* kTextEncoderPrefix = "text_encoder.";

// TrainedParameters::model() of weights of these models, and of a LoRA (peft_config()).
nlohmann::json model_of_weights(const TransformerConfig& transformer,
                                const Umt5Config& text_encoder);
nlohmann::json model_of_lora(const nlohmann::json& adapter_config);

// Which of a checkpoint's weights: their averages, or those that the last step gave.
enum class TrainedWeights { kAveraged, kRaw };
// Parses "ema" or "raw". Throws InputError that begins with `flag`.
TrainedWeights parse_trained_weights(const std::string& text, const std::string& flag);

// Whether the checkpoint is of a LoRA. Throws InputError if it is neither of a LoRA nor of the
// weights of a transformer and a text encoder.
bool is_of_lora(const StoredCheckpoint& stored);

// Writes the transformer and the text encoder as the folders transformer/ and text_encoder/ of
// `folder`, in `dtype`, tensor by tensor. Weights that were not trained come from `base`, the model
// that the training began with; null: there is none. A part that was not trained at all and that
// `base` lacks is left out. Throws InputError for weights that are in neither, or not finite.
void write_trained_parts(const StoredCheckpoint& stored, TrainedWeights which,
                         const ModelFiles* base, DType dtype, const std::filesystem::path& folder);

// Writes the LoRA as a folder of PEFT: into `folder`, which exists.
void write_trained_lora(const StoredCheckpoint& stored, TrainedWeights which, DType dtype,
                        const std::filesystem::path& folder);

// Writes the averages of a checkpoint, or without one of the newest, of the training in `output`: a
// LoRA as the folder `output`/lora, else the parts as `output`/model. `base` as above. Returns the
// folder. Throws InputError and RunError.
std::filesystem::path write_averages(const std::filesystem::path& output, const ModelFiles* base,
                                     std::optional<std::filesystem::path> checkpoint = {});

// Writes the checkpoint's model to the new folder `output`, as convert_model() does, with the other
// parts of `base`, whose fields may be empty. Weights without a dtype to write become bf16.
std::vector<WrittenPart> convert_checkpoint(const StoredCheckpoint& stored, TrainedWeights which,
                                            ModelFields base, const Conversion& conversion,
                                            const std::filesystem::path& output, Progress& progress,
                                            const CancellationToken& cancel);
// Writes the checkpoint's LoRA to the new folder `output`; float32 without a dtype to write.
void convert_lora_checkpoint(const StoredCheckpoint& stored, TrainedWeights which,
                             std::optional<DType> dtype, const std::filesystem::path& output);

}  // namespace ospnext
