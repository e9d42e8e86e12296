// OSP-Next's adaptive clipping: the largest norm that gradients may have follows their norms.
#pragma once

namespace ospnext {

// What the clipping has learnt. A checkpoint that keeps these numbers continues exactly.
struct AdaptiveClipState {
  double largest_norm = 0;  // that the last step allowed
  double mean = 0;          // moving average of the norms that were not clipped
  double variance = 0;      // moving average of their squared distances from the mean

  // Whether a norm above 0 has begun the averages.
  bool begun() const { return mean > 0; }

  template <class Visitor>
  void visit(Visitor&& field) {
    field("largest_norm", largest_norm, "largest norm that the last step allowed");
    field("mean", mean, "moving average of the norms that were not clipped");
    field("variance", variance, "moving average of their squared distances from the mean");
  }
};

// In each step, with gradients of the joint L2 norm g:
//
//   until the first norm above 0:  mean = min(initial_norm, 3·g),  variance = 0
//   largest_norm = mean + 3·sqrt(variance), and initial_norm as long as all norms are 0
//   coefficient = min(1, largest_norm / (g + 1e-6))
//   if g <= largest_norm:  mean = decay·mean + (1 - decay)·g
//                          variance = decay·variance + (1 - decay)·(mean - g)², of the new mean
//
// OSP-Next also begins with a norm of 0. Its mean is then 0 for good, and it clips everything to 0.
// Source: OSP-Next ospnext/utils/clip_grads.py:AdaptiveGradClipper. Its first step also clips to a
// norm of 1000 before, which changes nothing while initial_norm is at most 1000. The coefficient is
// that of torch.nn.utils.clip_grad_norm_.
class AdaptiveClip {
 public:
  // initial_norm: over 0, up to 1000; decay: from 0, below 1.
  explicit AdaptiveClip(double initial_norm = 1.0, double decay = 0.99);

  // Returns the factor for all gradients of a step, from 0 to 1, and takes their norm into the
  // averages. Throws RunError, and changes nothing, if `norm` is not finite.
  double coefficient(double norm);

  const AdaptiveClipState& state() const { return state_; }
  // Continues from a state that was read from a file. Throws InputError for a number that is
  // negative or not finite.
  void restore(AdaptiveClipState state);

 private:
  double initial_norm_, decay_;
  AdaptiveClipState state_;
};

}  // namespace ospnext
