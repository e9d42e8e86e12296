// The program's commands. To add one, declare it here and add a line to commands.cpp.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/flags_from_fields.h"
#include "core/cancel.h"
#include "core/torch/process_switches.h"

namespace ospnext {

struct Command {
  const char* name;
  const char* summary;
  // `arguments` are the words after the command's name. Throws the errors of core/error.h.
  std::function<void(const Arguments& arguments, const CancellationToken& cancel)> run;
  ProcessSwitches switches = {};
};

void run_generate(const Arguments& arguments, const CancellationToken& cancel);
void run_serve(const Arguments& arguments, const CancellationToken& cancel);
void run_stage(const Arguments& arguments, const CancellationToken& cancel);
void run_train_vae(const Arguments& arguments, const CancellationToken& cancel);
void run_train(const Arguments& arguments, const CancellationToken& cancel);
void run_rl(const Arguments& arguments, const CancellationToken& cancel);
void run_score(const Arguments& arguments, const CancellationToken& cancel);
void run_encode(const Arguments& arguments, const CancellationToken& cancel);
void run_eval(const Arguments& arguments, const CancellationToken& cancel);
void run_inspect(const Arguments& arguments, const CancellationToken& cancel);
void run_convert(const Arguments& arguments, const CancellationToken& cancel);
void run_merge_lora(const Arguments& arguments, const CancellationToken& cancel);
void run_bench(const Arguments& arguments, const CancellationToken& cancel);
void run_quantize(const Arguments& arguments, const CancellationToken& cancel);
void run_launch(const Arguments& arguments, const CancellationToken& cancel);
void run_plan(const Arguments& arguments, const CancellationToken& cancel);
void run_make_random(const Arguments& arguments, const CancellationToken& cancel);

const std::vector<Command>& commands();

// Aligned lines of "name  summary".
std::string command_list(const std::vector<Command>& list);
// Sets the switches of the command with the name arguments[0] and runs it with the remaining
// arguments. Throws InputError if the name is missing or unknown. `prefix` precedes the name in
// messages ("ospnext stage").
void run_command(const std::vector<Command>& list, const std::string& prefix,
                 const Arguments& arguments, const CancellationToken& cancel);

}  // namespace ospnext
