// What a command's files need on the way into the lab and out again. Used while nothing else is
// asked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/lab/inputs.h"
#include "vmm/lab/link.h"

namespace vmm {

class FileTransfer {
 public:
  struct Target {
    std::string path;  // on the host
    std::string in_lab;
  };

  explicit FileTransfer(LabLink& link) : link_(link) {}
  FileTransfer(const FileTransfer&) = delete;
  FileTransfer& operator=(const FileTransfer&) = delete;

  // Errors: final ones of the link; of kind Lab when the lab cannot take a file, Usage when one
  // changes or cannot be read here. Ends early, and well, once it was cancelled.
  Result<void> bring_in(const std::vector<Input>& inputs);
  // Where a command will leave something: a folder if there is one here, and nothing of old.
  Result<void> make_place(const Target& target);
  // Nothing when the command has left no file there. Errors as above, Usage when it cannot be
  // written here.
  Result<void> bring_out(const Target& target);
  // A long file on its way in is not waited for.
  void cancel();

 private:
  Result<void> bring_file(const InputFile& file);
  Result<std::vector<const InputFile*>> missing_files(const std::vector<const InputFile*>& files);

  LabLink& link_;
  bool cancelled_ = false;
  std::optional<std::uint32_t> incoming_;  // the stream of the file that is being put
};

}  // namespace vmm
