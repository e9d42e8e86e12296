// Where the parts of a model lie: known package layouts and paths given part by part.
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

// The layout of a package; kParts when there is none, only files of parts, as Comfy has them.
enum class ModelFamily { kWanAi, kDiffusers, kOspNext, kParts };

// What the fields `model`, `transformer`, ... name; an empty path was not given.
struct ModelPaths {
  std::filesystem::path model{};
  std::filesystem::path transformer{};
  std::filesystem::path text_encoder{};
  std::filesystem::path vae{};
  std::filesystem::path tokenizer{};
  std::vector<LoraChoice> loras{};  // for the transformer

  const std::filesystem::path& own(ModelPart part) const;
};

// One part that was found.
struct PartFiles {
  ModelPart part;
  std::filesystem::path weights;                // for open_part, or for read_tokenizer_bytes
  std::optional<std::filesystem::path> config;  // config.json of this very part
  std::vector<LoraChoice> loras{};              // added to the transformer's weights when loaded
};

struct ModelFiles {
  ModelFamily family = ModelFamily::kParts;
  std::optional<std::filesystem::path> generation_config;  // generation_config.json of the package
  std::optional<std::filesystem::path> scheduler_config;  // scheduler/scheduler_config.json, if any

  // The files of a part. Throws InputError that says where it was looked for when there are none.
  const PartFiles& require(ModelPart part) const;
  // The same, but null for a part that is not there. Throws InputError when something is there that
  // is not to be used, such as two candidates or a broken config.json.
  const PartFiles* find(ModelPart part) const;
  bool has(ModelPart part) const { return parts[static_cast<size_t>(part)].files.has_value(); }

  struct Search {
    std::optional<PartFiles> files;
    std::string failure;     // one sentence, when nothing was found
    bool is_broken = false;  // something was found that is not to be used
  };
  std::array<Search, kModelParts> parts;  // by ModelPart
};

// Finds the parts of a model. A part's own path goes before the package. Package layouts:
//   Wan-AI    config.json, diffusion_pytorch_model*.safetensors, models_t5_*.pth, Wan2.1_VAE.pth,
//             google/umt5-xxl/spiece.model
//   diffusers model_index.json, transformer/, vae/, text_encoder/, tokenizer/spiece.model, scheduler/
//   OSP-Next  ema_model_state_dict.pt (or other weights with a config.json of class OSPNextModel),
//             and the other parts as in Wan-AI's
// Any other folder has a file (or an index of shards) for each part, told apart by name, or one
// file of all parts, as ComfyUI saves them (all_in_one.h); such a file may also be the model
// itself. A text encoder file with a tensor "spiece_model" brings its own tokenizer. Throws
// InputError for a path that does not exist and for a package of another pipeline (model_index.h);
// a part that is not there is an error only once it is required.
ModelFiles find_model_files(const ModelPaths& paths);

// The weights of a part, not the tokenizer's: of an all-in-one file the tensors of this part alone.
// Throws InputError as open_checkpoint does.
Checkpoint open_part(const PartFiles& files);

// Whether the tokenizer lies in a checkpoint, too; a broken one is reported when it is loaded.
bool brings_tokenizer(const std::filesystem::path& weights);

// The SentencePiece model: of a spiece.model file, or the tensor "spiece_model" of a checkpoint.
std::string read_tokenizer_bytes(const std::filesystem::path& file);

}  // namespace ospnext
