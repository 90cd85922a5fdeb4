// Where a vCPU stands among the levels of nested virtualization, as far as a debugger has to know:
// L1 is a guest's hypervisor, or a guest that is none, L2 what the hypervisor runs.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/core/guest_memory.h"
#include "vmm/core/page_walk.h"

namespace vmm {

// L2's physical memory, as its hypervisor's nested page tables map it.
class NestedMemory : public MemoryReader {
 public:
  // Where a byte of it is in the hypervisor's memory; nothing where the tables refuse to be read
  // there.
  virtual std::optional<Gpa> place(Gpa l2_address) const = 0;
  // That walk, a line a step.
  virtual std::vector<std::string> describe(Gpa l2_address) const = 0;
};

struct NestedPosition {
  unsigned level = 1;
  // The processor has what a hypervisor needs: it may get to the other level.
  bool may_nest = false;
  // In L1 at VMLAUNCH, VMRESUME or VMRUN, which a single step does not survive: the trap flag stays
  // behind in L1.
  bool enters = false;
  // Linear addresses where a vCPU goes on that is about to enter L2 (there, behind the instruction
  // if it fails, in L1 after a failed entry), or in L1 when it leaves L2.
  std::vector<Gva> landings = {};
  // Of a vCPU in L2 whose hypervisor has nested tables; may refer to the machine's memory, and
  // holds until the vCPU runs.
  std::shared_ptr<const NestedMemory> memory = {};
  // How addresses are translated in the other level, where that is known: in L2 that the current
  // VMCS has run, or in L1, which has no nested tables.
  struct Other {
    PagingContext paging;
    std::shared_ptr<const NestedMemory> memory;
  };
  std::optional<Other> other = {};
  // The current VMCS, or the VMCB that L2 runs by.
  std::optional<Gpa> block = {};
  // The EPT pointer or nested CR3 that L2 runs by; 0 where there is none.
  std::uint64_t tables = 0;
};

// Whether these bytes are VMLAUNCH, VMRESUME or VMRUN (0F 01 C2, C3, D8).
constexpr bool is_vm_entry(std::span<const std::uint8_t> bytes) {
  return bytes.size() >= 3 && bytes[0] == 0x0f && bytes[1] == 0x01 &&
         (bytes[2] == 0xc2 || bytes[2] == 0xc3 || bytes[2] == 0xd8);
}

}  // namespace vmm
