#include "core/torch/cuda_graph.h"

#include <map>
#include <utility>

#ifdef OSPNEXT_CUDA
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#endif

namespace ospnext {

#ifdef OSPNEXT_CUDA

struct SideStream::Stream {
  c10::cuda::CUDAStream stream;
};

SideStream::SideStream(at::Device device)
    : stream_(device.is_cuda() ? std::make_unique<Stream>(Stream{c10::cuda::getStreamFromPool(
                                     /*isHighPriority=*/false, device.index())})
                               : nullptr) {}

struct SideStream::Scope::Guard {
  c10::cuda::CUDAStreamGuard guard;

  explicit Guard(c10::cuda::CUDAStream stream) : guard(stream) {
    guard.original_stream().synchronize();
  }
  ~Guard() { guard.current_stream().synchronize(); }
};

SideStream::Scope::Scope(const SideStream& stream)
    : guard_(stream.stream_ ? std::make_unique<Guard>(stream.stream_->stream) : nullptr) {}

struct RecordedFunction::Recordings {
  struct Recording {
    std::vector<at::Tensor> inputs;
    at::Tensor output;
    at::cuda::CUDAGraph graph;
  };
  // null after the first call with a shape
  std::map<std::vector<int64_t>, std::unique_ptr<Recording>> by_shape;
  // All graphs share one memory pool, because only one of them runs at a time.
  at::cuda::MempoolId_t pool = at::cuda::graph_pool_handle();
};

at::Tensor RecordedFunction::operator()(const std::vector<at::Tensor>& inputs) {
  if (!recordings_ || !inputs.at(0).is_cuda()) {
    return function_(inputs);
  }
  std::vector<int64_t> shape;
  for (const at::Tensor& input : inputs) {
    shape.insert(shape.end(), input.sizes().begin(), input.sizes().end());
  }
  const auto [entry, is_new] = recordings_->by_shape.try_emplace(shape);
  if (is_new) {
    return function_(inputs);  // in this call libraries choose their algorithms and caches fill
  }
  if (!entry->second) {
    entry->second = std::make_unique<Recordings::Recording>();
    Recordings::Recording& recording = *entry->second;
    for (const at::Tensor& input : inputs) {
      recording.inputs.push_back(input.clone());
    }
    c10::cuda::getCurrentCUDAStream().synchronize();
    recording.graph.capture_begin(recordings_->pool);
    recording.output = function_(recording.inputs);
    recording.graph.capture_end();
  }
  Recordings::Recording& recording = *entry->second;
  for (size_t i = 0; i < inputs.size(); ++i) {
    recording.inputs[i].copy_(inputs[i]);
  }
  recording.graph.replay();
  return recording.output;
}

RecordedFunction::RecordedFunction(Function function, bool record)
    : function_(std::move(function)),
      recordings_(record ? std::make_unique<Recordings>() : nullptr) {}

#else

struct SideStream::Stream {};
SideStream::SideStream(at::Device /*device*/) {}
struct SideStream::Scope::Guard {};
SideStream::Scope::Scope(const SideStream& /*stream*/) {}

struct RecordedFunction::Recordings {};
at::Tensor RecordedFunction::operator()(const std::vector<at::Tensor>& inputs) {
  return function_(inputs);
}
RecordedFunction::RecordedFunction(Function function, bool /*record*/)
    : function_(std::move(function)) {}

#endif

SideStream::~SideStream() = default;
SideStream::Scope::~Scope() = default;
RecordedFunction::~RecordedFunction() = default;

}  // namespace ospnext
