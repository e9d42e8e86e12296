// What clients and requests need to know of the model that is served.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace ospnext {

struct ModelCard {
  std::string id;          // the name in requests
  int64_t created = 0;     // seconds since 1970
  int64_t side_step = 16;  // width and height are multiples of it
  int64_t frame_step = 4;  // a number of frames is one more than a multiple of it
  // the model's own values
  int64_t width = 832;
  int64_t height = 480;
  int64_t num_frames = 81;
  double fps = 16;
  int64_t num_inference_steps = 50;
  double guidance_scale = 5;
  double flow_shift = 7;
  std::string negative_prompt;
  std::map<std::string, std::string> loras;  // name -> file
};

}  // namespace ospnext
