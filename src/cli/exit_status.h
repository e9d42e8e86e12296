// How the program ends.
#pragma once

namespace ospnext {

inline constexpr int kFailed = 1;         // while running
inline constexpr int kBadInput = 2;       // wrong flags or files
inline constexpr int kInterrupted = 130;  // as shells report an interrupt

}  // namespace ospnext
