#include "core/torch/transfer_stream.h"

#include <c10/core/impl/VirtualGuardImpl.h>

namespace ospnext {
namespace {

c10::Stream current_stream(at::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

}  // namespace

Moment Moment::now(at::Device device) {
  Moment moment;
  if (!device.is_cpu()) {
    auto event = std::make_shared<c10::Event>(device.type());
    event->record(current_stream(device));
    moment.event_ = std::move(event);
    moment.device_ = device;
  }
  return moment;
}

void Moment::await() const {
  if (event_) {
    event_->block(current_stream(device_));
  }
}

void Moment::synchronize() const {
  if (event_) {
    event_->synchronize();
  }
}

TransferStream::TransferStream(at::Device device) {
  if (!device.is_cpu()) {
    stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
  }
}

void TransferStream::uses(const at::Tensor& x) const {
  if (stream_) {
    x.record_stream(*stream_);
  }
}

}  // namespace ospnext
