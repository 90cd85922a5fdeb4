// The firmware, as far as the example needs it: the console, memory, processors, files, images, the
// end of the machine. Not for use by the resident part.
#pragma once

#include "examples/uefi-hypervisor/efi.h"
#include "guest-tests/guests/guest.h"

namespace efi_hypervisor {

class Firmware {
 public:
  void start(efi::Handle image, efi::SystemTable* table);

  // A line of text on the console; on the serial port where the firmware has no console yet.
  template <typename... Parts>
  void say(Parts... parts) {
    (add(parts), ...);
    flush_line();
  }

  // Null where there is none below `limit`, else all zeroes and never given to anyone else.
  uint8_t* allocate_resident(uint64_t size, uint64_t limit);

  // Drivers stay in memory, applications do not.
  bool started_as_driver() const { return image_->code_type == efi::BootServicesCode; }
  // `word` is among the image's load options.
  bool option(const char* word) const;

  efi::MpServices* mp_services();

  // Looks for `name`.EFI in \EFI of the volume that this image comes from and starts it with what
  // `name`.TXT holds as its load options. NotThere: it is not there. Else what it ended with, or
  // what kept it from starting, is in `status`.
  enum class Started { NotThere, NotLoaded, Ended };
  Started start_image(const char* name, efi::Status& status);

  [[noreturn]] void power_off();
  // A line, and the verdict by the debug-exit port.
  template <typename... Parts>
  [[noreturn]] void fail(uint32_t verdict, Parts... parts) {
    say("efi-hypervisor: ", parts...);
    guest::exit_with(verdict);
  }

 private:
  void add(const char* text);
  void add(guest::Hex number);
  void add(guest::Decimal number);
  void put(char c);
  void flush_line();
  efi::File* open(const char* name, const char* extension);
  const void* path_of(const char* name);

  efi::SystemTable* table_;
  efi::Handle handle_;
  efi::LoadedImage* image_;
  char16_t line_[256];
  uint32_t length_;
  uint8_t path_[512];
  char16_t options_[1024];
};

}  // namespace efi_hypervisor
