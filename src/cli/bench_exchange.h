// How fast processes exchange tokens here.
#pragma once

#include "cli/flags_from_fields.h"
#include "core/cancel.h"

namespace ospnext {

// `ospnext bench exchange`, for several processes.
void run_bench_exchange(const Arguments& arguments, const CancellationToken& cancel);

}  // namespace ospnext
