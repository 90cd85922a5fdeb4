#include "vmm/disk/disk.h"

#include <fmt/format.h>

#include <vector>

#include "vmm/base/text.h"
#include "vmm/disk/raw_disk.h"

namespace vmm {

Result<DiskSpec> parse_disk(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos)
    return fail(Error::usage(fmt::format("--disk '{}' does not say its format", printable(text)))
                    .hint(fmt::format("write raw:{}; formats are never guessed", printable(text))));
  const std::string format = lower(text.substr(0, colon));
  if (format != "raw") {
    const std::vector<std::string> formats{"raw"};
    const auto nearest = nearest_name(format, formats);
    return fail(
        Error::usage(
            fmt::format("--disk: format '{}' is unknown", printable(text.substr(0, colon))))
            .hint(nearest ? fmt::format("did you mean {}?", *nearest)
                          : "raw is the only one; qemu-img convert -O raw makes one of others"));
  }
  DiskSpec spec;
  std::string_view rest = text.substr(colon + 1);
  if (rest.ends_with(",ro")) {
    spec.read_only = true;
    rest.remove_suffix(3);
  }
  if (rest.empty()) return fail(Error::usage("--disk raw: needs a file after the colon"));
  spec.path = rest;
  return spec;
}

Result<std::vector<DiskSpec>> parse_disks(const std::vector<std::string>& texts) {
  constexpr std::size_t kMost = 16;  // the slots of the board
  std::vector<DiskSpec> disks;
  for (const std::string& text : texts) disks.push_back(VMM_TRY(parse_disk(text)));
  if (disks.size() > kMost)
    return fail(Error::usage(
        fmt::format("--disk: {} disks are asked for, the machine takes {}", disks.size(), kMost)));
  return disks;
}

std::string disk_text(const DiskSpec& spec) {
  return fmt::format("raw:{}{}", spec.path, spec.read_only ? ",ro" : "");
}

Result<std::unique_ptr<BlockBackend>> open_disk(const DiskSpec& spec, std::string id) {
  return RawDisk::open(spec.path, spec.read_only, std::move(id));
}

}  // namespace vmm
