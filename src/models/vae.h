// The causal 3-D VAE of Wan2.1: video to latents and back, for whole clips and as a stream.
// Letters: B batch, T x H x W video, F x h x w latent, z latent channels, n frames of a piece.
#pragma once

#include <functional>
#include <variant>
#include <vector>

#include "core/cancel.h"
#include "core/torch/torch.h"
#include "models/vae_config.h"
#include "models/vae_layers.h"

namespace ospnext {
namespace vae {

// The encoder without its last 1x1x1 convolution. [B, 3, T, H, W] -> [B, 2·z, F, h, w].
// Source: Wan2.1 wan/modules/vae.py:Encoder3d.
struct EncoderImpl : torch::nn::Module {
  explicit EncoderImpl(const VaeConfig& config);
  // `video` is a whole clip if `stream` is null, else the next piece of the stream.
  at::Tensor forward(const at::Tensor& video, Stream* stream);

  CausalConv3d conv1{nullptr};
  std::vector<std::variant<ResidualBlock, Downsample>> downsamples;
  ResidualBlock middle0{nullptr}, middle2{nullptr};
  FrameAttention middle1{nullptr};
  ChannelNorm head_norm{nullptr};
  CausalConv3d head_conv{nullptr};
};
TORCH_MODULE(Encoder);

// The decoder without its first 1x1x1 convolution. [B, z, F, h, w] -> [B, 3, T, H, W].
// Source: Wan2.1 wan/modules/vae.py:Decoder3d.
struct DecoderImpl : torch::nn::Module {
  explicit DecoderImpl(const VaeConfig& config);
  // `latent` is a whole clip if `stream` is null, else the next piece of the stream.
  at::Tensor forward(const at::Tensor& latent, Stream* stream, const Strips& strips = {});

  CausalConv3d conv1{nullptr};
  ResidualBlock middle0{nullptr}, middle2{nullptr};
  FrameAttention middle1{nullptr};
  std::vector<std::variant<ResidualBlock, Upsample>> upsamples;
  ChannelNorm head_norm{nullptr};
  CausalConv3d head_conv{nullptr};
};
TORCH_MODULE(Decoder);

}  // namespace vae

// Parameters have the names of the original checkpoint (Wan2.1_VAE.pth). T frames give
// F = 1 + (T - 1) / temporal_factor latent frames; height and width shrink by spatial_factor.
// Source: Wan2.1 wan/modules/vae.py:WanVAE_.
struct VaeImpl : torch::nn::Module {
  // Checks the config and initialises the parameters for training from scratch.
  explicit VaeImpl(const VaeConfig& config);

  // Encodes a whole clip at once, in the dtype of `video`, a float type. Differentiable.
  // video [B, 3, T, H, W] in [-1, 1] -> moments [B, 2·z, F, h, w], not normalised: z channels of
  // the mean, then z of the log variance. Throws InputError for a size that does not fit.
  at::Tensor encode_clip(const at::Tensor& video);
  // Decodes a whole clip at once, in the dtype of `z`. Differentiable. z [B, z, F, h, w], not
  // normalised -> [B, 3, T, H, W], not clamped.
  at::Tensor decode_clip(const at::Tensor& z);

  // (mean - latents_mean) / latents_std. mean [B, z, F, h, w] -> float32, same shape.
  at::Tensor normalise(const at::Tensor& mean) const;
  // latent · latents_std + latents_mean. latent [B, z, F, h, w] -> float32, same shape.
  at::Tensor denormalise(const at::Tensor& latent) const;

  // Encodes a clip as a stream: one frame, then temporal_factor frames at a time. No gradient.
  // Computes in the dtype and on the device of the parameters; the video may be on another device,
  // its pieces are copied one by one.
  // video [B, 3, T, H, W] in [-1, 1] -> normalised mean [B, z, F, h, w], float32.
  // Throws InputError for a size that does not fit, and Cancelled between pieces.
  at::Tensor encode(const at::Tensor& video, const CancellationToken* cancel = nullptr);
  // Decodes a clip as a stream. latent [B, z, F, h, w], normalised. Calls `sink` with the video of
  // each latent frame as soon as it is decoded: 1 frame, then temporal_factor frames at a time,
  // [B, 3, n, H, W] float32, clamped to [-1, 1], on the parameters' device. Memory does not grow
  // with F. Throws Cancelled between latent frames.
  // With strips, all ranks decode, each its own rows, and only the leading rank calls its sink.
  void decode(const at::Tensor& latent, const std::function<void(const at::Tensor&)>& sink,
              const CancellationToken* cancel = nullptr, const vae::Strips& strips = {});

  // One step of encode() and of decode(), for callers that keep the stream themselves. Both compute
  // in the dtype and on the device of the parameters.
  // video: the next frames, one at first, then temporal_factor, [B, 3, n, H, W] -> their mean
  // [B, z, 1, h, w], not normalised.
  at::Tensor encode_piece(const at::Tensor& video, vae::Stream& stream);
  // latent: the next latent frame, normalised, [B, z, 1, h, w] -> its video [B, 3, n, H, W], not
  // clamped. With strips, h and H are the rows of this rank.
  at::Tensor decode_piece(const at::Tensor& latent, vae::Stream& stream,
                          const vae::Strips& strips = {});

  // Converts the convolution weights to channels-last memory format in place, the fastest one for
  // convolutions on CUDA.
  void to_channels_last();

  // Throws an InputError that names the nearest valid sizes when a size does not fit.
  void check_video_size(int64_t frames, int64_t height, int64_t width) const;

  VaeConfig config;
  vae::Encoder encoder{nullptr};
  vae::CausalConv3d conv1{nullptr};  // 1x1x1, on the moments
  vae::CausalConv3d conv2{nullptr};  // 1x1x1, on the latent
  vae::Decoder decoder{nullptr};
};
TORCH_MODULE(Vae);

}  // namespace ospnext
