#include "train/checkpoint_model.h"

#include <array>
#include <memory>
#include <set>

#include "core/choice.h"
#include "core/error.h"
#include "core/fields.h"
#include "io/output_file.h"
#include "io/weights.h"
#include "packages/load_model.h"
#include "packages/part_layouts.h"
#include "packages/save_adapter.h"
#include "quant/hif8_weights.h"
#include "train/model_folder_writer.h"
#include "train/training_checkpoint.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kTransformer = "transformer";  // keys of model_of_weights()
constexpr const char* kTextEncoder = "text_encoder";
constexpr const char* kLora = "lora";

const char* kind_of(TrainedWeights which) {
  return which == TrainedWeights::kAveraged ? "ema" : "parameter";
}

// A trained tensor, which is read when it is written.
TensorOutput trained_output(const StoredCheckpoint& stored, TrainedWeights which,
                            const std::string& name, DType dtype) {
  const auto produce = [&stored, which, name, type = scalar_type(dtype)](const PieceSink& sink) {
    const at::Tensor values = stored.read(kind_of(which), name).to(type);
    if (!all_finite(values)) {
      throw InputError(stored.folder() + ": " + kind_of(which) + " of " + quoted(name) +
                       " holds NaN or infinite values (as " + std::string(c10::toString(type)) +
                       ")");
    }
    sink(values);
  };
  return {dtype, stored.shapes().at(name), produce};
}

// The weights of a part that were not trained.
struct BasePart {
  Checkpoint checkpoint;
  std::map<std::string, WeightSource> sources;

  BasePart(const PartFiles& files, const TensorShapes& shapes)
      : checkpoint(open_part(files)),
        sources(hif8::decoded_sources(checkpoint, files.part == ModelPart::kTransformer
                                                      ? transformer_keys(checkpoint)
                                                      : umt5_keys(checkpoint))) {
    check_complete(sources, shapes, checkpoint.path());
  }
};

TensorOutput base_output(const std::shared_ptr<const BasePart>& base, const std::string& name,
                         const std::vector<int64_t>& shape, DType dtype) {
  const auto produce = [base, name, type = scalar_type(dtype)](const PieceSink& sink) {
    stream_weight(base->sources.at(name), base->checkpoint, Loras(), at::kCPU,
                  [&](int64_t, const at::Tensor& rows) { sink(rows.to(type).contiguous()); });
  };
  return {dtype, shape, produce};
}

// The weights of one part: of the checkpoint, and where it has none, of `base`. Empty if neither
// has any. Takes the names that it uses out of `rest`.
TensorOutputs outputs_of(const StoredCheckpoint& stored, TrainedWeights which, ModelPart part,
                         const std::string& prefix, const TensorShapes& shapes,
                         const ModelFiles* base, DType dtype, std::set<std::string>& rest) {
  TensorOutputs outputs;
  std::vector<std::string> missing;
  for (const auto& [name, shape] : shapes) {
    const auto found = stored.shapes().find(prefix + name);
    if (found == stored.shapes().end()) {
      missing.push_back(name);
    } else if (found->second == shape) {
      outputs[name] = trained_output(stored, which, prefix + name, dtype);
      rest.erase(prefix + name);
    }
  }
  const PartFiles* files = base == nullptr || missing.empty() ? nullptr : base->find(part);
  if (files == nullptr) {
    if (!missing.empty() && !outputs.empty()) {
      const std::string& first = missing.front();
      throw InputError(stored.folder() + ": only a part of the " + part_title(part) +
                       " was trained, not " + quoted(first) +
                       "; expected the model that the training began with as `model`");
    }
    return outputs;
  }
  const auto untrained = std::make_shared<const BasePart>(*files, shapes);
  for (const std::string& name : missing) {
    outputs[name] = base_output(untrained, name, shapes.at(name), dtype);
  }
  return outputs;
}

const json& sizes_of(const StoredCheckpoint& stored, const char* part) {
  const json& model = stored.model();
  if (!model.is_object() || !model.contains(part)) {
    throw InputError(stored.folder() + ": it does not say the sizes of a " + part +
                     "; expected a checkpoint of ospnext train");
  }
  return model[part];
}

}  // namespace

json model_of_weights(const TransformerConfig& transformer, const Umt5Config& text_encoder) {
  return {{kTransformer, fields_to_json(transformer)},
          {kTextEncoder, fields_to_json(text_encoder)}};
}

json model_of_lora(const json& adapter_config) {
  return {{kLora, adapter_config}};
}

TrainedWeights parse_trained_weights(const std::string& text, const std::string& flag) {
  using Choice = std::pair<const char*, TrainedWeights>;
  return one_of(
      flag, text,
      std::array{Choice{"ema", TrainedWeights::kAveraged}, Choice{"raw", TrainedWeights::kRaw}});
}

bool is_of_lora(const StoredCheckpoint& stored) {
  if (stored.model().is_object() && stored.model().contains(kLora)) {
    return true;
  }
  sizes_of(stored, kTransformer);
  return false;
}

void write_trained_parts(const StoredCheckpoint& stored, TrainedWeights which,
                         const ModelFiles* base, DType dtype, const fs::path& folder) {
  const std::string where = stored.folder();
  const TransformerConfig transformer =
      transformer_config_from_json(sizes_of(stored, kTransformer), where);
  const Umt5Config text_encoder = umt5_config_from_json(sizes_of(stored, kTextEncoder), where);
  std::set<std::string> rest;
  for (const auto& [name, shape] : stored.shapes()) {
    rest.insert(name);
  }
  const auto outputs = [&](ModelPart part, const char* prefix, const TensorShapes& shapes) {
    return outputs_of(stored, which, part, prefix, shapes, base, dtype, rest);
  };
  const TensorOutputs first =
      outputs(ModelPart::kTransformer, kTransformerPrefix, part_shapes(transformer));
  const TensorOutputs second =
      outputs(ModelPart::kTextEncoder, kTextEncoderPrefix, part_shapes(text_encoder));
  if (!rest.empty()) {
    throw InputError(where + ": " + quoted(*rest.begin()) +
                     " belongs to no model of the sizes that it says, or has another shape");
  }
  if (!first.empty()) {
    write_transformer_folder(folder / "transformer", first, transformer);
  }
  if (!second.empty()) {
    write_text_encoder_folder(folder / "text_encoder", second, text_encoder);
  }
}

void write_trained_lora(const StoredCheckpoint& stored, TrainedWeights which, DType dtype,
                        const fs::path& folder) {
  TensorOutputs outputs;
  for (const auto& [name, shape] : stored.shapes()) {
    outputs[name] = trained_output(stored, which, name, dtype);
  }
  write_peft_folder(folder, outputs, stored.model().at(kLora));
}

std::vector<WrittenPart> convert_checkpoint(const StoredCheckpoint& stored, TrainedWeights which,
                                            ModelFields base, const Conversion& conversion,
                                            const fs::path& output, Progress& progress,
                                            const CancellationToken& cancel) {
  const fs::path target = new_folder(output, "`output`");
  const bool has_base = !(base.model + base.transformer + base.text_encoder).empty();
  const PendingFolder trained(target.parent_path() / (target.filename().string() + ".trained"));
  {
    const std::optional<ModelFiles> files =
        has_base ? std::make_optional(base.find()) : std::nullopt;
    write_trained_parts(stored, which, files ? &*files : nullptr,
                        conversion.dtype.value_or(DType::kBF16), trained.path());
  }
  cancel.check();
  base.transformer_config.clear();
  for (const auto& [part, path] :
       {std::pair(kTransformer, &base.transformer), std::pair(kTextEncoder, &base.text_encoder)}) {
    if (fs::exists(trained.path() / part)) {
      *path = (trained.path() / part).string();
    }
  }
  return convert_model(base.find(), conversion, target, progress, cancel);
}

void convert_lora_checkpoint(const StoredCheckpoint& stored, TrainedWeights which,
                             std::optional<DType> dtype, const fs::path& output) {
  PendingFolder folder(new_folder(output, "`output`"));
  write_trained_lora(stored, which, dtype.value_or(DType::kF32), folder.path());
  folder.commit();
}

fs::path write_averages(const fs::path& output, const ModelFiles* base,
                        std::optional<fs::path> checkpoint) {
  if (!checkpoint) {
    checkpoint = newest_checkpoint(output / "checkpoints");
  }
  if (!checkpoint) {
    throw RunError(output.string() + ": the checkpoint of the last step is gone");
  }
  const StoredCheckpoint stored(*checkpoint);
  const bool is_lora = is_of_lora(stored);
  fs::path folder = output / (is_lora ? "lora" : "model");
  fs::create_directories(folder);
  if (is_lora) {
    write_trained_lora(stored, TrainedWeights::kAveraged, DType::kF32, folder);
  } else {
    write_trained_parts(stored, TrainedWeights::kAveraged, base, DType::kBF16, folder);
  }
  return folder;
}

}  // namespace ospnext
