#include "io/readers/clip_list.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <optional>

#include "core/error.h"
#include "core/extension.h"
#include "core/utf8.h"
#include "io/readers/bounded_json.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

using Names = std::array<std::string_view, 5>;
constexpr Names kFileNames{"file_name", "video", "video_path", "path", "file"};
constexpr Names kCaptionNames{"caption", "text", "prompt", "cap", ""};
constexpr size_t kMostListBytes = 1 << 30;

std::string trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t begin = std::min(text.find_first_not_of(kBlanks), text.size());
  return std::string(text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin));
}

std::string read_text(const fs::path& file, size_t most) {
  std::ifstream in(file, std::ios::binary);
  std::error_code error;
  const auto size = fs::is_regular_file(file) ? fs::file_size(file, error) : 0;
  if (!in || !fs::is_regular_file(file) || error) {
    throw InputError(file.string() + ": cannot be read");
  }
  if (size > most) {
    throw InputError(file.string() + ": found " + std::to_string(size) +
                     " bytes, expected at most " + std::to_string(most));
  }
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void drop_byte_order_mark(std::string_view& text) {
  if (text.starts_with(kByteOrderMark)) {
    text.remove_prefix(kByteOrderMark.size());
  }
}

ListedClip checked(ListedClip clip) {
  clip.caption = trimmed(clip.caption);
  for (const auto& [what, text] : {std::pair("file", &clip.file), {"caption", &clip.caption}}) {
    if (text->empty()) {
      throw InputError(clip.place + ": the " + what + " is empty");
    }
  }
  if (clip.file.find('\0') != std::string::npos) {
    throw InputError(clip.place + ": found a zero byte in the name of the file");
  }
  return clip;
}

std::string expected_names(const Names& names) {
  std::string list;
  for (const std::string_view name : names) {
    list += (list.empty() || name.empty() ? "" : ", ") + std::string(name);
  }
  return list;
}

std::string json_text(const nlohmann::json& entry, const Names& names, const std::string& place) {
  for (const std::string_view name : names) {
    const auto found = entry.find(name);
    if (!name.empty() && found != entry.end()) {
      if (!found->is_string()) {
        throw InputError(place + ": " + std::string(name) + ": found " + shown(*found) +
                         ", expected text");
      }
      return found->get<std::string>();
    }
  }
  throw InputError(place + ": expected one of the keys " + expected_names(names));
}

ListedClip json_clip(const nlohmann::json& entry, const std::string& place) {
  if (!entry.is_object()) {
    throw InputError(place + ": found " + shown(entry) + ", expected a JSON object");
  }
  return checked({.file = json_text(entry, kFileNames, place),
                  .caption = json_text(entry, kCaptionNames, place),
                  .place = place});
}

std::vector<ListedClip> parse_json_lines(std::string_view text, const std::string& origin) {
  std::vector<ListedClip> clips;
  int64_t number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::string place = origin + ": line " + std::to_string(++number);
    if (!line.empty()) {
      clips.push_back(json_clip(parse_bounded_json(line, place), place));
    }
  }
  return clips;
}

std::vector<ListedClip> parse_json_array(std::string_view text, const std::string& origin) {
  const nlohmann::json json = parse_bounded_json(text, origin);
  if (!json.is_array()) {
    throw InputError(origin + ": found " + shown(json) + ", expected a JSON array");
  }
  std::vector<ListedClip> clips;
  for (const auto& entry : json) {
    clips.push_back(json_clip(entry, origin + ": entry " + std::to_string(clips.size() + 1)));
  }
  return clips;
}

// Rows of CSV. Fields in quotes may hold commas, line breaks, and quotes written twice.
class CsvReader {
 public:
  CsvReader(std::string_view text, std::string origin) : text_(text), origin_(std::move(origin)) {}

  bool at_end() const { return text_.empty(); }
  std::string place() const { return origin_ + ": line " + std::to_string(line_); }
  // The fields of the next row. Afterwards place() is that of the row.
  std::vector<std::string> row() {
    line_ = next_line_;
    std::vector<std::string> fields;
    do {
      fields.push_back(!text_.empty() && text_.front() == '"' ? quoted_field() : plain_field());
    } while (take(','));
    if (!at_end() && !take('\n')) {
      throw InputError(place() + ": found text behind a closing quote, expected a comma");
    }
    next_line_ += 1;
    return fields;
  }

 private:
  bool take(char wanted) {
    if (text_.empty() || text_.front() != wanted) {
      return false;
    }
    text_.remove_prefix(1);
    return true;
  }
  std::string plain_field() {
    const size_t end = std::min(text_.find_first_of(",\n"), text_.size());
    std::string field(text_.substr(0, end));
    text_.remove_prefix(end);
    if (!field.empty() && field.back() == '\r') {
      field.pop_back();
    }
    return field;
  }
  std::string quoted_field() {
    std::string field;
    take('"');
    while (true) {
      const size_t end = text_.find('"');
      if (end == text_.npos) {
        throw InputError(place() + ": a quote is not closed");
      }
      field += text_.substr(0, end);
      text_.remove_prefix(end + 1);
      if (!take('"')) {
        break;
      }
      field += '"';
    }
    next_line_ += std::count(field.begin(), field.end(), '\n');
    if (text_.starts_with("\r\n") || text_ == "\r") {
      take('\r');
    }
    return field;
  }

  std::string_view text_;
  std::string origin_;
  int64_t line_ = 1, next_line_ = 1;
};

size_t csv_column(const std::vector<std::string>& header, const Names& names,
                  const std::string& place) {
  for (const std::string_view name : names) {
    const auto found = std::find(header.begin(), header.end(), name);
    if (!name.empty() && found != header.end()) {
      return static_cast<size_t>(found - header.begin());
    }
  }
  throw InputError(place + ": expected one of the columns " + expected_names(names));
}

std::vector<ListedClip> parse_csv(std::string_view text, const std::string& origin) {
  CsvReader reader(text, origin);
  const std::vector<std::string> header = reader.row();
  const size_t file = csv_column(header, kFileNames, reader.place());
  const size_t caption = csv_column(header, kCaptionNames, reader.place());
  std::vector<ListedClip> clips;
  while (!reader.at_end()) {
    std::vector<std::string> fields = reader.row();
    if (fields.size() == 1 && fields[0].empty()) {
      continue;  // an empty line
    }
    if (fields.size() != header.size()) {
      throw InputError(reader.place() + ": found " + std::to_string(fields.size()) +
                       " fields, expected " + std::to_string(header.size()));
    }
    clips.push_back(checked({.file = std::move(fields[file]),
                             .caption = std::move(fields[caption]),
                             .place = reader.place()}));
  }
  return clips;
}

}  // namespace

std::vector<ListedClip> parse_clip_list(std::string_view text, ClipListFormat format,
                                        const std::string& origin) {
  drop_byte_order_mark(text);
  if (!is_utf8(std::string(text))) {
    throw InputError(origin + ": expected UTF-8 text");
  }
  auto clips = format == ClipListFormat::kCsv    ? parse_csv(text, origin)
               : format == ClipListFormat::kJson ? parse_json_array(text, origin)
                                                 : parse_json_lines(text, origin);
  if (clips.empty()) {
    throw InputError(origin + ": found no clip");
  }
  return clips;
}

std::vector<ListedClip> read_clip_list(const fs::path& file) {
  const std::string extension = extension_of(file);
  if (extension != ".jsonl" && extension != ".json" && extension != ".csv") {
    throw InputError(file.string() + ": expected a list of clips, .jsonl, .json or .csv");
  }
  const auto format = extension == ".csv"    ? ClipListFormat::kCsv
                      : extension == ".json" ? ClipListFormat::kJson
                                             : ClipListFormat::kJsonLines;
  return parse_clip_list(read_text(file, kMostListBytes), format, file.string());
}

std::string read_caption_text(const fs::path& file, size_t most) {
  const std::string bytes = read_text(file, most);
  std::string_view text = bytes;
  drop_byte_order_mark(text);
  if (!is_utf8(std::string(text))) {
    throw InputError(file.string() + ": expected UTF-8 text");
  }
  return trimmed(text);
}

}  // namespace ospnext
