// An EFI image that dies where its load options say: "halt" with interrupts off, for which every
// host keeps the registers, or "triple-fault".
#include "examples/uefi-hypervisor/firmware.h"

namespace {

[[gnu::noinline]] void stops_for_good() { asm volatile("cli\n\thlt"); }

[[gnu::noinline]] void faults_without_an_idt() {
  struct [[gnu::packed]] {
    uint16_t limit;
    uint64_t base;
  } const none{};
  asm volatile("lidt %0\n\tud2" : : "m"(none));
}

}  // namespace

extern "C" EFIAPI efi::Status efi_main(efi::Handle image, efi::SystemTable* table) {
  static efi_hypervisor::Firmware firmware;
  firmware.start(image, table);
  firmware.say("uefi-crash: dies now");
  if (firmware.option("halt")) stops_for_good();
  if (firmware.option("triple-fault")) faults_without_an_idt();
  guest::exit_with(63);
}
