// The layers of the video VAE: causal convolution, channel norm, residual block, attention,
// resampling.
// Letters: B batch, C channels, T frames, H x W rows and columns of this level.
//
// Every layer takes a piece of a video [B, C, T, H, W] and a pointer to its stream. If the pointer
// is null, the piece is a whole clip. Otherwise the layer puts the last frames of earlier pieces,
// which the stream remembers, in front of the piece. So a clip in pieces gives the same numbers as
// the whole clip.
// Activations are channels-last (channels_last_3d), in memory [B, T, H, W, C]. In this format the
// pixels as rows of a matrix, and a clip as a batch of frames, are views.
// H may be the rows of one of several strips (vae_strips.h). Then each convolution first fetches
// one row from the strips above and below.
// A layer computes in the dtype of its input and casts its weights to it.
#pragma once

#include <torch/nn/modules/conv.h>

#include <array>
#include <vector>

#include "core/torch/torch.h"
#include "models/vae_strips.h"

namespace ospnext::vae {

// The memory of the causal layers of one encoder or decoder between the pieces of one video: a few
// frames per layer, independent of the length of the video.
class Stream {
 public:
  // Call before each piece.
  void begin_piece() {
    first_ = next_ == 0;
    next_ = 0;
  }
  // Whether the current piece is the first one.
  bool first() const { return first_; }
  // The memory of the next layer; an undefined tensor before its first use. Each layer calls this
  // exactly once per piece, in the order in which the layers run.
  at::Tensor& next_history() {
    if (next_ == histories_.size()) {
      histories_.emplace_back();
    }
    return histories_[next_++];
  }
  // Moves the memory of all layers to a device.
  void to(at::Device device);
  // Bytes held between pieces.
  int64_t bytes() const;

 private:
  std::vector<at::Tensor> histories_;
  size_t next_ = 0;
  bool first_ = true;
};

// Scales the channel vector of every pixel to length √C, then multiplies by gamma. Computed in
// float32 (float64 for float64).
// x [B, C, T, H, W] -> same shape and dtype. Source: Wan2.1 wan/modules/vae.py:RMS_norm.
struct ChannelNormImpl : torch::nn::Module {
  // gamma is [C, 1, ..., 1] with `trailing` ones, as in the checkpoint.
  ChannelNormImpl(int64_t channels, int64_t trailing);
  at::Tensor forward(const at::Tensor& x);

  at::Tensor gamma;  // [C, 1, 1(, 1)]
};
TORCH_MODULE(ChannelNorm);

// 3-D convolution with bias, causal in time: no output depends on a later frame. In time the input
// is padded at the front only, with zeros or the last frames of the stream. H and W are zero-padded
// to keep their size. Stride 1.
// x [B, in, T, H, W] -> [B, out, T, H, W]. Source: Wan2.1 wan/modules/vae.py:CausalConv3d.
struct CausalConv3dImpl : torch::nn::Module {
  // `kernel` is (time, height, width), each odd.
  CausalConv3dImpl(int64_t in, int64_t out, std::array<int64_t, 3> kernel);
  // With several strips, kh must be 3.
  at::Tensor forward(const at::Tensor& x, Stream* stream, const Strips& strips = {});
  // forward(silu(norm(x)), stream, strips) in less memory: norm_silu() writes its result behind the
  // frames in front, without a padded copy. If `x` is moved in, its memory is freed before the
  // convolution.
  at::Tensor forward_normed(const ChannelNorm& norm, at::Tensor x, Stream* stream,
                            const Strips& strips = {});
  // Only the convolution. `extended` [B, in, kt - 1 + T, H, W] already has the frames in front.
  // With several strips H includes the two rows of the neighbours.
  at::Tensor convolve(const at::Tensor& extended, const Strips& strips = {},
                      at::IntArrayRef stride = {1, 1, 1});

  at::Tensor weight;  // [out, in, kt, kh, kw]
  at::Tensor bias;    // [out]
};
TORCH_MODULE(CausalConv3d);

// x + conv(silu(norm(conv(silu(norm(x)))))). If in != out, x goes through a 1x1x1 shortcut.
// x [B, in, T, H, W] -> [B, out, T, H, W]. Source: Wan2.1 wan/modules/vae.py:ResidualBlock.
struct ResidualBlockImpl : torch::nn::Module {
  ResidualBlockImpl(int64_t in, int64_t out);
  at::Tensor forward(const at::Tensor& x, Stream* stream, const Strips& strips = {});

  ChannelNorm norm1{nullptr}, norm2{nullptr};   // residual.0, residual.3
  CausalConv3d conv1{nullptr}, conv2{nullptr};  // residual.2, residual.6
  CausalConv3d shortcut{nullptr};               // only if in != out
};
TORCH_MODULE(ResidualBlock);

// x + attention with one head among the pixels of each frame, over all strips.
// x [B, C, T, H, W] -> same shape. Source: Wan2.1 wan/modules/vae.py:AttentionBlock.
struct FrameAttentionImpl : torch::nn::Module {
  explicit FrameAttentionImpl(int64_t channels);
  at::Tensor forward(const at::Tensor& x, const Strips& strips = {});

  ChannelNorm norm{nullptr};
  torch::nn::Conv2d to_qkv{nullptr}, proj{nullptr};
};
TORCH_MODULE(FrameAttention);

// Halves H and W. With `temporal` it also halves the number of frames after the first frame of the
// clip; the first frame stays. x [B, C, T, H, W] -> [B, C, T', H/2, W/2].
// Source: Wan2.1 wan/modules/vae.py:Resample (downsample).
struct DownsampleImpl : torch::nn::Module {
  DownsampleImpl(int64_t channels, bool temporal);
  at::Tensor forward(const at::Tensor& x, Stream* stream);

  torch::nn::Conv2d spatial{nullptr};  // resample.1
  CausalConv3d time_conv{nullptr};     // only if temporal
};
TORCH_MODULE(Downsample);

// Doubles H and W and halves the channels. With `temporal` every frame after the first frame of the
// clip becomes two; the first one stays. x [B, C, T, H, W] -> [B, C/2, T', 2H, 2W].
// Source: Wan2.1 wan/modules/vae.py:Resample (upsample).
struct UpsampleImpl : torch::nn::Module {
  UpsampleImpl(int64_t channels, bool temporal);
  at::Tensor forward(const at::Tensor& x, Stream* stream, const Strips& strips = {});
  // Only the upsampling in time. x [B, C, T, H, W] -> [B, C, T', H, W].
  at::Tensor lengthen(const at::Tensor& x, Stream* stream);

  torch::nn::Conv2d spatial{nullptr};  // resample.1
  CausalConv3d time_conv{nullptr};     // only if temporal
};
TORCH_MODULE(Upsample);

// 1x1x1 convolution: the same matrix product for every pixel. x [B, in, T, H, W],
// weight [out, in, 1, ...], bias [out] -> [B, out, T, H, W].
at::Tensor pixelwise(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace ospnext::vae
