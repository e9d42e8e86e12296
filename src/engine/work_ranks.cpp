#include "engine/work_ranks.h"

#include "core/error.h"

namespace ospnext {
namespace {

int gpu_count() {
  return static_cast<int>(
      at::globalContext().getAcceleratorHooksInterface(at::kCUDA).deviceCount());
}

}  // namespace

MeshSubject mesh_subject(const TransformerConfig& transformer, int64_t videos, bool two_passes) {
  const bool dense = transformer.skiparse_type() == SkiparseType::kFull;
  return {.videos = videos,
          .two_passes = two_passes,
          .num_heads = transformer.num_heads,
          .segments = dense ? 1 : transformer.sparse_ratio * transformer.sparse_ratio};
}

WorkRanks work_ranks(std::shared_ptr<World> world, const Mesh& mesh, int64_t num_heads,
                     bool shard_weights) {
  const ProcessGroup& all = world->all();
  const int tokens = mesh.sequence.size(), passes = mesh.cfg * tokens;
  TORCH_CHECK(all.size() == mesh.size(), "mesh: ", mesh.text(), " of ", all.size(), " processes");
  const int rank = all.rank();
  const int pass = rank / tokens, video = rank / passes;
  WorkRanks ranks;
  ranks.mesh = mesh;
  ranks.video = video;
  ranks.videos = all.subgroup(every(rank % passes, mesh.data, passes));
  ranks.passes = all.subgroup(every(video * passes + rank % tokens, mesh.cfg, tokens));
  ranks.sequence =
      sequence_ranks(all.subgroup(every(pass * tokens, tokens, 1)), mesh.sequence, num_heads);
  if (shard_weights) {
    ranks.weights = all.twin("weights");
  }
  ranks.world = std::move(world);
  return ranks;
}

at::Device device_of_rank(at::Device device, const ProcessPlace& place) {
  if (place.size == 1 || !device.is_cuda() || device.has_index()) {
    return device;
  }
  return {at::kCUDA, static_cast<at::DeviceIndex>(place.local_rank % gpu_count())};
}

Transport transport_of(const std::string& transport, at::Device device, const ProcessPlace& place) {
  if (transport == "gloo" || (transport == "auto" && !device.is_cuda())) {
    return Transport::kGloo;
  }
  if (transport == "nccl" && !device.is_cuda()) {
    throw InputError("`transport`: found nccl with `device` " + device.str() +
                     ", expected gloo there");
  }
  if (transport == "nccl" || transport == "auto") {
    return transport == "nccl" || place.local_size <= gpu_count() ? Transport::kNccl
                                                                  : Transport::kGloo;
  }
  throw InputError("`transport`: found \"" + transport + "\", expected auto, nccl or gloo");
}

std::vector<at::Tensor> share(const std::vector<at::Tensor>& tensors, const ProcessGroup& all,
                              at::Device device) {
  if (all.alone()) {
    return tensors;
  }
  const auto numbers = at::TensorOptions().dtype(at::kLong);
  const auto count_here = at::full({1}, std::ssize(tensors), numbers).to(device);
  const auto count = all.broadcast(count_here, 0, "share").item<int64_t>();
  std::vector<at::Tensor> shared;
  for (int64_t i = 0; i < count; ++i) {
    constexpr int64_t kMostDims = 8;
    std::vector<int64_t> header(kMostDims + 2);  // dtype, dimensions, sizes
    if (all.rank() == 0) {
      header[0] = static_cast<int64_t>(tensors[i].scalar_type());
      header[1] = tensors[i].dim();
      std::copy_n(tensors[i].sizes().begin(), tensors[i].dim(), header.begin() + 2);
    }
    const at::Tensor told =
        all.broadcast(at::tensor(header, numbers).to(device), 0, "share").to(at::kCPU);
    const int64_t* const numbers_told = told.const_data_ptr<int64_t>();
    const at::IntArrayRef shape(numbers_told + 2, numbers_told[1]);
    const auto dtype = static_cast<at::ScalarType>(numbers_told[0]);
    const at::Tensor here = all.rank() == 0
                                ? tensors[i].to(device)
                                : at::empty(shape, at::TensorOptions().dtype(dtype).device(device));
    shared.push_back(here.numel() == 0 ? here : all.broadcast(here, 0, "share"));
  }
  return shared;
}

}  // namespace ospnext
