// ospnext generate: prompts to video files.
#include "cli/commands.h"
#include "core/error.h"

namespace ospnext {

int run_generate(const Arguments&) {
  throw InputError("not built yet");
}

}  // namespace ospnext
