#include "train/flow_training.h"

#include <algorithm>
#include <optional>

#include "core/fields.h"
#include "core/number_check.h"
#include "core/torch/cuda_graph.h"
#include "data/tiny_world/captions.h"
#include "io/readers/bounded_json.h"
#include "packages/load_model.h"
#include "train/encoded_clip_source.h"
#include "train/flow_objective.h"
#include "train/flow_trainees.h"
#include "train/tiny_world_clips.h"
#include "train/trained_model_source.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTokenizerSentences = 20000;
constexpr int64_t kExtraIds = 300;  // T5's special tokens; their ids follow the pieces

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

// Frame sizes of which each has the same share of the clips.
std::vector<FrameSize> evenly(std::vector<FrameSize> sizes) {
  for (FrameSize& size : sizes) {
    size.share = 1 / static_cast<double>(sizes.size());
  }
  return sizes;
}

int64_t held_out_clips_of(const FlowTrainingConfig& config) {
  return config.validation_interval > 0 ? config.validation_clips : 0;
}

// The procedural clips as latents of the configured VAE and as token ids. Those for validation have
// the same kinds of objects as those of the training.
TinyWorldClips tiny_world_clips(const FlowTrainingConfig& config, const Tokenizer& tokenizer,
                                int64_t text_len, at::Device device, at::ScalarType precision,
                                Progress& progress, const CancellationToken& cancel) {
  const ModelFiles files = find_model_files({.vae = config.vae});
  Vae vae = load_vae(files.require(ModelPart::kVae), {.device = device, .dtype = precision});
  vae->to_channels_last();
  LatentCacheRequest request{.sizes = parse_frame_sizes("`sizes`", config.sizes),
                             .clips = config.clips,
                             .seed = config.seed,
                             .max_tokens = std::min(LatentCacheRequest().max_tokens, text_len),
                             .two_objects = config.two_objects,
                             .patterned = config.patterned,
                             .shape_shares = shares_of(config)};
  const auto encode = [&](const LatentCacheRequest& what, const std::string& file) {
    return latent_cache(what, vae, precision, tokenizer, device, file, progress, cancel);
  };
  std::vector<LatentGroup> groups = encode(request, config.latent_cache), held_out;
  const int64_t held_out_clips = held_out_clips_of(config);
  if (held_out_clips > 0) {
    LatentCacheRequest others = request;
    others.sizes = evenly(request.sizes);
    others.clips = held_out_clips;
    others.split = ClipSplit::kSeen;
    held_out = encode(others, /*file=*/"");
  }
  const std::vector<int64_t> empty = tokenizer.encode("", request.max_tokens).ids;
  return {std::move(groups),
          std::move(held_out),
          held_out_clips,
          {.sizes = request.sizes,
           .text_dropout = config.text_dropout,
           .empty_caption = at::tensor(empty, at::kLong).to(device),
           .seed = config.seed}};
}

// Calls `work` on rank 0 first, which may write files that it reads on the other ranks. Returns
// when all have done it.
template <class Work>
auto leader_first(const TrainingRanks& ranks, const Work& work) {
  if (!ranks.work.leads()) {
    ranks.work.world->meet();
  }
  auto result = work();
  if (ranks.work.leads()) {
    ranks.work.world->meet();
  }
  ranks.work.world->meet();  // the work of the others may take long, too
  return result;
}

std::unique_ptr<ClipSource> clips_of(const FlowTrainingConfig& config, const Trainees& trainees,
                                     const TrainingRanks& ranks, at::Device device,
                                     at::ScalarType precision, Progress& progress,
                                     const CancellationToken& cancel) {
  const TransformerConfig& transformer = trainees.transformer->config();
  if (!config.encoded_clips.empty()) {
    return std::make_unique<EncodedClipSource>(
        config.encoded_clips, transformer,
        EncodedClipSourceConfig{.text_dropout = config.text_dropout,
                                .held_out = held_out_clips_of(config),
                                .batch_size = config.batch_size,
                                .seed = config.seed,
                                .device = device});
  }
  return leader_first(ranks, [&] {
    return std::make_unique<TinyWorldClips>(
        tiny_world_clips(config, tokenizer_of(config, trainees.text_config.vocab_size),
                         transformer.text_len, device, precision, progress, cancel));
  });
}

// The model with the weights that are trained, for sample clips.
std::unique_ptr<ModelSource> trained_model(const FlowTrainingConfig& config,
                                           const Trainees& trainees) {
  if (!config.encoded_clips.empty()) {
    return std::make_unique<TrainedTransformerSource>(
        find_model_files({.model = config.initial_model}), trainees.transformer);
  }
  return std::make_unique<TrainedModelSource>(trainees.transformer, trainees.text_encoder,
                                              config.tokenizer,
                                              find_model_files({.vae = config.vae}));
}

// The defaults of generate for the finished model, which are those of sample clips, too.
GenerationConfig generation_of(const FlowTrainingConfig& config) {
  GenerationConfig generation;
  fields_from_json(generation, read_json_file(config.generation_config), config.generation_config);
  return generation;
}

// The clips that the training shows of itself, if it does.
std::optional<SampleClips> sample_clips(const FlowTrainingConfig& config, const ModelSource& source,
                                        const ComputeOptions& compute, const TrainingRanks& ranks,
                                        const CancellationToken& cancel) {
  if (config.samples.sample_interval == 0) {
    return std::nullopt;
  }
  return SampleClips(config.samples, source, compute, ranks.sampling(), generation_of(config),
                     fs::path(config.output) / "samples", cancel);
}

// What is trained of an initial model, and how it is changed before.
void check_choice_of_weights(const FlowTrainingConfig& config) {
  const bool is_part = !config.trained.empty(), is_lora = config.lora.active();
  if (!config.insert_blocks.empty() && config.initial_model.empty()) {
    throw InputError("`insert_blocks`: found no `initial_model`, expected the model to deepen");
  }
  if (is_part && is_lora) {
    throw InputError("`trained`: found with a LoRA, beside which all weights are frozen");
  }
  if (!config.encoded_clips.empty() && config.initial_model.empty()) {
    throw InputError(
        "`encoded_clips`: found no `initial_model`, expected the model whose text encoder and VAE "
        "encoded the clips");
  }
  if ((is_part || is_lora) && config.initial_model.empty()) {
    throw InputError(std::string(is_part ? "`trained`" : "`lora_rank`") +
                     ": found no `initial_model`, expected the model whose other weights stay");
  }
  if ((is_part || is_lora) && !config.insert_blocks.empty()) {
    throw InputError(
        "`insert_blocks`: found with frozen weights, expected a training of all weights before "
        "that of a part");
  }
}

}  // namespace

void FlowTrainingConfig::check() const {
  TrainingConfig::check();
  checkpointing.parse();
  world.check();
  parse_frame_sizes("`sizes`", sizes);
  lora.check();
  check_choice_of_weights(*this);
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
  check_range("`validation_clips`", validation_clips, int64_t{1}, int64_t{1'000'000});
  check_range("`shift`", shift, 1e-3, 1000.0);
  check_range("`text_dropout`", text_dropout, 0.0, 1.0);
  samples.check();
}

bool train_flow(const FlowTrainingConfig& config, Progress& progress,
                const CancellationToken& cancel) {
  config.check();
  if (writes_whole_model(config)) {
    generation_of(config);  // refused now, not when the model is written
  }
  const auto [any_device, precision, hif8, offload] =
      parse_compute(config.device, config.precision);
  const ProcessPlace place = process_place();
  const at::Device device = device_of_rank(any_device, place);
  const SideStream stream(device);
  const SideStream::Scope on_stream(stream);
  const auto world = join_world(place, config.world, device, fields_to_json(config), cancel);
  const TrainingRanks ranks =
      training_ranks(world, config.mesh, configured_transformer(config), config.batch_size);
  Trainees trainees = initial_trainees(config, device, precision, ranks);
  const auto lock = lock_output(config, ranks.work.leads());
  const auto source = trained_model(config, trainees);
  std::optional<SampleClips> samples =
      sample_clips(config, *source, {.device = device, .dtype = precision}, ranks, cancel);
  const auto clips = clips_of(config, trainees, ranks, device, precision, progress, cancel);
  TrainedParameters parameters = trainees.parameters(ranks);
  FlowObjective objective(
      trainees.transformer, trainees.text_encoder.is_empty() ? nullptr : &trainees.text_encoder,
      *clips, ranks, samples ? &*samples : nullptr,
      {.seed = config.seed,
       .batch_size = config.batch_size,
       .levels = {.shift = config.shift, .dynamic = config.dynamic_shift},
       .checkpointing = config.checkpointing.parse(),
       .cuda_graph = config.cuda_graph && !config.checkpointing.offload_weights});
  TrainingRun run(config, parameters, objective, progress, cancel);
  const bool finished = run.run();
  if (finished && ranks.work.leads()) {
    write_result(config);
  }
  world->finish();
  return finished;
}

}  // namespace ospnext
