// Chooses a palette for pictures, and draws pictures with few colours.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

using Colour = std::array<uint8_t, 3>;  // red, green, blue

// Chooses colours for all pictures that are added. Memory does not grow with their number.
class PaletteMaker {
 public:
  PaletteMaker();
  // pixels [..., 3] uint8 RGB, contiguous, on the CPU.
  void add(const at::Tensor& pixels);
  // Chooses at most `count` colours (at least one) with small squared errors. It repeatedly cuts
  // the box of colours with the largest error in two, at the position with the smallest remaining
  // error, until there are enough boxes. A colour is the mean of its box. Source: X. Wu, Color
  // Quantization by Dynamic Programming and Principal Analysis, ACM Trans. Graphics 11(4), 1992:
  // the criterion, here applied along the colour axes.
  std::vector<Colour> palette(size_t count) const;

 private:
  struct Bin {  // colours with the same upper five bits per channel
    double count = 0;
    std::array<double, 3> sum{};
    double square = 0;  // sum of squares of all three channels
  };
  struct Box;

  std::vector<Bin> bins_;
};

// Draws pictures with a palette. A colour that is not in the palette becomes a pattern of the two
// colours that mix to it best. The pattern does not move between frames, so still parts of a clip
// do not flicker.
class PaletteDrawing {
 public:
  // The palette has 1 to 256 colours.
  explicit PaletteDrawing(std::vector<Colour> palette);
  // pixels [H, W, 3] uint8 RGB, contiguous, on the CPU -> indices [H, W] uint8.
  at::Tensor draw(const at::Tensor& pixels);

 private:
  struct Pair {
    uint8_t nearest = 0, other = 0;
    bool known = false;
  };
  const Pair& pair_for(const uint8_t* pixel);

  std::vector<Colour> palette_;
  std::vector<Pair> pairs_;  // by the upper six bits of red, green and blue
};

}  // namespace ospnext
