// Input: a line with the index of a training's checkpoint, and the note in one of its files of
// where the parts begin.
#include "io/readers/training_index.h"

#include "fuzz/fuzz_entry.h"
#include "io/readers/bounded_json.h"

FUZZ_ENTRY(training_index) {
  const auto line = ospnext::parse_bounded_json(ospnext::fuzz::take_line(input), "index");
  const ospnext::TrainingIndex index = ospnext::training_index_from_json(line, "index");
  ospnext::fuzz::require(ospnext::training_index_from_json(index.json(), "again").json() ==
                         index.json());
  ospnext::first_elements_from_json(ospnext::parse_bounded_json(input, "first"), "first");
}
