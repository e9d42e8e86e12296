// An answer that says what is wrong, in the form of OpenAI's API.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace ospnext {

struct ApiError : std::runtime_error {
  ApiError(int status, std::string code, const std::string& message, std::string param = "")
      : std::runtime_error(message),
        status(status),
        code(std::move(code)),
        param(std::move(param)) {}

  int status;
  std::string code;     // for programs: "queue_full"
  std::string param;    // the field that is wrong; "": none
  int retry_after = 0;  // seconds; 0: not said
};

// A mistake in a field of a request.
inline ApiError wrong_field(const std::string& name, const std::string& message) {
  return {400, "invalid_value", "`" + name + "`: " + message, name};
}

}  // namespace ospnext
