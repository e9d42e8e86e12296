// ospnext inspect: describes a file or folder of weights.
#include <iostream>

#include "cli/commands.h"
#include "core/error.h"
#include "packages/inspect_model.h"

namespace ospnext {
namespace {

struct InspectFlags {
  bool json = false;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("json", json, "print JSON");
  }
};

}  // namespace

void run_inspect(const Arguments& arguments, const CancellationToken&) {
  // Paths come first, flags after them.
  const auto flags_begin = std::find_if(arguments.begin(), arguments.end(), [](const auto& word) {
    return word.starts_with("--") || word == "-h";
  });
  InspectFlags flags;
  if (!parse_flags("inspect PATH...",
                   "Say what files or folders of weights are: family, sizes, dtypes, and what is "
                   "missing. Reads headers only.",
                   Arguments(flags_begin, arguments.end()), flags)) {
    return;
  }
  if (flags_begin == arguments.begin()) {
    throw InputError("inspect: expected the path of a file or folder behind it");
  }
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (auto path = arguments.begin(); path != flags_begin; ++path) {
    all.push_back(inspect_model(*path));
  }
  if (flags.json) {
    std::cout << (all.size() == 1 ? all[0] : all).dump(2) << "\n";
    return;
  }
  for (const auto& description : all) {
    std::cout << description_text(description);
  }
}

}  // namespace ospnext
