#include "bench/cases.h"

#include <algorithm>
#include <memory>

#include "core/torch/random.h"
#include "engine/model_flops.h"
#include "kernels/attention.h"
#include "kernels/modulate.h"
#include "kernels/norm.h"
#include "kernels/partial_attention.h"
#include "kernels/rotate_pairs.h"
#include "models/rope.h"
#include "models/token_tables.h"
#include "models/vae_tiling.h"
#include "packages/load_adapter.h"
#include "packages/random_model.h"
#include "quant/hif8_linear.h"
#include "quant/hif8_tensors.h"

namespace ospnext {
namespace {

constexpr int64_t kTextRows = 512;

at::Tensor draw(at::IntArrayRef shape, const ComputeOptions& compute, at::ScalarType dtype) {
  return at::randn(shape, seeded_generator(compute.device, 0, "bench"),
                   at::TensorOptions().device(compute.device).dtype(dtype));
}

at::Tensor draw(at::IntArrayRef shape, const ComputeOptions& compute) {
  return draw(shape, compute, compute.dtype);
}

double bytes_of(std::initializer_list<at::Tensor> tensors) {
  double bytes = 0;
  for (const at::Tensor& tensor : tensors) {
    bytes += static_cast<double>(tensor.nbytes());
  }
  return bytes;
}

// Each pattern that a block of the model runs in, once.
std::vector<Pattern> patterns_of(const TransformerConfig& config) {
  std::vector<Pattern> patterns;
  for (const BlockPlan& plan :
       plan_blocks(config.skiparse_type(), config.num_layers, config.num_full_blocks)) {
    if (std::find(patterns.begin(), patterns.end(), plan.pattern) == patterns.end()) {
      patterns.push_back(plan.pattern);
    }
  }
  return patterns;
}

Layout layout_of(const BenchModel& model, Pattern pattern) {
  return {model.grid(), pattern, model.transformer.sparse_ratio, model.compute.device};
}

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const Layout& layout) {
  return layout.pattern() == Pattern::kFull ? attention(q, k, v)
                                            : segmented_attention(q, k, v, layout.lengths());
}

// q, k, v [B, L, H, D] -> [B, L, H, D]. ATen takes [B, H, L, D], hence the transposes.
at::Tensor aten_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return at::scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
      .transpose(1, 2);  // [B, L, H, D]
}

// One call of ATen for each segment.
void attend_by_aten(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const Layout& layout) {
  for (size_t s = 0; s + 1 < layout.offsets().size(); ++s) {
    const int64_t begin = layout.offsets()[s], length = layout.lengths()[s];
    if (length > 0) {
      aten_attention(q.narrow(1, begin, length), k.narrow(1, begin, length),
                     v.narrow(1, begin, length));
    }
  }
}

// Attention to the first half of the keys and then to the second, as a ring of two ranks computes
// it.
at::Tensor attend_in_two_parts(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const int64_t L = q.size(1), half = L / 2;
  const auto part = [&](int64_t begin, int64_t count) {
    return partial_attention(q, k.narrow(1, begin, count), v.narrow(1, begin, count), {L}, {count});
  };
  return join(part(0, half), part(half, L - half)).out.to(q.scalar_type());
}

RandomModelSource random_parts(const BenchModel& model) {
  return {model.transformer, model.text_encoder, model.vae, 0};
}

// The tables of one grid, kept by the cases that use them.
std::shared_ptr<const TokenTables> tables_of(const BenchModel& model,
                                             const TransformerConfig& config) {
  return std::make_shared<TokenTables>(config, model.grid(), model.compute.device);
}

// An adapter of rank 32 for all linears of self-attention and cross-attention, in memory as of
// `options`.
Adapter attention_adapter(const BenchModel& model, at::TensorOptions options) {
  constexpr int64_t kRank = 32;
  const int64_t C = model.transformer.dim;
  std::vector<LowRankChange> changes;
  for (int64_t i = 0; i < model.transformer.num_layers; ++i) {
    for (const char* attention : {".self_attn.", ".cross_attn."}) {
      for (const char* linear : {"q", "k", "v", "o"}) {
        changes.push_back({"blocks." + std::to_string(i) + attention + linear + ".weight",
                           at::zeros({kRank, C}), at::zeros({C, kRank}), 1.0});
      }
    }
  }
  return make_adapter(changes, options.dtype(model.compute.dtype));
}

// Four adapters in pinned host memory become those of a transformer, as between two jobs.
BenchCase swap_case(const BenchModel& model, const Transformer& transformer) {
  constexpr size_t kCount = 4;
  const auto pinned = at::TensorOptions().pinned_memory(true);
  const auto host = std::make_shared<std::vector<Adapter>>();
  for (size_t i = 0; i < kCount; ++i) {
    host->push_back(attention_adapter(model, pinned));
  }
  const auto swap = [=, device = model.compute.device] {
    std::vector<Adapter> copies;
    AdapterChoices choices;
    for (const Adapter& adapter : *host) {
      copies.push_back(adapter.on(device));
    }
    for (const Adapter& adapter : copies) {
      choices.emplace_back(&adapter, 1.0);
    }
    Transformer open = transformer;  // the same module
    set_adapters(open, choices);
  };
  const auto bytes = static_cast<double>(kCount) * static_cast<double>(host->front().bytes());
  return {.name = "  swap of four such LoRAs", .bytes = bytes, .ours = swap};
}

// One case for each block of a model of `config`: the block alone, on random tokens.
std::vector<BenchCase> cases_of_blocks(const BenchModel& model, const TransformerConfig& config) {
  BenchModel few_blocks = model;
  few_blocks.transformer = config;
  Transformer transformer = random_parts(few_blocks).transformer(model.compute);
  const int64_t C = config.dim;
  const at::Tensor x = draw({1, model.grid().tokens(), C}, model.compute);
  const TimeVectors time{draw({1, C}, model.compute, at::kFloat),
                         draw({1, 6, C}, model.compute, at::kFloat)};
  const Execution run = transformer->inference();
  const TextVectors text =
      transformer->embed_text(draw({1, kTextRows, config.text_dim}, model.compute), run);
  const auto tables = tables_of(model, config);
  std::vector<BenchCase> cases;
  for (size_t i = 0; i < transformer->plan().size(); ++i) {
    const Pattern pattern = transformer->plan()[i].pattern;
    cases.push_back({.name = std::string("block, ").append(pattern_name(pattern)),
                     .flops = block_flops(model.transformer, model.grid(), pattern),
                     .ours = [=]() mutable {
                       transformer->run_blocks(x, {i, i + 1}, text, time, *tables, run);
                     }});
  }
  return cases;
}

}  // namespace

GenerationConfig BenchModel::video() const {
  GenerationConfig video;
  video.width = width;
  video.height = height;
  video.num_frames = num_frames;
  return video;
}

std::vector<int64_t> BenchModel::latent_shape() const {
  const LatentSize size = latent_size(video(), vae);
  return {1, transformer.in_dim, size.frames, size.height, size.width};
}

Grid BenchModel::grid() const {
  return token_grid(latent_size(video(), vae));
}

std::vector<BenchCase> ceiling_cases(const ComputeOptions& compute) {
  const bool cuda = compute.device.is_cuda();
  const int64_t side = cuda ? 8192 : 1024, copied = int64_t{cuda ? 1024 : 64} << 20;
  const at::Tensor a = draw({side, side}, compute), b = draw({side, side}, compute);
  const at::Tensor from =
      at::ones({copied}, at::TensorOptions().device(compute.device).dtype(at::kByte));
  const at::Tensor to = at::empty_like(from);
  return {{.name = "matrix product",
           .flops = 2.0 * static_cast<double>(side) * static_cast<double>(side * side),
           .ours = [=] { at::mm(a, b); }},
          {.name = "copy", .bytes = 2.0 * static_cast<double>(copied), .ours = [=] {
             to.copy_(from);
           }}};
}

std::vector<BenchCase> attention_cases(const BenchModel& model) {
  const TransformerConfig& config = model.transformer;
  const int64_t L = model.grid().tokens(), H = config.num_heads, D = config.head_dim();
  const at::Tensor q = draw({1, L, H, D}, model.compute), k = draw({1, L, H, D}, model.compute),
                   v = draw({1, L, H, D}, model.compute);
  std::vector<BenchCase> cases;
  for (const Pattern pattern : patterns_of(config)) {
    const Layout layout = layout_of(model, pattern);
    cases.push_back({.name = std::string("attention, ").append(pattern_name(pattern)),
                     .flops = attention_flops(config, layout),
                     .bytes = bytes_of({q, k, v, q}),
                     .ours = [=] { attend(q, k, v, layout); },
                     .aten = [=] { attend_by_aten(q, k, v, layout); }});
  }
  const at::Tensor keys = draw({1, kTextRows, H, D}, model.compute),
                   values = draw({1, kTextRows, H, D}, model.compute);
  cases.push_back({.name = "attention to text",
                   .flops = text_flops(config, L),
                   .bytes = bytes_of({q, keys, values, q}),
                   .ours = [=] { attention(q, keys, values); },
                   .aten = [=] { aten_attention(q, keys, values); }});
  return cases;
}

std::vector<BenchCase> pointwise_cases(const BenchModel& model) {
  const TransformerConfig& config = model.transformer;
  const int64_t L = model.grid().tokens(), C = config.dim, H = config.num_heads;
  const double eps = config.eps;
  const at::Tensor x = draw({1, L, C}, model.compute), y = draw({1, L, C}, model.compute);
  const at::Tensor shift = draw({1, 1, C}, model.compute, at::kFloat),
                   scale = draw({1, 1, C}, model.compute, at::kFloat),
                   weight = draw({C}, model.compute, at::kFloat);
  const at::Tensor hidden = draw({1, L, config.ffn_dim}, model.compute);
  const Layout token = layout_of(model, Pattern::kToken), group = layout_of(model, Pattern::kGroup);
  const at::Tensor rotation = rope_table(config.head_dim(), token);
  const double row_bytes = static_cast<double>(x.nbytes());
  return {
      {.name = "layer norm + modulation",
       .bytes = 2 * row_bytes,
       .ours = [=] { layer_norm_modulate(x, shift, scale, eps); },
       .aten =
           [=] {
             const auto wide = at::layer_norm(x.to(at::kFloat), {C}, {}, {}, eps);
             (wide * (1 + scale) + shift).to(x.scalar_type());
           }},
      {.name = "RMS norm + rotation",
       .bytes = 2 * row_bytes,
       .ours = [=] { rms_norm_rotate(x, weight, rotation, eps); },
       .aten =
           [=] {
             const auto normal = at::rms_norm(x, {C}, weight.to(x.scalar_type()), eps);
             rotate_pairs(normal.unflatten(2, {H, C / H}), rotation);  // [1, L, H, D]
           }},
      {.name = "gated residual",
       .bytes = 3 * row_bytes,
       .ours = [=] { add_gated(x, y, shift); },
       .aten = [=] { (x.to(at::kFloat) + y.to(at::kFloat) * shift).to(x.scalar_type()); }},
      {.name = "GELU",
       .bytes = 2 * static_cast<double>(hidden.nbytes()),
       .ours = [=] { at::gelu(hidden, "tanh"); }},
      {.name = "switch of layout",
       .bytes = 2 * row_bytes,
       .ours = [=] { switch_layout(x, token, group); }},
      {.name = "HiF8: amax", .bytes = row_bytes, .ours = [=] { hif8::amax_of_samples(x); }},
      {.name = "HiF8: cast to E4M3",
       .bytes = row_bytes + static_cast<double>(x.numel()),
       .ours = [=] { hif8::encode_e4m3(x, at::ones({1}, shift.options())); }},
      {.name = "HiF8: GELU, amax and cast",
       .bytes = 2 * static_cast<double>(hidden.nbytes()) + static_cast<double>(hidden.numel()),
       .ours =
           [=] {
             hif8::round_input(hidden, hif8::kForwardAmax, hif8::Products::kTensorCores, {},
                               hif8::Of::kGelu);
           }},
  };
}

std::vector<BenchCase> block_cases(const BenchModel& model) {
  const TransformerConfig& config = model.transformer;
  std::vector<BenchCase> cases;
  TransformerConfig few = config;
  few.num_full_blocks = 0;
  if (config.skiparse_type() != SkiparseType::kUniform) {
    few.skiparse_model_type = "full";
    few.num_layers = 1;
    cases = cases_of_blocks(model, few);
  }
  if (config.skiparse_type() != SkiparseType::kFull) {
    few.skiparse_model_type = "uniform";
    few.num_layers = 2;  // one of each pattern
    std::ranges::move(cases_of_blocks(model, few), std::back_inserter(cases));
  }
  const int64_t L = model.grid().tokens();
  const at::Tensor heads =
      draw({1, L, config.num_heads, config.head_dim()}, model.compute);  // [1, L, H, D]
  const double flops = attention_flops(config, layout_of(model, Pattern::kFull));
  cases.push_back(
      {.name = "attention, full", .flops = flops, .ours = [=] { attention(heads, heads, heads); }});
  cases.push_back({.name = "attention, full, in 2 parts", .flops = flops, .ours = [=] {
                     attend_in_two_parts(heads, heads, heads);
                   }});
  return cases;
}

std::vector<BenchCase> forward_cases(const BenchModel& model) {
  const TransformerConfig& config = model.transformer;
  Transformer transformer = random_parts(model).transformer(model.compute);
  const Execution run = transformer->inference();
  const at::Tensor latent = draw(model.latent_shape(), model.compute, at::kFloat);
  const TextVectors text =
      transformer->embed_text(draw({1, config.text_len, config.text_dim}, model.compute), run);
  const at::Tensor time = at::full({1}, 500.0, latent.options());
  const auto tables = tables_of(model, config);
  // A case runs many times in a row, and only its first run, a warm-up, switches the adapter.
  const auto is_live = std::make_shared<bool>(false);
  const auto pass_with = [=](const AdapterChoices& adapters) {
    Transformer open = transformer;  // the same module
    if (*is_live == adapters.empty()) {
      set_adapters(open, adapters);
      *is_live = !adapters.empty();
    }
    open->forward(latent, text, open->embed_time(time), *tables, run);
  };
  const double flops = forward_flops(config, model.grid());
  const auto adapter = std::make_shared<Adapter>(attention_adapter(model, latent.options()));
  std::vector<BenchCase> cases = {
      {.name = std::string("forward, ").append(config.skiparse_model_type),
       .flops = flops,
       .ours = [=] { pass_with({}); }},
      {.name = "  + live LoRA of rank 32", .flops = flops, .ours = [=]() mutable {
         pass_with({{adapter.get(), 1.0}});
       }}};
  if (model.compute.device.is_cuda()) {
    cases.push_back(swap_case(model, transformer));
  }
  return cases;
}

std::vector<BenchCase> vae_cases(const BenchModel& model) {
  Vae vae = random_parts(model).vae(model.compute);
  const at::Tensor latent = draw(model.latent_shape(), model.compute, at::kFloat);
  const auto drop = [](const at::Tensor&) {};
  std::vector<BenchCase> cases;
  cases.push_back({.name = "VAE, decode", .ours = [=]() mutable { vae->decode(latent, drop); }});
  const VaeTiling tiling;
  if (tiling.cuts(model.height, model.width)) {
    cases.push_back({.name = "VAE, decode in tiles of " + tiling.text(),
                     .ours = [=]() mutable { decode_tiled(vae, latent, tiling, drop); }});
  }
  const at::Tensor video =
      at::randn({1, 3, model.num_frames, model.height, model.width}, seeded_generator(0, "video"))
          .tanh()
          .to(model.compute.dtype);  // in host memory, like the frames of a file
  cases.push_back({.name = "VAE, encode", .ours = [=]() mutable { vae->encode(video); }});
  return cases;
}

std::vector<BenchCase> text_cases(const BenchModel& model) {
  Umt5Encoder encoder = random_parts(model).text_encoder(model.compute);
  const Umt5Config& config = encoder->config();
  const auto options = at::TensorOptions().device(model.compute.device).dtype(at::kLong);
  const at::Tensor ids =
      at::randint(config.vocab_size, {1, kTextRows},
                  seeded_generator(model.compute.device, 0, "bench ids"), options);
  const at::Tensor mask = at::ones_like(ids);
  const auto C = static_cast<double>(config.d_model);
  const double layer = 8 * C * static_cast<double>(config.num_heads * config.d_kv) +
                       6 * C * static_cast<double>(config.d_ff) +
                       4 * static_cast<double>(kTextRows * config.num_heads * config.d_kv);
  return {{.name = "UMT5, 512 tokens",
           .flops = layer * static_cast<double>(kTextRows * config.num_layers),
           .ours = [=]() mutable { encoder->forward(ids, mask); }}};
}

}  // namespace ospnext
