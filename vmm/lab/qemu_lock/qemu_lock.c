/* Preloaded into the svm lab's QEMU: mends two mistakes of its emulation of SVM.
 *
 * A guest's write to CR8 with a virtual interrupt pending (V_IRQ, which kvm_amd sets to be told
 * when it may inject) raises an interrupt without QEMU's big lock, and an assertion in
 * tcg_handle_interrupt() ends the emulator: helper_write_crN() of QEMU 7.1 and later
 * (target/i386/tcg/sysemu/misc_helper.c). This takes the lock around that function. Debian's QEMU
 * has its translator in a module, accel-tcg-*.so, whose names are looked up here first.
 *
 * Every FXRSTOR, XRSTOR, FLDENV and FRSTOR, on any processor, clears the first processor's IGNNE
 * flag (cpu_clear_ignne(), target/i386/tcg/sysemu/fpu_helper.c): an unlocked read and write of
 * hflags2, where that processor keeps whether it is under nested paging, whether GIF is set, and
 * whether an NMI is served. A VMRUN or #VMEXIT of the first processor at that moment is half
 * undone: the guest's addresses are walked without nested paging, or the host's with it, and the
 * guest triple-faults or the lab's kernel dies. Seen with two processors in 4 of 10 boots of a
 * Linux that writes its log to the serial port. IGNNE# exists for MS-DOS (CR0.NE = 0 and port F0h)
 * and is never set in the lab, so the function is made to return at once, where QEMU exports it.
 *
 * In a QEMU that is built otherwise neither is found, and nothing changes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef void HandleInterrupt(void *cpu, int mask);

bool qemu_mutex_iothread_locked(void) __attribute__((weak));
void qemu_mutex_lock_iothread_impl(const char *file, int line) __attribute__((weak));
void qemu_mutex_unlock_iothread(void) __attribute__((weak));

static int find_in_module(struct dl_phdr_info *info, size_t size, void *found) {
  (void)size;
  if (strstr(info->dlpi_name, "/accel-tcg-") == NULL) return 0;
  void *module = dlopen(info->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
  if (module != NULL) *(void **)found = dlsym(module, "tcg_handle_interrupt");
  return 1;
}

static HandleInterrupt *qemus_own(void) {
  static void *cached;
  void *own = __atomic_load_n(&cached, __ATOMIC_RELAXED);
  if (own != NULL) return (HandleInterrupt *)own;
  dl_iterate_phdr(find_in_module, &own);
  if (own == NULL) abort(); /* only that module calls this, so it is there */
  __atomic_store_n(&cached, own, __ATOMIC_RELAXED);
  return (HandleInterrupt *)own;
}

void tcg_handle_interrupt(void *cpu, int mask) {
  HandleInterrupt *own = qemus_own();
  const bool can_lock = qemu_mutex_iothread_locked != NULL &&
                        qemu_mutex_lock_iothread_impl != NULL && qemu_mutex_unlock_iothread != NULL;
  const bool lock = can_lock && !qemu_mutex_iothread_locked();
  if (lock) qemu_mutex_lock_iothread_impl(__FILE__, __LINE__);
  own(cpu, mask);
  if (lock) qemu_mutex_unlock_iothread();
}

/* Before QEMU's main() and its threads. The code is this process's own copy of the page. */
__attribute__((constructor)) static void keep_ignne(void) {
  uint8_t *function = (uint8_t *)dlsym(RTLD_DEFAULT, "cpu_clear_ignne");
  if (function == NULL) return;
  const uintptr_t page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
  void *page = (void *)((uintptr_t)function & ~(page_size - 1));
  if (mprotect(page, page_size, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) return;
  *function = 0xc3; /* RET */
  mprotect(page, page_size, PROT_READ | PROT_EXEC);
}
