// Hypervisors that break one rule of VMRUN each. The command line names the rule (A23), or RULE
// does where the guest is built for one; then it ends as many do, halted with interrupts off. With
// `all` each is tried in turn, and a line says how its VMRUN ended. With `dump` before that what
// VMRUN looks at is printed too: CPUID, RAX, CR0 and MSRs of the hypervisor, the VMCB, the PDPEs.
//
// Not among them: A02, which takes a ring 3; A14, which takes a hypervisor without paging; A20, A44
// and A45, whose features KVM does not offer, so that A21 is broken with them; A22 and A35 to A37,
// for SEV and shadow stacks are not offered either; A13 and A31, which take a processor that lacks
// what this guest needs.
#include <initializer_list>

#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/multiboot.h"
#include "guest-tests/guests/svm.h"

#ifndef RULE
#define RULE ""
#endif

extern "C" const uint8_t l2_code[];
asm(".text\nl2_code: vmmcall\n\tjmp l2_code");

namespace {

using namespace guest;
using namespace guest::svm;

constexpr uint64_t kReservedOfPdpe = 1 << 1;

Idt idt;
Processor processor;
alignas(4096) uint64_t pdpes[512];
uint64_t vmcb_address;  // what VMRUN is given
uint32_t fault;         // the vector that came instead, or 0

Vmcb& vmcb() { return processor.vmcb; }

// 2^MAXPHYADDR.
uint64_t physical_end() { return 1ull << (cpuid(0x80000008).eax & 0xff); }

void inject(uint64_t type, uint64_t vector) {
  vmcb().put(EVENTINJ, 1ull << 31 | type << 8 | vector);
}

// A 32-bit L2 in PAE paging without nested paging: its four PDPEs are VMRUN's to read. The page
// directories are this guest's own.
void pae_guest() {
  vmcb().clear(NESTED_CONTROL, NP_ENABLE);
  vmcb().clear(svm::EFER, kEferLme | kEferLma);
  vmcb().put(attrib(CS), 0xc9b);
  const auto pdpt = mmio_read<uint64_t>(read_cr3()) & ~0xfffull;
  for (uint32_t i = 0; i < 4; ++i) pdpes[i] = (mmio_read<uint64_t>(pdpt + 8 * i) & ~0xfffull) | 1;
  vmcb().put(CR3, reinterpret_cast<uint64_t>(pdpes));
}

struct Broken {
  const char* rule;
  void (*break_it)();
};

constexpr Broken kBroken[] = {
    // Of the instruction: an exception.
    {"A01", [] { wrmsr(kEfer, rdmsr(kEfer) & ~kEferSvme); }},
    {"A03", [] { vmcb_address += 0x800; }},
    {"A04", [] { wrmsr(kHsavePa, 0); }},
    // Of the control area.
    {"A07", [] { vmcb().clear(INTERCEPT_4, VMRUN_INTERCEPT); }},
    {"A08", [] { vmcb().put(GUEST_ASID, 0); }},
    {"A09", [] { vmcb().put(GUEST_ASID, cpuid(0x8000000a).ebx); }},
    {"A10", [] { vmcb().put(MSRPM_BASE_PA, physical_end() - 0x1000); }},
    {"A11", [] { vmcb().put(IOPM_BASE_PA, physical_end() - 0x2000); }},
    {"A12", [] { vmcb().put(TLB_CONTROL, 2); }},
    {"A15", [] { vmcb().set(N_CR3, physical_end()); }},
    {"A16", [] { vmcb().put(G_PAT, 0x0007040600070402); }},
    {"A17", [] { inject(1, 0x20); }},
    {"A18", [] { inject(3, 2); }},
    {"A19", [] { inject(3, 5); }},
    {"A21", [] { vmcb().set(INTERCEPT_5, 1u << 5); }},
    // Of the guest's state.
    {"A23", [] { vmcb().clear(svm::EFER, kEferSvme); }},
    {"A24", [] { vmcb().set(CR0, 1 << 29); }},
    {"A25", [] { vmcb().set(CR0, 1ull << 32); }},
    {"A26", [] { vmcb().set(CR3, physical_end()); }},
    {"A27", [] { vmcb().set(CR4, 1 << 13); }},
    {"A28", [] { vmcb().set(DR6, 1ull << 32); }},
    {"A29", [] { vmcb().set(DR7, 1ull << 32); }},
    {"A30", [] { vmcb().set(svm::EFER, 1 << 9); }},
    {"A32", [] { vmcb().clear(CR4, 1 << 5); }},
    {"A33", [] { vmcb().clear(CR0, 1); }},
    {"A34", [] { vmcb().set(attrib(CS), 1 << 10); }},
    {"A38",
     [] {
       pae_guest();
       pdpes[0] |= kReservedOfPdpe;
     }},
    // The last: VM_CR.SVMDIS cannot be cleared again.
    {"A05",
     [] {
       wrmsr(kEfer, rdmsr(kEfer) & ~kEferSvme);
       wrmsr(kVmCr, kVmCrSvmdis);
       wrmsr(kEfer, rdmsr(kEfer) | kEferSvme);
     }},
};

// --- VMRUN, or the exception instead

// WRMSR has two bytes, VMRUN and STGI have three.
void skip(InterruptFrame* frame, uint32_t vector) {
  if (fault == 0) fault = vector;
  frame->rip += mmio_read<uint16_t>(frame->rip) == 0x300f ? 2 : 3;
}
[[gnu::interrupt]] void on_invalid_opcode(InterruptFrame* frame) { skip(frame, 6); }
[[gnu::interrupt]] void on_general_protection(InterruptFrame* frame, uint64_t) { skip(frame, 13); }

// An L2 of one VMMCALL leaves the general registers as they are: nothing is kept here.
void vmrun() { asm volatile("vmrun %%rax\n\tstgi" : : "a"(vmcb_address) : "memory", "cc"); }

// --- what VMRUN looks at

void dump_processor() {
  for (const uint32_t leaf :
       {0u, 1u, 7u, 0x80000001u, 0x80000008u, 0x8000000au, 0x8000001fu, 0x80000021u}) {
    if (leaf > cpuid(leaf & 0x80000000).eax) continue;
    const CpuidRegs regs = cpuid(leaf);
    print("= cpuid ", hex(leaf), " ", hex(regs.eax), " ", hex(regs.ebx), " ", hex(regs.ecx), " ",
          hex(regs.edx), "\n");
  }
}

// Only what is other than it was when it was shown last: each character costs two exits.
void dump_changed(const char* what, uint64_t where, uint64_t value, uint64_t& shown) {
  if (value == shown) return;
  shown = value;
  print("= ", what, " ", hex(where), " ", hex(value), "\n");
}

void dump_entry() {
  static uint64_t rax, cr0, shown_msrs[3], shown_vmcb[512], shown_pdpes[4];
  dump_changed("rax", 0, vmcb_address, rax);
  dump_changed("cr0", 0, read_cr0(), cr0);
  const uint32_t msrs[] = {kEfer, kVmCr, kHsavePa};
  for (uint32_t i = 0; i < 3; ++i) dump_changed("msr", msrs[i], rdmsr(msrs[i]), shown_msrs[i]);
  for (uint16_t i = 0; i < 512; ++i) {
    const auto at = static_cast<uint16_t>(8 * i);
    dump_changed("vmcb", at, vmcb().get(Field<uint64_t>{at}), shown_vmcb[i]);
  }
  for (uint32_t i = 0; i < 4; ++i)
    dump_changed("ram", reinterpret_cast<uint64_t>(&pdpes[i]), pdpes[i], shown_pdpes[i]);
}

void try_one(const Broken& broken, bool dump) {
  const auto stack = reinterpret_cast<uint64_t>(processor.l2_stack) + sizeof processor.l2_stack - 8;
  if (!turn_on(processor) || !prepare(processor, reinterpret_cast<uint64_t>(l2_code), stack))
    exit_with(2);
  vmcb().put(limit(IDTR), 0);  // an event in L2 ends it with a shutdown
  vmcb_address = reinterpret_cast<uint64_t>(&vmcb());
  fault = 0;
  broken.break_it();
  if (dump) dump_entry();
  print(broken.rule, ": ");
  vmrun();
  const uint64_t code = vmcb().get(EXITCODE);
  if (fault != 0)
    print(fault == 6 ? "#UD\n" : "#GP\n");
  else if (code == VMEXIT_INVALID)
    print("VMEXIT_INVALID\n");
  else if (code == VMEXIT_INVALID >> 32)
    print("VMEXIT_INVALID in bits 31:0\n");
  else
    print("entered, exit ", hex(code), "\n");
}

// --- the command line

bool same_word(const char* word, const char* text) {
  while (*text != '\0' && *word == *text) ++word, ++text;
  return *text == '\0' && (*word == '\0' || *word == ' ');
}
bool has_word(const char* line, const char* text) {
  for (const char* at = line; *at != '\0'; ++at)
    if ((at == line || at[-1] == ' ') && same_word(at, text)) return true;
  return false;
}

}  // namespace

uint32_t guest_main(uint32_t magic, uint32_t info) {
  serial_init();
  const char* line = RULE;
  if (*line == '\0' && magic == kMultibootMagic)
    line = arguments_of(*at_address<MultibootInfo>(info));
  idt.set(6, on_invalid_opcode);
  idt.set(13, on_general_protection);
  idt.load();
  const bool all = has_word(line, "all"), dump = has_word(line, "dump");
  if (dump) dump_processor();
  uint32_t tried = 0;
  for (const Broken& broken : kBroken) {
    if (!all && !has_word(line, broken.rule)) continue;
    try_one(broken, dump);
    ++tried;
  }
  if (all) return 0;
  if (tried != 0) stop();
  print("svm-broken: no such rule: ", line, "\n");
  return 1;
}
