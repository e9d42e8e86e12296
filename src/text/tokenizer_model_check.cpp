// Checks the bytes of a SentencePiece model before the library reads them, which does not check.
#include "text/tokenizer_model_check.h"

#include <cmath>
#include <cstring>
#include <functional>

#include "core/error.h"

namespace ospnext {
namespace {

constexpr size_t kMaxReplacement = 1024;  // bytes that replace one character; NFKC needs up to 33
constexpr size_t kMaxPieces = 400'000;    // UMT5 has 256,000
constexpr size_t kTrieBlock = 256;        // units per block of a double-array trie

// A field of a protobuf message.
struct Field {
  uint64_t number = 0;
  uint64_t integer = 0;    // of a varint or a fixed-width field
  std::string_view bytes;  // of a length-delimited field
};

// Reads the fields of a protobuf message.
class Scanner {
 public:
  Scanner(std::string_view bytes, const std::string& origin) : bytes_(bytes), origin_(origin) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw InputError(origin_ + ": found " + what + ", expected a SentencePiece unigram model");
  }

  void for_each_field(const std::function<void(const Field&)>& visit) {
    while (!bytes_.empty()) {
      Field field;
      const uint64_t key = varint();
      field.number = key >> 3;
      switch (key & 7) {
        case 0:
          field.integer = varint();
          break;
        case 1:
          field.integer = fixed<uint64_t>();
          break;
        case 2:
          field.bytes = take(varint());
          break;
        case 5:
          field.integer = fixed<uint32_t>();
          break;
        default:
          fail("bytes that are no protobuf message");
      }
      visit(field);
    }
  }

 private:
  std::string_view take(uint64_t count) {
    if (count > bytes_.size()) {
      fail("a message that is cut off");
    }
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }

  template <class Integer>
  uint64_t fixed() {
    Integer value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1).front());
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) {
        return value;
      }
    }
    fail("bytes that are no protobuf message");
  }

  std::string_view bytes_;
  const std::string& origin_;
};

// One unit of a double-array trie. Source: Darts-clone, DoubleArrayUnit.
struct TrieUnit {
  uint32_t bits;
  bool is_value() const { return bits >> 31 != 0; }
  bool has_leaf() const { return ((bits >> 8) & 1) != 0; }
  uint32_t value() const { return bits & 0x7fffffffU; }
  uint32_t offset() const { return (bits >> 10) << ((bits & (1U << 9)) >> 6); }
};

// Checks a normalisation table: the length of the trie in bytes (4 bytes), the trie, and the
// replacement texts, each with a zero byte at its end.
void check_charsmap(std::string_view blob, const Scanner& scanner) {
  uint32_t trie_bytes = 0;
  const bool has_length = blob.size() > sizeof trie_bytes;
  if (has_length) {
    std::memcpy(&trie_bytes, blob.data(), sizeof trie_bytes);
    blob.remove_prefix(sizeof trie_bytes);
  }
  const size_t block_bytes = kTrieBlock * sizeof(uint32_t);
  if (!has_length || trie_bytes >= blob.size() || trie_bytes == 0 ||
      trie_bytes % block_bytes != 0 || blob.back() != '\0') {
    scanner.fail("a normalisation table of impossible size");
  }
  std::vector<TrieUnit> units(trie_bytes / sizeof(TrieUnit));
  std::memcpy(units.data(), blob.data(), trie_bytes);
  const std::string_view replacements = blob.substr(trie_bytes);
  for (size_t start = 0; start < replacements.size();) {
    const size_t end = replacements.find('\0', start);
    if (end - start > kMaxReplacement) {
      scanner.fail("a normalisation table with a replacement of " + std::to_string(end - start) +
                   " bytes");
    }
    start = end + 1;
  }
  for (size_t i = 0; i < units.size(); ++i) {
    if (i > 0 && units[i].is_value()) {
      continue;  // a value has no children; the root always counts as an inner unit
    }
    const size_t child = i ^ units[i].offset();
    if (child >= units.size() ||
        (units[i].has_leaf() && units[child].value() >= replacements.size())) {
      scanner.fail("a normalisation table that points outside itself");
    }
  }
}

}  // namespace

SpieceSummary check_spiece_model(std::string_view bytes, const std::string& origin) {
  constexpr uint64_t kUnigram = 1;
  constexpr uint64_t kUserDefined = 4;
  SpieceSummary summary;
  Scanner model(bytes, origin);
  size_t pieces = 0;
  model.for_each_field([&](const Field& part) {
    Scanner inside(part.bytes, origin);
    if (part.number == 1) {
      if (++pieces > kMaxPieces) {
        model.fail("more than " + std::to_string(kMaxPieces) + " pieces");
      }
      std::string_view piece;
      uint64_t type = 1;
      inside.for_each_field([&](const Field& field) {
        if (field.number == 1) {
          piece = field.bytes;
        } else if (field.number == 2) {
          const auto bits = static_cast<uint32_t>(field.integer);
          float score = 0;
          std::memcpy(&score, &bits, sizeof score);
          if (!std::isfinite(score)) {
            model.fail("a piece whose score is not a number");
          }
        } else if (field.number == 3) {
          type = field.integer;
        }
      });
      if (piece.empty() || piece.find('\0') != std::string_view::npos) {
        model.fail("a piece that is empty or holds a zero byte");
      }
      if (type == kUserDefined) {
        summary.user_defined.emplace_back(piece);
      }
    } else if (part.number == 2) {
      inside.for_each_field([&](const Field& field) {
        if (field.number == 3 && field.integer != kUnigram) {
          model.fail("a SentencePiece model of another type");
        }
      });
    } else if (part.number == 3 || part.number == 5) {
      inside.for_each_field([&](const Field& field) {
        if (field.number == 2 && !field.bytes.empty()) {
          check_charsmap(field.bytes, model);
        }
      });
    }
  });
  if (pieces == 0) {
    model.fail("no pieces");
  }
  return summary;
}

}  // namespace ospnext
