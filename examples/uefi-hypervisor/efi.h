// As much of UEFI as the example calls, by the UEFI specification 2.10 and, for the processors, the
// Platform Initialization specification 1.8, Vol. 2, 13.4. Tables are lists of pointers: what is
// not called is skipped by its place in the list.
#pragma once

#include <stdint.h>

namespace efi {

// Firmware is called, and calls, by Microsoft's convention (UEFI 2.3.4.1).
#define EFIAPI __attribute__((ms_abi))

using Handle = void*;
using Status = uint64_t;
constexpr Status kError = 1ull << 63;
constexpr Status kSuccess = 0, kNotFound = kError | 14, kTimeout = kError | 18;

struct Guid {
  uint32_t a;
  uint16_t b, c;
  uint8_t d[8];
};
constexpr Guid kLoadedImage{
    0x5b1b31a1, 0x9562, 0x11d2, {0x8e, 0x3f, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
constexpr Guid kDevicePath{
    0x09576e91, 0x6d3f, 0x11d2, {0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
constexpr Guid kSimpleFileSystem{
    0x964e5b22, 0x6459, 0x11d2, {0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
constexpr Guid kMpServices{
    0x3fdda605, 0xa76e, 0x4f46, {0xad, 0x29, 0x12, 0xf4, 0x53, 0x1b, 0x3d, 0x08}};

enum AllocateType : uint32_t { AllocateAnyPages, AllocateMaxAddress };
enum MemoryType : uint32_t { LoaderCode = 1, BootServicesCode = 3, RuntimeServicesCode = 5 };
enum ResetType : uint32_t { ResetCold, ResetWarm, ResetShutdown };

struct TextOutput {
  void* reset;
  EFIAPI Status (*output_string)(TextOutput*, const char16_t*);
};

// The header of each table, 24 bytes.
struct TableHeader {
  uint64_t signature;
  uint32_t revision, size, crc, reserved;
};

struct BootServices {
  TableHeader header;
  void* raise_and_restore_tpl[2];
  EFIAPI Status (*allocate_pages)(AllocateType, MemoryType, uint64_t pages, uint64_t* address);
  void* free_pages_to_check_event[10];
  void* install_protocol_to_uninstall[3];
  EFIAPI Status (*handle_protocol)(Handle, const Guid*, void** interface);
  void* reserved_to_install_table[5];
  EFIAPI Status (*load_image)(bool boot_policy, Handle parent, const void* path, const void* source,
                              uint64_t size, Handle* image);
  EFIAPI Status (*start_image)(Handle, uint64_t* exit_data_size, char16_t** exit_data);
  void* exit_to_monotonic_count[4];
  EFIAPI Status (*stall)(uint64_t microseconds);
  EFIAPI Status (*set_watchdog_timer)(uint64_t seconds, uint64_t code, uint64_t size,
                                      const char16_t* data);
  void* connect_to_locate_handle_buffer[7];
  EFIAPI Status (*locate_protocol)(const Guid*, void* registration, void** interface);
};
static_assert(__builtin_offsetof(BootServices, allocate_pages) == 24 + 8 * 2);
static_assert(__builtin_offsetof(BootServices, handle_protocol) == 24 + 8 * 16);
static_assert(__builtin_offsetof(BootServices, load_image) == 24 + 8 * 22);
static_assert(__builtin_offsetof(BootServices, set_watchdog_timer) == 24 + 8 * 29);
static_assert(__builtin_offsetof(BootServices, locate_protocol) == 24 + 8 * 37);

struct RuntimeServices {
  TableHeader header;
  void* get_time_to_monotonic_count[10];
  EFIAPI void (*reset_system)(ResetType, Status, uint64_t size, const void* data);
};

struct SystemTable {
  TableHeader header;
  const char16_t* firmware_vendor;
  uint32_t firmware_revision;
  Handle console_in_handle;
  void* console_in;
  Handle console_out_handle;
  TextOutput* console_out;
  Handle standard_error_handle;
  TextOutput* standard_error;
  RuntimeServices* runtime;
  BootServices* boot;
};

struct LoadedImage {
  uint32_t revision;
  Handle parent;
  SystemTable* system_table;
  Handle device;
  const void* file_path;
  void* reserved;
  uint32_t load_options_size;
  const void* load_options;
  void* image_base;
  uint64_t image_size;
  MemoryType code_type, data_type;
  void* unload;
};

// A node of a device path; its length counts these four bytes.
struct [[gnu::packed]] PathNode {
  uint8_t type, subtype;
  uint16_t length;
};
constexpr uint8_t kMediaPath = 4, kFilePath = 4, kEndOfPath = 0x7f;

struct File {
  uint64_t revision;
  EFIAPI Status (*open)(File*, File** opened, const char16_t* name, uint64_t mode, uint64_t flags);
  EFIAPI Status (*close)(File*);
  void* remove;
  EFIAPI Status (*read)(File*, uint64_t* size, void* buffer);
};
constexpr uint64_t kModeRead = 1;

struct SimpleFileSystem {
  uint64_t revision;
  EFIAPI Status (*open_volume)(SimpleFileSystem*, File** root);
};

struct ProcessorInformation {
  uint64_t id;  // its local APIC id
  uint32_t status;
  uint32_t package, core, thread;
  uint32_t extended[6];
};
constexpr uint32_t kIsBsp = 1 << 0, kIsEnabled = 1 << 1;

using Procedure = EFIAPI void (*)(void* argument);

struct MpServices {
  EFIAPI Status (*get_number_of_processors)(MpServices*, uint64_t* count, uint64_t* enabled);
  EFIAPI Status (*get_processor_info)(MpServices*, uint64_t number, ProcessorInformation*);
  EFIAPI Status (*startup_all_aps)(MpServices*, Procedure, bool one_by_one, void* event,
                                   uint64_t timeout_microseconds, void* argument,
                                   uint64_t** failed);
};

}  // namespace efi
