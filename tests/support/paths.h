// Paths of fixtures, repository files and the program, also for tests that run on another machine.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace ospnext {

// The path of `name` in the first of these folders that contains it: the value of the environment
// variable `variable`; `from_here`, relative to the working directory; `built_in`, set at build
// time.
inline std::string path_in_first_existing(const char* variable, const std::string& from_here,
                                          const std::string& built_in, const std::string& name) {
  namespace fs = std::filesystem;
  const char* value = std::getenv(variable);
  for (const fs::path& base : {fs::path(value ? value : ""), fs::path(from_here)}) {
    if (!base.empty() && fs::exists(base / name)) {
      return (base / name).string();
    }
  }
  return (fs::path(built_in) / name).string();
}

// A file or folder of tests/fixtures, such as "vae/decode_17.safetensors".
inline std::string fixture_path(const std::string& name) {
  return path_in_first_existing("OSPNEXT_FIXTURES", "tests/fixtures", OSPNEXT_FIXTURES, name);
}

// A file or folder of the repository, such as "models/tiny".
inline std::string source_path(const std::string& name) {
  return path_in_first_existing("OSPNEXT_SOURCE", ".", OSPNEXT_SOURCE, name);
}

// The program `ospnext`: the value of environment variable OSPNEXT_BINARY, else the one that was
// built with the tests.
inline std::string program_path() {
  const char* value = std::getenv("OSPNEXT_BINARY");
  return value ? value : OSPNEXT_BINARY;
}

}  // namespace ospnext
