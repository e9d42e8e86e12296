// Finds the parts of a model.
#include "packages/model_folder.h"

#include <algorithm>
#include <cctype>
#include <vector>

#include "core/error.h"
#include "io/readers/bounded_json.h"
#include "io/readers/checkpoint_folder.h"
#include "io/readers/tensor_file.h"
#include "packages/all_in_one.h"
#include "packages/model_index.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

// The names of one part, and its places in packages.
struct PartFacts {
  const char* flag;
  const char* title;
  const char* folder;              // in diffusers packages
  std::vector<const char*> names;  // usual names in flat packages, also with folders
  const char* hint;                // occurs in the lower-case file name of this part; "": no hint
  const char* config_key;          // a key that only this part's config.json has
};

const PartFacts& facts(ModelPart part) {
  static const std::array<PartFacts, kModelParts> all{
      PartFacts{"`transformer`",
                "transformer",
                "transformer",
                {"diffusion_pytorch_model.safetensors",
                 "diffusion_pytorch_model.safetensors.index.json", "model.safetensors",
                 "model.safetensors.index.json", "ema_model_state_dict.pt", "model_state_dict.pt"},
                "",
                "ffn_dim"},
      PartFacts{"`text_encoder`",
                "text encoder",
                "text_encoder",
                {"models_t5_umt5-xxl-enc-bf16.pth", "models_t5_umt5-xxl-enc-bf16.safetensors"},
                "t5",
                "d_ff"},
      PartFacts{
          "`vae`", "VAE", "vae", {"Wan2.1_VAE.pth", "Wan2.1_VAE.safetensors"}, "vae", "z_dim"},
      PartFacts{"`tokenizer`",
                "tokenizer",
                "tokenizer",
                {"google/umt5-xxl/spiece.model", "tokenizer/spiece.model", "spiece.model"},
                "",
                ""},
  };
  return all[static_cast<size_t>(part)];
}

// These three functions never throw. They return false for a path that cannot be examined.
bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  return text;
}

// The config.json in `folder`, if it exists and belongs to this part.
std::optional<fs::path> config_of(const fs::path& folder, ModelPart part) {
  const fs::path file = folder / "config.json";
  if (part == ModelPart::kTokenizer || !is_file(file)) {
    return std::nullopt;
  }
  return read_json_object(file).contains(facts(part).config_key) ? std::optional(file)
                                                                 : std::nullopt;
}

PartFiles with_config(const fs::path& weights, ModelPart part) {
  return {part, weights, config_of(weights.parent_path(), part)};
}

bool hints_at(const fs::path& file, ModelPart part) {
  const std::string hint = facts(part).hint;
  return !hint.empty() && lower_case(file.filename().string()).find(hint) != std::string::npos;
}

// The only checkpoint in `folder` with a fitting name. It contains the part's hint; for the
// transformer, it contains no other part's hint.
std::optional<fs::path> file_by_hint(const fs::path& folder, ModelPart part) {
  const auto fitting = checkpoints_in(folder, [part](const fs::path& file) {
    const bool other = hints_at(file, ModelPart::kTextEncoder) || hints_at(file, ModelPart::kVae);
    return part == ModelPart::kTransformer ? !other : hints_at(file, part);
  });
  if (fitting.size() > 1) {
    throw InputError(folder.string() + ": expected one file of the " + facts(part).title +
                     ", found " + std::to_string(fitting.size()) + ", such as " +
                     fitting.front().filename().string() + " and " +
                     fitting.back().filename().string() + ": name one with " + facts(part).flag);
  }
  return fitting.empty() ? std::nullopt : std::optional(fitting.front());
}

// Whether `file` is an all-in-one file with the part. False for a broken file: loading reports it.
bool lies_in(const fs::path& file, ModelPart part) {
  try {
    return is_file(file) && brings_part(open_checkpoint(file), part);
  } catch (const InputError&) {
    return false;
  }
}

std::optional<PartFiles> find_in_file(const fs::path& file, ModelPart part) {
  return lies_in(file, part) ? std::optional(with_config(file, part)) : std::nullopt;
}

// Finds the part in a package folder of any layout.
std::optional<PartFiles> find_in_package(const fs::path& folder, ModelPart part) {
  if (part != ModelPart::kTokenizer) {
    const fs::path inner = folder / facts(part).folder;
    if (is_folder(inner)) {
      if (const auto weights = find_checkpoint(inner)) {
        return with_config(*weights, part);
      }
    }
  }
  for (const char* name : facts(part).names) {
    if (is_file(folder / name)) {
      return with_config(folder / name, part);
    }
  }
  if (part != ModelPart::kTokenizer) {
    if (const auto weights = file_by_hint(folder, part)) {
      return with_config(*weights, part);
    }
  }
  return std::nullopt;
}

// Finds the part at its own path: a file, a folder with only this part, or a whole package.
std::optional<PartFiles> find_at_own_path(const fs::path& path, ModelPart part) {
  if (!is_there(path)) {
    throw InputError(std::string(facts(part).flag) + " " + path.string() +
                     ": no such file or directory");
  }
  if (!is_folder(path)) {
    return with_config(path, part);
  }
  if (part == ModelPart::kTransformer) {
    refuse_other_pipelines(path);
  }
  if (auto found = find_in_package(path, part)) {
    return found;
  }
  if (part == ModelPart::kTokenizer) {
    return std::nullopt;
  }
  const auto weights = find_checkpoint(path);
  return weights ? std::optional(with_config(*weights, part)) : std::nullopt;
}

std::string not_found(const fs::path& place, ModelPart part) {
  std::string text = place.string() + ": found no " + facts(part).title;
  if (is_file(place)) {
    return text + " among the parts in this file: name it with " + facts(part).flag;
  }
  text += ", looked for ";
  if (part != ModelPart::kTokenizer) {
    text += std::string(facts(part).folder) + "/, ";
  }
  for (size_t i = 0; i < facts(part).names.size(); ++i) {
    text += std::string(i == 0 ? "" : ", ") + facts(part).names[i];
  }
  return text + ": name it with " + facts(part).flag;
}

ModelFiles::Search search(const fs::path& package, const fs::path& own, ModelPart part) {
  if (own.empty() && package.empty()) {
    return {{},
            std::string("the ") + facts(part).title + " is needed: name it with " +
                facts(part).flag + ", or a whole model with `model`"};
  }
  const fs::path& place = own.empty() ? package : own;
  try {
    auto found = !own.empty()         ? find_at_own_path(own, part)
                 : is_folder(package) ? find_in_package(package, part)
                                      : find_in_file(package, part);
    if (!found) {
      refuse_hub_cache(place);
    }
    return {found, found ? "" : not_found(place, part)};
  } catch (const InputError& error) {
    return {{}, error.what(), true};
  }
}

// Checks the path of --model. Throws unless it is an all-in-one file or a folder that
// refuse_other_pipelines() accepts.
void check_model_path(const fs::path& model) {
  if (is_folder(model)) {
    refuse_other_pipelines(model);
  } else if (!is_there(model)) {
    throw InputError("`model` " + model.string() + ": no such directory or file");
  } else if (!is_all_in_one(open_checkpoint(model))) {
    throw InputError(
        "`model` " + model.string() +
        ": expected a directory, or a file with all parts, found a file of one: name it "
        "with `transformer`, `text_encoder` or `vae`");
  }
}

// The transformer's file in a folder may be an all-in-one file. Takes parts that were not found
// elsewhere from it.
void take_from_transformer(ModelFiles& files, const ModelPaths& paths) {
  if (!paths.transformer.empty() || !files.has(ModelPart::kTransformer)) {
    return;
  }
  const fs::path weights = files.require(ModelPart::kTransformer).weights;
  for (const ModelPart part : {ModelPart::kTextEncoder, ModelPart::kVae, ModelPart::kTokenizer}) {
    auto& search = files.parts[static_cast<size_t>(part)];
    const bool is_missing = paths.own(part).empty() && !search.files && !search.is_broken;
    if (auto found = is_missing ? find_in_file(weights, part) : std::nullopt) {
      search = {found, ""};
    }
  }
}

ModelFamily family_of(const fs::path& package) {
  if (package.empty()) {
    return ModelFamily::kParts;
  }
  if (is_file(package / "model_index.json") || is_folder(package / "transformer")) {
    return ModelFamily::kDiffusers;
  }
  if (const auto config = config_of(package, ModelPart::kTransformer)) {
    return read_json_file(*config).value("_class_name", nlohmann::json()) == "OSPNextModel"
               ? ModelFamily::kOspNext
               : ModelFamily::kWanAi;
  }
  return is_file(package / "diffusion_pytorch_model.safetensors") ||
                 is_file(package / "diffusion_pytorch_model.safetensors.index.json")
             ? ModelFamily::kWanAi
         : is_file(package / "ema_model_state_dict.pt") || is_file(package / "model_state_dict.pt")
             ? ModelFamily::kOspNext
             : ModelFamily::kParts;
}

}  // namespace

const PartFiles& ModelFiles::require(ModelPart part) const {
  const Search& found = parts[static_cast<size_t>(part)];
  if (!found.files) {
    throw InputError(found.failure);
  }
  return *found.files;
}

const PartFiles* ModelFiles::find(ModelPart part) const {
  const Search& found = parts[static_cast<size_t>(part)];
  return found.files || found.is_broken ? &require(part) : nullptr;
}

const fs::path& ModelPaths::own(ModelPart part) const {
  return part == ModelPart::kTransformer   ? transformer
         : part == ModelPart::kTextEncoder ? text_encoder
         : part == ModelPart::kVae         ? vae
                                           : tokenizer;
}

const char* part_title(ModelPart part) {
  return facts(part).title;
}

ModelFiles find_model_files(const ModelPaths& paths) {
  if (!paths.model.empty()) {
    check_model_path(paths.model);
  }
  ModelFiles files;
  files.family = family_of(paths.model);
  for (size_t i = 0; i < kModelParts; ++i) {
    const auto part = static_cast<ModelPart>(i);
    files.parts[i] = search(paths.model, paths.own(part), part);
  }
  take_from_transformer(files, paths);
  if (auto& transformer = files.parts[static_cast<size_t>(ModelPart::kTransformer)].files) {
    transformer->loras = paths.loras;
    transformer->lora_mode = paths.lora_mode;
  }
  auto& tokenizer = files.parts[static_cast<size_t>(ModelPart::kTokenizer)];
  if (paths.tokenizer.empty() && files.has(ModelPart::kTextEncoder)) {
    const fs::path& weights = files.require(ModelPart::kTextEncoder).weights;
    if (brings_tokenizer(weights)) {
      tokenizer = {with_config(weights, ModelPart::kTokenizer), ""};
    }
  }
  if (!paths.model.empty() && is_file(paths.model / "generation_config.json")) {
    files.generation_config = paths.model / "generation_config.json";
  }
  if (const fs::path file = paths.model / "scheduler" / "scheduler_config.json";
      files.family == ModelFamily::kDiffusers && is_file(file)) {
    files.scheduler_config = file;
  }
  return files;
}

Checkpoint open_part(const PartFiles& files) {
  Checkpoint checkpoint = open_checkpoint(files.weights);
  keep_part(checkpoint, files.part);
  return checkpoint;
}

bool brings_tokenizer(const fs::path& weights) {
  try {
    return find_tokenizer(open_checkpoint(weights)) != nullptr;
  } catch (const InputError&) {
    return false;
  }
}

std::string read_tokenizer_bytes(const fs::path& file) {
  constexpr size_t kMaxBytes = size_t{16} << 20;
  const auto text = [&](const std::byte* data, size_t size) {
    if (size > kMaxBytes) {
      throw InputError(file.string() +
                       ": expected a SentencePiece model of at most 16 MiB, found " +
                       std::to_string(size) + " bytes");
    }
    return std::string(reinterpret_cast<const char*>(data), size);
  };
  if (!is_tensor_file(file)) {
    const MappedFile mapped(file);
    return text(mapped.bytes().data(), mapped.bytes().size());
  }
  const Checkpoint checkpoint = open_checkpoint(file);
  const TensorRecord* found = find_tokenizer(checkpoint);
  if (found == nullptr || item_size(found->dtype) != 1 || !found->is_contiguous()) {
    throw InputError(file.string() + ": expected a tensor \"spiece_model\" of bytes, found none");
  }
  return text(found->data, found->bytes);
}

}  // namespace ospnext
