#include "io/readers/weight_companions.h"

#include <array>
#include <string_view>

#include "core/error.h"
#include "io/readers/hif8_codes.h"
#include "io/readers/scaled_fp8.h"

namespace ospnext {
namespace {

// A name ending that occurs in one quantisation format only.
struct FormatSign {
  std::string_view end;
  const char* title;
};

constexpr std::array kOtherFormats{
    FormatSign{".SCB", "bitsandbytes int8"},
    FormatSign{".quant_state.bitsandbytes__nf4", "bitsandbytes nf4"},
    FormatSign{".quant_state.bitsandbytes__fp4", "bitsandbytes fp4"},
    FormatSign{".weight.absmax", "bitsandbytes 4-bit"},
    FormatSign{".weight_scale_2", "nvfp4"},
    FormatSign{".weight_packed", "packed compressed-tensors"},
    FormatSign{".qweight", "GPTQ or AWQ"},
    FormatSign{".weight._data", "optimum-quanto"},
    FormatSign{".weight_qdata", "torchao"},
};

// The weight that the tensor `name` belongs to: X.weight for "X.scale", "X.weight_zero_point" and
// "X.weight.state.shape". tensors.end() if there is none.
TensorMap::const_iterator weight_of(const std::string& name, const TensorMap& tensors) {
  // At most this many parts are removed from the end of the name. No known companion needs more.
  constexpr int kParts = 8;
  size_t end = name.size();
  for (int i = 0; i < kParts && end > 0; ++i) {
    end = name.find_last_of("._", end - 1);
    if (end == name.npos) {
      break;
    }
    const std::string before = name.substr(0, end);
    if (const auto found = tensors.find(before); found != tensors.end()) {
      return found;
    }
    const auto found = name[end] == '.' ? tensors.find(before + ".weight") : tensors.end();
    if (found != tensors.end() && found->first != name) {
      return found;
    }
  }
  return tensors.end();
}

}  // namespace

bool is_weight_companion(const std::string& name) {
  return is_fp8_companion(name) || is_hif8_companion(name);
}

void refuse_other_formats(const Checkpoint& checkpoint) {
  for (const auto& entry : checkpoint.tensors()) {
    for (const auto& [end, title] : kOtherFormats) {
      if (entry.first.ends_with(end)) {
        throw InputError(checkpoint.path() + ": found weights quantised as " + title + " (tensor " +
                         quoted(entry.first) +
                         "), expected floating-point, scaled fp8 or HiF8 weights");
      }
    }
  }
}

std::map<std::string, std::string> unknown_companions(const Checkpoint& checkpoint) {
  std::map<std::string, std::string> companions;
  for (const auto& entry : checkpoint.tensors()) {
    const std::string& name = entry.first;
    if (is_weight_companion(name) || name.ends_with(".bias")) {
      continue;
    }
    const auto weight = weight_of(name, checkpoint.tensors());
    if (weight == checkpoint.tensors().end() ||
        (is_floating(weight->second.dtype) && !is_fp8(weight->second.dtype))) {
      continue;
    }
    companions.emplace(weight->first, name);
  }
  return companions;
}

}  // namespace ospnext
