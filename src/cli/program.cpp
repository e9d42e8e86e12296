#include "cli/program.h"

#include <c10/util/Logging.h>

#include <cstdlib>
#include <iostream>
#include <new>

#include "cli/commands.h"
#include "cli/exit_status.h"
#include "cli/interrupt.h"
#include "core/error.h"
#include "core/torch/torch.h"
#include "core/version.h"
#include "parallel/peer_error.h"

namespace ospnext {
namespace {

std::string usage() {
  return std::string("ospnext ") + kVersion +
         " - text-to-video with sparse video attention\n\n"
         "Usage: ospnext COMMAND [flags]\n\nCommands:\n" +
         command_list(commands()) + "\n\"ospnext COMMAND --help\" lists the flags of a command.\n";
}

int report(int status, const std::string& message) {
  std::cerr << "ospnext: error: " << one_line(with_flag_names(message)) << std::endl;
  return status;
}

// Stops LibTorch from logging its own lines and stack traces for failures that we report as errors.
void quieten_libtorch() {
  constexpr int kFatalOnly = 3;
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) {
    FLAGS_caffe2_log_level = kFatalOnly;
  }
}

int dispatch(const Arguments& arguments) {
  if (arguments.empty()) {
    std::cerr << usage();
    return kBadInput;
  }
  if (arguments[0] == "--help" || arguments[0] == "-h" || arguments[0] == "help") {
    std::cout << usage();
    return 0;
  }
  if (arguments[0] == "--version") {
    std::cout << "ospnext " << kVersion << "\n";
    return 0;
  }
  run_command(commands(), "ospnext", arguments, interrupt_token());
  return 0;
}

}  // namespace

std::string one_line(std::string message) {
  message = message.substr(0, message.find("\nException raised from "));
  std::string line;
  for (const char c : message) {
    const bool blank = c == '\n' || c == '\r' || c == '\t' || c == ' ';
    if (!blank) {
      line += c;
    } else if (!line.empty() && line.back() != ' ') {
      line += ' ';
    }
  }
  while (line.ends_with(' ')) {
    line.pop_back();
  }
  return line;
}

int run_program(const Arguments& arguments) {
  catch_interrupts();
  quieten_libtorch();
  try {
    return dispatch(arguments);
  } catch (const InputError& error) {
    return report(kBadInput, error.what());
  } catch (const Cancelled& error) {
    return report(kInterrupted, error.what());
  } catch (const PeerError& error) {
    // An interrupt reaches all processes of a run. One may notice it first as a failure of another.
    return interrupt_token().cancelled() ? report(kInterrupted, Cancelled().what())
                                         : report(kFailed, error.what());
  } catch (const RunError& error) {
    return report(kFailed, error.what());
  } catch (const c10::Error& error) {
    return report(kFailed, error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    return report(kFailed, "out of memory");
  } catch (const std::exception& error) {
    return report(kFailed, error.what());
  }
}

}  // namespace ospnext
