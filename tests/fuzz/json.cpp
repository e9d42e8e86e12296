// Input: JSON.
#include "fuzz/fuzz_entry.h"
#include "io/readers/bounded_json.h"

FUZZ_ENTRY(json) {
  ospnext::shown(ospnext::parse_bounded_json(input, "input"));
}
