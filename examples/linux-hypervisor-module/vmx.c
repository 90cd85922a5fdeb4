// The module on VT-x: a VMCS whose guest is this CPU as it stands, without EPT and with no exit
// that is not forced upon it. Whatever the capability MSRs deny is left out, as hypervisors do;
// that includes "enable XSAVES/XRSTORS", without which this Linux dies of its next context switch.
// <asm/...> needs what <linux/...> declares.
// clang-format off
#include "examples/linux-hypervisor-module/hypervisor.h"
#include <asm/desc.h>
#include <asm/fpu/xcr.h>
#include <asm/msr.h>
#include <asm/trapnr.h>
#include <asm/virtext.h>
#include <asm/vmx.h>
// clang-format on

enum { VMXON_REGION, VMCS, MSR_BITMAP_PAGE };
enum vmx_result { SUCCEEDED, FAIL_INVALID, FAIL_VALID };

// guest-tests/guests/vmx_enter.S
enum vmx_result vmx_enter(struct registers *l2, bool launch);

static u64 read_field(u64 field) {
  u64 value = 0;

  asm volatile("vmread %1, %0" : "+r"(value) : "r"(field) : "cc");
  return value;
}

static void write_field(u64 field, u64 value) {
  asm volatile("vmwrite %1, %0" : : "r"(field), "r"(value) : "cc");
}

static bool vmxon(u64 region) {
  bool failed;

  asm volatile("vmxon %1" : "=@ccna"(failed) : "m"(region) : "memory");
  return !failed;
}

static void make_current(u64 vmcs) {
  asm volatile("vmclear %0" : : "m"(vmcs) : "cc", "memory");
  asm volatile("vmptrld %0" : : "m"(vmcs) : "cc", "memory");
}

// The wanted controls and those that must be 1, less those that may not.
static u32 allowed(u32 msr, u32 true_msr, u32 wanted) {
  u64 basic, settings;

  rdmsrl(MSR_IA32_VMX_BASIC, basic);
  rdmsrl(basic & VMX_BASIC_TRUE_CTLS ? true_msr : msr, settings);
  return (wanted | (u32)settings) & (u32)(settings >> 32);
}

static u64 vmx_hypercall(u64 number, u64 *exits) {
  asm volatile("vmcall" : "+a"(number), "=b"(*exits) : : "memory");
  return number;
}

static int vmx_turn_on(struct processor *processor) {
  const u64 usable = FEAT_CTL_LOCKED | FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX;
  u64 control, basic;

  rdmsrl(MSR_IA32_FEAT_CTL, control);
  if (!(control & FEAT_CTL_LOCKED))
    wrmsrl(MSR_IA32_FEAT_CTL, control | usable);
  else if ((control & usable) != usable)
    return -EPERM;
  rdmsrl(MSR_IA32_VMX_BASIC, basic);
  *(u32 *)processor->page[VMXON_REGION] = *(u32 *)processor->page[VMCS] = basic & 0x7fffffff;
  // Linux' own copy of CR4 has VMXE from here on, so that L2 keeps it set.
  cr4_set_bits(X86_CR4_VMXE);
  if (!vmxon(__pa(processor->page[VMXON_REGION]))) {
    cr4_clear_bits(X86_CR4_VMXE);
    return -EBUSY;
  }
  return 0;
}

static void vmx_turn_off(struct processor *processor) {
  asm volatile("vmxoff" : : : "cc", "memory");
  cr4_clear_bits(X86_CR4_VMXE);
}

static bool write_controls(struct processor *processor) {
  const u32 execution = allowed(MSR_IA32_VMX_PROCBASED_CTLS, MSR_IA32_VMX_TRUE_PROCBASED_CTLS,
                                CPU_BASED_ACTIVATE_SECONDARY_CONTROLS | CPU_BASED_USE_MSR_BITMAPS);

  write_field(PIN_BASED_VM_EXEC_CONTROL,
              allowed(MSR_IA32_VMX_PINBASED_CTLS, MSR_IA32_VMX_TRUE_PINBASED_CTLS, 0));
  write_field(CPU_BASED_VM_EXEC_CONTROL, execution);
  write_field(SECONDARY_VM_EXEC_CONTROL,
              allowed(MSR_IA32_VMX_PROCBASED_CTLS2, MSR_IA32_VMX_PROCBASED_CTLS2,
                      SECONDARY_EXEC_ENABLE_RDTSCP | SECONDARY_EXEC_ENABLE_INVPCID |
                          SECONDARY_EXEC_XSAVES | SECONDARY_EXEC_ENABLE_USR_WAIT_PAUSE));
  write_field(VM_EXIT_CONTROLS,
              allowed(MSR_IA32_VMX_EXIT_CTLS, MSR_IA32_VMX_TRUE_EXIT_CTLS,
                      VM_EXIT_HOST_ADDR_SPACE_SIZE | VM_EXIT_SAVE_DEBUG_CONTROLS));
  write_field(VM_ENTRY_CONTROLS, allowed(MSR_IA32_VMX_ENTRY_CTLS, MSR_IA32_VMX_TRUE_ENTRY_CTLS,
                                         VM_ENTRY_IA32E_MODE | VM_ENTRY_LOAD_DEBUG_CONTROLS));
  write_field(MSR_BITMAP, __pa(processor->page[MSR_BITMAP_PAGE]));
  write_field(VMCS_LINK_POINTER, ~0ull);
  // Without EPT, L2's page tables are its own only where it may load CR3 by itself.
  return !(execution & CPU_BASED_CR3_LOAD_EXITING);
}

static u64 tss_base(const struct desc_ptr *gdt) {
  const struct ldttss_desc *tss = (void *)(gdt->address + GDT_ENTRY_TSS * 8);

  return tss->base0 | tss->base1 << 16 | (u64)tss->base2 << 24 | (u64)tss->base3 << 32;
}

static void write_segment(u64 index, u16 selector, u64 base) {
  const u32 rights = load_access_rights(selector);

  write_field(GUEST_ES_SELECTOR + 2 * index, selector);
  write_field(GUEST_ES_LIMIT + 2 * index, segment_limit(selector));
  write_field(GUEST_ES_AR_BYTES + 2 * index, rights ? rights >> 8 & 0xf0ff : 0x10000);
  write_field(GUEST_ES_BASE + 2 * index, base);
}

static u64 msr(u32 index) {
  u64 value;

  rdmsrl(index, value);
  return value;
}

static u16 selector_of_ldt(void) {
  u16 selector;

  asm("sldt %0" : "=m"(selector));
  return selector;
}

static void write_guest(u64 rip, u64 rsp) {
  struct desc_ptr gdt, idt;
  u16 selector;
  u64 dr7;

  native_store_gdt(&gdt);
  store_idt(&idt);
  get_debugreg(dr7, 7);
  write_field(GUEST_CR0, read_cr0());
  write_field(GUEST_CR3, __read_cr3());
  write_field(GUEST_CR4, __read_cr4());
  write_field(CR0_READ_SHADOW, read_cr0());
  write_field(CR4_READ_SHADOW, __read_cr4());
  write_field(GUEST_DR7, dr7);
  write_field(GUEST_IA32_DEBUGCTL, msr(MSR_IA32_DEBUGCTLMSR));
  write_field(GUEST_RIP, rip);
  write_field(GUEST_RSP, rsp);
  write_field(GUEST_RFLAGS, X86_EFLAGS_FIXED);
  savesegment(es, selector);
  write_segment(0, selector, 0);
  write_segment(1, __KERNEL_CS, 0);
  write_segment(2, __KERNEL_DS, 0);
  savesegment(ds, selector);
  write_segment(3, selector, 0);
  savesegment(fs, selector);
  write_segment(4, selector, msr(MSR_FS_BASE));
  savesegment(gs, selector);
  write_segment(5, selector, msr(MSR_GS_BASE));
  write_segment(6, selector_of_ldt(), 0);
  write_segment(7, GDT_ENTRY_TSS * 8, tss_base(&gdt));
  write_field(GUEST_GDTR_BASE, gdt.address);
  write_field(GUEST_GDTR_LIMIT, gdt.size);
  write_field(GUEST_IDTR_BASE, idt.address);
  write_field(GUEST_IDTR_LIMIT, idt.size);
  write_field(GUEST_SYSENTER_CS, msr(MSR_IA32_SYSENTER_CS));
  write_field(GUEST_SYSENTER_ESP, msr(MSR_IA32_SYSENTER_ESP));
  write_field(GUEST_SYSENTER_EIP, msr(MSR_IA32_SYSENTER_EIP));
}

static void write_host(const struct processor *processor) {
  struct desc_ptr gdt, idt;

  native_store_gdt(&gdt);
  store_idt(&idt);
  write_field(HOST_CR0, read_cr0());
  write_field(HOST_CR3, __pa(processor->host_pgd));
  write_field(HOST_CR4, __read_cr4());
  write_field(HOST_CS_SELECTOR, __KERNEL_CS);
  write_field(HOST_SS_SELECTOR, __KERNEL_DS);
  write_field(HOST_TR_SELECTOR, GDT_ENTRY_TSS * 8);
  write_field(HOST_TR_BASE, tss_base(&gdt));
  write_field(HOST_GS_BASE, msr(MSR_GS_BASE));  // per-CPU data, also when L2 was in user mode
  write_field(HOST_GDTR_BASE, gdt.address);
  write_field(HOST_IDTR_BASE, idt.address);
  write_field(HOST_IA32_SYSENTER_CS, msr(MSR_IA32_SYSENTER_CS));
  write_field(HOST_IA32_SYSENTER_ESP, msr(MSR_IA32_SYSENTER_ESP));
  write_field(HOST_IA32_SYSENTER_EIP, msr(MSR_IA32_SYSENTER_EIP));
}

static void skip_instruction(void) {
  write_field(GUEST_RIP, read_field(GUEST_RIP) + read_field(VM_EXIT_INSTRUCTION_LEN));
}

static void inject(u32 vector, bool has_error_code) {
  write_field(VM_ENTRY_INTR_INFO_FIELD, INTR_INFO_VALID_MASK | INTR_TYPE_HARD_EXCEPTION | vector |
                                            (has_error_code ? INTR_INFO_DELIVER_CODE_MASK : 0));
  write_field(VM_ENTRY_EXCEPTION_ERROR_CODE, 0);
}

static void __noreturn leave(struct processor *processor) {
  const u64 rip = read_field(GUEST_RIP), rsp = read_field(GUEST_RSP);
  const u64 rflags = read_field(GUEST_RFLAGS);
  const struct left_state left = {
      .cr0 = read_field(GUEST_CR0),
      .cr3 = read_field(GUEST_CR3),
      .cr4 = read_field(GUEST_CR4),
      .fs_base = read_field(GUEST_FS_BASE),
      .dr7 = read_field(GUEST_DR7),
      .es = read_field(GUEST_ES_SELECTOR),
      .ds = read_field(GUEST_DS_SELECTOR),
      .fs = read_field(GUEST_FS_SELECTOR),
      .ldtr = read_field(GUEST_LDTR_SELECTOR),
      .gdt = {read_field(GUEST_GDTR_LIMIT), read_field(GUEST_GDTR_BASE)},
      .idt = {read_field(GUEST_IDTR_LIMIT), read_field(GUEST_IDTR_BASE)},
  };

  restore_left_state(&left);
  vmx_turn_off(processor);
  blue_pill_leave(&processor->l2, rip, rsp, rflags);
  unreachable();
}

static bool in_user_mode(void) { return (read_field(GUEST_SS_AR_BYTES) >> 5 & 3) != 0; }

static void answer_hypercall(struct processor *processor) {
  struct registers *l2 = &processor->l2;

  if (in_user_mode()) {
    inject(X86_TRAP_UD, false);
    return;
  }
  skip_instruction();
  if (l2->rax == HYPERCALL_LEAVE) leave(processor);
  if (l2->rax == HYPERCALL_HELLO)
    answer_hello(processor);
  else
    CALL_KVM("vmcall", l2);
}

static void answer_cpuid(struct registers *l2) {
  u32 eax = l2->rax, ebx, ecx = l2->rcx, edx;

  native_cpuid(&eax, &ebx, &ecx, &edx);
  l2->rax = eax;
  l2->rbx = ebx;
  l2->rcx = ecx;
  l2->rdx = edx;
}

// Only those that the bitmap has no bits for, KVM's paravirtual ones for instance.
static void access_msr(struct registers *l2, bool write) {
  const u32 index = l2->rcx;
  u64 value = 0;
  int failed;

  if (write) {
    failed = wrmsr_safe(index, (u32)l2->rax, (u32)l2->rdx);
  } else {
    failed = rdmsrl_safe(index, &value);
    if (!failed) {
      l2->rax = (u32)value;
      l2->rdx = value >> 32;
    }
  }
  if (failed)
    inject(X86_TRAP_GP, true);
  else
    skip_instruction();
}

static void serve_exit(struct processor *processor) {
  struct registers *l2 = &processor->l2;
  const u32 reason = read_field(VM_EXIT_REASON);

  switch (reason) {
    case EXIT_REASON_CPUID:
      answer_cpuid(l2);
      break;
    case EXIT_REASON_INVD:
      wbinvd();
      break;
    case EXIT_REASON_XSETBV:
      xsetbv(l2->rcx, (u32)l2->rax | l2->rdx << 32);
      break;
    case EXIT_REASON_MSR_READ:
    case EXIT_REASON_MSR_WRITE:
      access_msr(l2, reason == EXIT_REASON_MSR_WRITE);
      return;
    case EXIT_REASON_VMCALL:
      answer_hypercall(processor);
      return;
    case EXIT_REASON_VMCLEAR ... EXIT_REASON_VMON:
    case EXIT_REASON_INVEPT:
    case EXIT_REASON_INVVPID:
      inject(X86_TRAP_UD, false);
      return;
    default: {
      const u64 rip = read_field(GUEST_RIP);

      vmx_turn_off(processor);
      unexpected_exit(reason, rip);
      unreachable();
    }
  }
  skip_instruction();
}

static void vmx_serve(struct processor *processor, u64 rip, u64 rsp) {
  make_current(__pa(processor->page[VMCS]));
  if (!write_controls(processor)) return;
  write_guest(rip, rsp);
  write_host(processor);
  while (vmx_enter(&processor->l2, processor->exits == 0) == SUCCEEDED) {
    // L2 never ran if its first entry was refused by an exit.
    if (!processor->exits && read_field(VM_EXIT_REASON) & VMX_EXIT_REASONS_FAILED_VMENTRY) break;
    processor->exits++;
    serve_exit(processor);
  }
  processor->error_detail = read_field(VM_INSTRUCTION_ERROR);
}

const struct vendor vmx = {"VM-instruction error", vmx_hypercall, vmx_turn_on, vmx_turn_off,
                           vmx_serve};
