#include "loader/firmware_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "loader/acpi_tables.h"
#include "loader/e820.h"
#include "loader/mp_table.h"
#include "vmm/base/bytes.h"
#include "vmm/base/check.h"

namespace vmm {
namespace spec {
namespace {

// The BIOS data area (IBM PC BIOS; Phoenix' System BIOS for IBM PCs).
constexpr Gpa BDA_COM1 = 0x400;       // port
constexpr Gpa BDA_EBDA = 0x40e;       // segment
constexpr Gpa BDA_EQUIPMENT = 0x410;  // as INT 11h returns it
constexpr Gpa BDA_MEMORY = 0x413;     // KiB below the EBDA
constexpr Gpa BDA_VIDEO_MODE = 0x449;
constexpr Gpa BDA_COLUMNS = 0x44a;
constexpr Gpa BDA_CRTC = 0x463;  // port
constexpr Gpa BDA_LAST_ROW = 0x484;
constexpr Gpa BDA_CHARACTER_HEIGHT = 0x485;

constexpr std::uint16_t EQUIPMENT_FPU = 0x0002;
constexpr std::uint16_t EQUIPMENT_80X25 = 0x0020;
constexpr std::uint16_t EQUIPMENT_ONE_SERIAL = 0x0200;

}  // namespace
}  // namespace spec

namespace {

constexpr std::uint16_t kStubSegment = 0xf000;

// The parts of the stub, each on a multiple of 16 so that an address in a trace tells which it is.
constexpr Gpa kReturn = kBiosStub;
constexpr Gpa kMasterIrq = kBiosStub + 0x10;
constexpr Gpa kSlaveIrq = kBiosStub + 0x20;
constexpr Gpa kReset = kBiosStub + 0x30;

// iret
constexpr std::uint8_t kReturnCode[] = {0xcf};
// push ax; mov al, 20h; out 20h, al; pop ax; iret
constexpr std::uint8_t kMasterIrqCode[] = {0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf};
// push ax; mov al, 20h; out A0h, al; out 20h, al; pop ax; iret
constexpr std::uint8_t kSlaveIrqCode[] = {0x50, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0x58, 0xcf};
// cli; mov dx, CF9h; mov al, 6; out dx, al; hlt; jmp to the hlt
constexpr std::uint8_t kResetCode[] = {0xfa, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4, 0xeb, 0xfd};

constexpr std::uint16_t offset_in_segment(Gpa gpa) {
  return static_cast<std::uint16_t>(gpa - kStubSegment * 16U);
}

Gpa handler_of(unsigned vector) {
  if (vector >= 0x08 && vector <= 0x0f) return kMasterIrq;
  if (vector >= 0x70 && vector <= 0x77) return kSlaveIrq;
  return kReturn;
}

// RAM has at least 1 MiB, and the screen's window is not asked for.
void write(GuestMemory& memory, Gpa gpa, std::span<const std::uint8_t> bytes) {
  VMM_CHECK(memory.write(gpa, bytes), "the first MiB is RAM");
}

template <typename T>
void write_value(GuestMemory& memory, Gpa gpa, T value) {
  std::array<std::uint8_t, sizeof value> bytes;
  store(bytes, 0, value);
  write(memory, gpa, bytes);
}

Result<void> check_board(const BoardDescription& board) {
  const std::string what = "firmware tables cannot describe this board";
  if (board.apic_ids.empty()) return fail(Error::usage(what + ": it has no vCPU"));
  std::vector<std::uint32_t> ids = board.apic_ids;
  std::sort(ids.begin(), ids.end());
  if (const auto twice = std::adjacent_find(ids.begin(), ids.end()); twice != ids.end())
    return fail(Error::usage(fmt::format("{}: two vCPUs have APIC ID {:x}h", what, *twice)));
  if (board.sci < 3 || board.sci > 15)
    return fail(Error::usage(
        fmt::format("{}: interrupt {} for the SCI is none of ISA's 3 to 15", what, board.sci)));
  if (board.pm_base == 0 || board.pm_base % 16 != 0)
    return fail(Error::usage(fmt::format(
        "{}: {:x}h for the power management ports is no multiple of 10h", what, board.pm_base)));
  if (board.io_apic_address <= kHoleStart)
    return fail(Error::usage(fmt::format("{}: the IOAPIC's address {:x}h is not above the RAM",
                                         what, board.io_apic_address)));
  return {};
}

}  // namespace

Result<void> place_firmware_tables(GuestMemory& memory, const BoardDescription& board) {
  VMM_TRY(check_board(board));
  constexpr std::array<std::uint32_t, 2> kTables = {kFadt, kMadt};
  struct Part {
    Gpa base;
    Gpa end;
    std::vector<std::uint8_t> bytes;
  };
  const std::array<Part, 9> parts = {{{kRsdp, kFacs, make_rsdp(kRsdt, kXsdt)},
                                      {kFacs, kRsdt, make_facs()},
                                      {kRsdt, kXsdt, make_rsdt(kTables)},
                                      {kXsdt, kFadt, make_xsdt(kTables)},
                                      {kFadt, kDsdt, make_fadt(board, kFacs, kDsdt)},
                                      {kDsdt, kMadt, make_dsdt(board)},
                                      {kMadt, kMadtEnd, make_madt(board)},
                                      {kMpPointer, kMpTable, make_mp_pointer(kMpTable)},
                                      {kMpTable, kMpTableEnd, make_mp_table(board)}}};
  for (const Part& part : parts)
    if (part.bytes.size() > part.end - part.base)
      return fail(Error::usage(
          fmt::format("the firmware table at {:x}h has {} bytes for {} vCPUs; there is room for {}",
                      part.base, part.bytes.size(), board.apic_ids.size(), part.end - part.base)));
  for (const Part& part : parts) write(memory, part.base, part.bytes);
  return {};
}

void place_bios_stub(GuestMemory& memory) {
  std::array<std::uint8_t, 0x400> vectors;
  for (unsigned vector = 0; vector < 256; ++vector) {
    store(vectors, 4 * vector, offset_in_segment(handler_of(vector)));
    store(vectors, 4 * vector + 2, kStubSegment);
  }
  write(memory, 0, vectors);
  write(memory, kReturn, kReturnCode);
  write(memory, kMasterIrq, kMasterIrqCode);
  write(memory, kSlaveIrq, kSlaveIrqCode);
  write(memory, kReset, kResetCode);
  // jmp far F000h:kReset
  const std::uint16_t reset = offset_in_segment(kReset);
  const std::array<std::uint8_t, 5> jump = {0xea, static_cast<std::uint8_t>(reset),
                                            static_cast<std::uint8_t>(reset >> 8), 0x00, 0xf0};
  write(memory, kResetVector, jump);

  write_value(memory, spec::BDA_COM1, std::uint16_t{0x3f8});
  write_value(memory, spec::BDA_EBDA, static_cast<std::uint16_t>(kLowRamEnd / 16));
  write_value(memory, spec::BDA_EQUIPMENT,
              static_cast<std::uint16_t>(spec::EQUIPMENT_FPU | spec::EQUIPMENT_80X25 |
                                         spec::EQUIPMENT_ONE_SERIAL));
  write_value(memory, spec::BDA_MEMORY, static_cast<std::uint16_t>(kLowRamEnd / 1024));
  write_value(memory, spec::BDA_VIDEO_MODE, std::uint8_t{3});
  write_value(memory, spec::BDA_COLUMNS, std::uint16_t{80});
  write_value(memory, spec::BDA_CRTC, std::uint16_t{0x3d4});
  write_value(memory, spec::BDA_LAST_ROW, std::uint8_t{24});
  write_value(memory, spec::BDA_CHARACTER_HEIGHT, std::uint16_t{16});
  // The EBDA begins with its size in KiB.
  write_value(memory, kLowRamEnd, static_cast<std::uint8_t>((kVgaWindow - kLowRamEnd) / 1024));
}

}  // namespace vmm
