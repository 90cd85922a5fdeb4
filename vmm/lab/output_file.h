// A result on its way to a path of the host.
#pragma once

#include <cstdint>
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

  // Whether the file there, if there is one, is written anew rather than directly: it may get
  // holes.
  static bool takes_holes(const std::string& path);
  // Before take_sink(): a new file gets no right that `mode` lacks. A core is not for everyone.
  void restrict_to(unsigned mode);
  // Before take_sink(): as long as this, one single hole.
  Result<void> set_size(std::uint64_t size);
  Endpoint take_sink() { return std::move(sink_); }
  Result<void> finish();

 private:
  OutputFile(std::string path, std::string temporary, Endpoint sink, bool is_new)
      : path_(std::move(path)),
        temporary_(std::move(temporary)),
        sink_(std::move(sink)),
        is_new_(is_new) {}

  std::string path_;
  std::string temporary_;  // empty: written directly
  Endpoint sink_;
  bool is_new_;  // no file was there
};

}  // namespace vmm
