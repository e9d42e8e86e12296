// `ospnext train-vae` and `ospnext train`: the shipped model's trainings.
#pragma once

#include "cli/flags_from_fields.h"
#include "core/cancel.h"

namespace ospnext {

// Flags: VaeTrainingConfig's fields.
void run_train_vae(const Arguments& arguments, const CancellationToken& cancel);
// Flags: FlowTrainingConfig's fields.
void run_train(const Arguments& arguments, const CancellationToken& cancel);

}  // namespace ospnext
