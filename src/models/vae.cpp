// Encoder, decoder and the VAE that contains them.
#include "models/vae.h"

#include <array>
#include <string>

#include "core/error.h"
#include "core/torch/shape_check.h"

namespace ospnext {
namespace vae {
namespace {

constexpr std::array<int64_t, 3> kCube{3, 3, 3};

// Registers the layers of a stack by number: downsamples.0, downsamples.1, ...
template <class Resampler>
struct Stack {
  torch::nn::Module& parent;
  std::vector<std::variant<ResidualBlock, Resampler>>& layers;

  template <class Layer>
  void add(Layer layer) {
    layers.push_back(parent.register_module(std::to_string(layers.size()), std::move(layer)));
  }
};

template <class Layers, class... Context>
at::Tensor run(const Layers& layers, at::Tensor x, Stream* stream, const Context&... context) {
  for (const auto& layer : layers) {
    x = std::visit([&](const auto& any) { return any.ptr()->forward(x, stream, context...); },
                   layer);
  }
  return x;
}

// Registers the three layers at the lowest resolution, which encoder and decoder both have.
template <class Coder>
void add_middle(Coder& coder, int64_t width) {
  const auto middle = coder.register_module("middle", std::make_shared<torch::nn::Module>());
  coder.middle0 = middle->register_module("0", ResidualBlock(width, width));
  coder.middle1 = middle->register_module("1", FrameAttention(width));
  coder.middle2 = middle->register_module("2", ResidualBlock(width, width));
}

template <class Coder>
at::Tensor run_middle(Coder& coder, const at::Tensor& x, Stream* stream,
                      const Strips& strips = {}) {
  const at::Tensor mixed =
      coder.middle1->forward(coder.middle0->forward(x, stream, strips), strips);
  return coder.middle2->forward(mixed, stream, strips);
}

// Registers the last norm and convolution, which encoder and decoder both have.
template <class Coder>
void add_head(Coder& coder, int64_t width, int64_t out) {
  const auto head = coder.register_module("head", std::make_shared<torch::nn::Module>());
  coder.head_norm = head->register_module("0", ChannelNorm(width, 3));
  coder.head_conv = head->register_module("2", CausalConv3d(width, out, kCube));
}

}  // namespace

EncoderImpl::EncoderImpl(const VaeConfig& config) {
  conv1 = register_module("conv1", CausalConv3d(3, config.dim, kCube));
  Stack<Downsample> stack{*register_module("downsamples", std::make_shared<torch::nn::Module>()),
                          downsamples};
  int64_t width = config.dim;
  for (size_t level = 0; level < config.dim_mult.size(); ++level) {
    for (int64_t block = 0; block < config.num_res_blocks; ++block) {
      const int64_t out = config.dim * config.dim_mult[level];
      stack.add(ResidualBlock(width, out));
      width = out;
    }
    if (level + 1 < config.dim_mult.size()) {
      stack.add(Downsample(width, config.temperal_downsample[level]));
    }
  }
  add_middle(*this, width);
  add_head(*this, width, 2 * config.z_dim);
}

at::Tensor EncoderImpl::forward(const at::Tensor& video, Stream* stream) {
  const at::Tensor features = run(downsamples, conv1->forward(video, stream), stream);
  const at::Tensor mixed = run_middle(*this, features, stream);
  return head_conv->forward_normed(head_norm, mixed, stream);
}

DecoderImpl::DecoderImpl(const VaeConfig& config) {
  const size_t levels = config.dim_mult.size();
  int64_t width = config.dim * config.dim_mult.back();
  conv1 = register_module("conv1", CausalConv3d(config.z_dim, width, kCube));
  add_middle(*this, width);
  Stack<Upsample> stack{*register_module("upsamples", std::make_shared<torch::nn::Module>()),
                        upsamples};
  for (size_t level = levels; level-- > 0;) {
    for (int64_t block = 0; block <= config.num_res_blocks; ++block) {
      const int64_t out = config.dim * config.dim_mult[level];
      stack.add(ResidualBlock(width, out));
      width = out;
    }
    if (level > 0) {
      stack.add(Upsample(width, config.temperal_downsample[level - 1]));
      width /= 2;
    }
  }
  add_head(*this, width, 3);
}

at::Tensor DecoderImpl::forward(const at::Tensor& latent, Stream* stream, const Strips& strips) {
  const at::Tensor mixed =
      run_middle(*this, conv1->forward(latent, stream, strips), stream, strips);
  const at::Tensor features = run(upsamples, mixed, stream, strips);
  return head_conv->forward_normed(head_norm, features, stream, strips);
}

}  // namespace vae

namespace {

// Per-channel statistics as a float32 tensor [z, 1, 1, 1], which broadcasts over [B, z, F, h, w].
at::Tensor per_channel(const std::vector<double>& values, const at::Tensor& like) {
  return at::tensor(values, at::kFloat).to(like.device()).view({-1, 1, 1, 1});  // [z, 1, 1, 1]
}

// The valid sizes next to `size`, as text: "8" or "77 or 81". Valid sizes are first + k·step.
std::string nearest_sizes(int64_t size, int64_t first, int64_t step) {
  if (size < first) {
    return std::to_string(first);
  }
  const int64_t below = first + (size - first) / step * step;
  return std::to_string(below) + " or " + std::to_string(below + step);
}

void check_size(const char* what, int64_t size, int64_t first, int64_t step) {
  if (size < first || (size - first) % step != 0) {
    throw InputError("video: found " + std::string(what) + " " + std::to_string(size) +
                     ", expected " + nearest_sizes(size, first, step));
  }
}

}  // namespace

VaeImpl::VaeImpl(const VaeConfig& vae_config) : config(vae_config) {
  config.check();
  constexpr std::array<int64_t, 3> kPixel{1, 1, 1};
  encoder = register_module("encoder", vae::Encoder(config));
  conv1 = register_module("conv1", vae::CausalConv3d(2 * config.z_dim, 2 * config.z_dim, kPixel));
  conv2 = register_module("conv2", vae::CausalConv3d(config.z_dim, config.z_dim, kPixel));
  decoder = register_module("decoder", vae::Decoder(config));
}

at::Tensor VaeImpl::encode_clip(const at::Tensor& video) {
  CHECK_SHAPE(video, -1, 3, -1, -1, -1);
  check_video_size(video.size(2), video.size(3), video.size(4));
  const at::Tensor x = video.contiguous(at::MemoryFormat::ChannelsLast3d);
  return vae::pixelwise(encoder->forward(x, nullptr), conv1->weight, conv1->bias);
}

at::Tensor VaeImpl::decode_clip(const at::Tensor& z) {
  CHECK_SHAPE(z, -1, config.z_dim, -1, -1, -1);
  const at::Tensor x = z.contiguous(at::MemoryFormat::ChannelsLast3d);
  return decoder->forward(vae::pixelwise(x, conv2->weight, conv2->bias), nullptr);
}

at::Tensor VaeImpl::normalise(const at::Tensor& mean) const {
  return (mean.to(at::kFloat) - per_channel(config.latents_mean, mean)) /
         per_channel(config.latents_std, mean);
}

at::Tensor VaeImpl::denormalise(const at::Tensor& latent) const {
  return latent.to(at::kFloat) * per_channel(config.latents_std, latent) +
         per_channel(config.latents_mean, latent);
}

at::Tensor VaeImpl::encode(const at::Tensor& video, const CancellationToken* cancel) {
  CHECK_SHAPE(video, -1, 3, -1, -1, -1);
  check_video_size(video.size(2), video.size(3), video.size(4));
  const torch::NoGradGuard no_grad;
  vae::Stream stream;
  std::vector<at::Tensor> means;
  for (int64_t begin = 0, count = 1; begin < video.size(2);
       begin += count, count = config.temporal_factor()) {
    if (cancel != nullptr) {
      cancel->check();
    }
    means.push_back(encode_piece(video.narrow(2, begin, count), stream));
  }
  return normalise(at::cat(means, 2)).contiguous();
}

void VaeImpl::decode(const at::Tensor& latent, const std::function<void(const at::Tensor&)>& sink,
                     const CancellationToken* cancel, const vae::Strips& strips) {
  CHECK_SHAPE(latent, -1, config.z_dim, -1, -1, -1);
  const torch::NoGradGuard no_grad;
  const at::Tensor own = strips.own(latent);
  vae::Stream stream;
  for (int64_t frame = 0; frame < latent.size(2); ++frame) {
    if (cancel != nullptr) {
      cancel->check();
    }
    const at::Tensor strip = decode_piece(own.narrow(2, frame, 1), stream, strips);
    const at::Tensor video = strips.collect(strip, "frames");
    if (strips.leads()) {
      sink(video.to(at::kFloat).clamp(-1, 1).contiguous());
    }
  }
}

at::Tensor VaeImpl::encode_piece(const at::Tensor& video, vae::Stream& stream) {
  stream.begin_piece();
  const at::Tensor piece =
      video.to(conv1->weight.options()).contiguous(at::MemoryFormat::ChannelsLast3d);
  const at::Tensor moments =
      vae::pixelwise(encoder->forward(piece, &stream), conv1->weight, conv1->bias);
  return moments.narrow(1, 0, config.z_dim);
}

at::Tensor VaeImpl::decode_piece(const at::Tensor& latent, vae::Stream& stream,
                                 const vae::Strips& strips) {
  stream.begin_piece();
  const at::Tensor piece =
      denormalise(latent).to(conv2->weight.options()).contiguous(at::MemoryFormat::ChannelsLast3d);
  return decoder->forward(vae::pixelwise(piece, conv2->weight, conv2->bias), &stream, strips);
}

void VaeImpl::to_channels_last() {
  const torch::NoGradGuard no_grad;
  for (at::Tensor& parameter : parameters()) {
    if (parameter.dim() == 5) {
      parameter.set_data(parameter.contiguous(at::MemoryFormat::ChannelsLast3d));
    } else if (parameter.dim() == 4 && parameter.size(2) > 1) {
      parameter.set_data(parameter.contiguous(at::MemoryFormat::ChannelsLast));
    }
  }
}

void VaeImpl::check_video_size(int64_t frames, int64_t height, int64_t width) const {
  check_size("frame count", frames, 1, config.temporal_factor());
  check_size("height", height, config.spatial_factor(), config.spatial_factor());
  check_size("width", width, config.spatial_factor(), config.spatial_factor());
}

}  // namespace ospnext
