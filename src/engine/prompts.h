// Prompts: from files, and on to text embeddings.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/torch/torch.h"
#include "models/umt5.h"
#include "text/tokenizer.h"

namespace ospnext {

// One prompt a line: a prompt ends at a newline character and at nothing else, an empty line is the
// empty prompt, a last newline adds none. Throws InputError for a file that cannot be read, is not UTF-8
// or holds no prompt.
std::vector<std::string> read_prompts(const std::filesystem::path& file);

// Throws InputError beginning with `origin` unless `text` is UTF-8.
void check_utf8(const std::string& text, const std::string& origin);

struct EncodedPrompts {
  std::vector<std::string> cleaned;
  at::Tensor ids;   // [n, T] int64
  at::Tensor mask;  // [n, T] int64
  at::Tensor
      embeddings;  // [n, T, D] in the encoder's dtype and on its device, zero past the prompt
};

// Cleans, tokenises and encodes prompts for `rows` (T) rows of text. Each prompt is encoded alone and
// without its padding, which changes nothing but the time it takes. Throws InputError when the
// tokenizer has ids that the encoder does not know.
EncodedPrompts encode_prompts(Umt5Encoder& encoder, const Tokenizer& tokenizer,
                              const std::vector<std::string>& prompts, int64_t rows,
                              const CancellationToken& cancel);

}  // namespace ospnext
