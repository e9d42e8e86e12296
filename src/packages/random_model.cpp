#include "packages/random_model.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <optional>

#include "core/choice.h"
#include "core/torch/random.h"
#include "io/output_file.h"
#include "io/safetensors_writer.h"
#include "io/weights.h"
#include "packages/part_layouts.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBlockElements = int64_t{8} << 20;
constexpr size_t kTableSize = 1 << 16;

// The generator SplitMix64 at position `counter`: 64 mixed bits.
uint64_t mixed_bits(uint64_t counter) {
  uint64_t bits = counter * 0x9e3779b97f4a7c15;
  bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ bits >> 27) * 0x94d049bb133111eb;
  return bits ^ bits >> 31;
}

// Quantiles of the normal distribution, one for each 16-bit value. Looking them up is faster than a
// disk can write; transforming uniform numbers is not.
std::vector<float> normal_quantiles() {
  const at::Tensor levels = (at::arange(static_cast<int64_t>(kTableSize), at::kDouble) + 0.5) /
                            static_cast<double>(kTableSize);
  const at::Tensor quantiles = at::special_ndtri(levels).to(at::kFloat).contiguous();
  const float* data = quantiles.const_data_ptr<float>();
  return {data, data + kTableSize};
}

// FNV-1a. Unlike std::hash, it is the same on every machine.
uint64_t name_hash(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char letter : name) {
    hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3;
  }
  return hash;
}

// Elements first, first + 1, ... of an endless sequence of normal numbers.
void fill_normal(const at::Tensor& values, uint64_t stream, int64_t first,
                 const std::vector<float>& table) {
  float* data = values.data_ptr<float>();
  at::parallel_for(0, values.numel() / 4, 1 << 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {  // four numbers of 16 bits each
      uint64_t bits = mixed_bits(stream + static_cast<uint64_t>(first / 4 + i));
      for (int64_t j = 0; j < 4; ++j, bits >>= 16) {
        data[4 * i + j] = table[bits & (kTableSize - 1)];
      }
    }
  });
}

// The standard deviation of a weight's random numbers; nothing for scales, which are 1.
std::optional<double> deviation_of(const std::string& name, at::IntArrayRef shape) {
  if (name.ends_with(".gamma") ||
      (shape.size() == 1 && name.find("norm") != name.npos && name.ends_with("weight"))) {
    return std::nullopt;
  }
  const bool is_matrix = shape.size() >= 2 && name.ends_with(".weight");
  const double fan_in =
      is_matrix ? static_cast<double>(c10::multiply_integers(shape.slice(1))) : 1e4;
  return 1 / std::sqrt(fan_in);
}

void draw_in_place(const std::string& name, at::Tensor& weight, at::Generator& generator) {
  if (const auto deviation = deviation_of(name, weight.sizes())) {
    weight.normal_(0, *deviation, generator);
  } else {
    weight.fill_(1);
  }
}

void draw_in_place(torch::nn::Module& part, at::Generator generator) {
  const torch::NoGradGuard no_grad;
  part.eval();
  for (auto& item : part.named_parameters()) {
    item.value().set_requires_grad(false);
    draw_in_place(item.key(), item.value(), generator);
  }
}

TransformerConfig large_transformer() {
  TransformerConfig config;
  config.dim = 5120;
  config.ffn_dim = 13824;
  config.num_heads = 40;
  config.num_layers = 40;
  return config;
}

PartConfigs small_parts() {
  PartConfigs parts;
  parts.transformer.dim = 256;
  parts.transformer.ffn_dim = 1024;
  parts.transformer.text_dim = 128;
  parts.transformer.num_heads = 4;
  parts.transformer.num_layers = 16;
  parts.text_encoder.vocab_size = 512;
  parts.text_encoder.d_model = parts.transformer.text_dim;
  parts.text_encoder.num_heads = 2;
  parts.text_encoder.d_ff = 256;
  parts.text_encoder.num_layers = 2;
  parts.vae.dim = 16;
  parts.vae.dim_mult = {1, 2, 2, 2};
  parts.vae.num_res_blocks = 1;
  return parts;
}

class RandomWriter {
 public:
  RandomWriter(const RandomModel& model, Progress& progress, const CancellationToken& cancel)
      : model_(model), progress_(progress), cancel_(cancel), table_(normal_quantiles()) {}

  void write(ModelPart part, const std::string& title, const TensorShapes& shapes,
             const fs::path& folder) const {
    TensorOutputs outputs;
    for (const auto& [name, shape] : shapes) {
      outputs[name] = {model_.dtype, shape, [&name, &shape, this](const PieceSink& sink) {
                         draw(name, shape, sink);
                         progress_.step();
                       }};
    }
    progress_.begin(title, static_cast<int64_t>(outputs.size()));
    const PartPlace place = part_place(part, ModelFamily::kWanAi);
    if (place.may_be_sharded) {
      write_sharded_safetensors(folder, place.stem, outputs, model_.max_shard_bytes);
    } else {
      write_safetensors(folder / (std::string(place.stem) + ".safetensors"), outputs);
    }
  }

 private:
  void draw(const std::string& name, const std::vector<int64_t>& shape,
            const PieceSink& sink) const {
    const int64_t count = *byte_count(shape, 1);
    const std::optional<double> deviation = deviation_of(name, shape);
    const uint64_t stream = mixed_bits(model_.seed ^ name_hash(name));
    for (int64_t first = 0; first < count; first += kBlockElements) {
      cancel_.check();
      const int64_t size = std::min(kBlockElements, count - first);
      at::Tensor values = at::empty({(size + 3) / 4 * 4}, at::kFloat);
      if (deviation) {
        fill_normal(values, stream, first, table_);
        values.mul_(*deviation);
      } else {
        values.fill_(1);
      }
      sink(values.narrow(0, 0, size).to(scalar_type(model_.dtype)));
    }
  }

  const RandomModel& model_;
  Progress& progress_;
  const CancellationToken& cancel_;
  std::vector<float> table_;
};

}  // namespace

TransformerConfig released_transformer(const std::string& size, const std::string& flag) {
  return one_of(
      flag, size,
      std::array{std::pair{"14b", large_transformer()}, std::pair{"1.3b", TransformerConfig()}});
}

PartConfigs model_of_size(const std::string& size, const std::string& flag) {
  const PartConfigs large{large_transformer(), {}, {}};
  return one_of(flag, size,
                std::array{std::pair{"14b", large}, std::pair{"1.3b", PartConfigs()},
                           std::pair{"small", small_parts()}});
}

void write_random_model(const RandomModel& model, const fs::path& output, Progress& progress,
                        const CancellationToken& cancel) {
  const torch::NoGradGuard no_grad;
  PendingFolder folder(new_folder(output, "`output`"));
  const RandomWriter writer(model, progress, cancel);
  for (const ModelPart part : model.parts) {
    if (part == ModelPart::kTransformer) {
      const TensorShapes shapes = part_shapes(model.transformer);
      writer.write(part, "transformer", shapes, folder.path());
      const auto config = layout_config(model.transformer, ModelFamily::kWanAi, shapes);
      write_text_file(folder.path() / "config.json", config->dump(2) + "\n");
    } else if (part == ModelPart::kTextEncoder) {
      writer.write(part, "text encoder", part_shapes(Umt5Config()), folder.path());
    } else {
      writer.write(part, "VAE", part_shapes(VaeConfig()), folder.path());
    }
  }
  progress.end();
  folder.commit();
}

Tokenizer RandomModelSource::tokenizer() const {
  constexpr int64_t kPieces = 110;  // 95 of them are printable characters
  return Tokenizer(
      trained_tokenizer({"a heron takes off from a misty lake", "a red ball rolls over green grass",
                         "waves break on the rocks below", "two children fly a paper kite"},
                        kPieces, seed_),
      "random model");
}

Umt5Encoder RandomModelSource::text_encoder(const ComputeOptions& compute) const {
  Umt5Encoder encoder(text_encoder_,
                      at::TensorOptions().device(compute.device).dtype(compute.dtype));
  draw_in_place(*encoder, seeded_generator(compute.device, seed_, "random text encoder"));
  return encoder;
}

Transformer RandomModelSource::transformer(const ComputeOptions& compute,
                                           const WeightRanks& ranks) const {
  at::Generator generator = seeded_generator(compute.device, seed_, "random transformer");
  return make_transformer(
      transformer_, compute, "random model",
      [&](const std::string& name, at::Tensor& weight) { draw_in_place(name, weight, generator); },
      ranks);
}

Vae RandomModelSource::vae(const ComputeOptions& compute) const {
  Vae vae(vae_);
  vae->to(compute.device, compute.dtype);
  draw_in_place(*vae, seeded_generator(compute.device, seed_, "random VAE"));
  if (compute.device.is_cuda()) {
    vae->to_channels_last();
  }
  return vae;
}

int64_t RandomModelSource::bytes(ModelPart part, at::ScalarType dtype) const {
  const TensorShapes shapes = part == ModelPart::kTransformer   ? part_shapes(transformer_)
                              : part == ModelPart::kTextEncoder ? part_shapes(text_encoder_)
                                                                : part_shapes(vae_);
  int64_t elements = 0;
  for (const auto& [name, shape] : shapes) {
    elements += c10::multiply_integers(shape);
  }
  return elements * static_cast<int64_t>(at::elementSize(dtype));
}

}  // namespace ospnext
