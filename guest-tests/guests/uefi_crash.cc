// An EFI image that dies in a function of its own: by HLT with interrupts off, after which every
// host still has the registers.
#include "examples/uefi-hypervisor/firmware.h"

namespace {

[[gnu::noinline]] void stops_for_good() { asm volatile("cli\n\thlt"); }

}  // namespace

extern "C" EFIAPI efi::Status efi_main(efi::Handle image, efi::SystemTable* table) {
  static efi_hypervisor::Firmware firmware;
  firmware.start(image, table);
  firmware.say("uefi-crash: dies now");
  if (firmware.option("halt")) stops_for_good();
  guest::exit_with(63);
}
