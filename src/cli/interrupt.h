// Ctrl-C, SIGTERM and the end of the terminal as a cancellation token.
#pragma once

#include "core/cancel.h"

namespace ospnext {

// The program's token: set by the first SIGINT, SIGTERM or SIGHUP once catch_interrupts() was called. A
// second SIGINT or SIGHUP ends the program at once.
CancellationToken& interrupt_token();

// Also ignores SIGPIPE and SIGXFSZ, so that a failed write is an error and not the end.
void catch_interrupts();

}  // namespace ospnext
