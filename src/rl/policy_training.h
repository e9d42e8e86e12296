// Reinforcement learning of a video model with Mix-GRPO: `ospnext rl`.
#pragma once

#include "core/cancel.h"
#include "core/progress.h"
#include "rl/rl_config.h"

namespace ospnext {

// Trains, then writes the averaged weights: the LoRA `output`/lora, a folder of PEFT, or without a
// LoRA the model `output`/model. Goes on from the newest checkpoint in `output`. Returns true when
// all epochs are done, false when max_seconds ended the run with a checkpoint. All processes of the
// run (ospnext launch) call it. Throws InputError, RunError and Cancelled.
bool train_policy(const RlConfig& config, Progress& progress, const CancellationToken& cancel);

}  // namespace ospnext
