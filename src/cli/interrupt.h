// Ctrl-C, SIGTERM and the closing of the terminal set a cancellation token.
#pragma once

#include "core/cancel.h"

namespace ospnext {

// The program's token. After catch_interrupts(), the first SIGINT, SIGTERM or SIGHUP sets it. A
// second SIGINT or SIGHUP ends the program at once.
CancellationToken& interrupt_token();

// Installs the handlers. Also ignores SIGPIPE and SIGXFSZ, so that a failed write is an error and
// does not end the program.
void catch_interrupts();

}  // namespace ospnext
