// An EFI application that says what the firmware found: who it is, memory, the ACPI and SMBIOS
// tables of the machine, the words it was started with. Then it powers off.
#include "examples/uefi-hypervisor/firmware.h"

using namespace guest;

namespace {

// The part of EFI_SYSTEM_TABLE behind what efi.h has (UEFI 4.3, 4.6).
struct ConfigurationTable {
  efi::Guid guid;
  const uint8_t* table;
};
struct SystemTableEnd {
  efi::SystemTable start;
  uint64_t count;
  const ConfigurationTable* tables;
};

constexpr efi::Guid kAcpi20{
    0x8868e871, 0xe4f1, 0x11d3, {0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81}};
constexpr efi::Guid kSmbios3{
    0xf2fd1544, 0x9794, 0x4a2c, {0x99, 0x2e, 0xe5, 0xbb, 0xcf, 0x20, 0xe3, 0x94}};

// EFI_MEMORY_DESCRIPTOR (UEFI 7.2.3); the firmware says how far they stand apart.
struct MemoryDescriptor {
  uint32_t type;
  uint64_t physical, virtual_address, pages, attributes;
};
constexpr uint32_t kConventionalMemory = 7;
using GetMemoryMap = EFIAPI efi::Status (*)(uint64_t* size, uint8_t* map, uint64_t* key,
                                            uint64_t* descriptor_size, uint32_t* version);
constexpr uint32_t kGetMemoryMap = 1;  // in free_pages_to_check_event

template <typename T>
T at(const uint8_t* bytes, uint32_t offset) {
  T value;
  __builtin_memcpy(&value, bytes + offset, sizeof value);
  return value;
}

bool same(const efi::Guid& left, const efi::Guid& right) {
  return __builtin_memcmp(&left, &right, sizeof left) == 0;
}

class Hello {
 public:
  Hello(efi_hypervisor::Firmware& firmware, const SystemTableEnd& system)
      : firmware_(firmware), system_(system) {}

  void say_memory() {
    static uint8_t map[16384];
    uint64_t size = sizeof map, key = 0, apart = 0;
    uint32_t version = 0;
    const auto get = reinterpret_cast<GetMemoryMap>(
        system_.start.boot->free_pages_to_check_event[kGetMemoryMap]);
    if (get(&size, map, &key, &apart, &version) != efi::kSuccess) {
      firmware_.say("memory  the firmware gives no map");
      exit_with(2);
    }
    uint64_t free_pages = 0;
    for (uint64_t i = 0; i + apart <= size; i += apart)
      if (at<uint32_t>(map, static_cast<uint32_t>(i)) == kConventionalMemory)
        free_pages += at<uint64_t>(map, static_cast<uint32_t>(i) + 24);
    firmware_.say("memory  ", Decimal{static_cast<uint32_t>(free_pages / 256)}, " MiB are free");
  }

  void say_tables() {
    for (uint64_t i = 0; i < system_.count; ++i) {
      const ConfigurationTable& entry = system_.tables[i];
      if (same(entry.guid, kAcpi20)) say_acpi(entry.table);
      if (same(entry.guid, kSmbios3)) say_smbios(entry.table);
    }
  }

 private:
  // ACPI 5.2.5.3 and 5.2.8: the RSDP leads to the XSDT, that to the rest.
  void say_acpi(const uint8_t* rsdp) {
    const auto* xsdt = at<const uint8_t*>(rsdp, 24);
    const auto length = at<uint32_t>(xsdt, 4);
    for (uint32_t offset = 36; offset + 8 <= length; offset += 8) {
      const auto* table = at<const uint8_t*>(xsdt, offset);
      char name[5] = {};
      __builtin_memcpy(name, table, 4);
      uint8_t sum = 0;
      for (uint32_t i = 0; i < at<uint32_t>(table, 4); ++i)
        sum = static_cast<uint8_t>(sum + table[i]);
      const char* verdict = sum == 0 ? "" : ", whose checksum is wrong";
      if (name[0] == 'F' && name[1] == 'A' && name[2] == 'C')
        firmware_.say("acpi    ", name, ", PM1_CNT at port ", Hex{at<uint32_t>(table, 64)},
                      verdict);
      else
        firmware_.say("acpi    ", name, verdict);
    }
  }

  // DSP0134 5.2.2 and 6.1: structures, each with its strings, up to type 127.
  void say_smbios(const uint8_t* entry_point) {
    const auto* table = at<const uint8_t*>(entry_point, 16);
    const auto size = at<uint32_t>(entry_point, 12);
    uint32_t structures = 0;
    for (uint32_t i = 0; i + 4 <= size; ++structures) {
      if (table[i] == 127) break;
      i += table[i + 1];
      while (i + 1 < size && (table[i] != 0 || table[i + 1] != 0)) ++i;
      i += 2;
    }
    firmware_.say("smbios  ", Decimal{structures}, " structures");
  }

  efi_hypervisor::Firmware& firmware_;
  const SystemTableEnd& system_;
};

// The vendor's name, as far as it is ASCII.
void narrow(const char16_t* from, char* to, uint32_t room) {
  uint32_t length = 0;
  for (; length + 1 < room && from[length] != 0; ++length)
    to[length] = static_cast<char>(from[length]);
  to[length] = '\0';
}

}  // namespace

extern "C" EFIAPI efi::Status efi_main(efi::Handle image, efi::SystemTable* table) {
  static efi_hypervisor::Firmware firmware;
  firmware.start(image, table);
  char vendor[64];
  narrow(table->firmware_vendor, vendor, sizeof vendor);
  firmware.say("uefi-hello: started by ", vendor);
  void* loaded = nullptr;
  table->boot->handle_protocol(image, &efi::kLoadedImage, &loaded);
  const auto* self = static_cast<const efi::LoadedImage*>(loaded);
  char words[128] = "";
  if (self != nullptr && self->load_options_size >= 2)
    narrow(static_cast<const char16_t*>(self->load_options), words, sizeof words);
  firmware.say("options '", words, "'");
  Hello hello(firmware, *reinterpret_cast<const SystemTableEnd*>(table));
  hello.say_memory();
  hello.say_tables();
  firmware.power_off();
}
