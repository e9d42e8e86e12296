#include "engine/prompts.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "text/prompt_cleaning.h"

namespace ospnext {

std::vector<std::string> read_prompts(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in || std::filesystem::is_directory(file)) {
    throw InputError("--prompts " + file.string() + ": cannot be read");
  }
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  check_utf8(text, "--prompts " + file.string());
  std::vector<std::string> prompts;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    prompts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  if (prompts.empty()) {
    throw InputError("--prompts " + file.string() + ": found no prompt, expected one a line");
  }
  return prompts;
}

void check_utf8(const std::string& text, const std::string& origin) {
  try {
    nlohmann::json(text).dump();  // refuses anything else
  } catch (const nlohmann::json::exception&) {
    throw InputError(origin + ": expected UTF-8 text");
  }
}

EncodedPrompts encode_prompts(Umt5Encoder& encoder, const Tokenizer& tokenizer,
                              const std::vector<std::string>& prompts, int64_t rows,
                              const CancellationToken& cancel) {
  const torch::NoGradGuard no_grad;
  if (tokenizer.vocab_size() > encoder->config().vocab_size) {
    throw InputError("the tokenizer has " + std::to_string(tokenizer.vocab_size()) +
                     " ids, but the text encoder knows only " +
                     std::to_string(encoder->config().vocab_size) +
                     ": they do not belong together");
  }
  const at::Device device = encoder->token_embedding->weight.device();
  EncodedPrompts encoded;
  std::vector<at::Tensor> ids, masks, embeddings;
  for (const std::string& prompt : prompts) {
    cancel.check();
    encoded.cleaned.push_back(clean_prompt(prompt));
    const Tokenizer::Tokens tokens = tokenizer.encode(encoded.cleaned.back(), rows);
    ids.push_back(torch::tensor(tokens.ids, torch::kInt64));     // [T]
    masks.push_back(torch::tensor(tokens.mask, torch::kInt64));  // [T]
    const int64_t length = masks.back().sum().item<int64_t>();
    const at::Tensor valid =
        encoder->forward(ids.back().slice(0, 0, length).unsqueeze(0).to(device),
                         masks.back().slice(0, 0, length).unsqueeze(0).to(device));
    embeddings.push_back(torch::constant_pad_nd(valid[0], {0, 0, 0, rows - length}));  // [T, D]
  }
  encoded.ids = torch::stack(ids);
  encoded.mask = torch::stack(masks);
  encoded.embeddings = torch::stack(embeddings);
  return encoded;
}

}  // namespace ospnext
