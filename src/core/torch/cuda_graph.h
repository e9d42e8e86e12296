// CUDA graphs: one launch replays thousands of recorded kernel launches.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

// A stream of its own, as the recording of a CUDA graph requires. On a CPU it does nothing.
class SideStream {
 public:
  explicit SideStream(at::Device device);
  ~SideStream();

  // While this object lives, work of this thread on the device runs on the stream.
  class Scope {
   public:
    explicit Scope(const SideStream& stream);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    struct Guard;
    std::unique_ptr<Guard> guard_;
  };

 private:
  struct Stream;
  std::unique_ptr<Stream> stream_;  // null on a CPU
};

// A function of tensors that is called many times with few different shapes. With `record` and CUDA
// tensors (on a SideStream), the second call with the same shapes records a CUDA graph; this call
// and all later ones replay it. In all other cases it just calls the function.
//
// A recorded function may read only its inputs and tensors that keep their addresses. It must not
// synchronise with the host or draw random numbers. A replay writes to the same addresses as the
// recording: to the returned tensor, which is valid until the next call, and to tensors that
// existed before the recording, such as gradients.
class RecordedFunction {
 public:
  using Function = std::function<at::Tensor(const std::vector<at::Tensor>& inputs)>;

  RecordedFunction(Function function, bool record);
  ~RecordedFunction();

  at::Tensor operator()(const std::vector<at::Tensor>& inputs);

 private:
  struct Recordings;
  Function function_;
  std::unique_ptr<Recordings> recordings_;  // null: never records
};

}  // namespace ospnext
