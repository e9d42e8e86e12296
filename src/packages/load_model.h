// The parts of a model, from files to modules ready for inference.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "core/torch/torch.h"
#include "io/loras.h"
#include "models/transformer.h"
#include "models/umt5.h"
#include "models/vae.h"
#include "packages/model_folder.h"
#include "text/tokenizer.h"

namespace ospnext {

// Whether the transformer rounds to HiFloat8 (docs/hif8.md): as `quant` and `quant_attn` of its
// configuration say, everywhere they could (in one of the ways of Hif8Products), or nowhere, as in training.
enum class Hif8Use { kAsConfigured, kSimulated, kTensorCores, kTensorCoresP8, kNowhere };

// How products are computed where a transformer rounds everywhere; nothing for the other uses.
std::optional<Hif8Products> products_everywhere(Hif8Use use);

// Where a model runs and in what arithmetic.
struct ComputeOptions {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  Hif8Use hif8 = Hif8Use::kAsConfigured;

  // Whether HiF8 values are multiplied on FP8 tensor cores.
  bool on_fp8_tensor_cores() const {
    return products_everywhere(hif8).value_or(Hif8Products::kSimulated) != Hif8Products::kSimulated;
  }
  // "float32", "bf16", "hif8", "hif8-p8" or "hif8-simulated", as `precision` takes it.
  std::string precision_name() const;
};

// From the texts of `device` and `precision`. Device "auto" is a GPU where there is one; precision
// "auto" is float32 on the CPU and bf16 on CUDA.
// float32 on CUDA switches TF32 off, for the whole program. Throws InputError.
ComputeOptions parse_compute(const std::string& device, const std::string& precision);

// The same for commands that run the transformer, which can also be had in "hif8-simulated": rounding to
// HiF8 everywhere, and around it, as in the other parts, the arithmetic of "auto"; and in "hif8" and "hif8-p8", its
// fast forms on GPUs with FP8 tensor cores.
ComputeOptions parse_transformer_compute(const std::string& device, const std::string& precision);

// Configurations: the part's config.json where there is one (for the transformer YAML is taken as well, and
// in it the section model_config), else from names and shapes of the tensors
// alone. Throw InputError.
TransformerConfig read_transformer_config(const PartFiles& files);
VaeConfig read_vae_config(const PartFiles& files);
Umt5Config read_text_encoder_config(const PartFiles& files);

// Warns, once a part, of tensors that the index of its shards leaves out.
void warn_of_unlisted(const Checkpoint& checkpoint);

// The LoRAs of a part, checked against the names and shapes of its weights. Throws InputError.
Loras open_loras(const PartFiles& files);

// Processes that keep a part each of the weights of the transformer's blocks (TransformerImpl::shard_blocks()), and what
// they do to wait for each other when one may have worked longer.
struct WeightRanks {
  ProcessGroup group;
  std::function<void()> meet = [] {};
};

// Each loads and checks a whole part, in evaluation mode and without gradients. Throw InputError for
// files that are broken or do not fit; tensors that belong to nothing are named in a warning. A transformer
// that rounds to HiF8 has its weights rounded here, once, LoRAs added. Of several ranks, which all call it, each reads
// of the blocks what it keeps (some rows to find the scales of HiF8, a second time), 64 MiB at a time.
Transformer load_transformer(const PartFiles& files, const ComputeOptions& compute,
                             const WeightRanks& ranks = {});
Vae load_vae(const PartFiles& files, const ComputeOptions& compute);
Umt5Encoder load_text_encoder(const PartFiles& files, const ComputeOptions& compute);
Tokenizer load_tokenizer(const PartFiles& files);

// Gives a floating tensor, on the device it will compute on, its values.
using WeightFill = std::function<void(const std::string& name, at::Tensor& weight)>;
// A transformer whose weights come from `fill`, one after the other, otherwise as load_transformer(): those rounded
// to HiF8 for tensor cores take a byte each from the beginning. Throws InputError beginning with `origin`.
Transformer make_transformer(const TransformerConfig& config, const ComputeOptions& compute,
                             const std::string& origin, const WeightFill& fill,
                             const WeightRanks& ranks = {});

// Bytes of a part's weights in memory at `dtype`; reads names and shapes only.
int64_t weight_bytes(const PartFiles& files, at::ScalarType dtype);

}  // namespace ospnext
