#include "vmm/lab/lab_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>

namespace vmm {

Result<Fd> open_log(const LabSpec& spec, const char* name) {
  if (spec.log_dir.empty()) return Fd();
  if (::mkdir(spec.log_dir.c_str(), 0755) != 0 && errno != EEXIST)
    return fail(
        Error::system(ErrorKind::Usage, fmt::format("--lab-log: mkdir {}", spec.log_dir), errno));
  return VMM_TRY_CONTEXT(
      Fd::open(fmt::format("{}/{}", spec.log_dir, name), O_WRONLY | O_CREAT | O_TRUNC),
      "--lab-log");
}

Result<void> keep_log(const LabSpec& spec, const char* name, std::string_view text) {
  const Fd fd = VMM_TRY(open_log(spec, name));
  if (!fd) return {};
  return replace_contents(fd, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()},
                          name);
}

}  // namespace vmm
