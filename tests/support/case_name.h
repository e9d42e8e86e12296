// Names of cases in the messages of tests on several ranks.
#pragma once

#include <string>

#include "models/layout.h"
#include "parallel/sequence_ranks.h"

namespace ospnext {

// "ssp 2 ulysses 1 ring 1 on 2x5x7"
inline std::string case_name(const SequenceMesh& mesh, const Grid& grid) {
  return "ssp " + std::to_string(mesh.ssp) + " ulysses " + std::to_string(mesh.ulysses) + " ring " +
         std::to_string(mesh.ring) + " on " + std::to_string(grid.T) + "x" +
         std::to_string(grid.H) + "x" + std::to_string(grid.W);
}

}  // namespace ospnext
