// Checks the bytes of a SentencePiece model before the library reads them, which does not check.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ospnext {

inline constexpr uint64_t kMaxSpieceBytes = uint64_t{16} << 20;  // UMT5's has 4.5 MB

struct SpieceSummary {
  std::vector<std::string> user_defined;  // pieces that count as special tokens
};

// Reads the protobuf message. Throws an InputError that begins with `origin` unless it is a unigram
// model with valid pieces, and all offsets in its normalisation table (a double-array trie and the
// texts that it points to) stay inside the table.
// Source: sentencepiece src/sentencepiece_model.proto, src/normalizer.cc:DecodePrecompiledCharsMap.
SpieceSummary check_spiece_model(std::string_view bytes, const std::string& origin);

}  // namespace ospnext
