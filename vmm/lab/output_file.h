// A result on its way to a path of the host.
#pragma once

#include <string>

#include "vmm/base/descriptors.h"
#include "vmm/base/result.h"

namespace vmm {

// A file's bytes go to a temporary name beside it, which finish() makes the file; a FIFO or device
// gets them directly. Errors are of kind Usage and name the path.
class OutputFile {
 public:
  static Result<OutputFile> begin(const std::string& path);
  // Removes what was not finished.
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;

  Endpoint take_sink() { return std::move(sink_); }
  Result<void> finish();

 private:
  OutputFile(std::string path, std::string temporary, Endpoint sink)
      : path_(std::move(path)), temporary_(std::move(temporary)), sink_(std::move(sink)) {}

  std::string path_;
  std::string temporary_;  // empty: written directly
  Endpoint sink_;
};

}  // namespace vmm
