// --core FILE: the guest as it stood at its end, for gdb (vmm/gdb/core_file.h).
#pragma once

#include <cstdint>
#include <string>

#include "vmm/base/fd.h"
#include "vmm/core/guest_memory.h"
#include "vmm/gdb/core_file.h"
#include "vmm/machine/report.h"

namespace vmm {

class CoreWriter {
 public:
  // Before the guest runs, for afterwards no file can be opened. A Usage error for a path that
  // cannot be written, or is no regular file: what is not in it are holes.
  static Result<CoreWriter> open(const std::string& path);

  // Writes `core` (its `memory` is set here: all of RAM) with the bytes of `memory`; zero pages are
  // left out. Replaces what the file had.
  struct Written {
    std::uint64_t bytes = 0;  // of disk, at most
    bool complete = true;     // false: tables or memory that the format has no room for
  };
  Result<Written> write(gdb::CoreSpec core, const GuestMemory& memory) const;

  const std::string& path() const { return path_; }

 private:
  CoreWriter(std::string path, Fd file, Fd pagemap)
      : path_(std::move(path)), file_(std::move(file)), pagemap_(std::move(pagemap)) {}
  Result<void> put(std::span<const std::uint8_t> bytes, std::uint64_t offset) const;
  Result<std::uint64_t> put_region(std::span<const std::uint8_t> bytes, std::uint64_t offset) const;
  bool touched(std::span<const std::uint8_t> bytes, std::vector<std::uint64_t>& entries) const;

  std::string path_;
  Fd file_;
  Fd pagemap_;  // may be missing: then every page is looked at
};

// Every vCPU, the one that died first, and what its tables map.
Result<gdb::CoreSpec> describe_core(Machine& machine, const RunReport& report,
                                    const MachineSpec& spec, const LoadedImage& image);

}  // namespace vmm
