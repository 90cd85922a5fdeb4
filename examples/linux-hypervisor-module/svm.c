// The module on SVM: a VMCB whose guest is this CPU as it stands, without nested paging; of what
// may be intercepted, VMRUN has to be and VMMCALL is the way out.
// <asm/...> needs what <linux/...> declares.
// clang-format off
#include "examples/linux-hypervisor-module/hypervisor.h"
#include <asm/desc.h>
#include <asm/msr.h>
#include <asm/svm.h>
#include <asm/trapnr.h>
#include <asm/virtext.h>
// clang-format on

enum { HOST_SAVE, GUEST_VMCB, HOST_VMCB };

// guest-tests/guests/svm_enter.S: with the global interrupt flag 0, as the last argument says.
void svm_enter(struct registers *l2, u64 vmcb, u64 host, bool gif);

static struct vmcb *vmcb_of(const struct processor *processor) {
  return processor->page[GUEST_VMCB];
}

static u64 svm_hypercall(u64 number, u64 *exits) {
  asm volatile("vmmcall" : "+a"(number), "=b"(*exits) : : "memory");
  return number;
}

static int svm_turn_on(struct processor *processor) {
  u64 efer, vm_cr;

  rdmsrl(MSR_VM_CR, vm_cr);
  if (vm_cr & 1 << SVM_VM_CR_SVM_DISABLE) return -EPERM;
  rdmsrl(MSR_EFER, efer);
  if (efer & EFER_SVME) return -EBUSY;
  wrmsrl(MSR_EFER, efer | EFER_SVME);
  wrmsrl(MSR_VM_HSAVE_PA, __pa(processor->page[HOST_SAVE]));
  return 0;
}

static void svm_turn_off(struct processor *processor) {
  u64 efer;

  wrmsrl(MSR_VM_HSAVE_PA, 0);
  rdmsrl(MSR_EFER, efer);
  wrmsrl(MSR_EFER, efer & ~EFER_SVME);
}

// Attributes are those of a descriptor, bits 55:52 and 47:40 side by side (APM Vol. 2 15.5.1).
static struct vmcb_seg segment(u16 selector) {
  const u32 rights = load_access_rights(selector);

  return (struct vmcb_seg){
      .selector = selector,
      .attrib = (rights >> 8 & 0xff) | (rights >> 12 & 0xf00),
      .limit = segment_limit(selector),
  };
}

static void write_vmcb(struct processor *processor, u64 rip, u64 rsp) {
  struct vmcb *vmcb = vmcb_of(processor);
  struct vmcb_save_area *save = &vmcb->save;
  struct desc_ptr gdt, idt;
  u16 selector;
  u64 value;

  vmcb->control.intercepts[INTERCEPT_VMRUN / 32] =
      1 << INTERCEPT_VMRUN % 32 | 1 << INTERCEPT_VMMCALL % 32;
  vmcb->control.intercepts[INTERCEPT_SHUTDOWN / 32] = 1u << INTERCEPT_SHUTDOWN % 32;
  vmcb->control.asid = 1;
  // FS, GS, TR, LDTR and the MSRs of SYSCALL and SYSENTER are VMLOAD's.
  asm volatile("vmsave %0" : : "a"(__pa(vmcb)) : "memory");
  native_store_gdt(&gdt);
  store_idt(&idt);
  save->cs = segment(__KERNEL_CS);
  save->ss = segment(__KERNEL_DS);
  savesegment(ds, selector);
  save->ds = segment(selector);
  savesegment(es, selector);
  save->es = segment(selector);
  save->gdtr = (struct vmcb_seg){.base = gdt.address, .limit = gdt.size};
  save->idtr = (struct vmcb_seg){.base = idt.address, .limit = idt.size};
  save->cr0 = read_cr0();
  save->cr2 = read_cr2();
  save->cr3 = __read_cr3();
  save->cr4 = __read_cr4();
  get_debugreg(value, 6);
  save->dr6 = value;
  get_debugreg(value, 7);
  save->dr7 = value;
  rdmsrl(MSR_EFER, value);
  save->efer = value;
  rdmsrl(MSR_IA32_CR_PAT, value);
  save->g_pat = value;
  save->rip = rip;
  save->rsp = rsp;
  save->rflags = X86_EFLAGS_FIXED;
}

static void __noreturn leave(struct processor *processor) {
  const struct vmcb_save_area *save = &vmcb_of(processor)->save;
  const struct left_state left = {
      .cr0 = save->cr0,
      .cr3 = save->cr3,
      .cr4 = save->cr4,
      .fs_base = save->fs.base,
      .dr7 = save->dr7,
      .es = save->es.selector,
      .ds = save->ds.selector,
      .fs = save->fs.selector,
      .ldtr = save->ldtr.selector,
      .gdt = {save->gdtr.limit, save->gdtr.base},
      .idt = {save->idtr.limit, save->idtr.base},
  };
  const u64 rip = save->rip, rsp = save->rsp, rflags = save->rflags;

  // As L2 had them at its last exit: FS, GS, KERNEL_GS_BASE and the rest.
  asm volatile("vmload %0" : : "a"(__pa(save) - offsetof(struct vmcb, save)) : "memory");
  asm volatile("stgi");
  restore_left_state(&left);
  svm_turn_off(processor);
  blue_pill_leave(&processor->l2, rip, rsp, rflags);
  unreachable();
}

static void answer_hypercall(struct processor *processor) {
  struct vmcb *vmcb = vmcb_of(processor);
  struct registers *l2 = &processor->l2;

  if (vmcb->save.cpl != 0) {
    vmcb->control.event_inj = SVM_EVTINJ_VALID | SVM_EVTINJ_TYPE_EXEPT | X86_TRAP_UD;
    return;
  }
  vmcb->save.rip += 3;  // VMMCALL: 0f 01 d9
  if (l2->rax == HYPERCALL_LEAVE) leave(processor);
  if (l2->rax == HYPERCALL_HELLO)
    answer_hello(processor);
  else
    CALL_KVM("vmmcall", l2);
}

static void svm_serve(struct processor *processor, u64 rip, u64 rsp) {
  struct vmcb *vmcb = vmcb_of(processor);
  const u64 linux_cr3 = __read_cr3();

  write_vmcb(processor, rip, rsp);
  // #VMEXIT goes back to the CR3 of VMRUN.
  native_write_cr3(__pa(processor->host_pgd));
  while (true) {
    vmcb->save.rax = processor->l2.rax;
    svm_enter(&processor->l2, __pa(vmcb), __pa(processor->page[HOST_VMCB]), false);
    processor->l2.rax = vmcb->save.rax;
    vmcb->control.event_inj = 0;
    if (vmcb->control.exit_code == (u32)SVM_EXIT_ERR && !processor->exits) break;
    processor->exits++;
    switch (vmcb->control.exit_code) {
      case SVM_EXIT_VMMCALL:
        answer_hypercall(processor);
        break;
      case SVM_EXIT_VMRUN:
        vmcb->control.event_inj = SVM_EVTINJ_VALID | SVM_EVTINJ_TYPE_EXEPT | X86_TRAP_UD;
        break;
      default:
        asm volatile("stgi");
        unexpected_exit(vmcb->control.exit_code, vmcb->save.rip);
        unreachable();
    }
  }
  native_write_cr3(linux_cr3);
  asm volatile("stgi");
  processor->error_detail = vmcb->control.exit_code;
}

const struct vendor svm = {"EXITCODE", svm_hypercall, svm_turn_on, svm_turn_off, svm_serve};
