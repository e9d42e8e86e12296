// ospnext stage skiparse: converts tokens from one layout to another.
#include "cli/stage.h"
#include "cli/stage_files.h"
#include "core/error.h"
#include "core/number_check.h"
#include "io/weights.h"
#include "models/layout.h"

namespace ospnext {
namespace {

struct SkiparseStage {
  std::string input;
  std::string from = "full";
  std::string to = "token";
  std::vector<int64_t> grid;
  int64_t ratio = 2;
  StageOutput common;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("input", input, "safetensors with x [B, L, C] in the first layout");
    field("from", from, "first layout: full, token or group");
    field("to", to, "second layout: full, token or group");
    field("grid", grid, "T,H,W: latent frames and rows and columns of patches; L = T*H*W");
    field("ratio", ratio, "P: there are P*P segments");
    common.visit(field);
  }
};

Grid parse_grid(const std::vector<int64_t>& sides) {
  if (sides.size() != 3) {
    throw InputError("--grid: found " + std::to_string(sides.size()) +
                     " numbers, expected T,H,W such as 3,16,16");
  }
  for (const int64_t side : sides) {
    check_range<int64_t>("--grid", side, 1, 65536);
  }
  return {sides[0], sides[1], sides[2]};
}

}  // namespace

void run_stage_skiparse(const Arguments& arguments, const CancellationToken&) {
  SkiparseStage config;
  if (!parse_flags(
          "stage skiparse",
          "Reorder tokens x [B, L, C] from one layout into another; also writes the second "
          "layout's segments [S+1] (offsets) and order [L] (row-major index of each token).",
          arguments, config)) {
    return;
  }
  config.common.check();
  const at::Device device = config.common.compute().device;
  const Grid grid = parse_grid(config.grid);
  check_range<int64_t>("--ratio", config.ratio, 1, 256);
  const Pattern from_pattern = pattern_from_name(config.from, "--from");
  const Pattern to_pattern = pattern_from_name(config.to, "--to");
  StageInput input(config.input);
  const at::Tensor x = input.any("x", "B,L,C");
  input.warn_of_rest();
  if (x.size(1) != grid.tokens()) {
    throw InputError(config.input + ": x: found L = " + std::to_string(x.size(1)) +
                     " tokens, but --grid has T*H*W = " + std::to_string(grid.tokens()));
  }
  const Layout from(grid, from_pattern, config.ratio, device);
  const Layout to(grid, to_pattern, config.ratio, device);
  save_safetensors(config.common.output, {{"x", switch_layout(x.to(device), from, to)},
                                          {"segments", torch::tensor(to.offsets(), torch::kInt64)},
                                          {"order", to.order()}});
}

}  // namespace ospnext
