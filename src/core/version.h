// The program's version, as in CMakeLists.txt.
#pragma once

namespace ospnext {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace ospnext
