// The texts of a run as the transformer reads them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "core/torch/torch.h"
#include "engine/prompts.h"
#include "packages/model_source.h"

namespace ospnext {

// Embeds texts on request and keeps the rows of each without padding. The encoder can be freed;
// the rows stay.
class TextEmbeddings {
 public:
  // For at most `max_rows` rows of text.
  explicit TextEmbeddings(int64_t max_rows) : max_rows_(max_rows) {}

  // The text encoder and its tokenizer. Throws as the source does.
  void load_encoder(const ModelSource& source, const ComputeOptions& compute);
  void free_encoder();
  bool has_encoder() const { return tokenizer_.has_value(); }

  // Embeds a text and keeps its rows; the encoder must be loaded. Returns its number of tokens,
  // </s> among them, which may be more than are read: is_cut(). Throws as encode_prompt() does.
  int64_t embed(const std::string& text);
  // Keeps rows [n, D] that another process has embedded.
  void keep(const std::string& text, const at::Tensor& rows);
  // [n, D] in the encoder's dtype, on the CPU, of a text that is there.
  const at::Tensor& rows(const std::string& text) const { return rows_.at(text); }
  bool has(const std::string& text) const { return rows_.contains(text); }
  int64_t num_rows() const { return num_rows_; }  // of all texts
  void forget(const std::string& text);
  void forget_all();
  // Pads all rows with zeros to the number of the longest text.
  void pad_alike();

 private:
  int64_t max_rows_;
  at::Tensor block_;  // [rows, D] of the texts embedded last, and room for more
  int64_t used_ = 0;  // rows of the block
  int64_t num_rows_ = 0;
  std::optional<Tokenizer> tokenizer_;
  Umt5Encoder encoder_{nullptr};
  std::map<std::string, at::Tensor> rows_;
};

}  // namespace ospnext
