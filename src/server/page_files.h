// The files of the page, which the build puts into the program (src/server/page/).
#pragma once

#include <span>
#include <string_view>

namespace ospnext {

struct PageFile {
  std::string_view path;  // "/" of index.html, "/page.css", ...
  std::string_view type;  // its media type
  std::string_view text;
};

// All of them.
std::span<const PageFile> page_files();

}  // namespace ospnext
