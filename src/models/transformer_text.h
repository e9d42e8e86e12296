// Text as the transformer attends to it, without carrying hundreds of equal padding rows.
#pragma once

#include <cstdint>
#include <utility>

#include "core/torch/torch.h"

namespace ospnext {

// Rows of text, each attended as often as its weight says.
struct TextRows {
  // NOLINTNEXTLINE(google-explicit-constructor): a plain tensor is text whose rows count once.
  TextRows(at::Tensor rows, at::Tensor log_weight = {})
      : rows(std::move(rows)), log_weight(std::move(log_weight)) {}

  at::Tensor rows;        // [B, T, D]
  at::Tensor log_weight;  // [T] float32, or undefined: every row counts once
};

// What a block's attention to the text takes of it: the same for every video and every step.
struct TextKeys {
  at::Tensor key, value;  // [B, T, H, D]
  at::Tensor log_weight;  // of TextRows
};

// Wan's transformers attend to `text_len` rows, of which those past the prompt are zero and hence equal.
// This is the same text in few rows: `rows` [B, n, D] (n <= text_len, zero past each sample's prompt) with a
// few zero rows behind them, the last two of which count as all that are left out; or text_len rows that
// count once when that is not fewer. A multiple of 8, as ATen's kernels for weighted keys want it.
TextRows pad_text(const at::Tensor& rows, int64_t text_len);

}  // namespace ospnext
