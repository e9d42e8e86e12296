// Input: a SentencePiece model. If the check accepts it, the library must load and use it, or
// refuse it.
#include <sentencepiece_processor.h>

#include "fuzz/fuzz_entry.h"
#include "text/tokenizer_model_check.h"

FUZZ_ENTRY(spiece) {
  ospnext::check_spiece_model(input, "input");
  sentencepiece::SentencePieceProcessor pieces;
  try {
    if (!pieces.LoadFromSerializedProto({input.data(), input.size()}).ok()) {
      return;
    }
  } catch (const std::exception&) {  // the tokenizer treats both as a refusal
    return;
  }
  std::vector<int> ids;
  static_cast<void>(pieces.Encode("A cat, \xef\xbc\xa1\xcc\x80 \xe7\x8c\xab\xff 1\xc2\xbd", &ids));
}
