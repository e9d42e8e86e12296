// The layers of the video VAE: causal convolution, channel norm, residual block, attention, resampling.
//
// Every layer takes a piece of a video [B, C, T, H, W] and a pointer to the stream it belongs to. With
// no stream the piece is a whole clip; with one, what earlier pieces left behind stands in front of it,
// so pieces give the same numbers as the whole. Activations lie in memory as [B, T, H, W, C]
// (channels_last_3d): there a frame's channels, and a clip as a batch of frames, are views. H may be the
// rows of one of several strips (vae_strips.h); then each convolution first fetches its neighbours' rows.
// A layer computes in its input's dtype and casts its weights to it.
#pragma once

#include <torch/nn/modules/conv.h>

#include <array>
#include <vector>

#include "core/torch/torch.h"
#include "models/vae_strips.h"

namespace ospnext::vae {

// What the causal layers of one encoder or decoder remember between the pieces of one video: a few
// frames per layer, whatever the length of the video.
class Stream {
 public:
  // Call before each piece.
  void begin_piece() {
    first_ = next_ == 0;
    next_ = 0;
  }
  // Whether the current piece is the first one.
  bool first() const { return first_; }
  // The memory of the next layer, undefined before its first use. Layers ask in the order in which they
  // run, exactly once for each piece.
  at::Tensor& next_history() {
    if (next_ == histories_.size()) {
      histories_.emplace_back();
    }
    return histories_[next_++];
  }
  // Moves what is remembered to a device.
  void to(at::Device device);
  // Bytes held between pieces.
  int64_t bytes() const;

 private:
  std::vector<at::Tensor> histories_;
  size_t next_ = 0;
  bool first_ = true;
};

// Scales the channel vector of every pixel to length sqrt(C), times gamma; computed in float32.
// x [B, C, T, H, W] -> same shape and dtype. Source: Wan2.1 wan/modules/vae.py:RMS_norm.
struct ChannelNormImpl : torch::nn::Module {
  // gamma has `trailing` dimensions of size 1 behind C, as in the checkpoint.
  ChannelNormImpl(int64_t channels, int64_t trailing);
  at::Tensor forward(const at::Tensor& x);

  at::Tensor gamma;  // [C, 1, 1(, 1)]
};
TORCH_MODULE(ChannelNorm);

// 3-D convolution with bias that looks at no later frame: zeros, or the stream's last frames, stand in
// front of x, H and W are zero-padded to keep their size. Stride 1.
// x [B, in, T, H, W] -> [B, out, T, H, W]. Source: Wan2.1 wan/modules/vae.py:CausalConv3d.
struct CausalConv3dImpl : torch::nn::Module {
  // `kernel` is (time, height, width), each odd.
  CausalConv3dImpl(int64_t in, int64_t out, std::array<int64_t, 3> kernel);
  // In strips kh is 3.
  at::Tensor forward(const at::Tensor& x, Stream* stream, const Strips& strips = {});
  // forward(silu(norm(x)), stream, strips), with the frames in front written without a copy of the rest. An `x`
  // that is moved in is gone before the convolution runs.
  at::Tensor forward_normed(const ChannelNorm& norm, at::Tensor x, Stream* stream,
                            const Strips& strips = {});
  // Only the convolution: `extended` has the frames in front, and in strips the neighbours' rows, already,
  // [B, in, kt - 1 + T, H (+ 2), W].
  at::Tensor convolve(const at::Tensor& extended, const Strips& strips = {},
                      at::IntArrayRef stride = {1, 1, 1});

  at::Tensor weight;  // [out, in, kt, kh, kw]
  at::Tensor bias;    // [out]
};
TORCH_MODULE(CausalConv3d);

// x + conv(silu(norm(conv(silu(norm(x)))))), x through a 1x1x1 shortcut when the width changes.
// x [B, in, T, H, W] -> [B, out, T, H, W]. Source: Wan2.1 wan/modules/vae.py:ResidualBlock.
struct ResidualBlockImpl : torch::nn::Module {
  ResidualBlockImpl(int64_t in, int64_t out);
  at::Tensor forward(const at::Tensor& x, Stream* stream, const Strips& strips = {});

  ChannelNorm norm1{nullptr}, norm2{nullptr};   // residual.0, residual.3
  CausalConv3d conv1{nullptr}, conv2{nullptr};  // residual.2, residual.6
  CausalConv3d shortcut{nullptr};               // only if in != out
};
TORCH_MODULE(ResidualBlock);

// Attention of one head among the pixels of each frame, those of all strips, added to x.
// x [B, C, T, H, W] -> same.
// Source: Wan2.1 wan/modules/vae.py:AttentionBlock.
struct FrameAttentionImpl : torch::nn::Module {
  explicit FrameAttentionImpl(int64_t channels);
  at::Tensor forward(const at::Tensor& x, const Strips& strips = {});

  ChannelNorm norm{nullptr};
  torch::nn::Conv2d to_qkv{nullptr}, proj{nullptr};
};
TORCH_MODULE(FrameAttention);

// Halves H and W, and with `temporal` also time: the clip's first frame stays, the others pair up.
// x [B, C, T, H, W] -> [B, C, T', H/2, W/2]. Source: Wan2.1 wan/modules/vae.py:Resample (downsample).
struct DownsampleImpl : torch::nn::Module {
  DownsampleImpl(int64_t channels, bool temporal);
  at::Tensor forward(const at::Tensor& x, Stream* stream);

  torch::nn::Conv2d spatial{nullptr};  // resample.1
  CausalConv3d time_conv{nullptr};     // only if temporal
};
TORCH_MODULE(Downsample);

// Doubles H and W and halves the channels, and with `temporal` doubles time: the clip's first frame
// stays alone, every other one becomes two.
// x [B, C, T, H, W] -> [B, C/2, T', 2H, 2W]. Source: Wan2.1 wan/modules/vae.py:Resample (upsample).
struct UpsampleImpl : torch::nn::Module {
  UpsampleImpl(int64_t channels, bool temporal);
  at::Tensor forward(const at::Tensor& x, Stream* stream, const Strips& strips = {});
  // Only the step in time. [B, C, T, H, W] -> [B, C, T', H, W]
  at::Tensor lengthen(const at::Tensor& x, Stream* stream);

  torch::nn::Conv2d spatial{nullptr};  // resample.1
  CausalConv3d time_conv{nullptr};     // only if temporal
};
TORCH_MODULE(Upsample);

// 1x1x1 convolution: one matrix for every pixel. x [B, in, T, H, W] -> [B, out, T, H, W].
at::Tensor pixelwise(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace ospnext::vae
