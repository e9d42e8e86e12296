#include "io/loras.h"

#include <algorithm>
#include <iterator>
#include <set>

#include "core/error.h"
#include "core/log.h"
#include "io/weights.h"

namespace ospnext {
namespace {

// The values of a record as float32 on `device`.
at::Tensor floats(const TensorRecord& record, const LoraFile& file, const std::string& name,
                  at::Device device) {
  if (!is_floating(record.dtype)) {
    throw InputError(file.checkpoint.path() + ": tensor " + quoted(name) +
                     " or its partner is of " + dtype_text(record) +
                     ", expected floating-point numbers");
  }
  const at::Tensor values = to_tensor(record).to(device).to(at::kFloat);
  if (!at::isfinite(values).all().item<bool>()) {
    throw InputError(file.checkpoint.path() + ": tensor " + quoted(name) +
                     " or its partner holds NaN or infinite values, expected finite numbers");
  }
  return values;
}

}  // namespace

Loras::Loras(const std::vector<LoraChoice>& choices) {
  for (const LoraChoice& choice : choices) {
    files_.push_back(open_lora(choice.path));
  }
  // files_ no longer grows, so pointers into it stay valid
  for (size_t i = 0; i < files_.size(); ++i) {
    for (const LoraChange& content : files_[i].changes) {
      changes_[content.target].push_back(
          {&files_[i], &content, choices[i].strength * content.scale});
    }
  }
}

void Loras::check_fits(const TensorShapes& shapes) const {
  for (const LoraFile& file : files_) {
    file.check_fits(shapes);
  }
}

void Loras::warn_of_remarks() const {
  std::set<std::string> said;
  for (const LoraFile& file : files_) {
    for (const std::string& remark : file.remarks) {
      if (said.insert(remark).second) {
        warn(remark);
      }
    }
  }
}

bool Loras::need_the_noise_level() const {
  return std::ranges::any_of(files_,
                             [](const LoraFile& file) { return file.lowest_noise_level > 0; });
}

std::vector<LowRankChange> Loras::take_low_rank() {
  std::vector<LowRankChange> taken;
  for (auto entry = changes_.begin(); entry != changes_.end();) {
    auto& [parameter, changes] = *entry;
    std::erase_if(changes, [&, &parameter = parameter](const Change& change) {
      const auto& [file, content, factor] = change;
      if (!content->down || content->values.shape.size() != 2 || content->down->shape.size() != 2) {
        return false;
      }
      const auto copy = [&](const TensorRecord& record) {  // the file may be closed before it
        return floats(record, *file, content->name, at::kCPU).clone();
      };
      taken.push_back({parameter, copy(*content->down), copy(content->values), factor,
                       file->lowest_noise_level});
      return true;
    });
    entry = changes.empty() ? changes_.erase(entry) : std::next(entry);
  }
  return taken;
}

void Loras::add_to(const std::string& parameter, int64_t first_row, const at::Tensor& rows) const {
  const auto found = changes_.find(parameter);
  TORCH_CHECK(found != changes_.end(), parameter, " is not changed");
  const int64_t count = rows.size(0);
  for (const auto& [file, content, factor] : found->second) {
    if (file->lowest_noise_level > 0) {
      throw InputError(file->checkpoint.path() +
                       ": acts at some noise levels alone (lowest_noise_level in its "
                       "configuration), expected one for all levels where LoRAs are merged");
    }
    const at::Tensor values =
        floats(content->values, *file, content->name, rows.device()).narrow(0, first_row, count);
    if (!content->down) {
      rows.add_(values, factor);
      continue;
    }
    const at::Tensor down =
        floats(*content->down, *file, content->name, rows.device()).flatten(1);  // [r, in]
    rows.view({count, -1}).addmm_(values.flatten(1), down, 1.0, factor);         // [count, in]
  }
}

}  // namespace ospnext
