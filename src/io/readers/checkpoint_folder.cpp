#include "io/readers/checkpoint_folder.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <string_view>

#include "core/error.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kOf = "-of-";
constexpr size_t kShardDigits = 5;  // as transformers and diffusers write both numbers

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

// Of what lies in `folder`; none where it cannot be read.
std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    entries.push_back(entry->path());
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

std::optional<int64_t> shard_number(std::string_view digits) {
  int64_t number = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, number);
  const bool is_number = digits.size() == kShardDigits && error == std::errc() && stop == end;
  return is_number && number >= 0 ? std::optional(number) : std::nullopt;
}

std::string five_digits(int64_t number) {
  const std::string text = std::to_string(number);
  return std::string(kShardDigits - std::min(kShardDigits, text.size()), '0') + text;
}

// What tells the shards of one set from those of another.
std::string set_name(const ShardName& shard) {
  return shard.name_of(0);
}

}  // namespace

std::string ShardName::name_of(int64_t shard) const {
  return begin + five_digits(shard) + std::string(kOf) + five_digits(count) + end;
}

std::optional<ShardName> parse_shard_name(const std::string& name) {
  const size_t of = name.rfind(kOf);
  if (of == name.npos || of < kShardDigits + 1 || name[of - kShardDigits - 1] != '-') {
    return std::nullopt;
  }
  const std::string_view text = name;
  const std::string_view rest = text.substr(of + kOf.size());
  const auto number = shard_number(text.substr(of - kShardDigits, kShardDigits));
  const auto count = shard_number(rest.substr(0, kShardDigits));
  if (!number || !count || rest.size() <= kShardDigits || rest[kShardDigits] != '.') {
    return std::nullopt;
  }
  return ShardName{name.substr(0, of - kShardDigits), *number, *count,
                   std::string(rest.substr(kShardDigits))};
}

bool is_index_name(const std::string& name) {
  constexpr std::string_view kIndex = ".index.";
  constexpr std::string_view kEnd = ".json";
  const size_t index = name.rfind(kIndex);
  if (index == name.npos || !name.ends_with(kEnd)) {
    return false;
  }
  const std::string_view behind = std::string_view(name).substr(index + kIndex.size());
  return behind == "json" || behind.find('.') == behind.size() - kEnd.size();  // one variant
}

std::vector<fs::path> checkpoints_in(const fs::path& folder,
                                     const std::function<bool(const fs::path&)>& fits) {
  std::vector<fs::path> indexes;
  std::vector<fs::path> files;
  std::vector<fs::path> foreign;
  std::set<std::string> sets;
  for (const fs::path& path : sorted_entries(folder)) {
    const std::string name = path.filename().string();
    if (name.starts_with('.') || !fits(path)) {
      continue;
    }
    if (is_index_name(name)) {
      indexes.push_back(path);
    } else if (is_tensor_file(path)) {
      const auto shard = parse_shard_name(name);
      if (!shard || sets.insert(set_name(*shard)).second) {
        files.push_back(path);
      }
    } else if (path.extension() == ".gguf" ||
               (path.extension() == ".distcp" && sets.insert(".distcp").second)) {
      foreign.push_back(path);
    }
  }
  return !indexes.empty() ? indexes : !files.empty() ? files : foreign;
}

void refuse_hub_cache(const fs::path& folder) {
  const fs::path snapshots = folder / "snapshots";
  if (!is_folder(snapshots) || !(is_folder(folder / "refs") || is_folder(folder / "blobs"))) {
    return;
  }
  std::vector<std::string> found;
  for (const fs::path& snapshot : sorted_entries(snapshots)) {
    found.push_back(snapshot.string());
  }
  throw InputError(
      folder.string() +
      ": this is a hub's cache of a repository, expected one of the snapshots in it: " +
      (found.empty() ? "found none" : list_text(found)));
}

}  // namespace ospnext
