// A look at the bytes of a SentencePiece model before the library, which trusts them, reads them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ospnext {

inline constexpr uint64_t kMaxSpieceBytes = uint64_t{16} << 20;  // UMT5's has 4.5 MB

// What the checks found worth keeping.
struct SpieceSummary {
  std::vector<std::string> user_defined;  // pieces that count as special tokens
};

// Reads the protobuf message and throws InputError beginning with `origin` unless it is a unigram model
// whose pieces are sound and whose normalisation table (a double-array trie and the texts it points to)
// stays inside its own bytes.
// Source: sentencepiece src/sentencepiece_model.proto, src/normalizer.cc:DecodePrecompiledCharsMap.
SpieceSummary check_spiece_model(std::string_view bytes, const std::string& origin);

}  // namespace ospnext
