// The text input of the transformer, without hundreds of equal padding rows.
// Letters: B batch, T text tokens (rows), H heads, D head width.
#pragma once

#include <cstdint>
#include <utility>

#include "core/torch/torch.h"

namespace ospnext {

// Rows of text with weights: in attention, row t counts as e^log_weight[t] equal rows would.
struct TextRows {
  // NOLINTNEXTLINE(google-explicit-constructor): in a plain tensor every row counts once.
  TextRows(at::Tensor rows, at::Tensor log_weight = {})
      : rows(std::move(rows)), log_weight(std::move(log_weight)) {}

  at::Tensor rows;        // [B, T, width of the text]
  at::Tensor log_weight;  // [T] float32, or undefined: every row counts once
};

// Keys and values of the text for one block, which do not depend on the video or the step; or the
// text of which the block makes them itself.
struct TextKeys {
  at::Tensor key, value;  // [B, T, H, D], or undefined
  at::Tensor log_weight;  // as in TextRows
  at::Tensor words = {};  // [B, T, C], or undefined
};

// Pads text to the `text_len` rows that Wan's transformers attend to. The rows past the prompt are
// zero, so their keys are equal, and a few weighted rows give the same attention as all of them.
// rows [B, n, width], n <= text_len, zero past each sample's prompt -> [B, T, width]: the rows,
// then zero rows. The last two rows together count as themselves and all rows that are left out.
// T is a multiple of 8, which ATen's kernels need for weighted keys. When this saves no rows,
// T = text_len and every row counts once.
TextRows pad_text(const at::Tensor& rows, int64_t text_len);

}  // namespace ospnext
