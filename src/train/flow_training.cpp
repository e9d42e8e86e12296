#include "train/flow_training.h"

#include <algorithm>

#include "core/number_check.h"
#include "core/torch/cuda_graph.h"
#include "core/torch/random.h"
#include "data/tiny_world/captions.h"
#include "io/readers/bounded_json.h"
#include "packages/load_model.h"
#include "schedulers/schedules.h"
#include "train/deepen.h"
#include "train/latent_cache.h"
#include "train/model_folder_writer.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTokenizerSentences = 20000;
constexpr int64_t kExtraIds = 300;  // T5's special tokens; their ids follow the pieces

// The clips and captions of one step.
struct FlowBatch {
  at::Tensor latent;  // [B, z, F, h, w] float32
  at::Tensor ids;     // [B, T] int64
};

FlowBatch draw_batch(const std::vector<LatentGroup>& groups, const std::vector<FrameSize>& sizes,
                     const FlowTrainingConfig& config, const at::Tensor& empty_caption,
                     int64_t step, at::Device device) {
  at::Generator choose = seeded_generator(config.seed, "frame size", step);
  const LatentGroup& group = groups[pick_frame_size(sizes, at::rand({1}, choose).item<double>())];
  at::Generator draw = seeded_generator(device, config.seed, "clips and captions", step);
  const auto options = at::TensorOptions().device(device);
  const int64_t batch = config.batch_size;
  const int64_t forms = group.ids.size(1);
  const at::Tensor rows =
      at::randint(group.latents.size(0), {batch}, draw, options.dtype(at::kLong));
  const at::Tensor form = at::randint(forms, {batch}, draw, options.dtype(at::kLong));
  const at::Tensor ids = group.ids.flatten(0, 1).index_select(0, rows * forms + form);  // [B, T]
  const at::Tensor dropped = at::rand({batch, 1}, draw, options) < config.text_dropout;
  return {.latent = group.latents.index_select(0, rows).to(at::kFloat),
          .ids = at::where(dropped, empty_caption, ids)};
}

// Encodes captions for the transformer, padded with zeros to `text_len` rows. ids [B, T] int64
TextRows encode_captions(Umt5Encoder& encoder, const at::Tensor& ids, int64_t text_len) {
  return pad_text(encoder->forward(ids, (ids != 0).to(at::kLong)), text_len);
}

// The two models that are trained: float32 master weights, computation in the precision of the run.
struct Trainees {
  Transformer transformer{nullptr};
  Umt5Encoder text_encoder{nullptr};

  NamedTensors parameters() const {
    NamedTensors named = named_parameters(*transformer, "transformer.");
    const NamedTensors more = named_parameters(*text_encoder, "text_encoder.");
    named.insert(named.end(), more.begin(), more.end());
    return named;
  }
};

// With random weights, or with the weights of config.initial_model.
Trainees initial_trainees(const FlowTrainingConfig& config, at::Device device,
                          at::ScalarType precision) {
  Trainees trainees;
  if (config.initial_model.empty()) {
    trainees.transformer = Transformer(transformer_config_from_json(
        read_json_file(config.transformer_config), config.transformer_config));
    trainees.text_encoder = Umt5Encoder(umt5_config_from_json(
        read_json_file(config.text_encoder_config), config.text_encoder_config));
    trainees.transformer->reset_parameters(
        seeded_generator(config.seed, "transformer initial weights"));
    trainees.text_encoder->reset_parameters(
        seeded_generator(config.seed, "text encoder initial weights"));
    trainees.transformer->to(device);
    trainees.text_encoder->to(device);
  } else {
    const ModelFiles files = find_model_files({.model = config.initial_model});
    const ComputeOptions masters{.device = device, .dtype = at::kFloat, .hif8 = Hif8Use::kNowhere};
    trainees.transformer = load_transformer(files.require(ModelPart::kTransformer), masters);
    if (!config.insert_blocks.empty()) {
      trainees.transformer = deepen(trainees.transformer, config.insert_blocks);
    }
    trainees.text_encoder = load_text_encoder(files.require(ModelPart::kTextEncoder), masters);
    for (torch::nn::Module* part : std::initializer_list<torch::nn::Module*>{
             trainees.transformer.get(), trainees.text_encoder.get()}) {
      for (at::Tensor& parameter : part->parameters()) {
        parameter.set_requires_grad(true);
      }
    }
  }
  // Products with epilogues of their own store what the gradient would compute again.
  trainees.transformer->set_numerics({.dtype = precision, .epilogue = Epilogue::kSeparate});
  trainees.text_encoder->set_compute_dtype(precision);
  return trainees;
}

ShapeShares shares_of(const FlowTrainingConfig& config) {
  ShapeShares shares{};
  std::ranges::copy(config.shape_shares, shares.begin());  // check() has compared the lengths
  return shares;
}

Tokenizer tokenizer_of(const FlowTrainingConfig& config, int64_t vocab_size) {
  if (!fs::exists(config.tokenizer)) {
    fs::create_directories(fs::path(config.tokenizer).parent_path());
    train_tokenizer(caption_corpus(config.seed, kTokenizerSentences), vocab_size - kExtraIds,
                    config.tokenizer, config.seed);
  }
  Tokenizer tokenizer{fs::path(config.tokenizer)};
  if (tokenizer.vocab_size() > vocab_size) {
    throw InputError(config.tokenizer + ": found " + std::to_string(tokenizer.vocab_size()) +
                     " ids, expected at most the text encoder's vocab_size " +
                     std::to_string(vocab_size));
  }
  return tokenizer;
}

// The training clips as latents of the configured VAE and as token ids, one group per frame size.
std::vector<LatentGroup> encode_clips(const FlowTrainingConfig& config,
                                      const std::vector<FrameSize>& sizes,
                                      const Tokenizer& tokenizer, int64_t text_len,
                                      at::Device device, at::ScalarType precision,
                                      Progress& progress, const CancellationToken& cancel) {
  const ModelFiles files = find_model_files({.vae = config.vae});
  Vae vae = load_vae(files.require(ModelPart::kVae), {.device = device, .dtype = precision});
  vae->to_channels_last();
  return latent_cache({.sizes = sizes,
                       .clips = config.clips,
                       .seed = config.seed,
                       .max_tokens = std::min(LatentCacheRequest().max_tokens, text_len),
                       .two_objects = config.two_objects,
                       .patterned = config.patterned,
                       .shape_shares = shares_of(config)},
                      vae, precision, tokenizer, device, config.latent_cache, progress, cancel);
}

// Writes the trained parts, the VAE and the tokenizer as a model folder.
void write_model(const FlowTrainingConfig& config, const Trainees& trainees) {
  const fs::path folder = fs::path(config.output) / "model";
  write_transformer_folder(folder / "transformer", trainees.transformer,
                           trainees.transformer->config());
  write_text_encoder_folder(folder / "text_encoder", trainees.text_encoder,
                            trainees.text_encoder->config());
  fs::create_directories(folder / "vae");
  fs::copy(config.vae, folder / "vae",
           fs::copy_options::overwrite_existing | fs::copy_options::recursive);
  write_model_index(folder, config.tokenizer, config.generation_config);
}

}  // namespace

void FlowTrainingConfig::check() const {
  TrainingConfig::check();
  parse_frame_sizes("`sizes`", sizes);
  if (!insert_blocks.empty() && initial_model.empty()) {
    throw InputError("`insert_blocks`: found no `initial_model`, expected the model to deepen");
  }
  check_range("`clips`", clips, int64_t{1}, int64_t{100'000'000});
  check_range("`two_objects`", two_objects, 0.0, 1.0);
  check_range("`patterned`", patterned, 0.0, 1.0);
  if (shape_shares.size() != kNumShapes) {
    throw InputError("`shape_shares`: found " + std::to_string(shape_shares.size()) +
                     " numbers, expected " + std::to_string(kNumShapes));
  }
  for (const double share : shape_shares) {
    check_range("`shape_shares`", share, 1e-3, 1e3);
  }
  check_range("`batch_size`", batch_size, int64_t{1}, int64_t{65'536});
  check_range("`shift`", shift, 1e-3, 1000.0);
  check_range("`text_dropout`", text_dropout, 0.0, 1.0);
}

bool train_flow(const FlowTrainingConfig& config, Progress& progress,
                const CancellationToken& cancel) {
  config.check();
  const auto [device, precision, hif8] = parse_compute(config.device, config.precision);
  const SideStream stream(device);
  const SideStream::Scope on_stream(stream);
  const std::vector<FrameSize> sizes = parse_frame_sizes("`sizes`", config.sizes);
  Trainees trainees = initial_trainees(config, device, precision);
  Transformer& transformer = trainees.transformer;
  Umt5Encoder& encoder = trainees.text_encoder;
  const Tokenizer tokenizer = tokenizer_of(config, encoder->config().vocab_size);

  const int64_t text_len = transformer->config().text_len;
  const std::vector<LatentGroup> groups =
      encode_clips(config, sizes, tokenizer, text_len, device, precision, progress, cancel);
  const at::Tensor empty_caption =
      at::tensor(tokenizer.encode("", groups[0].ids.size(2)).ids, at::kLong).to(device);  // [T]
  TrainingRun run(config, trainees.parameters(), progress, cancel);
  TokenTablesByGrid tables(transformer->config(), device);
  const Execution execution{transformer->numerics()};
  RecordedFunction add_gradients(
      [&](const std::vector<at::Tensor>& inputs) {
        const at::Tensor &noised = inputs[0], &sigma = inputs[1], &target = inputs[2];
        const TextRows text = encode_captions(encoder, /*ids=*/inputs[3], text_len);
        const at::Tensor velocity = transformer->forward(
            noised, transformer->embed_text(text, execution),
            transformer->embed_time(sigma * 1000.0, execution.numerics.epilogue),
            tables.of(token_grid(noised)), execution);
        const at::Tensor loss = (velocity - target).square().mean();
        loss.backward();
        return loss.detach();
      },
      config.cuda_graph);
  const bool finished = run.run([&](int64_t step) -> Losses {
    const FlowBatch batch = draw_batch(groups, sizes, config, empty_caption, step, device);
    at::Generator generator = seeded_generator(device, config.seed, "noise and noise level", step);
    const at::Tensor noise = at::randn(batch.latent.sizes(), generator, batch.latent.options());
    const at::Tensor normal = at::randn({config.batch_size}, generator, batch.latent.options());
    const at::Tensor sigma = logit_normal_sigma(normal, config.shift);  // [B] float32
    const at::Tensor noised =
        at::lerp(batch.latent, noise, sigma.view({-1, 1, 1, 1, 1}));  // [B, z, F, h, w]
    return {{"loss", add_gradients({noised, sigma, noise - batch.latent, batch.ids})}};
  });
  if (!finished) {
    return false;
  }
  run.ema().swap();
  write_model(config, trainees);
  return true;
}

}  // namespace ospnext
