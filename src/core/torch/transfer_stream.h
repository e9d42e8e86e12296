// A second stream of work on a GPU, for copies between its memory and the host's beside
// computation, and points in streams that other streams wait for.
#pragma once

#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>

#include <memory>
#include <optional>

#include "core/torch/torch.h"

namespace ospnext {

// The end of the work that is queued on a stream at some time. On a CPU nothing ever waits, since
// work runs in order.
class Moment {
 public:
  Moment() = default;  // long past
  // On the current stream of a device.
  static Moment now(at::Device device);

  // The work that is queued on the device's current stream after this runs after the moment.
  void await() const;
  // The host waits for it.
  void synchronize() const;

 private:
  std::shared_ptr<const c10::Event> event_;  // null: nothing to wait for
  at::Device device_ = at::kCPU;
};

// On a CPU, and without a device, its methods do nothing.
class TransferStream {
 public:
  TransferStream() = default;
  explicit TransferStream(at::Device device);

  // While it lives, work of this thread on the device is queued on the stream.
  class Scope {
   public:
    explicit Scope(const TransferStream& stream) : guard_(stream.stream_) {}

   private:
    c10::OptionalStreamGuard guard_;
  };

  // The stream reads or writes x: its memory serves nothing else before that has ended.
  void uses(const at::Tensor& x) const;

 private:
  std::optional<c10::Stream> stream_;
};

}  // namespace ospnext
