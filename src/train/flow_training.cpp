#include "train/flow_training.h"

#include <algorithm>

#include "core/fields.h"
#include "core/number_check.h"
#include "core/torch/cuda_graph.h"
#include "core/torch/random.h"
#include "data/tiny_world/captions.h"
#include "packages/load_model.h"
#include "schedulers/schedules.h"
#include "train/flow_matching.h"
#include "train/flow_trainees.h"
#include "train/latent_cache.h"

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

// Noise like the clips [B, z, F, h, w], and a noise level for each, [B] float32.
std::pair<at::Tensor, at::Tensor> draw_noise(const at::Tensor& latent,
                                             const FlowTrainingConfig& config, int64_t pass) {
  at::Generator generator =
      seeded_generator(latent.device(), config.seed, "noise and noise level", pass);
  const at::Tensor noise = at::randn(latent.sizes(), generator, latent.options());
  const at::Tensor normal = at::randn({latent.size(0)}, generator, latent.options());
  return {noise, logit_normal_sigma(normal, config.shift)};
}

// Encodes captions for the transformer, padded with zeros to `text_len` rows. ids [B, T] int64
TextRows encode_captions(Umt5Encoder& encoder, const at::Tensor& ids, int64_t text_len) {
  return pad_text(encoder->forward(ids, (ids != 0).to(at::kLong)), text_len);
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

// Calls `work` on rank 0 first, which may write files that it reads on the other ranks.
template <class Work>
auto leader_first(const TrainingRanks& ranks, const Work& work) {
  if (!ranks.work.leads()) {
    ranks.work.world->meet();
  }
  auto result = work();
  if (ranks.work.leads()) {
    ranks.work.world->meet();
  }
  return result;
}

}  // namespace

void FlowTrainingConfig::check() const {
  TrainingConfig::check();
  checkpointing.parse();
  world.check();
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
  const auto [any_device, precision, hif8] = parse_compute(config.device, config.precision);
  const ProcessPlace place = process_place();
  const at::Device device = device_of_rank(any_device, place);
  const SideStream stream(device);
  const SideStream::Scope on_stream(stream);
  const auto world = join_world(place, config.world, device, fields_to_json(config), cancel);
  const auto lock = lock_output(config, world->all().rank() == 0);
  const std::vector<FrameSize> sizes = parse_frame_sizes("`sizes`", config.sizes);
  const TrainingRanks ranks =
      training_ranks(world, config.mesh, configured_transformer(config), config.batch_size);
  Trainees trainees = initial_trainees(config, device, precision, ranks);
  Transformer& transformer = trainees.transformer;
  Umt5Encoder& encoder = trainees.text_encoder;
  const int64_t text_len = transformer->config().text_len;
  const auto [tokenizer, groups] = leader_first(ranks, [&] {
    Tokenizer words = tokenizer_of(config, encoder->config().vocab_size);
    return std::pair(std::move(words), encode_clips(config, sizes, words, text_len, device,
                                                    precision, progress, cancel));
  });
  const at::Tensor empty_caption =
      at::tensor(tokenizer.encode("", groups[0].ids.size(2)).ids, at::kLong).to(device);  // [T]
  TrainedParameters parameters(trainees.whole_parameters(), ranks, &transformer->sharded_weights(),
                               kTransformerPrefix);
  TrainingRun run(config, parameters, progress, cancel);
  TokenTablesByGrid tables(transformer->config(), device, ranks.work.sequence);
  TrainingBlocks blocks(transformer, config.checkpointing.parse());
  Execution execution{transformer->numerics()};
  execution.blocks = &blocks;
  RecordedFunction add_gradients(
      [&](const std::vector<at::Tensor>& in) {
        const FlowSamples samples{.latent = in[0],
                                  .noise = in[1],
                                  .sigma = in[2],
                                  .text = encode_captions(encoder, /*ids=*/in[3], text_len)};
        const at::Tensor loss =
            flow_matching_loss(transformer, samples, tables.of(token_grid(in[0])), execution);
        loss.backward();
        return loss.detach();
      },
      config.cuda_graph && world->all().alone());
  const int64_t own = config.batch_size / ranks.work.mesh.data;
  const bool finished = run.run([&](int64_t pass) -> Losses {
    const FlowBatch batch = draw_batch(groups, sizes, config, empty_caption, pass, device);
    const auto [noise, sigma] = draw_noise(batch.latent, config, pass);
    const auto part = [&](const at::Tensor& x) { return x.narrow(0, ranks.work.video * own, own); };
    return {
        {"loss", add_gradients({part(batch.latent), part(noise), part(sigma), part(batch.ids)})}};
  });
  if (finished) {
    const auto averages = parameters.whole(run.ema().shadow());
    if (ranks.work.leads()) {
      write_model(config, transformer->config(), encoder->config(), averages);
    }
  }
  world->finish();
  return finished;
}

}  // namespace ospnext
