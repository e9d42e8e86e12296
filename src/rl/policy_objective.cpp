#include "rl/policy_objective.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "core/torch/random.h"
#include "rl/before_after.h"
#include "rl/policy_setup.h"

namespace ospnext {
namespace {

constexpr const char* kTotalMean = "reward/total_mean";  // of the weighted sum, in the log

// The beginning of the names of a reward's columns in the log, without signs that CSV would need to
// quote.
std::string columns_of(const WeightedReward& reward) {
  std::string name = "reward/" + reward.name;
  std::ranges::replace_if(
      name, [](char c) { return c == ',' || c == '"' || c == '\n' || c == '\r'; }, '_');
  return name;
}

at::Tensor scalar(double value) {
  return at::scalar_tensor(value, at::kDouble);
}

// The mean, over prompts, of the spread of the looks of a prompt's videos. looks [n, l], groups [n]
double diversity(const at::Tensor& looks, const at::Tensor& groups) {
  const auto [names, index, counts] = at::_unique2(groups, true, true, true);
  double sum = 0;
  for (int64_t g = 0; g < names.size(0); ++g) {
    const at::Tensor own = looks.index({index == g});  // [members, l]
    sum += own.std(0, /*unbiased=*/false).mean().item<double>();
  }
  return sum / static_cast<double>(names.size(0));
}

// Throws InputError unless whole cells of noise fill the latent.
void check_noise_cells(const RolloutConfig& config, const LatentSize& size) {
  const auto divides = [](const char* field, int64_t cell, const char* what, int64_t whole) {
    if (whole % cell != 0) {
      throw InputError(std::string(field) + ": found " + std::to_string(cell) +
                       ", expected a divisor of the " + std::to_string(whole) + " " + what +
                       " of the latent");
    }
  };
  divides("`noise_frames`", config.noise_frames, "frames", size.frames);
  divides("`noise_side`", config.noise_side, "rows", size.height);
  divides("`noise_side`", config.noise_side, "columns", size.width);
}

}  // namespace

int64_t PolicyObjective::updates_of_an_epoch(const RlConfig& config) {
  return config.update.inner_epochs * config.rollout.videos_of_an_epoch() /
         config.update.train_batch_size;
}

PolicyObjective::PolicyObjective(VideoModel& model, Policy& policy, const TrainingRanks& ranks,
                                 const SampleClips* samples, Options options,
                                 const CancellationToken& cancel)
    : model_(model),
      policy_(policy),
      ranks_(ranks),
      samples_(samples),
      options_(std::move(options)),
      cancel_(cancel),
      rule_(make_update_rule(options_.config, policy)),
      generation_(generation_of(options_.config)),
      sampling_{.prompts = static_cast<int64_t>(options_.prompts.size()),
                .parts = ranks.work.mesh.data,
                .part_batch = options_.config.rollout.sample_batch_size,
                .group_size = options_.config.rollout.group_size,
                .seed = options_.config.seed},
      window_(options_.config.rollout.window, options_.config.rollout.steps, options_.config.seed),
      guards_(options_.config.guards(), options_.config.guard_epochs),
      seconds_(model.compute().device) {
  sampling_.check();
  check_noise_cells(options_.config.rollout, latent_size(generation_, model.vae_config()));
  const UpdateConfig& update = options_.config.update;
  const int64_t videos = options_.config.rollout.videos_of_an_epoch();
  if (videos % (update.train_batch_size * update.accumulate) != 0) {
    throw InputError("`train_batch_size`: found " + std::to_string(update.train_batch_size) +
                     " with `accumulate` " + std::to_string(update.accumulate) +
                     ", expected that their product divides the " + std::to_string(videos) +
                     " videos of an epoch, `sample_batch_size` x `batches_per_epoch` x "
                     "`group_rollouts`");
  }
}

GenerationConfig PolicyObjective::generation_of(const RlConfig& config) {
  GenerationConfig generation;
  generation.negative_prompt = config.rollout.negative_prompt;
  generation.width = config.rollout.width;
  generation.height = config.rollout.height;
  generation.num_frames = config.rollout.num_frames;
  generation.steps = config.rollout.steps;
  generation.shift = config.rollout.shift;
  generation.guidance_scale = config.rollout.guidance_scale;
  return generation;
}

Pass PolicyObjective::add_gradients() {
  if (next_ == updates_.size()) {
    begin_epoch();
  }
  const Update& update = updates_[next_++];
  Pass pass{.losses = seconds_.timed("update", [&] { return add_gradients_of(update); }),
            .samples = options_.config.update.train_batch_size * sampling_.parts};
  for (const Scalars& numbers : {statistics_, seconds_.take()}) {
    for (const auto& [name, value] : numbers) {
      pass.losses.emplace_back(name, scalar(value).to(model_.compute().device));
    }
  }
  if (can_pause()) {
    epoch_.rollouts.clear();
    window_.advance();
    ++epochs_;
  }
  return pass;
}

Losses PolicyObjective::add_gradients_of(const Update& update) {
  const PolicyTexts texts = texts_of(update);
  const int64_t terms = rule_->terms(epoch_);
  Losses means;
  at::Tensor distance;
  for (int64_t j = 0; j < terms; ++j) {
    UpdateTerm term = rule_->term(epoch_, update, texts, j);
    (term.loss / terms).backward();
    distance = j == 0 ? term.distance : at::max(distance, term.distance);
    term.numbers.insert(term.numbers.begin(), {"loss", term.loss.detach()});
    for (size_t k = 0; k < term.numbers.size(); ++k) {
      const auto& [name, value] = term.numbers[k];
      if (j == 0) {
        means.emplace_back(name, value / terms);
      } else {
        means[k].second += value / terms;
      }
    }
  }
  if (update.first) {
    check_first_distance(distance.item<double>());
  }
  means.emplace_back(rule_->distance_name(), distance);
  return means;
}

// Rollouts, scores and advantages, from which the updates of the epoch are made.
void PolicyObjective::begin_epoch() {
  const RlConfig& config = options_.config;
  epoch_.noisy = window_.range();
  epoch_.plan = rollout_plan(config.rollout.steps, config.rollout.shift, epoch_.noisy,
                             config.sde_rule(), config.rollout.window.flash_ratio);
  std::vector<WeightedReward> rewards = options_.rewards;
  rewards.insert(rewards.end(), options_.watched.begin(), options_.watched.end());
  ScoringQueue queue(rewards, cancel_);
  make_rollouts(queue);
  const ScoredVideos own =
      seconds_.timed("reward", [&] { return leads_part() ? queue.take() : ScoredVideos(); });
  for (const std::string& error : own.errors) {
    warn("videos without a score: " + error);
  }
  const ScoredVideos scored = gather_scores(
      own, ranks_.work.video, sampling_.parts, options_.config.rollout.videos_of_an_epoch(),
      static_cast<int64_t>(rewards.size()), ranks_.all(), model_.compute().device);
  if (!(scored.valid > 0).any().item<bool>()) {
    throw NoPass("none of the videos of an epoch got a score" +
                 (own.errors.empty() ? "" : ": " + own.errors.front()));
  }
  const Advantages advantages = advantages_of(scored);
  statistics_ = statistics(scored, advantages);
  watch_guards();
  make_updates(advantages);
  const Scalars seconds = seconds_.take();
  statistics_.insert(statistics_.end(), seconds.begin(), seconds.end());
}

// Of all videos; those without a score have none, and are not kept.
Advantages PolicyObjective::advantages_of(const ScoredVideos& scored) const {
  const UpdateConfig& update = options_.config.update;
  const at::Tensor rows = (scored.valid > 0).nonzero().squeeze(1);  // [videos with a score]
  std::vector<double> weights;
  for (const WeightedReward& reward : options_.rewards) {
    weights.push_back(reward.weight);
  }
  const at::Tensor weight = at::tensor(weights, at::kDouble);
  const at::Tensor rewards = scored.scores.narrow(1, 0, weight.size(0)).index_select(0, rows);
  const at::Tensor members =
      update.per_prompt_advantages ? groups_.index_select(0, rows) : at::zeros_like(rows);
  const Advantages some =
      update.advantages == "mix"
          ? mix_advantages(rewards, weight, members)
          : osp_advantages(rewards, weight, members, update.loss.adv_clip, update.spread());
  Advantages all{.values = at::zeros({groups_.size(0)}, at::kDouble),
                 .kept = at::zeros({groups_.size(0)}, at::kBool)};
  all.values.index_copy_(0, rows, some.values);
  all.kept.index_copy_(0, rows, some.kept);
  return all;
}

void PolicyObjective::make_rollouts(ScoringQueue& queue) {
  const RolloutConfig& config = options_.config.rollout;
  Progress silent(nullptr, false);
  const JobControl job{silent, cancel_};
  epoch_.rollouts.clear();
  const int64_t count = config.rollouts_of_an_epoch();
  at::Tensor groups = at::empty({sampling_.parts, count, sampling_.part_batch}, at::kLong);
  for (int64_t k = 0; k < count; ++k) {
    const int64_t batch = k / config.group_rollouts, again = k % config.group_rollouts;
    const int64_t round = epochs_ * config.batches_per_epoch + batch;
    const auto draws = draw_prompts(sampling_, round);
    RolloutRequest request{.prompts = {}, .places = {}, .one_start = config.same_start};
    for (int64_t i = 0; i < std::ssize(draws); ++i) {
      PromptDraw draw = draws[static_cast<size_t>(i)];
      const int64_t part = i / sampling_.part_batch;
      groups[part][k][i % sampling_.part_batch] = batch * sampling_.prompts + draw.prompt;
      if (part == ranks_.work.video) {
        draw.sample += again * sampling_.group_size;
        request.prompts.push_back(options_.prompts[static_cast<size_t>(draw.prompt)]);
        request.places.push_back({.seed = options_.config.seed, .round = round, .draw = draw});
      }
    }
    epoch_.rollouts.push_back(seconds_.timed(
        "rollout", [&] { return roll_out(model_, generation_, epoch_.plan, request, job); }));
    score(queue, epoch_.rollouts.back().clean, request.prompts);
  }
  groups_ = groups.flatten();  // [n] of all parts, as gather_scores() has them
}

// Decodes the videos [B, C, F, h, w] and lets them be scored, a few at a time: the first are scored
// while the others are decoded.
void PolicyObjective::score(ScoringQueue& queue, const at::Tensor& clean,
                            const std::vector<std::string>& prompts) {
  constexpr int64_t kMostVideos = 64, kMostNumbers = 1 << 28;  // 1 GiB of pixels on the device
  const int64_t numbers = 3 * generation_.num_frames * generation_.height * generation_.width;
  const int64_t together = std::clamp<int64_t>(kMostNumbers / numbers, 1, kMostVideos);
  for (int64_t first = 0; first < clean.size(0); first += together) {
    const int64_t count = std::min(together, clean.size(0) - first);
    seconds_.timed("decode", [&] {
      if (leads_part()) {
        queue.push(decoded(clean.narrow(0, first, count)),
                   {prompts.begin() + first, prompts.begin() + first + count});
      }
    });
  }
}

// [B, C, F, h, w] -> [B, 3, T, H, W] float32 in [0, 1]
at::Tensor PolicyObjective::decoded(const at::Tensor& clean) {
  Progress silent(nullptr, false);
  std::vector<at::Tensor> pieces;
  model_.decode(
      clean, std::nullopt,
      [&](const at::Tensor& frames) {
        pieces.push_back((frames.to(at::kFloat) * 0.5 + 0.5).clamp(0, 1));
      },
      [] {}, {}, {silent, cancel_});
  return at::cat(pieces, 2);
}

// Divides the kept videos of this part into updates, of equal number in all parts: a part with
// fewer takes videos back whose advantage is 0.
void PolicyObjective::make_updates(const Advantages& advantages) {
  const UpdateConfig& config = options_.config.update;
  const int64_t own = options_.config.rollout.videos_of_an_epoch();
  const int64_t batch = config.train_batch_size, unit = batch * config.accumulate;
  const at::Tensor of_parts = advantages.kept.view({sampling_.parts, own});  // [parts, videos]
  const int64_t most = of_parts.sum(1).max().item<int64_t>();
  const int64_t count = std::max<int64_t>(1, (most + unit - 1) / unit) * unit;
  const at::Tensor kept = advantages.kept.narrow(0, ranks_.work.video * own, own);
  const at::Tensor values = advantages.values.narrow(0, ranks_.work.video * own, own);
  updates_.clear();
  next_ = 0;
  for (int64_t pass = 0; pass < config.inner_epochs; ++pass) {
    at::Generator shuffle =
        seeded_generator(derived_seed(options_.config.seed, "order of updates", ranks_.work.video),
                         "epoch", epochs_ * config.inner_epochs + pass);
    const at::Tensor order = at::randperm(own, shuffle, at::kLong);
    const at::Tensor is_kept = kept.index_select(0, order).to(at::kInt);
    const at::Tensor sorted = order.index_select(
        0, at::argsort(is_kept, /*stable=*/true, /*dim=*/0, /*descending=*/true));
    for (int64_t begin = 0; begin < count; begin += batch) {
      const at::Tensor rows = sorted.narrow(0, begin, batch);
      Update update{.videos = {},
                    .advantages = values.index_select(0, rows),
                    .old = {},
                    .first = pass == 0 && begin < unit,
                    .pass = pass};
      for (int64_t i = 0; i < batch; ++i) {
        const int64_t row = rows[i].item<int64_t>();
        update.videos.push_back({row / sampling_.part_batch, row % sampling_.part_batch});
      }
      update.old = rule_->old(epoch_, update, [&] { return texts_of(update); });
      updates_.push_back(std::move(update));
    }
  }
}

PolicyTexts PolicyObjective::texts_of(const Update& update) const {
  std::vector<std::string> prompts;
  for (const VideoPlace& place : update.videos) {
    prompts.push_back(epoch_.rollouts[static_cast<size_t>(place.rollout)]
                          .request.prompts[static_cast<size_t>(place.video)]);
  }
  return policy_texts(model_, prompts, options_.config.rollout);
}

void PolicyObjective::check_first_distance(double distance) {
  if (distance > 0 && !warned_of_distance_) {
    warned_of_distance_ = true;
    warn("the policy of the first update differs from that of the rollout, " +
         std::string(rule_->distance_name()) + " " + std::to_string(distance) +
         ": the update computes it otherwise than the rollout");
  }
}

// Tells the guards what this epoch's videos were like.
void PolicyObjective::watch_guards() {
  const std::map<std::string, double> numbers(statistics_.begin(), statistics_.end());
  std::map<std::string, double> by_name = {{kDiversity, numbers.at(kDiversity)}};
  for (const auto* list : {&options_.rewards, &options_.watched}) {
    for (const WeightedReward& reward : *list) {
      by_name[reward.name] = numbers.at(columns_of(reward) + "_mean");
    }
  }
  guards_.add(by_name, numbers.at(kTotalMean));
}

// Source of the names: OSP-Next train/train_osp_RL.py, what it sends to Weights & Biases.
Scalars PolicyObjective::statistics(const ScoredVideos& scored,
                                    const Advantages& advantages) const {
  const at::Tensor rows = (scored.valid > 0).nonzero().squeeze(1);  // [videos with a score]
  const at::Tensor values = advantages.values.index_select(0, rows);
  Scalars numbers;
  double total = 0;
  size_t k = 0;
  for (const auto* list : {&options_.rewards, &options_.watched}) {
    for (const WeightedReward& reward : *list) {
      const at::Tensor column =
          scored.scores.select(1, static_cast<int64_t>(k++)).index_select(0, rows);
      const std::string name = columns_of(reward);
      numbers.emplace_back(name + "_mean", column.mean().item<double>());
      numbers.emplace_back(name + "_std", column.std(/*unbiased=*/false).item<double>());
      numbers.emplace_back(name + "_q10", column.quantile(0.1).item<double>());
      numbers.emplace_back(name + "_q90", column.quantile(0.9).item<double>());
      total += list == &options_.rewards ? reward.weight * column.mean().item<double>() : 0;
    }
  }
  numbers.emplace_back(kTotalMean, total);
  const at::Tensor zero = (advantages.values == 0).to(at::kDouble);
  numbers.emplace_back("zero_std_ratio", zero.mean().item<double>());
  numbers.emplace_back("advantage/abs_mean", values.abs().mean().item<double>());
  numbers.emplace_back("advantage/max", values.max().item<double>());
  numbers.emplace_back(
      kDiversity, diversity(scored.looks.index_select(0, rows), groups_.index_select(0, rows)));
  numbers.emplace_back("without_score", (1 - scored.valid.mean()).item<double>());
  numbers.emplace_back("window_begin", static_cast<double>(epoch_.noisy.begin));
  return numbers;
}

nlohmann::json PolicyObjective::state() const {
  nlohmann::json window;
  SdeWindowState state = window_.state();
  state.visit([&](const char* name, int64_t value, const char*) { window[name] = value; });
  return {{"epochs", epochs_}, {"window", window}, {"guards", guards_.state()}};
}

void PolicyObjective::restore(const nlohmann::json& state, const std::string& origin) {
  epochs_ = count_of_state(state, "epochs", origin);
  const nlohmann::json window = state.contains("window") ? state.at("window") : nlohmann::json();
  SdeWindowState at;
  at.visit([&](const char* name, int64_t& value, const char*) {
    value = count_of_state(window, name, origin + ": window");
  });
  window_.load(at);
  guards_.restore(state.value("guards", nlohmann::json::object()), origin + ": guards");
}

int64_t PolicyObjective::sample_interval() const {
  return samples_ == nullptr ? 0 : samples_->interval();
}

void PolicyObjective::sample(int64_t step) {
  samples_->make(step);
  policy_.forget_ahead();
  if (step == 0 || !ranks_.work.leads()) {
    return;
  }
  std::vector<std::pair<std::filesystem::path, std::filesystem::path>> pairs;
  for (size_t i = 0; i < samples_->count(); ++i) {
    pairs.emplace_back(samples_->file(0, i), samples_->file(step, i));
  }
  const std::filesystem::path after = samples_->file(step, 0);
  write_before_after(pairs, after.parent_path() / ("before_after" + after.extension().string()),
                     samples_->generation().fps);
}

}  // namespace ospnext
