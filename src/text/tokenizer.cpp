// The UMT5 tokenizer, based on the sentencepiece library.
#include "text/tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/torch/torch.h"
#include "io/readers/mapped_file.h"
#include "text/tokenizer_model_check.h"

namespace ospnext {
namespace {

constexpr int64_t kExtraIds = 300;

std::filesystem::path model_file(const std::filesystem::path& path) {
  return std::filesystem::is_directory(path) ? path / "spiece.model" : path;
}

std::string read_model(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) {
    throw InputError(path.string() +
                     ": found no such file, expected a SentencePiece model (spiece.model)");
  }
  const MappedFile file(path);
  const auto bytes = file.bytes();
  if (bytes.size() > kMaxSpieceBytes) {
    throw InputError(path.string() + ": found " + std::to_string(bytes.size()) +
                     " bytes, expected a SentencePiece model of at most " +
                     std::to_string(kMaxSpieceBytes));
  }
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace

struct Tokenizer::Model {
  sentencepiece::SentencePieceProcessor pieces;
  std::map<std::string, int64_t, std::less<>> specials;
  int64_t pad = 0;
  int64_t eos = 0;

  Model(std::string_view bytes, const std::string& origin);
  int64_t id_of(const char* piece, const std::string& origin) const;
  size_t special_at(std::string_view text, size_t start, int64_t& id) const;
  void append_ids(std::string_view text, std::vector<int64_t>& ids) const;
};

Tokenizer::Model::Model(std::string_view bytes, const std::string& origin) {
  if (bytes.size() > kMaxSpieceBytes) {
    throw InputError(origin + ": found " + std::to_string(bytes.size()) +
                     " bytes, expected a SentencePiece model of at most " +
                     std::to_string(kMaxSpieceBytes));
  }
  const SpieceSummary summary = check_spiece_model(bytes, origin);
  std::string complaint;
  try {
    const auto status = pieces.LoadFromSerializedProto({bytes.data(), bytes.size()});
    complaint = status.ok() ? "" : status.ToString();
  } catch (const std::exception& error) {
    complaint = error.what();
  }
  if (!complaint.empty()) {
    throw InputError(origin + ": found a broken SentencePiece model (" + complaint +
                     "), expected a sound one");
  }
  pad = id_of("<pad>", origin);
  eos = id_of("</s>", origin);
  const int count = pieces.GetPieceSize();
  for (int id = 0; id < count; ++id) {
    if (pieces.IsControl(id) || pieces.IsUnknown(id)) {
      specials.emplace(pieces.IdToPiece(id), id);
    }
  }
  for (const std::string& piece : summary.user_defined) {
    specials.emplace(piece, pieces.PieceToId(piece));
  }
  for (int64_t k = 0; k < kExtraIds; ++k) {
    specials.emplace("<extra_id_" + std::to_string(k) + ">", count + kExtraIds - 1 - k);
  }
}

int64_t Tokenizer::Model::id_of(const char* piece, const std::string& origin) const {
  const int id = pieces.PieceToId(piece);
  if (pieces.IsUnknown(id)) {
    throw InputError(origin + ": found no piece " + piece +
                     ", expected a tokenizer of the T5 family");
  }
  return id;
}

// Returns the length of the longest special token that starts at text[start], 0 if there is none,
// and sets `id`.
size_t Tokenizer::Model::special_at(std::string_view text, size_t start, int64_t& id) const {
  size_t length = 0;
  const std::string_view rest = text.substr(start);
  // In the map, special tokens with the same first byte are neighbours.
  for (auto it = specials.lower_bound(rest.substr(0, 1));
       it != specials.end() && it->first.front() == rest.front(); ++it) {
    if (it->first.size() > length && rest.substr(0, it->first.size()) == it->first) {
      length = it->first.size();
      id = it->second;
    }
  }
  return length;
}

void Tokenizer::Model::append_ids(std::string_view text, std::vector<int64_t>& ids) const {
  std::vector<int> found;
  const auto status = pieces.Encode({text.data(), text.size()}, &found);
  if (!status.ok()) {
    throw RunError("tokenizer: " + status.ToString());
  }
  ids.insert(ids.end(), found.begin(), found.end());
}

Tokenizer::Tokenizer(const std::filesystem::path& file)
    : Tokenizer(read_model(model_file(file)), model_file(file).string()) {}

Tokenizer::Tokenizer(std::string_view bytes, const std::string& origin)
    : model_(std::make_unique<Model>(bytes, origin)) {}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

int64_t Tokenizer::vocab_size() const {
  return model_->pieces.GetPieceSize() + kExtraIds;
}

Tokenizer::Tokens Tokenizer::encode(std::string_view cleaned, int64_t max_length) const {
  TORCH_CHECK(max_length >= 1, "max_length: expected at least 1 for </s>, got ", max_length);
  std::vector<int64_t> ids;
  size_t begin = 0;
  for (size_t i = 0; i < cleaned.size();) {
    int64_t special = 0;
    const size_t length = model_->special_at(cleaned, i, special);
    if (length == 0) {
      ++i;
      continue;
    }
    model_->append_ids(cleaned.substr(begin, i - begin), ids);
    ids.push_back(special);
    i += length;
    begin = i;
  }
  model_->append_ids(cleaned.substr(begin), ids);

  const auto length = static_cast<size_t>(max_length);
  const int64_t found = std::ssize(ids) + 1;
  ids.resize(std::min(ids.size(), length - 1));
  ids.push_back(model_->eos);
  std::vector<int64_t> mask(ids.size(), 1);
  ids.resize(length, model_->pad);
  mask.resize(length, 0);
  return {std::move(ids), std::move(mask), found};
}

}  // namespace ospnext
