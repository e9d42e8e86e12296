// A model that stays open: it embeds texts, denoises and decodes, job after job.
// Letters: B latents denoised together, F x h x w their size.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/cancel.h"
#include "core/progress.h"
#include "core/torch/cuda_graph.h"
#include "core/torch/torch.h"
#include "engine/denoise.h"
#include "engine/generation_config.h"
#include "engine/text_embeddings.h"
#include "engine/work_ranks.h"
#include "models/vae_tiling.h"
#include "packages/load_adapter.h"
#include "packages/model_source.h"

namespace ospnext {

// What one job reports to, and what ends it.
struct JobControl {
  Progress& progress;
  const CancellationToken& cancel;  // of this job; the model stays usable after it
  Spans* spans = nullptr;           // records what lies inside the stages; no graphs are used then
};

// An adapter in host memory, and its strength.
using AdapterUse = std::pair<std::shared_ptr<const Adapter>, double>;

// Called for a text that is cut: it has `tokens` tokens, of which the model reads the first `read`.
using CutWatcher = std::function<void(const std::string& text, int64_t tokens, int64_t read)>;

// Parts are loaded when they are needed and stay until they are freed. Texts stay embedded, and
// recorded CUDA graphs stay, for later jobs. For one thread. Several processes call the same
// methods in the same order with the same arguments, except those said to be the leader's.
//
// Cancelled: before each step all ranks agree whether one of them was told to end the job. If so,
// the method throws Cancelled on all ranks, and the model and the processes are ready for the next
// job. After another exception, on all ranks, recover() makes them so.
class VideoModel {
 public:
  // `stays_open`: whether further jobs may come; if not, make_videos() frees parts early. Reads no
  // weights. `source` outlives the model. Throws InputError if the parts do not belong together.
  VideoModel(const ModelSource& source, const ComputeOptions& compute, WorkRanks ranks = {},
             bool stays_open = true);

  const ModelSource& source() const { return source_; }
  const ComputeOptions& compute() const { return compute_; }
  const WorkRanks& ranks() const { return ranks_; }
  // From now on, the processes divide their work in this way. `ranks` is of the same world and has
  // the same weights. Call it between jobs.
  void use_ranks(const WorkRanks& ranks);
  const TransformerConfig& transformer_config() const { return transformer_config_; }
  const VaeConfig& vae_config() const { return vae_config_; }
  bool stays_open() const { return stays_open_; }

  // Load a part unless it is there. Throw as the source does. All ranks load the transformer; the
  // leader the text encoder; those that decode the VAE.
  void load_transformer();
  void load_text_encoder();
  void load_vae(at::ScalarType dtype);
  void free_transformer();
  void free_text_encoder();
  bool has_transformer() const { return !transformer_.is_empty(); }
  bool has_text_encoder() const { return texts_.has_encoder(); }
  bool has_vae() const { return !vae_.is_empty(); }
  Vae& vae() { return vae_; }

  // Reads a LoRA into host memory, pinned beside a GPU. Throws as load_adapter() does.
  std::shared_ptr<const Adapter> read_adapter(const std::filesystem::path& file) const;
  // From now on, jobs use these adapters and no others, LoRAs that came with the model and were not
  // merged into it included. They are copied to the device now, or when the transformer is loaded.
  void set_adapters(const std::vector<AdapterUse>& adapters);

  // Embeds those of the texts that are not embedded yet, by the leader for all, and frees rows of
  // earlier jobs when they are many. The text encoder must be loaded on the leader if is_missing()
  // of any. One step of progress for each of the texts.
  void embed(const std::vector<std::string>& texts, const JobControl& job,
             const CutWatcher& on_cut = {});
  bool is_embedded(const std::string& text) const { return texts_.has(text); }
  // Rows [n, D] of an embedded text, in the encoder's dtype, on the CPU.
  const at::Tensor& text_rows(const std::string& text) const { return texts_.rows(text); }
  // Pads the rows of all embedded texts with zeros to those of the longest, which changes no video
  // but for rounding: then batches of any of them have one shape, and are rounded alike.
  void pad_texts_alike() { texts_.pad_alike(); }
  // Frees the rows of texts if there are very many. Call it between jobs.
  void forget_texts_if_many();

  // Denoises a latent for each of the B prompts, which are embedded, as is the negative prompt.
  // noise [B, 16, F, h, w] float32 -> [B, 16, F, h, w] float32 on the device. Ranks that work on
  // other videos at the same time pass their own prompts and noise. One step of progress for each
  // step. Throws Cancelled.
  at::Tensor sample(const std::vector<std::string>& prompts, const at::Tensor& noise,
                    const GenerationConfig& config, const JobControl& job,
                    const EstimateWatcher& watch = {});
  // The same with a sampler of the caller's, which has made no step yet. The steps, the shift and
  // the scheduler of `config` are not used.
  at::Tensor sample(const std::vector<std::string>& prompts, const at::Tensor& noise,
                    const GenerationConfig& config, Sampler& sampler, const JobControl& job,
                    const EstimateWatcher& watch = {});
  // For a rank that has no video while others denoise one: takes part in their agreements.
  void stand_by(int64_t steps, const JobControl& job);

  // Decodes latent [B, 16, F, h, w], whole or in tiles, divided among `ranks`. sink() gets the next
  // frames [B, 3, n, H, W] on the first of the ranks, and on_piece() is called there after each
  // latent frame (of each tile). The VAE must be loaded. Throws Cancelled, with several ranks only
  // when the whole process is told to end.
  void decode(const at::Tensor& latent, const std::optional<VaeTiling>& tiling,
              const std::function<void(const at::Tensor&)>& sink,
              const std::function<void()>& on_piece, const ProcessGroup& ranks,
              const JobControl& job);

  // Throws Cancelled on all ranks if any of them was told to end the job. All ranks call it.
  void agree_to_go_on(const JobControl& job) const;

  // After a job that failed on all ranks, by meet_failed() of their world: forgets what it left
  // half done, which may differ from rank to rank, and gives unused memory of a GPU back. Throws
  // what the GPU reports if it can do no more work.
  void recover();

 private:
  // A step's velocity with buffers for the texts, whose addresses a CUDA graph keeps.
  struct Recording {
    Guidance guidance;
    std::unique_ptr<RecordedFunction> predict;
  };
  bool records(const GenerationConfig& config, const at::Tensor& noise,
               const JobControl& job) const;
  // For adapters that act alike from noise level `from` on (switching_levels()).
  Recording& recording_of(const Guidance& guidance, double from);

  const ModelSource& source_;
  ComputeOptions compute_;
  WorkRanks ranks_;
  bool stays_open_;
  TransformerConfig transformer_config_;
  VaeConfig vae_config_;
  TextEmbeddings texts_;
  Transformer transformer_{nullptr};
  Vae vae_{nullptr};
  at::ScalarType vae_dtype_ = at::kFloat;
  TokenTablesByGrid tables_;
  std::optional<std::vector<AdapterUse>> adapters_;  // nothing: those that came with the model
  SideStream stream_;
  std::map<std::vector<int64_t>, Recording> recordings_;  // by what a recording depends on
};

}  // namespace ospnext
