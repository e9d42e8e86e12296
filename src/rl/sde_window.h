// Which steps of a rollout add noise, and how this window moves from one iteration to the next.
#pragma once

#include <cstdint>
#include <string>

namespace ospnext {

// The defaults are OSP-Next's form with all steps, and else those of MixGRPO.
struct SdeWindowConfig {
  std::string algorithm = "osp";       // or "mix" or "nft"
  int64_t sde_steps = 20;              // osp: the first ones; mix: those of the window
  std::string window = "progressive";  // of mix; or "random" or "decaying"
  int64_t window_stride = 1;           // steps by which it moves; 0: it stays
  int64_t window_iterations = 25;      // after which it moves
  bool roll_back = true;               // whether it begins again after the last step
  double flash_ratio = 0;              // of mix: share of the steps after the window; 0: all, Euler

  // Throws InputError naming field, value and rule, for rollouts of `steps` steps.
  void check(int64_t steps) const;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("algorithm", algorithm,
          "osp: the first steps add noise; mix: those of a window that moves (MixGRPO); nft: none, "
          "the policy learns on noised videos (DiffusionNFT)");
    field("sde_steps", sde_steps, "steps that add noise");
    field("window", window,
          "how the window of mix moves: progressive; random; decaying: sooner at lower noise");
    field("window_stride", window_stride, "steps by which the window moves; 0: it stays");
    field("window_iterations", window_iterations, "iterations after which the window moves");
    field("roll_back", roll_back, "let the window begin again after the last step");
    field("flash_ratio", flash_ratio,
          "with mix: so large a share of the steps after the window, taken by DPM++ "
          "(MixGRPO-Flash); 0: all of them, by Euler");
  }
};

struct StepRange {
  int64_t begin = 0, end = 0;  // of steps; the end is not in it
  bool contains(int64_t step) const { return begin <= step && step < end; }
  bool operator==(const StepRange&) const = default;
};

// What must be saved to go on.
struct SdeWindowState {
  int64_t begin = 0;       // the window's first step
  int64_t stayed = 0;      // iterations since it moved
  int64_t iterations = 0;  // in all

  template <class Visitor>
  void visit(Visitor&& field) {
    field("begin", begin, "first step of the window");
    field("stayed", stayed, "iterations since the window moved");
    field("iterations", iterations, "iterations in all");
  }
};

// The window of steps that add noise.
//   nft          none
//   osp          always the first sde_steps
//   progressive  moves on by the stride after each window_iterations iterations
//   decaying     the same, but after int(I·(1 - p) + max(1, I/4)·p) iterations, where I is
//                window_iterations and p = begin / (steps - 2)
//   random       begins anywhere, drawn again in each iteration
// The window of mix ends before step steps - 2. At the end it has fewer steps; once none is left,
// it begins again at 0 or stays at the last step.
// Source: MixGRPO fastvideo/utils/grpo_states.py:GRPOTrainingStates. The first random window is
// drawn, too; there it begins at 0.
class SdeWindow {
 public:
  // `seed` decides random windows. Throws InputError as config.check() does.
  SdeWindow(SdeWindowConfig config, int64_t steps, uint64_t seed);

  StepRange range() const;
  // Call it after each iteration, of a rollout and its updates.
  void advance();

  const SdeWindowState& state() const { return state_; }
  // Goes on from a state that was saved. Throws InputError for one that is impossible here.
  void load(const SdeWindowState& state);

 private:
  int64_t limit() const { return steps_ - 2; }  // the window's steps are below it
  int64_t iterations_here() const;
  int64_t random_begin() const;

  SdeWindowConfig config_;
  int64_t steps_;
  uint64_t seed_;
  SdeWindowState state_;
};

}  // namespace ospnext
