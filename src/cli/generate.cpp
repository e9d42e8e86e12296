// ospnext generate: prompts to video files.
#include "cli/commands.h"
#include "core/error.h"

namespace ospnext {

void run_generate(const Arguments&, const CancellationToken&) {
  throw InputError("not built yet");
}

}  // namespace ospnext
