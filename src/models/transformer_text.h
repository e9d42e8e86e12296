// Text as the transformer attends to it, without carrying hundreds of equal padding rows.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <utility>

namespace ospnext {

// Rows of text, each attended once, except that the last two, when `padding` is not 0, are equal and
// together count as `padding` equal rows.
struct TextRows {
  // NOLINTNEXTLINE(google-explicit-constructor): a plain tensor is text whose rows count once.
  TextRows(at::Tensor rows, int64_t padding = 0) : rows(std::move(rows)), padding(padding) {}

  at::Tensor rows;  // [B, T, D]
  int64_t padding;
};

// Wan's transformers attend to `text_len` rows, of which those past the prompt are zero. This is the same
// text in few rows: `rows` [B, n, D] (n <= text_len, zero past each sample's prompt) with just so many
// zero rows behind them as their count needs, a multiple of 8 in all; or text_len rows that count once
// when that is not fewer.
TextRows pad_text(const at::Tensor& rows, int64_t text_len);

}  // namespace ospnext
