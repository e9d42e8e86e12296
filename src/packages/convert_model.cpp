#include "packages/convert_model.h"

#include <memory>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "io/output_file.h"
#include "io/readers/bounded_json.h"
#include "io/safetensors_writer.h"
#include "io/weight_stream.h"
#include "io/weights.h"
#include "packages/load_model.h"
#include "quant/hif8_weights.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    throw RunError(folder.string() + ": cannot be made: " + error.message());
  }
}

void write_json(const fs::path& file, const json& json) {
  write_text_file(file, json.dump(2) + "\n");
}

// A part that was checked and is ready to be written.
struct PreparedPart {
  ModelPart part;
  Checkpoint checkpoint;
  Loras loras;
  std::map<std::string, WeightSource> sources;  // by module name
  std::optional<json> config;                   // config.json
  KeyMap rename;                                // from module names to names of the layout
};

// One conversion, written to a temporary folder.
class Converter {
 public:
  Converter(const ModelFiles& files, const Conversion& conversion, fs::path root,
            Progress& progress, const CancellationToken& cancel)
      : files_(files),
        conversion_(conversion),
        root_(std::move(root)),
        progress_(progress),
        cancel_(cancel) {}

  std::vector<WrittenPart> run() {
    prepare_all();
    std::vector<WrittenPart> written;
    for (const auto& part : parts_) {
      written.push_back(write_part(*part));
    }
    write_tokenizer();
    write_package_files();
    progress_.end();
    return written;
  }

 private:
  void prepare_all() {
    if (const PartFiles* files = files_.find(ModelPart::kTransformer)) {
      prepare(*files, transformer_keys, read_transformer_config(*files));
    }
    if (const PartFiles* files = files_.find(ModelPart::kTextEncoder)) {
      prepare(*files, umt5_keys, read_text_encoder_config(*files));
    }
    if (const PartFiles* files = files_.find(ModelPart::kVae)) {
      prepare(*files, vae_keys, read_vae_config(*files));
    }
    files_.find(ModelPart::kTokenizer);  // throws before anything is written
    if (parts_.empty()) {
      files_.require(ModelPart::kTransformer);  // throws and says where it was looked for
    }
  }

  template <class Config>
  void prepare(const PartFiles& files, KeyMap (*keys_of)(const Checkpoint&), const Config& config) {
    Checkpoint checkpoint = open_part(files);
    warn_of_unlisted(checkpoint);
    auto sources = hif8::decoded_sources(checkpoint, keys_of(checkpoint));
    const TensorShapes shapes = part_shapes(config);
    check_complete(sources, shapes, checkpoint.path());
    Loras loras(files.loras);
    loras.check_fits(shapes);
    loras.warn_of_remarks();
    leave_out_the_rest(sources, shapes, checkpoint.path());
    std::vector<std::string> names;
    for (const auto& [name, source] : sources) {
      names.push_back(name);
      dtype_of(source, checkpoint, loras);
    }
    auto written_config = layout_config(config, conversion_.layout, shapes);
    KeyMap rename = layout_keys(files.part, conversion_.layout, names, written_config);
    parts_.push_back(std::make_unique<PreparedPart>(
        PreparedPart{files.part, std::move(checkpoint), std::move(loras), std::move(sources),
                     std::move(written_config), std::move(rename)}));
  }

  static void leave_out_the_rest(std::map<std::string, WeightSource>& sources,
                                 const TensorShapes& shapes, const std::string& path) {
    std::vector<std::string> rest;
    for (const auto& [name, source] : sources) {
      if (!shapes.contains(name)) {
        rest.push_back(quoted(source.file_name));
      }
    }
    std::erase_if(sources, [&](const auto& entry) { return !shapes.contains(entry.first); });
    if (!rest.empty()) {
      warn(path + ": " + std::to_string(rest.size()) +
           " tensor(s) belong to nothing and are left out: " + list_text(rest));
    }
  }

  WrittenPart write_part(const PreparedPart& part) const {
    WrittenPart report{part_title(part.part), {}, part.sources.size(), 0, 0};
    TensorOutputs outputs;
    for (const auto& [name, source] : part.sources) {
      const TensorOutput output = output_of(source, part);
      report.parameters += source.record.element_count();
      report.bytes += output.bytes();
      outputs[part.rename(name)] = output;
    }
    if (part.part == ModelPart::kTextEncoder && carries_tokenizer()) {
      outputs["spiece_model"] = tokenizer_tensor();
    }
    const PartPlace place = part_place(part.part, conversion_.layout);
    make_folder(root_ / place.folder);
    progress_.begin(part_title(part.part), static_cast<int64_t>(outputs.size()));
    report.file = write_weights(place, outputs);
    if (part.config) {
      write_json(root_ / place.folder / "config.json", *part.config);
    }
    return report;
  }

  // The dtype in which a weight is written.
  DType dtype_of(const WeightSource& source, const Checkpoint& checkpoint,
                 const Loras& loras) const {
    if (conversion_.dtype) {
      return *conversion_.dtype;
    }
    if (item_size(source.record.dtype) == 1 && (!source.is_plain() || loras.change(source.name))) {
      throw InputError(checkpoint.path() + ": tensor " + quoted(source.file_name) + " is " +
                       dtype_text(source.record) +
                       (source.is_plain() ? " and a LoRA changes it" : " with a scale") +
                       ": name the dtype to write with `dtype`");
    }
    return source.record.dtype;
  }

  TensorOutput output_of(const WeightSource& source, const PreparedPart& part) const {
    const DType dtype = dtype_of(source, part.checkpoint, part.loras);
    const auto produce = [&source, &part, type = scalar_type(dtype), this](const PieceSink& sink) {
      stream_weight(source, part.checkpoint, part.loras, at::kCPU,
                    [&](int64_t, const at::Tensor& rows) {
                      cancel_.check();
                      const at::Tensor piece = rows.to(type).contiguous();
                      check_finite(piece, source, part.checkpoint.path());
                      sink(piece);
                    });
      progress_.step();
    };
    return {dtype, source.record.shape, produce};
  }

  static void check_finite(const at::Tensor& piece, const WeightSource& source,
                           const std::string& path) {
    if (!all_finite(piece)) {
      throw InputError(path + ": tensor " + quoted(source.file_name) +
                       " holds NaN or infinite values (as " + c10::toString(piece.scalar_type()) +
                       "), expected finite numbers");
    }
  }

  // Returns the file to open, relative to the package.
  fs::path write_weights(const PartPlace& place, const TensorOutputs& outputs) const {
    const std::string single = std::string(place.stem) + ".safetensors";
    const fs::path folder = root_ / place.folder;
    if (!place.may_be_sharded) {
      write_safetensors(folder / single, outputs);
      return fs::path(place.folder) / single;
    }
    write_sharded_safetensors(folder, place.stem, outputs, conversion_.max_shard_bytes);
    const bool is_single = fs::exists(folder / single);
    return fs::path(place.folder) / (is_single ? single : single + ".index.json");
  }

  // Whether the text encoder's file contains the tokenizer, as in ComfyUI's files.
  bool carries_tokenizer() const {
    return conversion_.layout == ModelFamily::kParts && files_.has(ModelPart::kTokenizer) &&
           files_.has(ModelPart::kTextEncoder);
  }

  std::string tokenizer_bytes() const {
    return read_tokenizer_bytes(files_.require(ModelPart::kTokenizer).weights);
  }

  TensorOutput tokenizer_tensor() const {
    const std::string bytes = tokenizer_bytes();
    const auto size = static_cast<int64_t>(bytes.size());
    const auto produce = [bytes, size, this](const PieceSink& sink) {
      sink(at::from_blob(const_cast<char*>(bytes.data()), {size}, at::kByte));
      progress_.step();
    };
    return {DType::kU8, {size}, produce};
  }

  void write_tokenizer() const {
    if (!files_.has(ModelPart::kTokenizer) || carries_tokenizer()) {
      return;
    }
    const fs::path file = root_ / tokenizer_place(conversion_.layout);
    make_folder(file.parent_path());
    write_text_file(file, tokenizer_bytes());
    if (conversion_.layout == ModelFamily::kDiffusers) {
      write_json(file.parent_path() / "tokenizer_config.json", tokenizer_config());
    }
  }

  void write_package_files() const {
    if (files_.generation_config) {
      write_json(root_ / "generation_config.json", read_json_file(*files_.generation_config));
    }
    if (conversion_.layout != ModelFamily::kDiffusers || !files_.has(ModelPart::kTransformer)) {
      return;
    }
    const auto index = model_index((*parts_.front()->config)["_class_name"].get<std::string>());
    write_json(root_ / "model_index.json", index);
    if (index.contains("scheduler")) {
      make_folder(root_ / "scheduler");
      write_json(
          root_ / "scheduler" / "scheduler_config.json",
          scheduler_config(read_transformer_config(files_.require(ModelPart::kTransformer))));
    }
  }

  const ModelFiles& files_;
  const Conversion& conversion_;
  const fs::path root_;
  Progress& progress_;
  const CancellationToken& cancel_;
  std::vector<std::unique_ptr<PreparedPart>> parts_;
};

}  // namespace

std::vector<WrittenPart> convert_model(const ModelFiles& files, const Conversion& conversion,
                                       const fs::path& output, Progress& progress,
                                       const CancellationToken& cancel) {
  const torch::NoGradGuard no_grad;
  PendingFolder folder(new_folder(output, "`output`"));
  auto written = Converter(files, conversion, folder.path(), progress, cancel).run();
  folder.commit();
  return written;
}

}  // namespace ospnext
