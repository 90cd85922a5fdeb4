// Fault injection at the ioctl seam: any ioctl, any errno, the nth call. It is in every build, so
// that what ships is what was tested; without a plan it costs one load of an atomic pointer.
#pragma once

#include <string_view>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

// One planned failure: the `nth` call (1 = first) of the ioctl `name` fails with `errno_value`
// instead of reaching the kernel. nth 0 means every call.
struct Fault {
  std::string name;
  int errno_value = 0;
  unsigned nth = 1;
};

// Reads "KVM_SET_CPUID2:E2BIG:1,KVM_RUN:EFAULT:3"; the count may be left out (1) or be 0 (each).
// A Usage error names the word that was not understood.
Result<std::vector<Fault>> parse_faults(std::string_view text);

// Puts a plan in force for the whole process; an empty one takes it away. Tests call it directly;
// the command line reads it from the environment variable VMM_FAULT.
void set_faults(std::vector<Fault> faults);

// The errno that the plan wants for this call of `name` (which is counted), or 0 to go ahead.
int planned_fault(std::string_view name);

}  // namespace vmm
