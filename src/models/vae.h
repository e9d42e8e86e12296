// The causal 3-D VAE of Wan2.1: video to latents and back, for whole clips and as a stream.
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

// [B, 3, T, H, W] -> [B, 2*z, F, h, w] before the last 1x1x1 convolution.
// Source: Wan2.1 wan/modules/vae.py:Encoder3d.
struct EncoderImpl : torch::nn::Module {
  explicit EncoderImpl(const VaeConfig& config);
  // `video` is a whole clip without a stream, else its next piece.
  at::Tensor forward(const at::Tensor& video, Stream* stream);

  CausalConv3d conv1{nullptr};
  std::vector<std::variant<ResidualBlock, Downsample>> downsamples;
  ResidualBlock middle0{nullptr}, middle2{nullptr};
  FrameAttention middle1{nullptr};
  ChannelNorm head_norm{nullptr};
  CausalConv3d head_conv{nullptr};
};
TORCH_MODULE(Encoder);

// [B, z, F, h, w] behind the first 1x1x1 convolution -> [B, 3, T, H, W].
// Source: Wan2.1 wan/modules/vae.py:Decoder3d.
struct DecoderImpl : torch::nn::Module {
  explicit DecoderImpl(const VaeConfig& config);
  // `latent` is a whole clip without a stream, else its next piece.
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

// Parameters carry the names of the original checkpoint (Wan2.1_VAE.pth). T frames give
// F = 1 + (T - 1) / temporal_factor latent frames; sides shrink by spatial_factor.
// Source: Wan2.1 wan/modules/vae.py:WanVAE_.
struct VaeImpl : torch::nn::Module {
  // Parameters as for training from nothing; checks the config.
  explicit VaeImpl(const VaeConfig& config);

  // Whole clip at once, differentiable, computed in the dtype of `video`, a float type.
  // video [B, 3, T, H, W] in [-1, 1] -> moments [B, 2*z, F, h, w]: mean, then log variance, not
  // normalised. Throws InputError for a size that does not fit.
  at::Tensor encode_clip(const at::Tensor& video);
  // Whole clip at once, differentiable, in the dtype of `z`. z [B, z, F, h, w], not normalised ->
  // [B, 3, T, H, W], not clamped.
  at::Tensor decode_clip(const at::Tensor& z);

  // (mean - latents_mean) / latents_std. mean [B, z, F, h, w] -> float32, same shape.
  at::Tensor normalise(const at::Tensor& mean) const;
  // latent * latents_std + latents_mean. latent [B, z, F, h, w] -> float32, same shape.
  at::Tensor denormalise(const at::Tensor& latent) const;

  // As a stream: one frame, then temporal_factor at a time, without gradient, in the dtype and on the
  // device of the parameters (the video may lie elsewhere; pieces move one by one).
  // video [B, 3, T, H, W] in [-1, 1] -> normalised mean [B, z, F, h, w], float32.
  // Throws InputError for a size that does not fit and Cancelled between pieces.
  at::Tensor encode(const at::Tensor& video, const CancellationToken* cancel = nullptr);
  // As a stream: hands each latent frame's video to `sink` as soon as it is made, 1 frame, then
  // temporal_factor at a time, [B, 3, n, H, W] float32 clamped to [-1, 1] on the parameters' device.
  // Memory does not grow with F. latent [B, z, F, h, w] normalised. Throws Cancelled between frames.
  // In strips all ranks decode, each its rows, and only that which leads calls its sink.
  void decode(const at::Tensor& latent, const std::function<void(const at::Tensor&)>& sink,
              const CancellationToken* cancel = nullptr, const vae::Strips& strips = {});

  // What encode() and decode() do with each piece, for callers that keep the stream: the next
  // frames of a video (first one, then temporal_factor), [B, 3, n, H, W] -> mean [B, z, 1, h, w],
  // not normalised; the next normalised latent frame, [B, z, 1, h, w] -> [B, 3, n, H, W], not
  // clamped. In the dtype and on the device of the parameters. In strips, h and H are this rank's rows.
  at::Tensor encode_piece(const at::Tensor& video, vae::Stream& stream);
  at::Tensor decode_piece(const at::Tensor& latent, vae::Stream& stream,
                          const vae::Strips& strips = {});

  // Lays convolution weights out channels-last in place, which convolutions on CUDA run fastest with.
  void to_channels_last();

  // Throws InputError naming the nearest sizes that fit unless `frames`, `height` and `width` do.
  void check_video_size(int64_t frames, int64_t height, int64_t width) const;

  VaeConfig config;
  vae::Encoder encoder{nullptr};
  vae::CausalConv3d conv1{nullptr};  // 1x1x1, on the moments
  vae::CausalConv3d conv2{nullptr};  // 1x1x1, on the latent
  vae::Decoder decoder{nullptr};
};
TORCH_MODULE(Vae);

}  // namespace ospnext
