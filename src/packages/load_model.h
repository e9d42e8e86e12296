// Loads the parts of a model from files into modules ready for inference.
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

// Where the transformer rounds to HiFloat8 (docs/hif8.md): where `quant` and `quant_attn` of its
// configuration say so; in all linears and attention (three values, one for each of
// hif8::Products); or nowhere, as in training.
enum class Hif8Use { kAsConfigured, kSimulated, kTensorCores, kTensorCoresP8, kNowhere };

// The kind of products if `use` rounds everywhere; nothing for kAsConfigured and kNowhere.
std::optional<hif8::Products> products_everywhere(Hif8Use use);

inline constexpr const char* kOffloadHelp =
    "keep the weights of the transformer's blocks in host memory and copy each block to the GPU "
    "ahead of its use, for models that do not fit; then no step is recorded as a CUDA graph";

// The device and the arithmetic of a model, and where its weights are.
struct ComputeOptions {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  Hif8Use hif8 = Hif8Use::kAsConfigured;
  bool offload = false;  // keep the weights of the transformer's blocks in host memory

  // Whether HiF8 values are multiplied on FP8 tensor cores.
  bool on_fp8_tensor_cores() const {
    return products_everywhere(hif8).value_or(hif8::Products::kSimulated) !=
           hif8::Products::kSimulated;
  }
  // "float32", "bf16", "hif8", "hif8-p8" or "hif8-simulated", as `precision` takes it.
  std::string precision_name() const;
};

// Parses the values of --device and --precision. Device "auto" is a GPU if there is one. Precision
// "auto" is float32 on the CPU and bf16 on CUDA. float32 on CUDA turns TF32 off for the whole
// program. Throws InputError.
ComputeOptions parse_compute(const std::string& device, const std::string& precision);

// The same for commands that run the transformer, with three more precisions. "hif8-simulated"
// rounds to HiF8 everywhere; all other arithmetic is that of "auto". "hif8" and "hif8-p8" are its
// fast forms on GPUs with FP8 tensor cores.
ComputeOptions parse_transformer_compute(const std::string& device, const std::string& precision);

// Read the configuration of a part from its config.json if there is one, otherwise from the names
// and shapes of the tensors alone. The transformer's may also be YAML; its section model_config is
// used if it has one. Throw InputError.
TransformerConfig read_transformer_config(const PartFiles& files);
VaeConfig read_vae_config(const PartFiles& files);
Umt5Config read_text_encoder_config(const PartFiles& files);

// Prints one warning if the shards contain tensors that their index does not list.
void warn_of_unlisted(const Checkpoint& checkpoint);

// Opens the LoRAs of a part and checks them against the names and shapes of its weights. Throws
// InputError.
Loras open_loras(const PartFiles& files);

// The ranks that shard the weights of the transformer's blocks (TransformerImpl::shard_blocks()).
// `meet` makes each wait for the others; it is called after work of different length.
struct WeightRanks {
  ProcessGroup group;
  std::function<void()> meet = [] {};
  // for training: the dtype in which linears are gathered, while ranks keep their parts in float32
  std::optional<at::ScalarType> linears = {};
};

// Each loads and checks one part, in evaluation mode and without gradients. Throw InputError for
// files that are broken or do not fit. A warning names tensors that belong to nothing.
// If the transformer rounds to HiF8, its weights are rounded here once, after the LoRAs are added.
// All ranks must call load_transformer(). Each reads only its own rows of the blocks, 64 MiB at a
// time; it reads rows twice if their HiF8 scale has to be computed.
Transformer load_transformer(const PartFiles& files, const ComputeOptions& compute,
                             const WeightRanks& ranks = {});
Vae load_vae(const PartFiles& files, const ComputeOptions& compute);
Umt5Encoder load_text_encoder(const PartFiles& files, const ComputeOptions& compute);
Tokenizer load_tokenizer(const PartFiles& files);

// Fills `weight`, a floating-point tensor on the device of the computation, with values.
using WeightFill = std::function<void(const std::string& name, at::Tensor& weight)>;
// Like load_transformer(), but `fill` gives the weights, one after the other. Weights that are
// rounded to HiF8 for tensor cores are allocated with one byte per element. Throws InputError
// beginning with `origin`.
Transformer make_transformer(const TransformerConfig& config, const ComputeOptions& compute,
                             const std::string& origin, const WeightFill& fill,
                             const WeightRanks& ranks = {});

// Bytes of a part's weights in memory with the dtype `dtype`. Reads names and shapes only.
int64_t weight_bytes(const PartFiles& files, at::ScalarType dtype);

}  // namespace ospnext
