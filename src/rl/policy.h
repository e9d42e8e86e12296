// The model that is trained, as a policy: guided velocities with gradients, of the arithmetic of
// the rollouts.
#pragma once

#include <optional>

#include "models/transformer.h"
#include "packages/load_adapter.h"
#include "train/training_blocks.h"
#include "train/training_ranks.h"

namespace ospnext {

// The texts of B videos. All texts of a training are padded to one number of rows, so that batches
// of any of them are computed alike.
struct PolicyTexts {
  at::Tensor prompts;           // [B, n, D]
  at::Tensor negatives;         // [B, n, D], or undefined: no guidance
  double scale = 1;             // of the guidance
  bool both_gradients = false;  // whether the pass with the negatives has gradients, too
};

// A step's noise level from 0 to 1, and the timestep [1] float32 that the transformer takes for it.
struct NoiseTime {
  double noise_level;
  at::Tensor timestep;
};

// What the policy is compared with. It gets no gradients.
struct PolicyReference {
  // Either the transformer that is trained, without this adapter ...
  const Adapter* without = nullptr;
  // ... or a frozen copy of it.
  Transformer frozen{nullptr};
};

class Policy {
 public:
  // The transformer, the adapter and `ranks` must outlive the object, and the object all gradients
  // of its velocities.
  Policy(Transformer& transformer, PolicyReference reference, const TrainingRanks& ranks,
         const Checkpointing& checkpointing);

  // The guided velocity [B, C, F, h, w] float32 of latent [B, C, F, h, w] float32 at a time. It has
  // the gradients of the pass with the prompts, and if the texts ask for both, of the pass with the
  // negative prompt. On the same shapes it equals that of the rollouts bit for bit.
  at::Tensor velocity(const at::Tensor& latent, const NoiseTime& time, const PolicyTexts& texts);
  // The same without gradients.
  at::Tensor fixed_velocity(const at::Tensor& latent, const NoiseTime& time,
                            const PolicyTexts& texts);
  // The same of the reference, without gradients.
  at::Tensor reference_velocity(const at::Tensor& latent, const NoiseTime& time,
                                const PolicyTexts& texts);
  // The weights are going to change: forgets blocks that a pass without gradients got ahead.
  void forget_ahead() { transformer_->sharded_weights().forget_ahead(); }

 private:
  at::Tensor guided(Transformer& transformer, const at::Tensor& latent, const NoiseTime& time,
                    const PolicyTexts& texts, Execution run);

  Transformer& transformer_;
  PolicyReference reference_;
  TokenTablesByGrid tables_;
  TrainingBlocks blocks_;
};

}  // namespace ospnext
