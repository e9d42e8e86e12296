// Ctrl-C and SIGTERM as a cancellation token.
#pragma once

#include "core/cancel.h"

namespace ospnext {

// The program's token: set by the first SIGINT or SIGTERM once catch_interrupts() was called. A second
// one ends the program at once.
CancellationToken& interrupt_token();

void catch_interrupts();

}  // namespace ospnext
