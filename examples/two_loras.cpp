// Makes a video with each of several LoRAs, from one open model: two_loras MODEL PROMPT LORA...
#include <cstdlib>
#include <iostream>

#include "engine/single_video.h"
#include "engine/text_to_video.h"

int main(int argc, char** argv) try {
  using namespace ospnext;
  const ModelFiles files = find_model_files({.model = argc > 3 ? argv[1] : ""});
  const ModelFileSource source(files);
  VideoModel model(source, parse_compute("auto", "auto"));
  GenerationConfig config = defaults_for(files, model.transformer_config());
  config.num_frames = 9;
  Progress progress(&std::cerr, /*in_place=*/false);
  const CancellationToken never;
  for (int i = 3; i < argc; ++i) {
    model.set_adapters({{model.read_adapter(argv[i]), 1.0}});
    SingleVideo video("video-" + std::to_string(i - 2) + ".y4m", config);
    make_videos(model, config, {{.prompt = argv[2], .seed = 7}}, video, {progress, never});
  }
  return EXIT_SUCCESS;
} catch (const std::exception& error) {
  std::cerr << "two_loras: " << error.what() << std::endl;
  return EXIT_FAILURE;
}
