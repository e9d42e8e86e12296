// Replaying work on a GPU: thousands of kernel launches become one.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

// While it lives, this thread's work on `device` goes to a stream of its own, as recording wants it.
// On a CPU it does nothing.
class SideStream {
 public:
  explicit SideStream(at::Device device);
  ~SideStream();

 private:
  struct Guard;
  std::unique_ptr<Guard> guard_;
};

// A function of tensors that is called again and again with few different shapes. With `record` and CUDA
// tensors (on a SideStream) the second call with a shape is recorded as a CUDA graph, which that call and
// all later ones replay; otherwise the function is simply called.
//
// What is recorded must read nothing but its inputs and tensors that stay where they are, synchronise with
// nothing, and draw no random numbers. A replay writes its results where the recording left them: into the
// returned tensor, valid until the next call, and into tensors that existed before, such as gradients.
class RecordedFunction {
 public:
  using Function = std::function<at::Tensor(const std::vector<at::Tensor>& inputs)>;

  RecordedFunction(Function function, bool record);
  ~RecordedFunction();

  at::Tensor operator()(const std::vector<at::Tensor>& inputs);

 private:
  struct Recordings;
  Function function_;
  std::unique_ptr<Recordings> recordings_;  // null: never recorded
};

}  // namespace ospnext
