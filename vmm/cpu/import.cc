#include "vmm/cpu/import.h"

#include <fmt/format.h>

#include "vmm/base/text.h"
#include "vmm/cpu/model_text.h"

namespace vmm {
namespace {

constexpr std::string_view kNames[] = {"qemu", "libvirt", "firecracker", "cpuid"};
constexpr std::size_t kColumns = 98;  // and "# " before it

}  // namespace

Result<ImportFormat> parse_import_format(std::string_view name) {
  const std::string wanted = lower(name);
  for (std::size_t i = 0; i < std::size(kNames); ++i)
    if (wanted == kNames[i]) return static_cast<ImportFormat>(i);
  const std::vector<std::string> names(std::begin(kNames), std::end(kNames));
  Error error = Error::usage(fmt::format("unknown format '{}'", printable(name, 40)));
  if (const auto near = nearest_name(name, names))
    return fail(std::move(error).hint(fmt::format("did you mean '{}'?", *near)));
  return fail(std::move(error).hint(fmt::format("there are {}", fmt::join(kNames, ", "))));
}

std::string_view import_format_name(ImportFormat format) {
  return kNames[static_cast<std::size_t>(format)];
}

std::size_t import_size_limit(ImportFormat format) {
  switch (format) {
    case ImportFormat::Qemu:
      return 8192;
    case ImportFormat::Libvirt:
    case ImportFormat::Firecracker:
      return 1 << 20;
    case ImportFormat::Cpuid:  // of a machine with many CPUs
      break;
  }
  return 8 << 20;
}

Result<ImportedModel> import_cpu_model(ImportFormat format, const ImportInput& input) {
  if (input.text.size() > import_size_limit(format))
    return fail(Error::usage(fmt::format("{} bytes, at most {} are read", input.text.size(),
                                         import_size_limit(format)))
                    .at(input.file));
  if (format != ImportFormat::Firecracker && !input.base.empty())
    return fail(Error::usage(fmt::format("--base is for firecracker: {} names a whole CPU",
                                         import_format_name(format))));
  ImportedModel imported = VMM_TRY([&] {
    switch (format) {
      case ImportFormat::Qemu:
        return import_qemu(input);
      case ImportFormat::Libvirt:
        return import_libvirt(input);
      case ImportFormat::Firecracker:
        return import_firecracker(input);
      case ImportFormat::Cpuid:
        break;
    }
    return import_cpuid(input);
  }());
  // A name that no model may have, or the base's own, is found by the reader, with its reason.
  const auto file = VMM_TRY_CONTEXT(parse_cpu_model(imported_text(imported), "the imported model"),
                                    "vmm cpu import");
  if (file.versions.front() != imported.model)
    return fail(Error::internal("the imported model does not read back as it was written"));
  return imported;
}

std::string imported_text(const ImportedModel& imported) {
  std::string comment =
      wrap_text("", fmt::format("Made of {} by vmm cpu import.", imported.source), kColumns);
  comment.pop_back();
  if (imported.base) return cpu_model_text(imported.model, *imported.base, comment);
  return cpu_model_text(imported.model, comment);
}

}  // namespace vmm
