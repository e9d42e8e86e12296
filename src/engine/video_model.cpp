#include "engine/video_model.h"

#include <algorithm>
#include <bit>

#include "core/error.h"
#include "engine/memory.h"

namespace ospnext {
namespace {

// Values of all tokens up to which the kernels of a step are recorded. Below it, launching them
// takes longer than running them. Above it, a recording would keep too much memory.
constexpr int64_t kMostRecorded = int64_t{1} << 24;
constexpr size_t kMostRecordings = 8;
// Rows of text that are kept between jobs: half a gigabyte of UMT5-XXL's.
constexpr int64_t kMostTextRows = 65536;

void check_parts_match(const TransformerConfig& transformer, const Umt5Config& text_encoder,
                       const VaeConfig& vae) {
  if (transformer.text_dim != text_encoder.d_model) {
    throw InputError("the transformer takes text of width " + std::to_string(transformer.text_dim) +
                     ", but the text encoder gives " + std::to_string(text_encoder.d_model) +
                     ": they do not belong together");
  }
  if (transformer.in_dim != vae.z_dim || transformer.out_dim != vae.z_dim) {
    throw InputError("the transformer's latent has " + std::to_string(transformer.in_dim) +
                     " channels, but the VAE's " + std::to_string(vae.z_dim) +
                     ": they do not belong together");
  }
}

// The tensors of a text input, block after block.
std::vector<at::Tensor> tensors_of(const TextVectors& text) {
  std::vector<at::Tensor> tensors;
  for (const TextKeys& keys : text) {
    tensors.insert(tensors.end(), {keys.key, keys.value});
    if (keys.log_weight.defined()) {
      tensors.push_back(keys.log_weight);
    }
  }
  return tensors;
}

TextVectors copy_of(const TextVectors& text) {
  TextVectors copies;
  for (const TextKeys& keys : text) {
    copies.push_back({keys.key.clone(), keys.value.clone(),
                      keys.log_weight.defined() ? keys.log_weight.clone() : at::Tensor()});
  }
  return copies;
}

void copy_into(const TextVectors& buffers, const TextVectors& text) {
  const auto to = tensors_of(buffers), from = tensors_of(text);
  for (size_t i = 0; i < to.size(); ++i) {
    to[i].copy_(from[i]);
  }
}

// What a recording with this guidance depends on, besides the shape of the latent: the shapes of
// the texts, how the passes are combined, and which adapters act.
std::vector<int64_t> key_of(const Guidance& guidance, double from) {
  std::vector<int64_t> key = {std::bit_cast<int64_t>(guidance.scale), std::bit_cast<int64_t>(from),
                              guidance.batched ? 1 : 0};
  for (const TextVectors* text : {&guidance.text, &guidance.negative_text}) {
    const bool there = !text->empty();
    const bool weighted = there && text->front().log_weight.defined();
    key.insert(key.end(), {there ? text->front().key.size(0) : 0,
                           there ? text->front().key.size(1) : 0, weighted ? 1 : 0});
  }
  return key;
}

}  // namespace

VideoModel::VideoModel(const ModelSource& source, const ComputeOptions& compute, WorkRanks ranks,
                       bool stays_open)
    : source_(source),
      compute_(compute),
      ranks_(std::move(ranks)),
      stays_open_(stays_open),
      transformer_config_(source.transformer_config()),
      vae_config_(source.vae_config()),
      texts_(transformer_config_.text_len),
      tables_(transformer_config_, compute.device, ranks_.sequence),
      stream_(compute.device) {
  check_parts_match(transformer_config_, source.text_encoder_config(), vae_config_);
}

void VideoModel::use_ranks(const WorkRanks& ranks) {
  if (ranks.mesh != ranks_.mesh) {
    ranks_ = ranks;
    tables_ = TokenTablesByGrid(transformer_config_, compute_.device, ranks_.sequence);
  }
}

void VideoModel::load_transformer() {
  if (has_transformer()) {
    return;
  }
  transformer_ = source_.transformer(compute_, {ranks_.weights, [this] { ranks_.world->meet(); }});
  if (const auto adapters = std::exchange(adapters_, std::nullopt)) {
    set_adapters(*adapters);
  }
}

void VideoModel::load_text_encoder() {
  if (!has_text_encoder()) {
    texts_.load_encoder(source_, compute_);
  }
}

void VideoModel::load_vae(at::ScalarType dtype) {
  if (!has_vae() || vae_dtype_ != dtype) {
    vae_ = nullptr;
    vae_ = source_.vae({compute_.device, dtype});
    vae_dtype_ = dtype;
  }
}

void VideoModel::free_transformer() {
  recordings_.clear();
  transformer_ = nullptr;
}

void VideoModel::free_text_encoder() {
  texts_.free_encoder();
}

std::shared_ptr<const Adapter> VideoModel::read_adapter(const std::filesystem::path& file) const {
  const auto options =
      at::TensorOptions().dtype(compute_.dtype).pinned_memory(compute_.device.is_cuda());
  return std::make_shared<const Adapter>(load_adapter(file, transformer_config_, options));
}

void VideoModel::set_adapters(const std::vector<AdapterUse>& adapters) {
  if (adapters == adapters_) {
    return;
  }
  recordings_.clear();
  adapters_.reset();  // as long as it may fail: then it is not known which are applied
  if (has_transformer()) {
    std::vector<Adapter> on_device;
    on_device.reserve(adapters.size());
    AdapterChoices choices;
    for (const auto& [adapter, strength] : adapters) {
      on_device.push_back(adapter->on(compute_.device));
      choices.emplace_back(&on_device.back(), strength);
    }
    ospnext::set_adapters(transformer_, choices);
  }
  adapters_ = adapters;
}

void VideoModel::embed(const std::vector<std::string>& texts, const JobControl& job,
                       const CutWatcher& on_cut) {
  if (ranks_.leads()) {
    const Span span(job.spans, SpanKind::kBlock, "text encoder");
    for (const std::string& text : texts) {
      if (job.cancel.cancelled()) {
        break;
      }
      if (!texts_.has(text)) {
        const int64_t tokens = texts_.embed(text);
        if (on_cut && is_cut(tokens, transformer_config_.text_len)) {
          on_cut(text, tokens, transformer_config_.text_len);
        }
      }
      job.progress.step();
    }
  }
  ranks_.world->meet();
  try {
    agree_to_go_on(job);
  } catch (const Cancelled&) {
    for (const std::string& text : texts) {
      texts_.forget(text);  // the leader may have embedded it, the others have not got it
    }
    throw;
  }
  for (const std::string& text : texts) {
    const std::vector<at::Tensor> rows =
        ranks_.leads() ? std::vector{texts_.rows(text)} : std::vector<at::Tensor>();
    texts_.keep(text, share(rows, ranks_.world->all(), compute_.device).front());
  }
}

void VideoModel::forget_texts_if_many() {
  if (texts_.num_rows() > kMostTextRows) {
    texts_.forget_all();
  }
}

at::Tensor VideoModel::sample(const std::vector<std::string>& prompts, const at::Tensor& noise,
                              const GenerationConfig& config, const JobControl& job,
                              const EstimateWatcher& watch) {
  return sample(prompts, noise, config, *config.sampler(), job, watch);
}

at::Tensor VideoModel::sample(const std::vector<std::string>& prompts, const at::Tensor& noise,
                              const GenerationConfig& config, Sampler& sampler,
                              const JobControl& job, const EstimateWatcher& watch) {
  const torch::NoGradGuard no_grad;
  Execution run = transformer_->inference(job.spans);
  const at::Tensor latent = noise.to(compute_.device, torch::kFloat32);
  const bool recorded = records(config, latent, job);
  std::optional<SideStream::Scope> on_stream;
  if (recorded) {
    on_stream.emplace(stream_);
  }
  GuidingTexts texts{
      .prompts = {}, .scale = config.guidance_scale, .batched = config.batch_guidance};
  for (const std::string& prompt : prompts) {
    texts.prompts.push_back(texts_.rows(prompt));
  }
  if (config.guidance_scale > 1) {
    texts.negative = texts_.rows(config.negative_prompt);
  }
  Span keys(job.spans, SpanKind::kBlock, "text keys");
  const Guidance guidance = guide(transformer_, texts, run, ranks_.passes);
  keys.end();
  const bool alone = ranks_.world->all().alone();
  const CancelCheck between_passes = [&] {
    if (alone) {
      job.cancel.check();
    }
  };
  const TokenTables& tables = tables_.of(token_grid(latent));
  const std::set<float> switches = recorded ? switching_levels(transformer_) : std::set<float>();
  std::optional<float> recorded_from;
  Recording* recording = nullptr;
  const VelocityFunction velocity = [&](const at::Tensor& x, const at::Tensor& timestep,
                                        double noise_level) {
    if (recorded) {
      const float from = *std::prev(switches.upper_bound(static_cast<float>(noise_level)));
      if (from != recorded_from) {
        recording = &recording_of(guidance, from);
        recorded_from = from;
      }
      return (*recording->predict)({x, timestep}).clone();
    }
    run.numerics.noise_level = noise_level;
    return predict_velocity(transformer_, x, timestep, guidance, tables, run, between_passes);
  };
  return denoise(
      velocity, sampler, latent, job.progress, [&] { agree_to_go_on(job); }, watch, job.spans);
}

void VideoModel::stand_by(int64_t steps, const JobControl& job) {
  for (int64_t i = 0; i < steps; ++i) {
    agree_to_go_on(job);
  }
}

bool VideoModel::records(const GenerationConfig& config, const at::Tensor& noise,
                         const JobControl& job) const {
  const int64_t values = noise.size(0) * token_grid(noise).tokens() * transformer_config_.dim;
  return config.cuda_graph && job.spans == nullptr && compute_.device.is_cuda() &&
         !compute_.offload && ranks_.world->all().alone() && values <= kMostRecorded;
}

VideoModel::Recording& VideoModel::recording_of(const Guidance& guidance, double from) {
  const std::vector<int64_t> key = key_of(guidance, from);
  const auto found = recordings_.find(key);
  if (found != recordings_.end()) {
    copy_into(found->second.guidance.text, guidance.text);
    copy_into(found->second.guidance.negative_text, guidance.negative_text);
    return found->second;
  }
  if (recordings_.size() == kMostRecordings) {
    recordings_.clear();
  }
  Recording& made = recordings_[key];
  made.guidance = guidance;
  made.guidance.text = copy_of(guidance.text);
  made.guidance.negative_text = copy_of(guidance.negative_text);
  Execution run = transformer_->inference();
  run.numerics.noise_level = from;
  const auto predict = [this, &made, run](const std::vector<at::Tensor>& inputs) {
    return predict_velocity(transformer_, inputs[0], inputs[1], made.guidance,
                            tables_.of(token_grid(inputs[0])), run,
                            /*check=*/[] {});  // a recording must not be broken off
  };
  made.predict = std::make_unique<RecordedFunction>(predict, /*record=*/true);
  return made;
}

void VideoModel::decode(const at::Tensor& latent, const std::optional<VaeTiling>& tiling,
                        const std::function<void(const at::Tensor&)>& sink,
                        const std::function<void()>& on_piece, const ProcessGroup& ranks,
                        const JobControl& job) {
  const torch::NoGradGuard no_grad;
  const Span span(job.spans, SpanKind::kBlock, "VAE decode");
  // A rank that stops alone would leave the others waiting for its rows.
  const CancellationToken never;
  const CancellationToken& cancel = ranks_.world->all().alone() ? job.cancel : never;
  if (tiling) {
    decode_tiled(vae_, latent, *tiling, sink, on_piece, &cancel, kTiledSpan, ranks);
    return;
  }
  const auto whole = [&](const at::Tensor& frames) {
    sink(frames);
    on_piece();
  };
  vae_->decode(latent, whole, &cancel, vae::Strips(ranks, latent.size(3)));
}

void VideoModel::agree_to_go_on(const JobControl& job) const {
  const ProcessGroup& all = ranks_.world->all();
  if (all.alone()) {
    job.cancel.check();
    return;
  }
  const auto number = at::TensorOptions().dtype(at::kLong).device(compute_.device);
  const at::Tensor told = at::full({1}, job.cancel.cancelled() ? 1 : 0, number);
  if (all.all_max(told, "cancel").item<int64_t>() > 0) {
    throw Cancelled();
  }
}

void VideoModel::recover() {
  recordings_.clear();
  texts_.forget_all();
  if (compute_.device.is_cuda()) {
    torch::cuda::synchronize(compute_.device.index());
  }
  if (has_transformer()) {
    transformer_->sharded_weights().forget_ahead();
  }
  const auto number = at::TensorOptions().dtype(at::kLong).device(compute_.device);
  const at::Tensor lacks = at::full({1}, has_transformer() ? 0 : 1, number);
  if (ranks_.world->all().all_max(lacks, "recover").item<int64_t>() > 0) {
    free_transformer();  // where it is there, so that all load it together
  }
  release_cached_memory(compute_.device);
}

}  // namespace ospnext
