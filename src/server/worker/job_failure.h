// Why a job failed, as its client and the log see it.
#pragma once

#include <string>

#include "core/error.h"

namespace ospnext {

class JobFailure : public RunError {
 public:
  // `code`: one word. `detail`: for the log alone; "" if the message says all.
  JobFailure(std::string code, const std::string& message, std::string detail = "")
      : RunError(message), code_(std::move(code)), detail_(std::move(detail)) {}

  const std::string& code() const { return code_; }
  std::string message() const { return what(); }
  const std::string& detail() const { return detail_; }

  // "code: message", for other ranks, and back.
  std::string text() const { return code_ + ": " + what(); }
  static JobFailure from_text(const std::string& text);

 private:
  std::string code_, detail_;
};

// The failure that the exception means which is being handled: to be called in a catch block.
JobFailure current_failure();

}  // namespace ospnext
