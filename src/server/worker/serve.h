// The whole server: workers, the store, the API and its socket.
#pragma once

#include "core/cancel.h"
#include "server/worker/serve_config.h"

namespace ospnext {

// Serves until `cancel` is set, and then drains: no video is accepted any more, those that are
// being made are finished within `drain_seconds` or go back into the queue, and requests are
// answered meanwhile. Prints "listening on URL" on standard output once the model is loaded, and
// what happens on standard error. Throws InputError for a configuration that cannot be served, and
// what ends a worker.
void serve(const ServeConfig& config, const CancellationToken& cancel);

}  // namespace ospnext
