#include "server/worker/job_failure.h"

#include <c10/util/Exception.h>

#include <new>

namespace ospnext {
namespace {

JobFailure out_of_memory() {
  return {"out_of_memory", "there was not enough memory; ask for a smaller or shorter video"};
}

}  // namespace

JobFailure JobFailure::from_text(const std::string& text) {
  const size_t end = text.find(": ");
  return end == std::string::npos ? JobFailure("generation_failed", text)
                                  : JobFailure(text.substr(0, end), text.substr(end + 2));
}

JobFailure current_failure() {
  try {
    throw;
  } catch (const c10::OutOfMemoryError&) {
    return out_of_memory();
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  } catch (const c10::Error& error) {
    return {"internal_error", "the server failed; its log says why",
            error.what_without_backtrace()};
  } catch (const std::exception& error) {
    return {"generation_failed", error.what()};
  }
}

}  // namespace ospnext
