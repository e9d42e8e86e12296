#include "cli/commands.h"

#include <algorithm>

#include "core/error.h"

namespace ospnext {

const std::vector<Command>& commands() {
  static const std::vector<Command> list = {
      {"generate", "make videos from prompts", run_generate},
      {"serve",
       "make videos for others: a page, an API and a queue",
       run_serve,
       {.keep_freed_memory = true}},
      {"launch", "run a command in several processes that work together", run_launch},
      {"plan", "predict what a model takes on several GPUs", run_plan},
      {"stage", "run one stage of the pipeline on files", run_stage},
      {"encode", "encode videos and their captions for training", run_encode},
      {"train-vae",
       "train a video VAE on procedural clips",
       run_train_vae,
       {.try_convolutions = true}},
      {"train",
       "train a transformer and its text encoder on procedural clips",
       run_train,
       {.try_convolutions = true}},
      {"rl",
       "improve a model by rewards for its videos (Mix-GRPO)",
       run_rl,
       {.keep_freed_memory = true}},
      {"score", "score videos by rewards", run_score},
      {"eval",
       "measure how a model follows prompts of the procedural world",
       run_eval,
       {.keep_freed_memory = true}},
      {"inspect", "say what a file or folder of weights is", run_inspect},
      {"convert", "write a model in another layout or dtype", run_convert},
      {"merge-lora", "write a model with LoRAs in it", run_merge_lora},
      {"quantize", "write a transformer with weights in HiFloat8", run_quantize},
      {"make-random", "write a checkpoint of a released size with random weights", run_make_random},
      {"bench", "time the pieces of a model on this machine", run_bench},
  };
  return list;
}

std::string command_list(const std::vector<Command>& list) {
  size_t width = 0;
  for (const Command& command : list) {
    width = std::max(width, std::string(command.name).size());
  }
  std::string text;
  for (const Command& command : list) {
    std::string name = command.name;
    name.resize(width + 2, ' ');
    text += "  " + name + command.summary + "\n";
  }
  return text;
}

void run_command(const std::vector<Command>& list, const std::string& prefix,
                 const Arguments& arguments, const CancellationToken& cancel) {
  std::vector<std::string> names;
  for (const Command& command : list) {
    if (!arguments.empty() && arguments[0] == command.name) {
      set_process_switches(command.switches);
      command.run(Arguments(arguments.begin() + 1, arguments.end()), cancel);
      return;
    }
    names.emplace_back(command.name);
  }
  std::string known;
  for (const std::string& name : names) {
    known += (known.empty() ? "" : ", ") + name;
  }
  if (arguments.empty()) {
    throw InputError(prefix + ": expected one of: " + known);
  }
  const std::string meant = likely_meant(arguments[0], names);
  throw InputError("unknown command \"" + prefix + " " + arguments[0] + "\"; " +
                   (meant.empty() ? "expected one of: " + known : "did you mean " + meant + "?"));
}

}  // namespace ospnext
