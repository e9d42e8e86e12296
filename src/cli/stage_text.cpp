// ospnext stage encode-text: converts prompts to token ids and embeddings.
#include <nlohmann/json.hpp>

#include "cli/stage.h"
#include "cli/stage_files.h"
#include "core/error.h"
#include "core/log.h"
#include "engine/prompts.h"
#include "io/weights.h"
#include "packages/model_fields.h"

namespace ospnext {
namespace {

constexpr int64_t kTextRows = 512;

struct EncodeTextStage {
  std::string prompt;
  std::string prompts;
  ModelFields model;
  StageOutput common;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("prompt", prompt, "text to encode");
    field("prompts", prompts, "file of prompts, one a line, instead of --prompt");
    model.visit(field);
    common.visit(field);
  }
};

}  // namespace

void run_stage_encode_text(const Arguments& arguments, const CancellationToken& cancel) {
  EncodeTextStage config;
  const auto given = read_flags(
      "stage encode-text",
      "Write ids [n,512], mask [n,512] and embeddings [n,512,D] of prompts; the metadata "
      "key \"cleaned\" lists them as they were tokenised.",
      flags_of(config), arguments);
  if (!given) {
    return;
  }
  given->apply(config);
  const bool has_prompt = given->has("prompt");
  if (has_prompt == given->has("prompts")) {
    throw InputError(std::string("--prompt and --prompts: found ") +
                     (has_prompt ? "both" : "neither") + ", expected one of them");
  }
  config.common.check();
  const ComputeOptions compute = config.common.compute();
  check_utf8(config.prompt, "--prompt");
  const auto prompts =
      has_prompt ? std::vector<std::string>{config.prompt} : read_prompts(config.prompts);
  const ModelFiles files = config.model.find();
  const Tokenizer tokenizer = load_tokenizer(files.require(ModelPart::kTokenizer));
  Umt5Encoder encoder = load_text_encoder(files.require(ModelPart::kTextEncoder), compute);
  const EncodedPrompts encoded = encode_prompts(encoder, tokenizer, prompts, kTextRows, cancel);
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (is_cut(encoded.found[i], kTextRows)) {
      warn(cut_sentence(prompts[i], encoded.found[i], kTextRows));
    }
  }
  save_safetensors(config.common.output,
                   {{"ids", encoded.ids},
                    {"mask", encoded.mask},
                    {"embeddings", encoded.embeddings.to(torch::kFloat32)}},
                   {{"cleaned", nlohmann::json(encoded.cleaned).dump()}});
}

}  // namespace ospnext
