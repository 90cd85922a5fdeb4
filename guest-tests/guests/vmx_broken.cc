// Hypervisors that break one rule of VM entry each. The command line names the rule (I098), or
// RULE does where the guest is built for one; then it ends as many do, halted with interrupts off.
// With `all` each is tried in turn, and a line says how its entry ended.
//
// Not among them: reserved bits of access rights, which KVM's VMWRITE drops as some processors do.
#include "guest-tests/guests/multiboot.h"
#include "guest-tests/guests/vmx.h"

#ifndef RULE
#define RULE ""
#endif

extern "C" const uint8_t l2_code[];
asm(".text\nl2_code: vmcall\n\tjmp l2_code");

namespace {

using namespace guest;
using namespace guest::vmx;

constexpr uint64_t kNotCanonical = 0x0000800000000000;
constexpr uint64_t kBeyond = 1ull << 51;  // more than any MAXPHYADDR of today's

Processor processor;
alignas(4096) uint64_t page[512];

uint64_t page_address() { return reinterpret_cast<uint64_t>(page); }

void secondary(uint32_t bit) { set_bits(SECONDARY, 1u << bit); }

// What an injected event is: type, vector.
void inject(uint32_t type, uint32_t vector, uint32_t extra = 0) {
  vmwrite(ENTRY_INTR_INFO, 1u << 31 | type << 8 | vector | extra);
}

// A 32-bit L2 in PAE paging.
void pae_guest() {
  clear_bits(ENTRY_CONTROLS, IA32E_GUEST);
  vmwrite(GUEST_EFER, 0);
  vmwrite(GUEST_CS_RIGHTS, 0xc09b);
}

void v8086_guest() {
  pae_guest();
  set_bits(GUEST_RFLAGS, 1 << 17);
  for (uint64_t i = 0; i < 6; ++i) {
    vmwrite(GUEST_ES_SELECTOR + 2 * i, 0x100);
    vmwrite(GUEST_ES_BASE + 2 * i, 0x1000);
    vmwrite(GUEST_ES_LIMIT + 2 * i, 0xffff);
    vmwrite(GUEST_ES_RIGHTS + 2 * i, 0xf3);
  }
}

void load_msr(uint64_t index, uint64_t value) {
  page[0] = index;
  page[1] = value;
  vmwrite(ENTRY_MSR_LOAD_COUNT, 1);
  vmwrite(ENTRY_MSR_LOAD_ADDRESS, page_address());
}

struct Broken {
  const char* rule;
  void (*break_it)();
  // KVM enters all the same, and L2 would be halted for ever.
  bool alone = false;
};

constexpr Broken kBroken[] = {
    // Controls: VM-instruction error 7.
    {"I009", [] { clear_bits(PIN_BASED, 1 << 1); }},
    {"I010", [] { clear_bits(PROC_BASED, 1 << 1); }},
    {"I011", [] { secondary(27); }},
    {"I013", [] { vmwrite(CR3_TARGET_COUNT, 5); }},
    {"I014", [] { vmwrite(IO_BITMAP_A, page_address() + 1); }},
    {"I015", [] { vmwrite(IO_BITMAP_B, kBeyond); }},
    {"I016", [] { vmwrite(MSR_BITMAP, page_address() + 0x800); }},
    {"I017",
     [] {
       set_bits(PROC_BASED, 1 << 21);
       vmwrite(VIRTUAL_APIC_ADDRESS, page_address() + 16);
     }},
    {"I018",
     [] {
       set_bits(PROC_BASED, 1 << 21);
       vmwrite(VIRTUAL_APIC_ADDRESS, page_address());
       vmwrite(TPR_THRESHOLD, 0x10);
     }},
    {"I019",
     [] {
       set_bits(PROC_BASED, 1 << 21);
       vmwrite(VIRTUAL_APIC_ADDRESS, page_address());
       vmwrite(TPR_THRESHOLD, 3);
     }},
    {"I020", [] { secondary(4); }},
    {"I021", [] { set_bits(PIN_BASED, 1 << 5); }},
    {"I022", [] { set_bits(PROC_BASED, 1 << 22); }},
    {"I023",
     [] {
       secondary(0);
       vmwrite(APIC_ACCESS_ADDRESS, 16);
     }},
    {"I031",
     [] {
       secondary(5);
       vmwrite(VPID, 0);
     }},
    {"I032", [] { vmwrite(EPT_POINTER, (vmread(EPT_POINTER) & ~7ull) | 5); }},
    {"I033", [] { vmwrite(EPT_POINTER, (vmread(EPT_POINTER) & ~0x38ull) | 2 << 3); }},
    {"I035", [] { set_bits(EPT_POINTER, 1 << 7); }},
    {"I036", [] { set_bits(EPT_POINTER, 1 << 11); }},
    {"I037",
     [] {
       clear_bits(SECONDARY, ENABLE_EPT);
       secondary(7);
     }},
    {"I039",
     [] {
       clear_bits(SECONDARY, ENABLE_EPT);
       secondary(17);
     }},
    {"I040",
     [] {
       secondary(17);
       vmwrite(PML_ADDRESS, 8);
     }},
    {"I042",
     [] {
       secondary(13);
       vmwrite(VM_FUNCTION_CONTROLS, 2);
     }},
    {"I043",
     [] {
       clear_bits(SECONDARY, ENABLE_EPT);
       secondary(13);
       vmwrite(VM_FUNCTION_CONTROLS, 1);
     }},
    {"I044",
     [] {
       secondary(13);
       vmwrite(VM_FUNCTION_CONTROLS, 1);
       vmwrite(EPTP_LIST_ADDRESS, 0x123);
     }},
    {"I045",
     [] {
       secondary(14);
       vmwrite(VMWRITE_BITMAP, page_address());
       vmwrite(VMREAD_BITMAP, 1);
     }},
    {"I046",
     [] {
       secondary(14);
       vmwrite(VMREAD_BITMAP, page_address());
       vmwrite(VMWRITE_BITMAP, kBeyond);
     }},
    {"I054", [] { clear_bits(EXIT_CONTROLS, 1 << 0); }},
    {"I056", [] { set_bits(EXIT_CONTROLS, 1 << 22); }},
    {"I057",
     [] {
       vmwrite(EXIT_MSR_STORE_COUNT, 1);
       vmwrite(EXIT_MSR_STORE_ADDRESS, 8);
     }},
    {"I059",
     [] {
       vmwrite(EXIT_MSR_LOAD_COUNT, 1);
       vmwrite(EXIT_MSR_LOAD_ADDRESS, 8);
     }},
    {"I061", [] { clear_bits(ENTRY_CONTROLS, 1 << 0); }},
    {"I064",
     [] {
       vmwrite(ENTRY_MSR_LOAD_COUNT, 1);
       vmwrite(ENTRY_MSR_LOAD_ADDRESS, page_address() + 8);
     }},
    {"I066", [] { inject(1, 0); }},
    {"I067", [] { inject(2, 3); }},
    {"I068", [] { inject(3, 32); }},
    {"I070", [] { inject(2, 2, 1 << 11); }},
    {"I071", [] { inject(3, 13); }},
    {"I072", [] { inject(2, 2, 1 << 12); }},
    {"I073",
     [] {
       inject(3, 13, 1 << 11);
       vmwrite(ENTRY_ERROR_CODE, 0x10000);
     }},
    {"I074",
     [] {
       inject(6, 3);
       vmwrite(ENTRY_INSTRUCTION_LENGTH, 16);
     }},
    // The host's state: VM-instruction error 8.
    {"I075", [] { clear_bits(HOST_CR0, 1 << 5); }},
    {"I076", [] { clear_bits(HOST_CR4, 1 << 13); }},
    {"I077", [] { vmwrite(HOST_CR3, kBeyond); }},
    {"I079", [] { vmwrite(HOST_SYSENTER_ESP, kNotCanonical); }},
    {"I080", [] { vmwrite(HOST_SYSENTER_EIP, kNotCanonical); }},
    {"I082",
     [] {
       set_bits(EXIT_CONTROLS, 1 << 19);
       vmwrite(HOST_PAT, 2);
     }},
    {"I083", [] { set_bits(HOST_EFER, 1 << 1); }},
    {"I084", [] { clear_bits(HOST_EFER, 1 << 10); }},
    {"I090", [] { set_bits(HOST_CS_SELECTOR, 1); }},
    {"I091", [] { set_bits(HOST_SS_SELECTOR, 2); }},
    {"I092", [] { set_bits(HOST_DS_SELECTOR, 4); }},
    {"I093", [] { set_bits(HOST_ES_SELECTOR, 1); }},
    {"I094", [] { set_bits(HOST_FS_SELECTOR, 2); }},
    {"I095", [] { set_bits(HOST_GS_SELECTOR, 4); }},
    {"I096", [] { set_bits(HOST_TR_SELECTOR, 4); }},
    {"I097", [] { vmwrite(HOST_CS_SELECTOR, 0); }},
    {"I098", [] { vmwrite(HOST_TR_SELECTOR, 0); }},
    {"I100", [] { vmwrite(HOST_FS_BASE, kNotCanonical); }},
    {"I101", [] { vmwrite(HOST_GS_BASE, kNotCanonical); }},
    {"I102", [] { vmwrite(HOST_TR_BASE, kNotCanonical); }},
    {"I103", [] { vmwrite(HOST_GDTR_BASE, kNotCanonical); }},
    {"I104", [] { vmwrite(HOST_IDTR_BASE, kNotCanonical); }},
    {"I106", [] { clear_bits(HOST_CR4, 1 << 5); }},
    // The guest's state: exit 80000021h.
    {"I109", [] { clear_bits(GUEST_CR0, 1 << 5); }},
    {"I111", [] { clear_bits(GUEST_CR4, 1 << 13); }},
    {"I114", [] { clear_bits(GUEST_CR4, 1 << 5); }},
    {"I115",
     [] {
       pae_guest();
       set_bits(GUEST_CR4, 1 << 17);
     }},
    {"I116", [] { vmwrite(GUEST_CR3, kBeyond); }},
    {"I117",
     [] {
       set_bits(ENTRY_CONTROLS, 1 << 2);
       set_bits(GUEST_DR7, 1ull << 32);
     }},
    {"I118", [] { vmwrite(GUEST_SYSENTER_ESP, kNotCanonical); }},
    {"I119", [] { vmwrite(GUEST_SYSENTER_EIP, kNotCanonical); }},
    {"I122",
     [] {
       set_bits(ENTRY_CONTROLS, 1 << 14);
       vmwrite(GUEST_PAT, 2);
     }},
    {"I123", [] { set_bits(GUEST_EFER, 1 << 12); }},
    {"I124", [] { vmwrite(GUEST_EFER, 0); }},
    {"I125", [] { clear_bits(GUEST_EFER, 1 << 8); }},
    {"I130", [] { set_bits(GUEST_TR_SELECTOR, 4); }},
    {"I132", [] { vmwrite(GUEST_CS_SELECTOR, 9); }},
    {"I133",
     [] {
       v8086_guest();
       vmwrite(GUEST_DS_BASE, 0x1010);
     }},
    {"I134", [] { vmwrite(GUEST_TR_BASE, kNotCanonical); }},
    {"I135", [] { vmwrite(GUEST_FS_BASE, kNotCanonical); }},
    {"I138", [] { vmwrite(GUEST_CS_BASE, 1ull << 32); }},
    {"I140", [] { vmwrite(GUEST_DS_BASE, 1ull << 32); }},
    {"I142",
     [] {
       v8086_guest();
       vmwrite(GUEST_SS_LIMIT, 0xfffff);
     }},
    {"I143",
     [] {
       v8086_guest();
       vmwrite(GUEST_GS_RIGHTS, 0x93);
     }},
    {"I144", [] { clear_bits(GUEST_CS_RIGHTS, 1); }},
    {"I145", [] { clear_bits(GUEST_SS_RIGHTS, 2); }},
    {"I146", [] { clear_bits(GUEST_DS_RIGHTS, 1); }},
    {"I147", [] { vmwrite(GUEST_ES_RIGHTS, 0xc099); }},
    {"I148", [] { clear_bits(GUEST_CS_RIGHTS, 1 << 4); }},
    {"I149", [] { clear_bits(GUEST_SS_RIGHTS, 1 << 4); }},
    {"I150", [] { clear_bits(GUEST_DS_RIGHTS, 1 << 4); }},
    {"I152", [] { set_bits(GUEST_CS_RIGHTS, 1 << 5); }},
    {"I154",
     [] {
       vmwrite(GUEST_SS_RIGHTS, 0xc0f3);
       vmwrite(GUEST_CS_RIGHTS, 0xa0fb);
     }},
    {"I156", [] { vmwrite(GUEST_DS_SELECTOR, 3); }},
    {"I157", [] { clear_bits(GUEST_CS_RIGHTS, 1 << 7); }},
    {"I158", [] { clear_bits(GUEST_DS_RIGHTS, 1 << 7); }},
    {"I160", [] { set_bits(GUEST_CS_RIGHTS, 1 << 14); }},
    {"I161", [] { vmwrite(GUEST_DS_LIMIT, 0xfffffffe); }},
    {"I162", [] { clear_bits(GUEST_DS_RIGHTS, 1 << 15); }},
    {"I164", [] { vmwrite(GUEST_TR_RIGHTS, 0x89); }},
    {"I165", [] { set_bits(GUEST_TR_RIGHTS, 1 << 4); }},
    {"I166", [] { clear_bits(GUEST_TR_RIGHTS, 1 << 7); }},
    {"I168", [] { set_bits(GUEST_TR_RIGHTS, 1 << 15); }},
    {"I169", [] { set_bits(GUEST_TR_RIGHTS, 1 << 16); }},
    {"I176", [] { vmwrite(GUEST_GDTR_BASE, kNotCanonical); }},
    {"I177", [] { vmwrite(GUEST_IDTR_BASE, kNotCanonical); }},
    {"I178", [] { vmwrite(GUEST_GDTR_LIMIT, 0x10000); }},
    {"I179", [] { vmwrite(GUEST_IDTR_LIMIT, 0x10000); }},
    {"I180",
     [] {
       pae_guest();
       set_bits(GUEST_RIP, 1ull << 32);
     }},
    {"I181", [] { vmwrite(GUEST_RIP, 1ull << 60); }},
    {"I182", [] { vmwrite(GUEST_RFLAGS, 0); }},
    {"I183",
     [] {
       v8086_guest();
       set_bits(ENTRY_CONTROLS, IA32E_GUEST);
       vmwrite(GUEST_EFER, 1 << 10 | 1 << 8);
     }},
    {"I184", [] { inject(0, 0x30); }},
    {"I186", [] { vmwrite(GUEST_ACTIVITY, 4); }},
    {"I188",
     [] {
       vmwrite(GUEST_ACTIVITY, 1);
       vmwrite(GUEST_INTERRUPTIBILITY, 2);
     },
     true},
    {"I193", [] { vmwrite(GUEST_INTERRUPTIBILITY, 0x20); }},
    {"I194",
     [] {
       vmwrite(GUEST_INTERRUPTIBILITY, 3);
       set_bits(GUEST_RFLAGS, 1 << 9);
     }},
    {"I195", [] { vmwrite(GUEST_INTERRUPTIBILITY, 1); }},
    {"I196",
     [] {
       inject(0, 0x30);
       set_bits(GUEST_RFLAGS, 1 << 9);
       vmwrite(GUEST_INTERRUPTIBILITY, 1);
     }},
    {"I197",
     [] {
       inject(2, 2);
       vmwrite(GUEST_INTERRUPTIBILITY, 2);
     }},
    {"I199", [] { vmwrite(GUEST_INTERRUPTIBILITY, 4); }},
    {"I203", [] { vmwrite(GUEST_PENDING_DEBUG, 1 << 4); }},
    {"I204",
     [] {
       vmwrite(GUEST_INTERRUPTIBILITY, 2);
       set_bits(GUEST_RFLAGS, 1 << 8);
     }},
    {"I205",
     [] {
       vmwrite(GUEST_INTERRUPTIBILITY, 2);
       vmwrite(GUEST_PENDING_DEBUG, 1 << 14);
     }},
    {"I207", [] { vmwrite(LINK_POINTER, page_address() + 8); }},
    {"I208", [] { vmwrite(LINK_POINTER, kBeyond); }},
    {"I209", [] { vmwrite(LINK_POINTER, page_address()); }},
    {"I212",
     [] {
       pae_guest();
       vmwrite(GUEST_PDPTE0, page_address() | 2 | 1);
     }},
    {"I214", [] { load_msr(0xc0000100, 0); }},
    {"I215", [] { load_msr(0x808, 0); }},
    {"I216", [] { load_msr(1ull << 32 | 0xc0000081, 0); }},
    {"I217", [] { load_msr(0x79, 0); }},
    {"I218", [] { load_msr(0xc0000082, kNotCanonical); }},
};

bool same(const char* a, const char* b) {
  while (*a != '\0' && *a == *b) ++a, ++b;
  return *a == *b;
}

// The last word of the command line, whose first is the image.
const char* last_word(const char* line) {
  const char* word = line;
  for (; *line != '\0'; ++line)
    if (*line == ' ') word = line + 1;
  return word;
}

void try_one(const Broken& broken) {
  if (!prepare(processor, reinterpret_cast<uint64_t>(l2_code),
               reinterpret_cast<uint64_t>(processor.l2_stack) + sizeof processor.l2_stack - 8))
    exit_with(2);
  for (uint64_t& word : page) word = 0;
  broken.break_it();
  print(broken.rule, ": ");
  Registers l2{};
  const vmx::Result entered = vmx_enter(&l2, true);
  if (entered == vmx::Result::FailInvalid) {
    print("VMfailInvalid\n");
  } else if (entered == vmx::Result::FailValid) {
    print("VM-instruction error ", decimal(static_cast<uint32_t>(vmread(INSTRUCTION_ERROR))), "\n");
  } else {
    const uint64_t reason = vmread(EXIT_REASON);
    print((reason >> 31 & 1) != 0 ? "no entry, exit " : "entered, exit ", hex(reason),
          ", qualification ", hex(vmread(EXIT_QUALIFICATION)), "\n");
  }
}

}  // namespace

uint32_t guest_main(uint32_t magic, uint32_t info) {
  serial_init();
  const char* wanted = RULE;
  if (*wanted == '\0' && magic == kMultibootMagic)
    wanted = last_word(arguments_of(*at_address<MultibootInfo>(info)));
  if (!turn_on(processor)) return 3;
  if (same(wanted, "all")) {
    for (const Broken& broken : kBroken)
      if (!broken.alone) try_one(broken);
    turn_off();
    return 0;
  }
  for (const Broken& broken : kBroken)
    if (same(wanted, broken.rule)) {
      try_one(broken);
      stop();
    }
  print("vmx-broken: no such rule: ", wanted, "\n");
  return 1;
}
