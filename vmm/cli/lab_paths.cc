#include "vmm/cli/lab_paths.h"

#include <fcntl.h>

#include "vmm/base/fd.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/selection.h"

namespace vmm {

Result<std::vector<PathUse>> input_path(const std::string& path, ErrorKind kind) {
  VMM_TRY(Fd::open(path, O_RDONLY | O_NONBLOCK, kind));
  return std::vector<PathUse>{{.kind = PathUse::Kind::Input, .path = path}};
}

void add_paths(std::vector<PathUse>& paths, const std::vector<PathUse>& more) {
  paths.insert(paths.end(), more.begin(), more.end());
}

Result<std::vector<PathUse>> model_paths(std::string_view text) {
  const CpuSelection selection = VMM_TRY(parse_cpu_selection(text));
  const auto path = model_file_of(selection.model);
  return path ? input_path(*path, ErrorKind::Usage) : std::vector<PathUse>();
}

}  // namespace vmm
