// Slips a hypervisor under a Linux that runs: loaded, every CPU goes on as L2 of it; unloaded, on
// its own again. VT-x or SVM, whichever the CPU has.
// <asm/...> needs what <linux/...> declares.
// clang-format off
#include "examples/linux-hypervisor-module/hypervisor.h"
#include <linux/cpu.h>
#include <linux/gfp.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/workqueue.h>
#include <asm/debugreg.h>
#include <asm/desc.h>
#include <asm/virtext.h>
// clang-format on

static const struct vendor *vendor;
static struct processor *processors[NR_CPUS];

// Comes back twice: with false where serve() gave up, with true as L2
// (examples/blue-pill/blue_pill.S).
bool blue_pill_enter(struct processor *processor, u8 *host_stack_end);
void blue_pill_serve(struct processor *processor, u64 rip, u64 rsp);

void blue_pill_serve(struct processor *processor, u64 rip, u64 rsp) {
  vendor->serve(processor, rip, rsp);
}

void answer_hello(struct processor *processor) {
  processor->l2.rax = HYPERCALL_ANSWER;
  processor->l2.rbx = processor->exits;
}

void unexpected_exit(u64 reason, u64 rip) {
  panic("hypervisor: exit %#llx at %pS", reason, (void *)rip);
}

void restore_left_state(const struct left_state *left) {
  native_write_cr0(left->cr0);
  native_write_cr3(left->cr3);
  // The bits that VMX and SVM fix go when they are turned off.
  asm volatile("mov %0, %%cr4" : : "r"(left->cr4) : "memory");
  native_load_gdt(&left->gdt);
  native_load_idt(&left->idt);
  asm volatile("lldt %0" : : "r"(left->ldtr));
  // A VM exit leaves TR's limit at 67h, without the I/O bitmap.
  invalidate_tss_limit();
  loadsegment(ds, left->ds);
  loadsegment(es, left->es);
  loadsegment(fs, left->fs);
  wrmsrl(MSR_FS_BASE, left->fs_base);
  set_debugreg(left->dr7, 7);
}

static void swallow(void) {
  struct processor *processor = processors[smp_processor_id()];

  processor->error = vendor->turn_on(processor);
  if (processor->error) return;
  if (!blue_pill_enter(processor, processor->host_stack + (PAGE_SIZE << HOST_STACK_ORDER))) {
    vendor->turn_off(processor);
    processor->error = -EIO;
  }
}

static void spit_out(void) {
  u64 exits;

  if (!processors[smp_processor_id()]->error) vendor->hypercall(HYPERCALL_LEAVE, &exits);
}

static long with_interrupts_off(void *what) {
  unsigned long flags;

  local_irq_save(flags);
  ((void (*)(void))what)();
  local_irq_restore(flags);
  return 0;
}

// In a thread of that CPU's: whoever waits sleeps. on_each_cpu() would spin.
static void on_each_cpu_in_turn(void (*what)(void)) {
  int cpu;

  for_each_online_cpu(cpu) work_on_cpu(cpu, with_interrupts_off, what);
}

static void free_processor(struct processor *processor) {
  int i;

  if (!processor) return;
  for (i = 0; i < ARRAY_SIZE(processor->page); i++) free_page((unsigned long)processor->page[i]);
  free_page((unsigned long)processor->host_pgd);
  free_pages((unsigned long)processor->host_stack, HOST_STACK_ORDER);
  kfree(processor);
}

static struct processor *new_processor(void) {
  struct processor *processor = kzalloc(sizeof *processor, GFP_KERNEL);
  bool complete;
  int i;

  if (!processor) return NULL;
  processor->error = -ENODEV;
  processor->host_stack = (u8 *)__get_free_pages(GFP_KERNEL, HOST_STACK_ORDER);
  processor->host_pgd = (pgd_t *)get_zeroed_page(GFP_KERNEL);
  complete = processor->host_stack && processor->host_pgd;
  for (i = 0; i < ARRAY_SIZE(processor->page); i++) {
    processor->page[i] = (void *)get_zeroed_page(GFP_KERNEL);
    complete = complete && processor->page[i];
  }
  if (!complete) {
    free_processor(processor);
    return NULL;
  }
  // The kernel's half is the same in every process, and its entries never change.
  memcpy(processor->host_pgd + PTRS_PER_PGD / 2,
         (pgd_t *)__va(__read_cr3() & CR3_ADDR_MASK) + PTRS_PER_PGD / 2, PAGE_SIZE / 2);
  return processor;
}

static void free_all(void) {
  int cpu;

  for_each_possible_cpu(cpu) free_processor(processors[cpu]);
  cpu_hotplug_enable();
}

static void hello(void) {
  u64 exits = 0;
  const u64 answer = vendor->hypercall(HYPERCALL_HELLO, &exits);

  pr_info("hypervisor: CPU %u runs as L2: the hypercall answers %#llx after %llu exits\n",
          smp_processor_id(), answer, exits);
}

static int __init hypervisor_init(void) {
  int cpu, error = 0;

  vendor = cpu_has_vmx() ? &vmx : cpu_has_svm(NULL) ? &svm : NULL;
  if (!vendor) {
    pr_err("hypervisor: CPUID has neither vmx nor svm\n");
    return -ENODEV;
  }
  // A CPU that comes or goes would need INIT and SIPI answered.
  cpu_hotplug_disable();
  for_each_online_cpu(cpu) {
    processors[cpu] = new_processor();
    if (!processors[cpu]) {
      free_all();
      return -ENOMEM;
    }
  }
  on_each_cpu_in_turn(swallow);
  for_each_online_cpu(cpu) {
    if (!processors[cpu]->error) continue;
    error = processors[cpu]->error;
    pr_err("hypervisor: CPU %d did not enter: %d, %s says %u\n", cpu, error, vendor->error_name,
           processors[cpu]->error_detail);
  }
  if (error) {
    on_each_cpu_in_turn(spit_out);
    free_all();
    return error;
  }
  on_each_cpu_in_turn(hello);
  return 0;
}

static void __exit hypervisor_exit(void) {
  u64 exits = 0;
  int cpu;

  on_each_cpu_in_turn(spit_out);
  for_each_online_cpu(cpu) exits += processors[cpu]->exits;
  pr_info("hypervisor: %u CPUs run on their own again, %llu exits\n", num_online_cpus(), exits);
  free_all();
}

module_init(hypervisor_init);
module_exit(hypervisor_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A hypervisor under the running system");
