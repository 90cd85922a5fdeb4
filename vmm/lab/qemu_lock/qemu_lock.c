/* Preloaded into the svm lab's QEMU. There a guest's write to CR8 with a virtual interrupt pending
 * (V_IRQ, which kvm_amd sets to be told when it may inject) raises an interrupt without QEMU's big
 * lock, and an assertion in tcg_handle_interrupt() ends the emulator: helper_write_crN() of
 * QEMU 7.1 and later (target/i386/tcg/sysemu/misc_helper.c). This takes the lock around that
 * function.
 *
 * Debian's QEMU has its translator in a module, accel-tcg-*.so, whose names are looked up here
 * first. In a QEMU that is built otherwise nothing calls this, and nothing changes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

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
