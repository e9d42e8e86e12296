// The stages of the pipeline as commands that read and write files (docs/design.md, section 4).
#pragma once

#include "cli/commands.h"

namespace ospnext {

void run_stage_encode_text(const Arguments& arguments, const CancellationToken& cancel);
void run_stage_denoise(const Arguments& arguments, const CancellationToken& cancel);
void run_stage_gradients(const Arguments& arguments, const CancellationToken& cancel);
void run_stage_encode_video(const Arguments& arguments, const CancellationToken& cancel);
void run_stage_decode_latent(const Arguments& arguments, const CancellationToken& cancel);
void run_stage_schedule(const Arguments& arguments, const CancellationToken& cancel);
void run_stage_noise_levels(const Arguments& arguments, const CancellationToken& cancel);
void run_stage_optimizer(const Arguments& arguments, const CancellationToken& cancel);
void run_stage_sde_step(const Arguments& arguments, const CancellationToken& cancel);
void run_stage_advantages(const Arguments& arguments, const CancellationToken& cancel);
void run_stage_policy_loss(const Arguments& arguments, const CancellationToken& cancel);
void run_stage_rewards(const Arguments& arguments, const CancellationToken& cancel);
void run_stage_hif8(const Arguments& arguments, const CancellationToken& cancel);
void run_stage_captions(const Arguments& arguments, const CancellationToken& cancel);
void run_stage_skiparse(const Arguments& arguments, const CancellationToken& cancel);

const std::vector<Command>& stages();

}  // namespace ospnext
