#include "engine/text_embeddings.h"

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
  const at::Tensor here = rows.cpu();  // [n, D]
  // A view would hold on to all that it is a view of.
  rows_[text] = here.nbytes() == here.storage().nbytes() ? here : here.clone();
}

}  // namespace ospnext
