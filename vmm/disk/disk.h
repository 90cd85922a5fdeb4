// The disks that a run asks for, and what lies behind each.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/core/block_backend.h"

namespace vmm {

struct DiskSpec {
  enum class Kind { Raw, Share };
  Kind kind = Kind::Raw;
  std::string path;
  bool read_only = false;
  bool write_back = false;  // of a share that is not read-only: what the guest wrote outlives it

  bool operator==(const DiskSpec&) const = default;
};

// "raw:FILE" or "raw:FILE,ro". The format is never guessed; an unknown one is a Usage error with
// the nearest name.
Result<DiskSpec> parse_disk(std::string_view text);
// "DIR", "DIR,overlay" or "DIR,rw".
Result<DiskSpec> parse_share(std::string_view text);
// All of a command line, at most 16: each --disk in its order, then each --share.
Result<std::vector<DiskSpec>> parse_disks(const std::vector<std::string>& disks,
                                          const std::vector<std::string>& shares);
// As parse_disk() or parse_share() takes it.
std::string disk_value(const DiskSpec& spec);
// "raw:FILE[,ro]" or "share:DIR[,overlay|,rw]".
std::string disk_text(const DiskSpec& spec);

// The option that it came from.
std::string_view disk_option(const DiskSpec& spec);

// Opens what `spec` names. `id` is what the guest reads as the disk's name, at most 20 bytes.
// Errors of kind Image name the file and the reason.
Result<std::unique_ptr<BlockBackend>> open_disk(const DiskSpec& spec, std::string id);

}  // namespace vmm
