#include "quant/hif8_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "core/error.h"
#include "quant/hif8_tensors.h"

namespace ospnext::hif8 {
namespace {

constexpr std::array<std::string_view, 10> kRounded{
    "self_attn.q",  "self_attn.k",  "self_attn.v",  "self_attn.o", "cross_attn.q",
    "cross_attn.k", "cross_attn.v", "cross_attn.o", "ffn.0",       "ffn.2",
};

}  // namespace

bool is_rounded_weight(const std::string& name) {
  constexpr std::string_view kBegin = "blocks.", kEnd = ".weight";
  if (!name.starts_with(kBegin) || !name.ends_with(kEnd)) {
    return false;
  }
  const size_t dot = name.find('.', kBegin.size());
  if (dot + 1 > name.size() - kEnd.size()) {
    return false;
  }
  const std::string_view layer =
      std::string_view(name).substr(dot + 1, name.size() - kEnd.size() - dot - 1);
  return std::find(kRounded.begin(), kRounded.end(), layer) != kRounded.end();
}

std::map<std::string, WeightSource> decoded_sources(const Checkpoint& checkpoint,
                                                    const KeyMap& rename) {
  auto sources = weight_sources(checkpoint, rename);
  for (auto& [name, source] : sources) {
    if (source.hif8_scale) {
      source.decode = [scale = static_cast<float>(*source.hif8_scale)](const at::Tensor& codes) {
        return decode(codes, at::full({}, scale, codes.options().dtype(at::kFloat)));
      };
    }
  }
  return sources;
}

float weight_scale(const WeightSource& source, const Checkpoint& checkpoint, const Loras& loras,
                   at::Device device, double amax_to) {
  if (const auto scale = stored_scale(source, loras)) {
    return *scale;
  }
  const RowRange rows = all_rows(source.record.shape);
  const float amax = weight_amax(source, rows, checkpoint, loras, device);
  return scale_to(amax_to, at::full({}, amax, at::kFloat)).item<float>();
}

std::optional<float> stored_scale(const WeightSource& source, const Loras& loras) {
  return source.hif8_scale && !loras.change(source.name)
             ? std::optional(static_cast<float>(*source.hif8_scale))
             : std::nullopt;
}

float weight_amax(const WeightSource& source, const RowRange& rows, const Checkpoint& checkpoint,
                  const Loras& loras, at::Device device) {
  at::Tensor amax = at::zeros({}, at::kFloat);
  stream_weight(source, rows, checkpoint, loras, device, [&](int64_t, const at::Tensor& some) {
    amax = at::maximum(amax, amax_of_tensor(some.to(at::kFloat)).cpu());  // NaN stays
  });
  if (!std::isfinite(amax.item<float>())) {
    throw InputError(checkpoint.path() + ": tensor " + quoted(source.file_name) +
                     " holds NaN or infinite values, expected finite numbers");
  }
  return amax.item<float>();
}

}  // namespace ospnext::hif8
