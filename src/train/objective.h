// What a training minimises: it computes passes with gradients, measures held-out data, and shows
// what the model makes. TrainingRun does the rest.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/torch/torch.h"

namespace ospnext {

// Named scalars on the device. The first is the loss that is minimised.
using Losses = std::vector<std::pair<std::string, at::Tensor>>;
// Named numbers for the log.
using Scalars = std::vector<std::pair<std::string, double>>;

// One pass of all processes.
struct Pass {
  Losses losses;        // of this process
  int64_t samples = 0;  // clips, of all processes
  double flops = 0;     // model FLOPs of all processes, forward and backward; 0: not known
};

// The pass that was asked for cannot be made, and nothing of it was computed. All processes throw
// it at the same pass. The training ends with a checkpoint of the steps so far.
class NoPass : public RunError {
 public:
  using RunError::RunError;
};

// All processes of a training have one, and call the same methods in the same order.
class Objective {
 public:
  virtual ~Objective() = default;

  // Computes the next pass and adds the gradients of its loss to those of the parameters. A pass
  // depends only on the parameters and the state; then a resumed training equals an uninterrupted
  // one. Throws NoPass.
  virtual Pass add_gradients() = 0;

  // Whether a checkpoint may be written now: state() says all. If not, it is written after a later
  // step, and a training that is to end goes on until then.
  virtual bool can_pause() const { return true; }
  // Whether the training is over before its last step.
  virtual bool is_finished() const { return false; }
  // How good the weights are. The checkpoint with the highest number stays beside the last ones.
  // Nothing: this is not known, or they are not to be recommended.
  virtual std::optional<double> quality() const { return std::nullopt; }

  // What makes the next pass another than the first: where its data go on. The same in all
  // processes and on all meshes. It is saved in checkpoints.
  virtual nlohmann::json state() const = 0;
  // Goes on from a state that was read from a file. Throws InputError, beginning with `origin`, for
  // one that is of another kind.
  virtual void restore(const nlohmann::json& state, const std::string& origin) = 0;

  // Measures the current weights on held-out data, without gradients; empty: there are none. Gives
  // the same numbers at every call as long as the weights are the same, in all processes.
  virtual Scalars validate() { return {}; }

  // Steps from one call of sample() to the next; 0: never.
  virtual int64_t sample_interval() const { return 0; }
  // Shows what the current weights make: writes files. Throws Cancelled in all processes.
  virtual void sample(int64_t /*step*/) {}
};

// The whole number `name` of a state, 0 or more. Throws InputError beginning with `origin`.
int64_t count_of_state(const nlohmann::json& state, const std::string& name,
                       const std::string& origin);

}  // namespace ospnext
