// Finds the files of a model's parts: in a package of a known layout, or by one path per part.
#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/readers/lora_file.h"
#include "io/readers/tensor_file.h"

namespace ospnext {

enum class ModelPart { kTransformer, kTextEncoder, kVae, kTokenizer };
constexpr size_t kModelParts = 4;

// "transformer", "text encoder", "VAE", "tokenizer"
const char* part_title(ModelPart part);

// The layout of a package. kParts: no package, only one file per part, as ComfyUI uses them.
enum class ModelFamily { kWanAi, kDiffusers, kOspNext, kParts };

// How a transformer's LoRAs take part in its products. kAuto: merged, but live beside weights that
// are rounded to HiF8, so that the LoRAs are not rounded with them.
enum class LoraMode {
  kAuto,
  kMerge,  // added to the weights when these are loaded
  kLive    // computed beside the weights; what is no change of low rank of a matrix is merged
};

// The paths given by the flags --model, --transformer, ...; empty if the flag was not given.
struct ModelPaths {
  std::filesystem::path model{};
  std::filesystem::path transformer{};
  std::filesystem::path text_encoder{};
  std::filesystem::path vae{};
  std::filesystem::path tokenizer{};
  std::vector<LoraChoice> loras{};  // for the transformer
  LoraMode lora_mode = LoraMode::kAuto;

  const std::filesystem::path& own(ModelPart part) const;
};

// One part that was found.
struct PartFiles {
  ModelPart part;
  std::filesystem::path weights;                // for open_part() or read_tokenizer_bytes()
  std::optional<std::filesystem::path> config;  // config.json of this part
  std::vector<LoraChoice> loras{};              // for the transformer
  LoraMode lora_mode = LoraMode::kAuto;
};

struct ModelFiles {
  ModelFamily family = ModelFamily::kParts;
  std::optional<std::filesystem::path> generation_config;  // generation_config.json of the package
  std::optional<std::filesystem::path> scheduler_config;  // scheduler/scheduler_config.json, if any

  // The files of a part. If there are none, throws InputError that lists the searched places.
  const PartFiles& require(ModelPart part) const;
  // The same, but null for a part that does not exist. Throws InputError if the files cannot be
  // used, for example two candidates or a broken config.json.
  const PartFiles* find(ModelPart part) const;
  bool has(ModelPart part) const { return parts[static_cast<size_t>(part)].files.has_value(); }

  struct Search {
    std::optional<PartFiles> files;
    std::string failure;     // one sentence, when nothing was found
    bool is_broken = false;  // files were found but cannot be used
  };
  std::array<Search, kModelParts> parts;  // by ModelPart
};

// Finds the parts of a model. A part's own path takes precedence over the package. Package layouts:
//   Wan-AI    config.json, diffusion_pytorch_model*.safetensors, models_t5_*.pth, Wan2.1_VAE.pth,
//             google/umt5-xxl/spiece.model
//   diffusers model_index.json, transformer/, vae/, text_encoder/, tokenizer/spiece.model,
//             scheduler/
//   OSP-Next  ema_model_state_dict.pt (or other weights with a config.json of class OSPNextModel),
//             and the other parts as in Wan-AI's
// Any other folder contains one file (or an index of shards) per part, distinguished by name, or
// one file with all parts, as ComfyUI saves them (all_in_one.h). --model may also name such a file
// itself. A text encoder file with a tensor "spiece_model" contains its own tokenizer. Throws
// InputError for a path that does not exist and for a package of another pipeline (model_index.h).
// A missing part is an error only when it is required.
ModelFiles find_model_files(const ModelPaths& paths);

// Opens the weights of a part other than the tokenizer. Of an all-in-one file, only the tensors of
// this part are kept. Throws InputError as open_checkpoint() does.
Checkpoint open_part(const PartFiles& files);

// Whether the checkpoint `weights` contains a tokenizer. False for a broken file: loading reports
// that.
bool brings_tokenizer(const std::filesystem::path& weights);

// The bytes of the SentencePiece model, from a spiece.model file or the tensor "spiece_model" of a
// checkpoint. Throws InputError for more than 16 MiB and for a checkpoint without that tensor.
std::string read_tokenizer_bytes(const std::filesystem::path& file);

}  // namespace ospnext
