// The failure of another process of the run, as this process sees it.
#pragma once

#include "core/error.h"

namespace ospnext {

// Another process has failed, died or does not answer, or the store that connects all has gone. An
// interrupt reaches all processes, and one may notice it first as this.
class PeerError : public RunError {
 public:
  using RunError::RunError;
};

// Another process could not do its part of what all do together, and says why. It lives, and all
// can go on with something else.
class RankFailure : public RunError {
 public:
  using RunError::RunError;
};

}  // namespace ospnext
