// What a shell's command line prints.
#pragma once

#include <cstdio>
#include <string>

namespace vmm {

inline std::string output_of(const std::string& line) {
  std::string text;
  FILE* pipe = ::popen(line.c_str(), "r");
  char buffer[4096];
  while (const std::size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) text.append(buffer, n);
  ::pclose(pipe);
  return text;
}

}  // namespace vmm
