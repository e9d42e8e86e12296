// Input: a boundary as a line of Content-Type, then a form.
#include "fuzz/fuzz_entry.h"
#include "server/http/multipart.h"

FUZZ_ENTRY(form) {
  const std::string boundary = ospnext::form_boundary(ospnext::fuzz::take_line(input));
  ospnext::fuzz::require(boundary.size() <= 70);
  size_t bytes = 0;
  for (const ospnext::FormPart& part : ospnext::parse_form(input, boundary)) {
    bytes += part.name.size() + part.value.size();
  }
  ospnext::fuzz::require(bytes <= input.size());
}
