// A palette for pictures of few colours, and pictures drawn with it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

using Colour = std::array<uint8_t, 3>;  // red, green, blue

// Chooses the colours for all pictures it is shown. Memory does not grow with them.
class PaletteMaker {
 public:
  PaletteMaker();
  // pixels [..., 3] uint8 RGB, contiguous, on the CPU.
  void add(const at::Tensor& pixels);
  // At most `count` colours (at least one), those that leave small squared errors: the box of colours
  // with the largest error is cut in two at the best place until there are enough boxes; a colour is the
  // mean of its box. Source: X. Wu, Color Quantization by Dynamic Programming and Principal Analysis,
  // ACM Trans. Graphics 11(4), 1992: the criterion, here along the axes.
  std::vector<Colour> palette(size_t count) const;

 private:
  struct Bin {  // colours alike in their upper five bits
    double count = 0;
    std::array<double, 3> sum{};
    double square = 0;  // sum of squares of all three
  };
  struct Box;

  std::vector<Bin> bins_;
};

// Draws pictures with a palette: a colour in between becomes a pattern of the two colours that mix it
// best. The pattern stands still, so what does not move in a clip does not flicker.
class PaletteDrawing {
 public:
  // At least one and at most 256 colours.
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
  std::vector<Pair> pairs_;  // by the upper six bits of red, green, blue
};

}  // namespace ospnext
