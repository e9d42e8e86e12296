// Input: YAML.
#include "fuzz/fuzz_entry.h"
#include "io/readers/bounded_yaml.h"

FUZZ_ENTRY(yaml) {
  ospnext::parse_bounded_yaml(input, "input");
}
