// ospnext encode: encodes a folder of videos with captions for training.
#include <unistd.h>

#include <iostream>

#include "cli/commands.h"
#include "train/encode_clips.h"

namespace ospnext {

void run_encode(const Arguments& arguments, const CancellationToken& cancel) {
  ClipEncodingConfig config;
  if (!parse_flags("encode",
                   "Encode videos and their captions once for training: latents of the VAE and "
                   "rows of the text encoder, in files that a later run adds to.",
                   arguments, config)) {
    return;
  }
  Progress progress(&std::cerr, isatty(STDERR_FILENO) != 0);
  const EncodedCounts counts = encode_clips(config, progress, cancel);
  std::cout << config.output << ": " << counts.clips << " clips; " << counts.skipped << " of "
            << counts.videos << " videos skipped\n";
}

}  // namespace ospnext
