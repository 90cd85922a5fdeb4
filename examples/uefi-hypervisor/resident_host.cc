// The hypervisor's own tables: memory mapped to itself, a GDT with a TSS for each processor, an IDT
// whose handlers say what happened.
#include "examples/uefi-hypervisor/resident.h"

namespace efi_hypervisor {

Processor* by_apic_id[kMaxApicId + 1];

namespace {

using namespace guest;

struct alignas(4096) Table {
  uint64_t entry[512];
};
Table pml4, pdpt, pds[4];
Idt idt;
constexpr uint8_t kNmi = 2;
constexpr uint64_t kCr4Osxsave = 1 << 18;
constexpr uint32_t kFsBase = 0xc0000100, kGsBase = 0xc0000101;

template <uint8_t vector>
[[gnu::interrupt]] void on_exception(InterruptFrame* frame) {
  give_up(this_processor(), kHostException, "exception ", decimal(vector),
          " in the hypervisor at RIP ", hex(frame->rip), ", RSP ", hex(frame->rsp));
}

template <uint8_t vector>
[[gnu::interrupt]] void on_exception_with_code(InterruptFrame* frame, uint64_t code) {
  uint64_t cr2;
  asm volatile("mov %%cr2, %0" : "=r"(cr2));
  give_up(this_processor(), kHostException, "exception ", decimal(vector), " with error code ",
          hex(code), " in the hypervisor at RIP ", hex(frame->rip), ", RSP ", hex(frame->rsp),
          ", CR2 ", hex(cr2));
}

[[gnu::interrupt]] void on_nmi(InterruptFrame*) {
  __atomic_store_n(&this_processor().nmi, 1, __ATOMIC_SEQ_CST);
}

template <uint8_t vector>
void set_exception() {
  constexpr uint32_t kWithCode = 1 << 8 | 0x1f << 10 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;
  if constexpr (vector == kNmi)
    idt.set(vector, on_nmi, kCodeSelector);
  else if constexpr ((kWithCode >> vector & 1) != 0)
    idt.set(vector, on_exception_with_code<vector>, kCodeSelector);
  else
    idt.set(vector, on_exception<vector>, kCodeSelector);
  if constexpr (vector < 31) set_exception<vector + 1>();
}

// CS by a far return, the others plainly.
void load_segments(uint64_t code, uint64_t data) {
  asm volatile(
      "push %0\n\t"
      "lea 1f(%%rip), %%rax\n\t"
      "push %%rax\n\t"
      "lretq\n"
      "1:\tmov %w1, %%ds\n\t"
      "mov %w1, %%es\n\t"
      "mov %w1, %%ss\n\t"
      :
      : "r"(code), "r"(data)
      : "rax", "memory");
}

}  // namespace

void build_host() {
  constexpr uint64_t kPresentWritable = 3, kLarge = 1 << 7, kUncached = 3 << 3;
  const auto address = [](const Table& table) { return reinterpret_cast<uint64_t>(&table); };
  const auto type = [](uint64_t gigabyte) { return gigabyte == 3 ? kUncached : uint64_t{0}; };
  const bool gigabytes = cpuid(0x80000000).eax >= 0x80000001 && svm::has_gigabyte_pages();
  pml4.entry[0] = address(pdpt) | kPresentWritable;
  for (uint64_t g = 0; g < (gigabytes ? 512u : 4u); ++g) {
    pdpt.entry[g] = gigabytes ? g << 30 | kLarge | type(g) | kPresentWritable
                              : address(pds[g]) | kPresentWritable;
    for (uint64_t i = 0; i < 512 && !gigabytes; ++i)
      pds[g].entry[i] = g << 30 | i << 21 | kLarge | type(g) | kPresentWritable;
  }
  set_exception<0>();
}

uint64_t host_cr3() { return reinterpret_cast<uint64_t>(&pml4); }

void enter_host(Processor& processor) {
  write_cr3(host_cr3());
  processor.task_state.load();
  load_segments(kCodeSelector, kDataSelector);
  idt.load();
  // For XSETBV on a guest's behalf.
  if ((cpuid(1).ecx >> 26 & 1) != 0) write_cr4(read_cr4() | kCr4Osxsave);
}

// TR stays: there is no way back to the null selector that firmware has, and no use of it there.
void leave_host(const ProcessorState& state) {
  asm volatile("lidt %0\n\tlgdt %1" : : "m"(state.idtr), "m"(state.gdtr) : "memory");
  load_segments(state.segment[CS].selector, state.segment[DS].selector);
  wrmsr(kFsBase, state.segment[FS].base);
  wrmsr(kGsBase, state.segment[GS].base);
  write_cr4(state.cr4);
  write_cr3(state.cr3);
}

// The GDT lies in its Processor.
Processor& this_processor() {
  return *reinterpret_cast<Processor*>(stored_gdtr().base -
                                       __builtin_offsetof(Processor, task_state));
}

Vendor vendor() {
  if (vmx::supported()) return Vendor::Vmx;
  if (svm::supported()) return Vendor::Svm;
  return Vendor::None;
}

void answer_cpuid(Processor& processor, uint64_t l2_cr4) {
  Registers& l2 = processor.l2;
  const auto leaf = static_cast<uint32_t>(l2.rax);
  CpuidRegs answer = cpuid(leaf, static_cast<uint32_t>(l2.rcx));
  // Bit `to` of a register mirrors a bit of CR4, and it is the guest's that counts.
  const auto mirror = [l2_cr4](uint32_t& value, unsigned from, unsigned to) {
    value = (value & ~(1u << to)) | static_cast<uint32_t>(l2_cr4 >> from & 1) << to;
  };
  switch (leaf) {
    case 1:
      answer.ecx &= ~(1u << 5);    // VMX
      answer.ecx |= 1u << 31;      // there is a hypervisor
      mirror(answer.ecx, 18, 27);  // OSXSAVE
      break;
    case 7:
      if (static_cast<uint32_t>(l2.rcx) == 0) mirror(answer.ecx, 22, 4);  // OSPKE
      break;
    case 0x80000001:
      answer.ecx &= ~(1u << 2);  // SVM
      break;
    case 0x8000000a:
      answer = {};
      break;
    case kHypervisorLeaf:
      answer = kName;
      break;
    case kProcessorLeaf:
      answer = {processor.index, processor.inits, processor.sipis, processor.exits};
      break;
    default:
      break;
  }
  l2.rax = answer.eax;
  l2.rbx = answer.ebx;
  l2.rcx = answer.ecx;
  l2.rdx = answer.edx;
}

}  // namespace efi_hypervisor
