#include "cli/interrupt.h"

#include <csignal>

namespace ospnext {

CancellationToken& interrupt_token() {
  static CancellationToken token;  // a signal handler can only reach static objects
  return token;
}

void catch_interrupts() {
  interrupt_token();  // construct the token before a handler uses it
  struct sigaction action = {};
  action.sa_handler = [](int) { interrupt_token().cancel(); };
  action.sa_flags = SA_RESTART | SA_RESETHAND;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  struct sigaction lasting = action;
  // SIGTERM keeps its handler: if a parent with several threads dies, it arrives several times.
  lasting.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &lasting, nullptr);
  struct sigaction inherited = {};
  sigaction(SIGHUP, nullptr, &inherited);
  if (inherited.sa_handler != SIG_IGN) {  // nohup sets SIG_IGN
    sigaction(SIGHUP, &action, nullptr);
  }
  // Exceeding a file size limit (SIGXFSZ) and a closed pipe (SIGPIPE) then become errors of
  // write(), which are reported in a message.
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;
  sigemptyset(&ignore.sa_mask);
  sigaction(SIGXFSZ, &ignore, nullptr);
  sigaction(SIGPIPE, &ignore, nullptr);
}

}  // namespace ospnext
