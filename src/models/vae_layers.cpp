// Layers of the video VAE, each for whole clips and for pieces of a stream.
#include "models/vae_layers.h"

#include <ATen/OpMathType.h>
#include <torch/nn/init.h>

#include <cmath>
#include <string>

#include "models/vae_norm_silu.h"

namespace ospnext::vae {
namespace {

constexpr double kMinLength = 1e-12;  // of a channel vector: a zero vector stays zero

// Registers `layer` as `child`.`index`, its name in the checkpoint. `child` computes nothing
// itself.
template <class Layer>
Layer register_inside(torch::nn::Module& child, int64_t index, Layer layer) {
  return child.register_module(std::to_string(index), std::move(layer));
}

// How many frames back a convolution reads.
int64_t reach(const CausalConv3dImpl& conv) {
  return conv.weight.size(2) - 1;
}

// Stores the last `count` frames of a layer's input as its memory, unless `history` is null.
void remember(at::Tensor* history, const at::Tensor& input, int64_t count) {
  if (history != nullptr) {
    *history = input.narrow(2, input.size(2) - count, count).clone();
  }
}

// x [B, C, T, H, W] with `count` frames in front, from the layer's memory or zeros
// -> [B, C, count + T, H, W].
at::Tensor with_history(const at::Tensor& x, int64_t count, at::Tensor* history) {
  const at::Tensor extended = history != nullptr && history->defined()
                                  ? at::cat({*history, x}, 2)
                                  : at::constant_pad_nd(x, {0, 0, 0, 0, count, 0});
  remember(history, extended, count);
  return extended;
}

// x without its first `rows` rows and columns (H, W). Negative padding, because its gradient stays
// channels-last, unlike that of a slice.
at::Tensor without_first(const at::Tensor& x, int64_t rows) {
  return at::constant_pad_nd(x, {-rows, 0, -rows, 0});
}

// The first frame of x, [B, C, 1, H, W]. Negative padding for the same reason.
at::Tensor first_frame(const at::Tensor& x) {
  return at::constant_pad_nd(x, {0, 0, 0, 0, 0, 1 - x.size(2)});
}

at::Tensor* next_history(Stream* stream) {
  return stream == nullptr ? nullptr : &stream->next_history();
}

// b c t h w -> (b t) c h w, a view if x is channels-last.
at::Tensor to_frames(const at::Tensor& x) {
  return x.transpose(1, 2).flatten(0, 1);  // [B·T, C, H, W]
}

// (b t) c h w -> b c t h w, a view.
at::Tensor from_frames(const at::Tensor& frames, int64_t batch) {
  return frames.unflatten(0, {batch, -1}).transpose(1, 2);  // [B, C, T, H, W]
}

at::Tensor cast_like(const at::Tensor& weight, const at::Tensor& x) {
  return weight.to(x.scalar_type());
}

// b (2 c) t h w -> b c (t 2) h w: the first half of the channels of frame t becomes frame 2t, the
// second half frame 2t + 1.
at::Tensor split_into_two_frames(const at::Tensor& x) {
  return x
      .permute({0, 2, 3, 4, 1})           // [B, T, H, W, 2C]
      .unflatten(-1, {2, x.size(1) / 2})  // [B, T, H, W, 2, C]
      .permute({0, 1, 4, 2, 3, 5})        // [B, T, 2, H, W, C]
      .flatten(1, 2)                      // [B, 2T, H, W, C]
      .permute({0, 4, 1, 2, 3});          // [B, C, 2T, H, W]
}

}  // namespace

void Stream::to(at::Device device) {
  for (at::Tensor& history : histories_) {
    if (history.defined()) {
      history = history.to(device);
    }
  }
}

int64_t Stream::bytes() const {
  int64_t total = 0;
  for (const at::Tensor& history : histories_) {
    total += history.defined() ? static_cast<int64_t>(history.storage().nbytes()) : 0;
  }
  return total;
}

CausalConv3dImpl::CausalConv3dImpl(int64_t in, int64_t out, std::array<int64_t, 3> kernel) {
  const int64_t taps = kernel[0] * kernel[1] * kernel[2];
  const double bound =
      1.0 / std::sqrt(static_cast<double>(in * taps));  // torch's default for convs
  weight = register_parameter(
      "weight", at::empty({out, in, kernel[0], kernel[1], kernel[2]}).uniform_(-bound, bound));
  bias = register_parameter("bias", at::empty({out}).uniform_(-bound, bound));
}

at::Tensor CausalConv3dImpl::forward(const at::Tensor& x, Stream* stream, const Strips& strips) {
  const at::Tensor wider = strips.with_neighbours(x);
  return convolve(with_history(wider, reach(*this), next_history(stream)), strips);
}

at::Tensor CausalConv3dImpl::forward_normed(const ChannelNorm& norm, at::Tensor x, Stream* stream,
                                            const Strips& strips) {
  at::Tensor* history = next_history(stream);
  x = strips.with_neighbours(x);  // before the norm, which leaves rows of zeros zero
  const at::Tensor extended =
      norm_silu(x, norm->gamma, reach(*this), history == nullptr ? at::Tensor() : *history);
  x.reset();
  remember(history, extended, reach(*this));
  return convolve(extended, strips);
}

at::Tensor CausalConv3dImpl::convolve(const at::Tensor& extended, const Strips& strips,
                                      at::IntArrayRef stride) {
  return at::conv3d(extended, cast_like(weight, extended), cast_like(bias, extended), stride,
                    {0, strips.padding(weight.size(3) / 2), weight.size(4) / 2});
}

ChannelNormImpl::ChannelNormImpl(int64_t channels, int64_t trailing) {
  std::vector<int64_t> shape(static_cast<size_t>(trailing) + 1, 1);
  shape[0] = channels;
  gamma = register_parameter("gamma", at::ones(shape));
}

at::Tensor ChannelNormImpl::forward(const at::Tensor& x) {
  const at::ScalarType wide = at::toOpMathType(x.scalar_type());
  const at::Tensor length = at::linalg_vector_norm(x, 2, at::IntArrayRef{1}, true, wide);
  const at::Tensor gain = gamma.to(wide).view({-1, 1, 1, 1}) *
                          std::sqrt(static_cast<double>(x.size(1)));  // [C, 1, 1, 1]
  return (x / length.clamp_min(kMinLength) * gain).to(x.scalar_type());
}

ResidualBlockImpl::ResidualBlockImpl(int64_t in, int64_t out) {
  const auto residual = register_module("residual", std::make_shared<torch::nn::Module>());
  norm1 = register_inside(*residual, 0, ChannelNorm(in, 3));
  conv1 = register_inside(*residual, 2, CausalConv3d(in, out, std::array<int64_t, 3>{3, 3, 3}));
  norm2 = register_inside(*residual, 3, ChannelNorm(out, 3));
  conv2 = register_inside(*residual, 6, CausalConv3d(out, out, std::array<int64_t, 3>{3, 3, 3}));
  if (in != out) {
    shortcut = register_module("shortcut", CausalConv3d(in, out, std::array<int64_t, 3>{1, 1, 1}));
  }
}

at::Tensor ResidualBlockImpl::forward(const at::Tensor& x, Stream* stream, const Strips& strips) {
  at::Tensor change = conv1->forward_normed(norm1, x, stream, strips);
  change = conv2->forward_normed(norm2, std::move(change), stream, strips);
  return change.add_(shortcut ? pixelwise(x, shortcut->weight, shortcut->bias) : x);
}

FrameAttentionImpl::FrameAttentionImpl(int64_t channels) {
  norm = register_module("norm", ChannelNorm(channels, 2));
  to_qkv = register_module("to_qkv", torch::nn::Conv2d(channels, 3 * channels, 1));
  proj = register_module("proj", torch::nn::Conv2d(channels, channels, 1));
  torch::nn::init::zeros_(proj->weight);
}

at::Tensor FrameAttentionImpl::forward(const at::Tensor& x, const Strips& strips) {
  const auto pixels = [](const at::Tensor& y) {                                  // [B, C, T, H, W]
    return y.permute({0, 2, 3, 4, 1}).flatten(2, 3).flatten(0, 1).unsqueeze(1);  // [B*T, 1, H*W, C]
  };
  const int64_t C = x.size(1);
  const at::Tensor qkv =
      pixelwise(norm->forward(x), to_qkv->weight, to_qkv->bias);             // [B, 3C, T, H, W]
  const at::Tensor all_kv = strips.gather(qkv.narrow(1, C, 2 * C), "keys");  // [B, 2C, T, all H, W]
  const at::Tensor mixed = at::scaled_dot_product_attention(
      pixels(qkv.narrow(1, 0, C)), pixels(all_kv.narrow(1, 0, C)), pixels(all_kv.narrow(1, C, C)));
  // (b t) 1 (h w) c -> b c t h w
  const at::Tensor frames = mixed.view({x.size(0), x.size(2), x.size(3), x.size(4), C})
                                .permute({0, 4, 1, 2, 3});  // [B, C, T, H, W]
  return x + pixelwise(frames, proj->weight, proj->bias);
}

DownsampleImpl::DownsampleImpl(int64_t channels, bool temporal) {
  const auto resample = register_module("resample", std::make_shared<torch::nn::Module>());
  spatial = register_inside(
      *resample, 1, torch::nn::Conv2d(torch::nn::Conv2dOptions(channels, channels, 3).stride(2)));
  if (temporal) {
    time_conv = register_module("time_conv",
                                CausalConv3d(channels, channels, std::array<int64_t, 3>{3, 1, 1}));
  }
}

at::Tensor DownsampleImpl::forward(const at::Tensor& x, Stream* stream) {
  // The original pads one row of zeros below and one column at the right. Padding 2 on every side
  // and dropping the first row and column of the result is the same, without a padded copy of the
  // large input.
  const at::Tensor frames = at::conv2d(to_frames(x), cast_like(spatial->weight, x),
                                       cast_like(spatial->bias, x), {2, 2}, {2, 2});
  const at::Tensor small = from_frames(without_first(frames, 1), x.size(0));  // [B, C, T, H/2, W/2]
  if (!time_conv) {
    return small;
  }
  // Every output frame after the first one depends on three frames of the clip, 2t to 2t + 2.
  at::Tensor* history = next_history(stream);
  const bool first = stream == nullptr || stream->first();
  const at::Tensor sources = first ? small : at::cat({*history, small}, 2);
  remember(history, small, 1);
  if (sources.size(2) < 3) {
    return small;  // there is only the first frame yet
  }
  const at::Tensor halved = time_conv->convolve(sources, {}, {2, 1, 1});
  return first ? at::cat({first_frame(small), halved}, 2) : halved;
}

UpsampleImpl::UpsampleImpl(int64_t channels, bool temporal) {
  const auto resample = register_module("resample", std::make_shared<torch::nn::Module>());
  spatial = register_inside(
      *resample, 1,
      torch::nn::Conv2d(torch::nn::Conv2dOptions(channels, channels / 2, 3).padding(1)));
  if (temporal) {
    time_conv = register_module(
        "time_conv", CausalConv3d(channels, 2 * channels, std::array<int64_t, 3>{3, 1, 1}));
  }
}

at::Tensor UpsampleImpl::forward(const at::Tensor& x, Stream* stream, const Strips& strips) {
  const at::Tensor longer = time_conv ? lengthen(x, stream) : x;
  at::Tensor large = from_frames(
      at::upsample_nearest2d(to_frames(longer), {2 * x.size(3), 2 * x.size(4)}), x.size(0));
  large = strips.with_neighbours(large);
  return from_frames(at::conv2d(to_frames(large), cast_like(spatial->weight, x),
                                cast_like(spatial->bias, x), {1, 1}, {strips.padding(1), 1}),
                     x.size(0));
}

at::Tensor UpsampleImpl::lengthen(const at::Tensor& x, Stream* stream) {
  at::Tensor* history = next_history(stream);
  const auto doubled = [&](const at::Tensor& frames) {
    return split_into_two_frames(
        time_conv->convolve(with_history(frames, reach(*time_conv), history)));
  };
  if (stream != nullptr && !stream->first()) {
    return doubled(x);
  }
  if (x.size(2) == 1) {
    return x;
  }
  // The first frame of the clip passes unchanged, and the others do not depend on it.
  const auto parts = x.split_with_sizes({1, x.size(2) - 1}, 2);
  return at::cat({parts[0], doubled(parts[1])}, 2);
}

at::Tensor pixelwise(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  // b c t h w -> b t h w c and back; the weight as a matrix [out, in]
  return at::linear(x.permute({0, 2, 3, 4, 1}), cast_like(weight, x).flatten(1), cast_like(bias, x))
      .permute({0, 4, 1, 2, 3});  // [B, out, T, H, W]
}

}  // namespace ospnext::vae
