#include "packages/quantize_model.h"

#include <map>
#include <memory>
#include <optional>
#include <tuple>

#include "core/error.h"
#include "core/log.h"
#include "core/number_check.h"
#include "io/output_file.h"
#include "io/readers/hif8_codes.h"
#include "io/safetensors_writer.h"
#include "io/weights.h"
#include "packages/load_model.h"
#include "packages/part_layouts.h"
#include "quant/hif8_tensors.h"
#include "quant/hif8_weights.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

// The source of the tensors of one run.
struct Source {
  const Checkpoint& checkpoint;
  const Loras& loras;
  double amax_to;
  Progress& progress;
  const CancellationToken& cancel;
};

// The dtype of a tensor that is not rounded.
DType kept_dtype(const WeightSource& weight) {
  const DType stored = weight.record.dtype;
  return item_size(stored) == 1 || stored == DType::kF64 ? DType::kF32 : stored;
}

TensorOutput kept_output(const WeightSource& weight, const Source& from) {
  const DType dtype = kept_dtype(weight);
  const auto produce = [&weight, &from, type = scalar_type(dtype)](const PieceSink& sink) {
    stream_weight(
        weight, from.checkpoint, from.loras, at::kCPU, [&](int64_t, const at::Tensor& rows) {
          from.cancel.check();
          const at::Tensor piece = rows.to(type).contiguous();
          if (!all_finite(piece)) {
            throw InputError(from.checkpoint.path() + ": tensor " + quoted(weight.file_name) +
                             " holds NaN or infinite values, expected finite numbers");
          }
          sink(piece);
        });
    from.progress.step();
  };
  return {dtype, weight.record.shape, produce};
}

// The codes of a weight and its scale. The scale is computed when the first of them is written.
std::pair<TensorOutput, TensorOutput> code_outputs(const WeightSource& weight, const Source& from) {
  const auto found = std::make_shared<std::optional<float>>();
  const auto scale_of = [&weight, &from, found] {
    if (!*found) {
      *found = hif8::weight_scale(weight, from.checkpoint, from.loras, at::kCPU, from.amax_to);
    }
    return at::full({}, **found, at::kFloat);
  };
  const auto codes = [&weight, &from, scale_of](const PieceSink& sink) {
    const at::Tensor scale = scale_of();
    stream_weight(weight, from.checkpoint, from.loras, at::kCPU,
                  [&](int64_t, const at::Tensor& rows) {
                    from.cancel.check();
                    sink(hif8::encode(rows.to(at::kFloat), scale));
                  });
    from.progress.step();
  };
  return {{DType::kU8, weight.record.shape, codes},
          {DType::kF32, {}, [scale_of](const PieceSink& sink) { sink(scale_of()); }}};
}

void warn_of_rest(const std::map<std::string, WeightSource>& sources, const TensorShapes& shapes,
                  const std::string& path) {
  std::vector<std::string> rest;
  for (const auto& [name, source] : sources) {
    if (!shapes.contains(name)) {
      rest.push_back(quoted(source.file_name));
    }
  }
  if (!rest.empty()) {
    warn(path + ": " + std::to_string(rest.size()) +
         " tensor(s) belong to nothing and are left out: " + list_text(rest));
  }
}

}  // namespace

QuantizedModel quantize_transformer(const PartFiles& files, int64_t max_shard_bytes,
                                    const fs::path& output, Progress& progress,
                                    const CancellationToken& cancel) {
  const torch::NoGradGuard no_grad;
  const fs::path target = new_folder(output, "`output`");
  const Checkpoint checkpoint = open_part(files);
  warn_of_unlisted(checkpoint);
  const TransformerConfig config = read_transformer_config(files);
  if (!hif8_scales(checkpoint).empty()) {
    throw InputError(checkpoint.path() +
                     ": its weights are HiF8 codes already, expected 16- or 32-bit ones");
  }
  check_range<double>(checkpoint.path() + ": scale_max_forward", config.scale_max_forward, 1,
                      32768);
  const Loras loras = open_loras(files);
  loras.warn_of_remarks();
  const auto sources = weight_sources(checkpoint, transformer_keys(checkpoint));
  const TensorShapes shapes = part_shapes(config);
  check_complete(sources, shapes, checkpoint.path());
  warn_of_rest(sources, shapes, checkpoint.path());
  auto written_config = layout_config(config, ModelFamily::kOspNext, shapes).value();
  written_config["weight_format"] = "hif8";

  const Source from{checkpoint, loras, config.scale_max_forward, progress, cancel};
  QuantizedModel report;
  TensorOutputs outputs;
  for (const auto& [name, shape] : shapes) {
    const WeightSource& weight = sources.at(name);
    if (hif8::is_rounded_weight(name)) {
      std::tie(outputs[name], outputs[hif8_scale_name(name)]) = code_outputs(weight, from);
      ++report.rounded;
    } else {
      outputs[name] = kept_output(weight, from);
    }
    ++report.tensors;
    report.parameters += weight.record.element_count();
  }
  for (const auto& [name, tensor] : outputs) {
    report.bytes += tensor.bytes();
  }

  PendingFolder folder(target);
  progress.begin("transformer", static_cast<int64_t>(report.tensors));
  const std::string stem = part_place(ModelPart::kTransformer, ModelFamily::kOspNext).stem;
  write_sharded_safetensors(folder.path(), stem, outputs, max_shard_bytes);
  write_text_file(folder.path() / "config.json", written_config.dump(2) + "\n");
  const std::string single = stem + ".safetensors";
  report.file = fs::exists(folder.path() / single) ? single : single + ".index.json";
  folder.commit();
  progress.end();
  return report;
}

}  // namespace ospnext
