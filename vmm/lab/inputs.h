// What a command needs of the host's files, found and read before anything is sent.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

struct InputFile {
  std::string source;  // path on the host, as it was named
  std::string path;    // in the lab
  std::string sha256;
  struct stat status;
};
struct InputDirectory {
  std::string path;
  std::uint32_t mode = 0;
  std::vector<std::string> names;  // all that may be in it
};
struct InputLink {
  std::string path;
  std::string target;
};
using Input = std::variant<InputFile, InputDirectory, InputLink>;

// `path` as the lab knows it: absolute, without "." and "..", taken from `directory` when relative.
std::string lab_path(const std::string& path, const std::string& directory);

// Appends what `source` is: a file, or a directory with all in it (directories before what they
// hold; links as links; sockets, devices and FIFOs are left out). Errors of kind Usage: missing,
// unreadable, neither of the two, more than 100000 entries.
Result<void> collect_inputs(const std::string& source, const std::string& path,
                            std::vector<Input>& inputs);

// Whether the file is still what was collected.
bool is_unchanged(const InputFile& file, const struct stat& status);

}  // namespace vmm
