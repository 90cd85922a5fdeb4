// What --lab-log keeps: console, emulator log and configuration, one file each.
#pragma once

#include <string_view>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"
#include "vmm/lab/spec.h"

namespace vmm {

// The file `name` in spec.log_dir (made if it is missing), emptied; no descriptor without
// --lab-log.
Result<Fd> open_log(const LabSpec& spec, const char* name);
// The same with `text` as its content.
Result<void> keep_log(const LabSpec& spec, const char* name, std::string_view text);

}  // namespace vmm
