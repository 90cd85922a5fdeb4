// The files of the lab, as the host puts and fetches them.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"
#include "vmm/lab/messages.h"

namespace vmm {

// Errors are of kind Lab and name the path as the host knows it, "in the lab" added.
Result<void> make_lab_directory(const MakeDirectory& make);
Result<void> make_lab_link(const MakeLink& make);
Result<void> remove_lab_file(const RemoveFile& remove);

// What the host has put here, so that it need not be sent twice. A file counts as long as nothing
// has touched it since.
class LabFiles {
 public:
  std::vector<std::uint32_t> missing(const std::vector<FileDigest>& files) const;
  void remember(const FileDigest& file);

 private:
  struct Known {
    std::string sha256;
    struct stat status;
  };
  std::map<std::string, Known, std::less<>> known_;
};

// A file on its way in: its bytes go to a temporary name beside it.
class IncomingFile {
 public:
  static Result<IncomingFile> begin(const FileDigest& file);
  // Removes what was not finished.
  ~IncomingFile();
  IncomingFile(IncomingFile&& other) noexcept;
  IncomingFile& operator=(IncomingFile&&) = delete;

  // Before take_fd(): as long as this, one single hole.
  Result<void> set_size(std::uint64_t size);
  Fd take_fd() { return std::move(fd_); }
  // Gives it its name and mode. Call it when all bytes are written and the descriptor is closed.
  Result<void> finish();

 private:
  IncomingFile(FileDigest file, std::string temporary, Fd fd)
      : file_(std::move(file)), temporary_(std::move(temporary)), fd_(std::move(fd)) {}

  FileDigest file_;
  std::string temporary_;
  Fd fd_;
};

// A regular file on its way out; nothing when there is none.
struct OutgoingFile {
  Fd fd;
  std::uint64_t size = 0;
  std::uint32_t mode = 0;
  std::optional<std::vector<Extent>> extents = {};

  // That are to be sent.
  std::uint64_t bytes() const { return extents ? bytes_in(*extents) : size; }
};
Result<std::optional<OutgoingFile>> open_lab_file(const GetFile& get);

}  // namespace vmm
