#include "engine/prompts.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string_view>

#include "core/error.h"
#include "core/utf8.h"
#include "io/readers/tensor_file.h"
#include "text/prompt_cleaning.h"

namespace ospnext {
namespace {

// Throws InputError beginning with `origin` for anything but UTF-8 text.
void check_encoding(const std::string& text, const std::string& origin) {
  const bool has_wide_mark = text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff");
  if (has_wide_mark || text.find('\0') != std::string::npos) {
    throw InputError(
        origin + ": found " +
        (has_wide_mark ? "the byte-order mark of UTF-16" : "zero bytes, as in UTF-16") +
        ", expected UTF-8 text");
  }
  check_utf8(text, origin);
}

// Takes those off the end of a line that end it together with the newline.
void drop_carriage_returns(std::string& line, const std::string& origin) {
  line.erase(line.find_last_not_of('\r') + 1);
  if (line.find('\r') != std::string::npos) {
    throw InputError(origin +
                     ": found a carriage return inside the prompt, expected lines that end in a "
                     "newline");
  }
}

}  // namespace

std::vector<std::string> read_prompts(const std::filesystem::path& file) {
  const std::string origin = "`prompts` " + file.string();
  std::ifstream in(file, std::ios::binary);
  if (!in || std::filesystem::is_directory(file)) {
    throw InputError(origin + ": cannot be read");
  }
  std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  check_encoding(text, origin);
  if (text.starts_with(kByteOrderMark)) {
    text.erase(0, kByteOrderMark.size());
  }
  std::vector<std::string> prompts;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    prompts.push_back(text.substr(begin, end - begin));
    drop_carriage_returns(prompts.back(), origin + ": line " + std::to_string(prompts.size()));
    begin = end + 1;
  }
  if (prompts.empty()) {
    throw InputError(origin + ": found no prompt, expected one a line");
  }
  return prompts;
}

void check_utf8(const std::string& text, const std::string& origin) {
  if (!is_utf8(text)) {
    throw InputError(origin + ": expected UTF-8 text");
  }
}

EncodedPrompt encode_prompt(Umt5Encoder& encoder, const Tokenizer& tokenizer,
                            const std::string& prompt, int64_t max_rows) {
  const torch::NoGradGuard no_grad;
  if (tokenizer.vocab_size() > encoder->config().vocab_size) {
    throw InputError("the tokenizer has " + std::to_string(tokenizer.vocab_size()) +
                     " ids, but the text encoder knows only " +
                     std::to_string(encoder->config().vocab_size) +
                     ": they do not belong together");
  }
  EncodedPrompt encoded{.cleaned = clean_prompt(prompt), .tokens = {}, .rows = {}};
  encoded.tokens = tokenizer.encode(encoded.cleaned, max_rows);
  const int64_t length = std::min(encoded.tokens.found, max_rows);
  const at::Device device = encoder->token_embedding->weight.device();
  const at::Tensor ids =
      torch::tensor(encoded.tokens.ids, torch::kInt64).slice(0, 0, length).unsqueeze(0);  // [1, n]
  encoded.rows = encoder->forward(ids.to(device), at::ones_like(ids).to(device))[0];      // [n, D]
  return encoded;
}

bool is_cut(int64_t found, int64_t max_rows) {
  return found > max_rows;
}

std::string cut_sentence(const std::string& prompt, int64_t found, int64_t max_rows) {
  constexpr size_t kShown = 60;  // bytes
  const std::string shown = utf8_prefix(prompt, kShown) + (prompt.size() > kShown ? "..." : "");
  return "the prompt " + quoted(shown) + " has " + std::to_string(found - 1) +
         " tokens, of which the model reads the first " + std::to_string(max_rows - 1) +
         ": what follows is cut";
}

EncodedPrompts encode_prompts(Umt5Encoder& encoder, const Tokenizer& tokenizer,
                              const std::vector<std::string>& prompts, int64_t rows,
                              const CancellationToken& cancel) {
  const torch::NoGradGuard no_grad;
  EncodedPrompts encoded;
  std::vector<at::Tensor> ids, masks, embeddings;
  for (const std::string& prompt : prompts) {
    cancel.check();
    const EncodedPrompt one = encode_prompt(encoder, tokenizer, prompt, rows);
    encoded.cleaned.push_back(one.cleaned);
    encoded.found.push_back(one.tokens.found);
    ids.push_back(torch::tensor(one.tokens.ids, torch::kInt64));     // [T]
    masks.push_back(torch::tensor(one.tokens.mask, torch::kInt64));  // [T]
    embeddings.push_back(
        torch::constant_pad_nd(one.rows, {0, 0, 0, rows - one.rows.size(0)}));  // [T, D]
  }
  encoded.ids = torch::stack(ids);
  encoded.mask = torch::stack(masks);
  encoded.embeddings = torch::stack(embeddings);
  return encoded;
}

}  // namespace ospnext
