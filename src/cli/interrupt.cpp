#include "cli/interrupt.h"

#include <csignal>

namespace ospnext {

CancellationToken& interrupt_token() {
  static CancellationToken token;  // a signal handler can reach nothing but a static
  return token;
}

void catch_interrupts() {
  interrupt_token();  // made before a handler needs it
  struct sigaction action = {};
  action.sa_handler = [](int) { interrupt_token().cancel(); };
  action.sa_flags = SA_RESTART | SA_RESETHAND;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  struct sigaction lasting = action;
  lasting.sa_flags =
      SA_RESTART;  // the death of a parent with several threads sends it several times
  sigaction(SIGTERM, &lasting, nullptr);
  struct sigaction inherited = {};
  sigaction(SIGHUP, nullptr, &inherited);
  if (inherited.sa_handler != SIG_IGN) {  // nohup ignores it
    sigaction(SIGHUP, &action, nullptr);
  }
  // A file that may not grow and a reader that went away are errors of write(), told in a sentence.
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;
  sigemptyset(&ignore.sa_mask);
  sigaction(SIGXFSZ, &ignore, nullptr);
  sigaction(SIGPIPE, &ignore, nullptr);
}

}  // namespace ospnext
