// Collectives with gradients, made of those of ProcessGroup, which have none.
//
// The ranks of a group compute one value together: the sum of what each of them makes of its
// results. A gradient is that of the sum, so the gradient of a collective is another collective,
// which all ranks call in the backward pass in the same order.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/process_group.h"

namespace ospnext {

// ProcessGroup::all_to_all(). Its gradient is the all-to-all with the counts swapped.
at::Tensor exchange_rows(const ProcessGroup& group, const at::Tensor& x,
                         const std::vector<int64_t>& sent, const std::vector<int64_t>& received,
                         const char* purpose);

// ProcessGroup::all_gather(). Its gradient is the sum of all ranks' gradients of this rank's rows
// (a reduce-scatter).
at::Tensor gather_rows(const ProcessGroup& group, const at::Tensor& x,
                       const std::vector<int64_t>& rows, const char* purpose);

}  // namespace ospnext
