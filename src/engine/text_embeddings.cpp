#include "engine/text_embeddings.h"

#include <algorithm>

namespace ospnext {

void TextEmbeddings::load_encoder(const ModelSource& source, const ComputeOptions& compute) {
  tokenizer_.emplace(source.tokenizer());
  encoder_ = source.text_encoder(compute);
}

void TextEmbeddings::free_encoder() {
  tokenizer_.reset();
  encoder_ = nullptr;
}

int64_t TextEmbeddings::embed(const std::string& text) {
  const EncodedPrompt encoded = encode_prompt(encoder_, *tokenizer_, text, max_rows_);
  keep(text, encoded.rows);
  return encoded.tokens.found;
}

void TextEmbeddings::keep(const std::string& text, const at::Tensor& rows) {
  if (rows_.contains(text)) {
    return;  // embedded here
  }
  // Rows lie side by side in large blocks, of which only touched pages take memory: rows kept one
  // by one between what the encoder allocates and frees would leave gaps of half their size.
  constexpr int64_t kBlockRows = 8192;
  const int64_t n = rows.size(0);
  if (!block_.defined() || used_ + n > block_.size(0)) {
    block_ = at::empty({std::max(kBlockRows, n), rows.size(1)}, rows.options().device(at::kCPU));
    used_ = 0;
  }
  rows_[text] = block_.narrow(0, used_, n).copy_(rows);
  used_ += n;
  num_rows_ += n;
}

void TextEmbeddings::forget(const std::string& text) {
  const auto found = rows_.find(text);
  if (found != rows_.end()) {
    num_rows_ -= found->second.size(0);
    rows_.erase(found);
  }
}

void TextEmbeddings::forget_all() {
  rows_.clear();
  block_ = at::Tensor();
  used_ = num_rows_ = 0;
}

void TextEmbeddings::pad_alike() {
  const std::map<std::string, at::Tensor> rows = std::move(rows_);
  int64_t longest = 0;
  for (const auto& [text, own] : rows) {
    longest = std::max(longest, own.size(0));
  }
  forget_all();
  for (const auto& [text, own] : rows) {
    keep(text, at::constant_pad_nd(own, {0, 0, 0, longest - own.size(0)}));  // [longest, D]
  }
}

}  // namespace ospnext
