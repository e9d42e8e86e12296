#include "train/deepen.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace ospnext {
namespace {

void copy_parameters(torch::nn::Module& to, const torch::nn::Module& from) {
  auto targets = to.named_parameters();
  for (const auto& item : from.named_parameters()) {
    targets[item.key()].copy_(item.value());
  }
}

void zero_residuals(TransformerBlockImpl& block) {
  for (LinearImpl* output :
       {block.self_attn->o.get(), block.cross_attn->o.get(), block.ffn->second.get()}) {
    output->weight.zero_();
    output->bias.zero_();
  }
}

}  // namespace

Transformer deepen(const Transformer& transformer, std::vector<int64_t> after) {
  torch::NoGradGuard no_grad;
  TransformerConfig config = transformer->config();
  const int64_t old_layers = config.num_layers;
  for (const int64_t block : after) {
    if (block < 0 || block >= old_layers) {
      throw InputError("`insert_blocks`: found block " + std::to_string(block) +
                       ", expected 0 to " + std::to_string(old_layers - 1));
    }
  }
  std::ranges::sort(after);
  config.num_layers += static_cast<int64_t>(after.size());
  Transformer deeper(config);
  deeper->to(transformer->head->head->weight.device());
  int64_t next = 0;  // index of a block of `deeper`
  for (int64_t old = 0; old < old_layers; ++old) {
    const BlockPlan was = transformer->plan()[old], is = deeper->plan()[next];
    if (was.pattern != is.pattern) {
      throw InputError("`insert_blocks`: block " + std::to_string(old) +
                       " would get another attention pattern as block " + std::to_string(next) +
                       "; expected pairs of new blocks between sparse ones");
    }
    const auto& block = transformer->blocks->at<TransformerBlockImpl>(old);
    copy_parameters(deeper->blocks->at<TransformerBlockImpl>(next++), block);
    for (auto copies = std::ranges::count(after, old); copies > 0; --copies) {
      auto& added = deeper->blocks->at<TransformerBlockImpl>(next++);
      copy_parameters(added, block);
      zero_residuals(added);
    }
  }
  copy_parameters(*deeper->patch_embedding, *transformer->patch_embedding);
  copy_parameters(*deeper->text_embedding, *transformer->text_embedding);
  copy_parameters(*deeper->time_embedding, *transformer->time_embedding);
  copy_parameters(*deeper->time_projection, *transformer->time_projection);
  copy_parameters(*deeper->head, *transformer->head);
  return deeper;
}

}  // namespace ospnext
