// ospnext serve: a server that makes videos for others.
#include <iostream>

#include "cli/commands.h"
#include "server/key_ring.h"
#include "server/worker/serve.h"

namespace ospnext {

void run_serve(const Arguments& arguments, const CancellationToken& cancel) {
  ServeConfig config;
  if (!parse_flags("serve",
                   "Serve a model: a page for people, and an API for programs (POST /v1/videos). "
                   "Videos wait in a queue that outlives the server.",
                   arguments, config)) {
    return;
  }
  if (!config.new_key.empty()) {
    const NewKey key = new_key(config.new_key);
    std::cout << "key:  " << key.key << "\nline: " << key.line << std::endl;
    return;
  }
  serve(config, cancel);
}

}  // namespace ospnext
