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
// empty prompt, a last newline adds none. Carriage returns before a newline belong to the line's
// end, a byte-order mark to the file: neither is part of a prompt. Throws InputError for a file
// that cannot be read, is not UTF-8, has a carriage return inside a prompt, or holds no prompt.
std::vector<std::string> read_prompts(const std::filesystem::path& file);

// Throws InputError beginning with `origin` unless `text` is UTF-8.
void check_utf8(const std::string& text, const std::string& origin);

struct EncodedPrompt {
  std::string cleaned;
  Tokenizer::Tokens tokens;  // T ids and T of the mask
  at::Tensor rows;  // [n, D], of the n tokens alone, in the encoder's dtype and on its device
};

// Cleans, tokenises and encodes a prompt for `max_rows` (T) rows of text, without its padding,
// which changes nothing but the time it takes. Throws InputError when the tokenizer has ids that
// the encoder does not know.
EncodedPrompt encode_prompt(Umt5Encoder& encoder, const Tokenizer& tokenizer,
                            const std::string& prompt, int64_t max_rows);

// Whether the model does not read all of a prompt of `found` tokens, and the sentence that says so.
bool is_cut(int64_t found, int64_t max_rows);
std::string cut_sentence(const std::string& prompt, int64_t found, int64_t max_rows);

struct EncodedPrompts {
  std::vector<std::string> cleaned;
  std::vector<int64_t> found;  // [n] tokens of each, cut or not
  at::Tensor ids;              // [n, T] int64
  at::Tensor mask;             // [n, T] int64
  at::Tensor
      embeddings;  // [n, T, D] in the encoder's dtype and on its device, zero past the prompt
};

// Several prompts, each encoded alone, with their padding. Throws as encode_prompt() does.
EncodedPrompts encode_prompts(Umt5Encoder& encoder, const Tokenizer& tokenizer,
                              const std::vector<std::string>& prompts, int64_t rows,
                              const CancellationToken& cancel);

}  // namespace ospnext
