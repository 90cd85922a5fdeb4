#include "vmm/disk/disk.h"

#include <fmt/format.h>

#include <vector>

#include "vmm/base/text.h"
#include "vmm/disk/raw_disk.h"
#include "vmm/disk/share_disk.h"
#include "vmm/disk/writable_share.h"

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

Result<DiskSpec> parse_share(std::string_view text) {
  DiskSpec spec{.kind = DiskSpec::Kind::Share, .path = {}, .read_only = true};
  const auto ends = [&](std::string_view suffix) {
    if (!text.ends_with(suffix)) return false;
    text.remove_suffix(suffix.size());
    return true;
  };
  spec.write_back = ends(",rw");
  spec.read_only = !spec.write_back && !ends(",overlay");
  if (text.empty())
    return fail(Error::usage("--share needs a directory: DIR, DIR,overlay or DIR,rw"));
  spec.path = text;
  return spec;
}

Result<std::vector<DiskSpec>> parse_disks(const std::vector<std::string>& disks,
                                          const std::vector<std::string>& shares) {
  constexpr std::size_t kMost = 16;  // the slots of the board
  std::vector<DiskSpec> specs;
  for (const std::string& text : disks) specs.push_back(VMM_TRY(parse_disk(text)));
  for (const std::string& text : shares) specs.push_back(VMM_TRY(parse_share(text)));
  if (specs.size() > kMost)
    return fail(Error::usage(fmt::format(
        "--disk and --share: {} disks are asked for, the machine takes {}", specs.size(), kMost)));
  return specs;
}

std::string disk_value(const DiskSpec& spec) {
  if (spec.kind == DiskSpec::Kind::Share)
    return spec.path + (spec.read_only ? "" : spec.write_back ? ",rw" : ",overlay");
  return fmt::format("raw:{}{}", spec.path, spec.read_only ? ",ro" : "");
}

std::string disk_text(const DiskSpec& spec) {
  return (spec.kind == DiskSpec::Kind::Share ? "share:" : "") + disk_value(spec);
}

std::string_view disk_option(const DiskSpec& spec) {
  return spec.kind == DiskSpec::Kind::Share ? "--share" : "--disk";
}

Result<std::unique_ptr<BlockBackend>> open_disk(const DiskSpec& spec, std::string id) {
  if (spec.kind == DiskSpec::Kind::Raw)
    return RawDisk::open(spec.path, spec.read_only, std::move(id));
  if (spec.read_only) return VMM_TRY(ShareDisk::open(spec.path, std::move(id)));
  return WritableShare::open(
      spec.path, std::move(id),
      spec.write_back ? WritableShare::End::WriteBack : WritableShare::End::Forget);
}

}  // namespace vmm
