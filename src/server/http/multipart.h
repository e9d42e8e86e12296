// Forms as multipart/form-data.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ospnext {

struct FormPart {
  std::string name;
  std::string value;
  bool is_file = false;  // the part has a file's name, which is not kept
};

// The boundary in a Content-Type such as `multipart/form-data; boundary=x`, or "" if it has none of
// 1 to 70 of the characters that a boundary may have.
std::string form_boundary(std::string_view content_type);

// The parts of a form, in their order; at most 64. Throws InputError, in one sentence, for a body
// that is no such form or ends too early. Source: RFC 7578 and RFC 2046, section 5.1.
std::vector<FormPart> parse_form(std::string_view body, std::string_view boundary);

}  // namespace ospnext
