// Groups the tensors of a LoRA file by layer and checks them.
#include "io/readers/lora_file.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <map>
#include <utility>

#include "core/error.h"
#include "io/readers/lora_scales.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

constexpr double kLargestStrength = 100;

// The tensors of one layer, each with its name in the file.
struct Layer {
  using Entry = const TensorMap::value_type*;
  std::map<LoraPart, Entry> parts;
  LoraKey key{};

  Entry part(LoraPart part) const {
    const auto found = parts.find(part);
    return found == parts.end() ? nullptr : found->second;
  }
};

// Elements of one row: the product of all dimensions but the first. A convolution's kernel is
// treated as a matrix.
std::optional<int64_t> row_size(const std::vector<int64_t>& shape) {
  return byte_count({shape.begin() + 1, shape.end()}, 1);
}

// Fills `file` from the tensors of its checkpoint.
class Assembly {
 public:
  Assembly(LoraFile& file, LoraScales& scales)
      : file_(file), path_(file.checkpoint.path()), scales_(scales) {}

  void run() {
    group();
    for (const auto& [name, layer] : layers_) {
      add_pair(layer);
      for (const LoraPart part :
           {LoraPart::kWeightDiff, LoraPart::kBiasDiff, LoraPart::kModulationDiff}) {
        if (const auto entry = layer.part(part)) {
          add(layer, part, *entry, std::nullopt, 1.0);
        }
      }
    }
    file_.remarks = scales_.remarks(written_layers_);
    file_.lowest_noise_level = scales_.lowest_noise_level();
    if (file_.lowest_noise_level > 0) {
      check_noisy();
    }
  }

 private:
  void group() {
    if (file_.checkpoint.tensors().empty()) {
      throw InputError(path_ + ": the LoRA is empty");
    }
    std::vector<std::string> unknown;
    for (const auto& entry : file_.checkpoint.tensors()) {
      if (const auto key = parse_lora_key(entry.first)) {
        take(*key, entry);
      } else {
        unknown.push_back(entry.first);
      }
    }
    if (!unknown.empty()) {
      refuse(unknown);
    }
  }

  void take(const LoraKey& key, const TensorMap::value_type& entry) {
    if (key.part == LoraPart::kDora) {
      throw InputError(path_ + ": found magnitudes of DoRA (tensor " + quoted(entry.first) +
                       "), expected a LoRA without them");
    }
    Layer& layer = layers_[key.layer];
    layer.key = key;
    file_.families.insert(key.family);
    const auto [place, is_new] = layer.parts.emplace(key.part, &entry);
    if (!is_new) {
      throw InputError(path_ + ": the tensors " + quoted(place->second->first) + " and " +
                       quoted(entry.first) + " are the same part of " + key.layer);
    }
  }

  // Throws. Names the other method if the file has no LoRA pairs or if all unknown names belong to
  // other methods; otherwise lists the unknown names.
  [[noreturn]] void refuse(const std::vector<std::string>& unknown) const {
    const bool has_pair = std::any_of(layers_.begin(), layers_.end(), [](const auto& layer) {
      return layer.second.part(LoraPart::kDown) || layer.second.part(LoraPart::kUp);
    });
    const auto known = std::find_if(unknown.begin(), unknown.end(), other_method);
    if (known != unknown.end() &&
        (!has_pair || std::all_of(unknown.begin(), unknown.end(), other_method))) {
      throw InputError(path_ + ": found " + other_method(*known) + " (tensor " + quoted(*known) +
                       "), expected a LoRA, which is two matrices for a layer");
    }
    std::vector<std::string> names;
    std::transform(unknown.begin(), unknown.end(), std::back_inserter(names), quoted);
    throw InputError(path_ + ": " + std::to_string(unknown.size()) + " of " +
                     std::to_string(file_.checkpoint.tensors().size()) +
                     " tensors have no name of a LoRA: " + list_text(names));
  }

  void add(const Layer& layer, LoraPart part, const TensorMap::value_type& entry,
           const std::optional<TensorRecord>& down, double scale) {
    LoraKey key = layer.key;
    key.part = part;
    file_.changes.push_back({key.target(), entry.first, entry.second, down, scale});
  }

  void add_pair(const Layer& layer) {
    const auto down = layer.part(LoraPart::kDown);
    const auto up = layer.part(LoraPart::kUp);
    const auto bias = layer.part(LoraPart::kUpBias);
    const auto alpha = layer.part(LoraPart::kAlpha);
    const double alpha_value = alpha ? alpha_of(*alpha) : 0;
    if (!down || !up) {
      const bool is_diff = layer.part(LoraPart::kWeightDiff) != nullptr;  // alpha has no effect
      for (const auto alone : {down, up, bias, is_diff ? nullptr : alpha}) {
        if (alone) {
          throw InputError(path_ + ": tensor " + quoted(alone->first) +
                           " stands alone, expected both matrices of its layer");
        }
      }
      return;
    }
    const int64_t rank = check_shapes(*down, *up);
    const double scale =
        alpha ? alpha_value / static_cast<double>(rank) : scales_.scale(layer.key.written, rank);
    file_.ranks.insert(rank);
    written_layers_.push_back(layer.key.written);
    add(layer, LoraPart::kUp, *up, down->second, scale);
    if (bias) {
      add(layer, LoraPart::kUpBias, *bias, std::nullopt, scale);
    }
  }

  // A LoRA that acts at some noise levels can only be switched where the latent is computed, and
  // only if it stays beside the weights.
  void check_noisy() const {
    for (const LoraChange& change : file_.changes) {
      if (!change.down || change.values.shape.size() != 2 || !depends_on_noise(change.target)) {
        throw InputError(path_ + ": tensor " + quoted(change.name) +
                         ": found in a LoRA with lowest_noise_level, expected " + kNoisyLayers);
      }
    }
  }

  int64_t check_shapes(const TensorMap::value_type& down, const TensorMap::value_type& up) const {
    const auto& d = down.second.shape;
    const auto& u = up.second.shape;
    const std::string both = path_ + ": tensors " + quoted(down.first) + " " + shape_text(d) +
                             " and " + quoted(up.first) + " " + shape_text(u);
    if (d.size() < 2 || u.size() < 2 || row_size(u) != u[1]) {
      throw InputError(both + ": expected matrices [r, in] and [out, r]");
    }
    if (d[0] != u[1]) {
      throw InputError(both + ": expected the same rank in both");
    }
    if (d[0] == 0) {
      throw InputError(both + ": found rank 0, expected at least 1");
    }
    return d[0];
  }

  double alpha_of(const TensorMap::value_type& entry) const {
    const auto alpha = scalar_value(entry.second);
    if (!alpha || !std::isfinite(*alpha)) {
      throw InputError(
          path_ + ": tensor " + quoted(entry.first) + ": found " +
          (alpha ? std::to_string(*alpha)
                 : dtype_text(entry.second) + (" of shape " + shape_text(entry.second.shape))) +
          ", expected one finite number as alpha");
    }
    return *alpha;
  }

  LoraFile& file_;
  const std::string path_;
  LoraScales& scales_;
  std::map<std::string, Layer> layers_;
  std::vector<std::string> written_layers_;  // layers with a pair, by their names in the file
};

}  // namespace

LoraChoice parse_lora_choice(const std::string& text) {
  const size_t colon = text.rfind(':');
  LoraChoice choice{text.substr(0, colon), 1.0};
  if (colon != text.npos) {
    const char* begin = text.data() + colon + 1;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(begin, end, choice.strength);
    if (error != std::errc() || stop != end || begin == end ||
        !(std::abs(choice.strength) <= kLargestStrength)) {
      throw InputError("`lora` " + text + ": found the strength \"" + text.substr(colon + 1) +
                       "\", expected a number from -100 to 100 behind the last colon");
    }
  }
  if (choice.path.empty()) {
    throw InputError("`lora` " + text + ": expected FILE or FILE:STRENGTH");
  }
  return choice;
}

void LoraFile::check_fits(const TensorShapes& shapes) const {
  std::vector<std::string> unmatched;
  std::vector<std::string> misshapen;
  for (const LoraChange& change : changes) {
    const auto target = shapes.find(change.target);
    if (target == shapes.end()) {
      unmatched.push_back(quoted(change.name));
      continue;
    }
    const auto& shape = target->second;
    const auto& values = change.values.shape;
    const bool fits = change.down ? shape.size() >= 2 && values[0] == shape[0] &&
                                        row_size(change.down->shape) == row_size(shape)
                                  : values == shape;
    if (!fits) {
      misshapen.push_back(quoted(change.name) + " (found " +
                          (change.down ? shape_text(values) + " x " + shape_text(change.down->shape)
                                       : shape_text(values)) +
                          ", the weight is " + shape_text(shape) + ")");
    }
  }
  if (!unmatched.empty()) {
    throw InputError(checkpoint.path() + ": " + std::to_string(unmatched.size()) + " of " +
                     std::to_string(changes.size()) +
                     " changes fit no layer of the transformer: " + list_text(unmatched));
  }
  if (!misshapen.empty()) {
    throw InputError(checkpoint.path() + ": " + std::to_string(misshapen.size()) + " of " +
                     std::to_string(changes.size()) +
                     " changes have the wrong shape: " + list_text(misshapen));
  }
}

std::optional<fs::path> lora_weights_in(const fs::path& directory) {
  std::error_code ignored;
  for (const char* name :
       {"adapter_model.safetensors", "adapter_model.bin", "pytorch_lora_weights.safetensors"}) {
    if (fs::is_regular_file(directory / name, ignored)) {
      return directory / name;
    }
  }
  return std::nullopt;
}

LoraFile open_lora(const fs::path& file_or_directory) {
  fs::path weights = file_or_directory;
  std::error_code ignored;
  if (fs::is_directory(file_or_directory, ignored)) {
    const auto found = lora_weights_in(file_or_directory);
    if (!found) {
      throw InputError(file_or_directory.string() +
                       ": expected a directory with adapter_model.safetensors, adapter_model.bin "
                       "or pytorch_lora_weights.safetensors, found none of them");
    }
    weights = *found;
  }
  LoraFile file{open_checkpoint(weights), {}, {}, {}, 0, {}};
  LoraScales scales(weights, file.checkpoint);
  Assembly(file, scales).run();
  return file;
}

}  // namespace ospnext
