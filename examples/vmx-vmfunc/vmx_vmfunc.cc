// Two views of the same memory, and L2 switches between them by itself: VMFUNC leaf 0 takes one of
// the EPT pointers in a list. In the second view one page is another page.
#include "guest-tests/guests/vmx.h"

namespace {

using namespace guest;

constexpr uint64_t kRwx = 7, kLarge = 1 << 7, kWriteBack = 6 << 3;

vmx::Processor processor;
struct alignas(4096) Table {
  uint64_t entry[512];
};
// The second view: the first 2 MiB page by page, the rest of the gigabyte by 2 MiB pages.
Table pml4, pdpt, pd, pt, eptp_list;
alignas(4096) volatile uint64_t shared_page[512], secret_page[512];

uint64_t address_of(const volatile void* object) { return reinterpret_cast<uint64_t>(object); }

uint64_t second_view() {
  pml4.entry[0] = address_of(&pdpt) | kRwx;
  pdpt.entry[0] = address_of(&pd) | kRwx;
  pd.entry[0] = address_of(&pt) | kRwx;
  for (uint64_t i = 1; i < 512; ++i) pd.entry[i] = i << 21 | kLarge | kWriteBack | kRwx;
  for (uint64_t i = 0; i < 512; ++i) pt.entry[i] = i << 12 | kWriteBack | kRwx;
  pt.entry[address_of(shared_page) >> 12] = address_of(secret_page) | kWriteBack | kRwx;
  return address_of(&pml4) | 3 << 3 | 6;
}

// --- L2
// ---------------------------------------------------------------------------------------------

void switch_to(uint32_t view) { asm volatile("vmfunc" : : "a"(0), "c"(view) : "memory"); }

[[noreturn]] void l2_main() {
  const uint64_t before = shared_page[0];
  switch_to(1);
  const uint64_t inside = shared_page[0];
  shared_page[1] = 0x2222;
  switch_to(0);
  const uint64_t after = shared_page[0];
  const bool right = before == 0x1111 && inside == 0x5ec7e7 && after == 0x1111;
  while (true) asm volatile("vmcall" : : "a"(right ? 0 : 1));
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  shared_page[0] = 0x1111;
  secret_page[0] = 0x5ec7e7;
  if (!vmx::turn_on(processor)) return 2;
  const auto stack = address_of(processor.l2_stack) + sizeof processor.l2_stack - 8;
  if (!vmx::prepare(processor, reinterpret_cast<uint64_t>(&l2_main), stack)) return 3;
  require((rdmsr(0x48b) >> (32 + 13) & 1) != 0 && (rdmsr(0x491) & 1) != 0,
          "the processor offers VMFUNC and EPTP switching", 4);
  eptp_list.entry[0] = vmx::vmread(vmx::EPT_POINTER);
  eptp_list.entry[1] = second_view();
  vmx::set_bits(vmx::SECONDARY, vmx::ENABLE_VMFUNC);
  vmx::vmwrite(vmx::VM_FUNCTION_CONTROLS, 1);
  vmx::vmwrite(vmx::EPTP_LIST_ADDRESS, address_of(&eptp_list));

  vmx::Registers l2{};
  const vmx::Result entered = vmx::vmx_enter(&l2, true);
  require(entered == vmx::Result::Succeeded, "L2 is entered", 5);
  const uint64_t reason = vmx::vmread(vmx::EXIT_REASON);
  if (reason != vmx::EXIT_VMCALL)
    print("exit ", hex(reason), ", qualification ", hex(vmx::vmread(vmx::EXIT_QUALIFICATION)),
          "\n");
  require(reason == vmx::EXIT_VMCALL, "and its first exit is its VMCALL: VMFUNC made none", 6);
  require(l2.rax == 0, "it saw the shared page, the secret one, and the shared one again", 7);
  require(secret_page[1] == 0x2222 && shared_page[1] == 0,
          "what it wrote inside is in the secret page", 8);
  vmx::turn_off();
  return 0;
}
