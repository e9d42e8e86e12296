#include "train/chunked_update.h"

#include <algorithm>

namespace ospnext {
namespace {

// A multiple of every vector length: an element's place in a vector does not depend on the cuts.
constexpr int64_t kChunk = int64_t{1} << 23;  // elements

// Elements first to first + count - 1 of a flattened tensor.
struct Piece {
  size_t tensor;
  int64_t first, count;
};
using Chunk = std::vector<Piece>;

// All elements, in chunks of at most kChunk.
std::vector<Chunk> chunks_of(const std::vector<at::Tensor>& tensors) {
  std::vector<Chunk> chunks;
  int64_t room = 0;  // in the last one
  for (size_t i = 0; i < tensors.size(); ++i) {
    for (int64_t first = 0; first < tensors[i].numel(); first += kChunk) {
      const int64_t count = std::min(kChunk, tensors[i].numel() - first);
      if (count > room) {
        chunks.emplace_back();
        room = kChunk;
      }
      chunks.back().push_back({i, first, count});
      room -= count;
    }
  }
  return chunks;
}

std::vector<at::Tensor> parts_of(const UpdatedTensors& kind, const Chunk& chunk) {
  std::vector<at::Tensor> parts;
  for (const auto& [tensor, first, count] : chunk) {
    parts.push_back(kind.tensors[tensor].view({-1}).narrow(0, first, count));  // [count]
  }
  return parts;
}

// Copies of tensors on the device.
std::vector<at::Tensor> copied_to(at::Device device, const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> copies;
  copies.reserve(tensors.size());
  for (const at::Tensor& x : tensors) {
    copies.push_back(x.to(device, x.scalar_type(), /*non_blocking=*/true, /*copy=*/true));
  }
  return copies;
}

}  // namespace

ChunkedUpdate::ChunkedUpdate(at::Device device)
    : device_(device), streams_{TransferStream(device), TransferStream(device)} {}

void ChunkedUpdate::run(const std::vector<UpdatedTensors>& kinds,
                        const std::function<void(const UpdatedParts&)>& update) const {
  if (kinds.at(0).tensors.empty()) {
    return;
  }
  UpdatedParts parts(kinds.size());
  if (std::ranges::none_of(kinds, &UpdatedTensors::offloaded)) {
    std::ranges::transform(kinds, parts.begin(), &UpdatedTensors::tensors);
    update(parts);
    return;
  }
  const Moment before = Moment::now(device_);
  size_t turn = 0;
  for (const Chunk& chunk : chunks_of(kinds[0].tensors)) {
    const TransferStream::Scope on(streams_[turn++ % streams_.size()]);
    before.await();
    for (size_t k = 0; k < kinds.size(); ++k) {
      parts[k] = parts_of(kinds[k], chunk);
      parts[k] = kinds[k].offloaded ? copied_to(device_, parts[k]) : parts[k];
    }
    update(parts);
    for (size_t k = 0; k < kinds.size(); ++k) {
      if (kinds[k].offloaded && kinds[k].written) {
        const std::vector<at::Tensor> home = parts_of(kinds[k], chunk);
        for (size_t i = 0; i < home.size(); ++i) {
          home[i].copy_(parts[k][i], /*non_blocking=*/true);
        }
      }
    }
  }
  for (const TransferStream& stream : streams_) {
    const TransferStream::Scope on(stream);
    Moment::now(device_).synchronize();
  }
}

}  // namespace ospnext
