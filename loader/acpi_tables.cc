#include "loader/acpi_tables.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "loader/aml.h"
#include "loader/table_bytes.h"
#include "vmm/core/guest_memory.h"

namespace vmm {
namespace spec {
namespace {

// The header that all but RSDP and FACS begin with (5.2.6).
constexpr std::size_t HEADER_SIZE = 36;
constexpr std::size_t HEADER_LENGTH = 4;
constexpr std::size_t HEADER_CHECKSUM = 9;

// FADT (5.2.9).
constexpr std::size_t FADT_SIZE = 244;
constexpr std::uint16_t BOOT_LEGACY_DEVICES = 0x0001;
constexpr std::uint16_t BOOT_8042 = 0x0002;
constexpr std::uint32_t FADT_WBINVD = 1U << 0;
constexpr std::uint32_t FADT_PROC_C1 = 1U << 2;
constexpr std::uint32_t FADT_SLP_BUTTON = 1U << 5;  // set: there is no such button
constexpr std::uint32_t FADT_TMR_VAL_EXT = 1U << 8;
constexpr std::uint32_t FADT_RESET_REG_SUP = 1U << 10;
constexpr std::uint16_t NO_C2 = 101;   // microseconds; above 100 there is no C2
constexpr std::uint16_t NO_C3 = 1001;  // above 1000 there is no C3

// Generic Address Structure (5.2.3.2).
constexpr std::uint8_t SYSTEM_IO = 1;
constexpr std::uint8_t BYTE_ACCESS = 1;
constexpr std::uint8_t WORD_ACCESS = 2;
constexpr std::uint8_t DWORD_ACCESS = 3;

// MADT (5.2.12).
constexpr std::uint32_t PCAT_COMPAT = 1;  // there are two 8259A as well
constexpr std::uint32_t CPU_ENABLED = 1;
constexpr std::uint16_t EDGE_HIGH = 0x0005;
constexpr std::uint16_t LEVEL_HIGH = 0x000d;

}  // namespace
}  // namespace spec

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::string_view kOemId = "VMM   ";
constexpr std::string_view kOemTableId = "VMMPC   ";
constexpr std::string_view kCreatorId = "VMM ";
constexpr std::uint32_t kOurRevision = 1;

constexpr std::uint16_t kResetPort = 0xcf9;
constexpr std::uint8_t kResetValue = 0x0f;
constexpr std::uint8_t kCenturyInCmos = 0x32;

Bytes begin_table(std::string_view signature, std::uint8_t revision,
                  std::size_t size = spec::HEADER_SIZE) {
  Bytes table(size);
  put_text(table, 0, signature);
  table[8] = revision;
  put_text(table, 10, kOemId);
  put_text(table, 16, kOemTableId);
  store(table, 24, kOurRevision);
  put_text(table, 28, kCreatorId);
  store(table, 32, kOurRevision);
  return table;
}

Bytes end_table(Bytes table) {
  store(table, spec::HEADER_LENGTH, static_cast<std::uint32_t>(table.size()));
  table[spec::HEADER_CHECKSUM] = checksum(table);
  return table;
}

template <typename T>
Bytes make_list(std::string_view signature, std::span<const std::uint32_t> tables) {
  Bytes list = begin_table(signature, 1);
  for (const std::uint32_t table : tables) append_number(list, T{table});
  return end_table(std::move(list));
}

struct Register {
  std::uint16_t port;
  std::uint8_t bits;
  std::uint8_t access;
};
void put_register(Bytes& table, std::size_t offset, const Register& reg) {
  table[offset] = spec::SYSTEM_IO;
  table[offset + 1] = reg.bits;
  table[offset + 3] = reg.access;
  store(table, offset + 4, std::uint64_t{reg.port});
}

}  // namespace

std::vector<std::uint8_t> make_rsdp(std::uint32_t rsdt, std::uint64_t xsdt) {
  Bytes rsdp(kRsdpSize);
  put_text(rsdp, 0, "RSD PTR ");
  put_text(rsdp, 9, kOemId);
  rsdp[15] = 2;  // revision
  store(rsdp, 16, rsdt);
  store(rsdp, 20, static_cast<std::uint32_t>(rsdp.size()));
  store(rsdp, 24, xsdt);
  rsdp[8] = checksum(std::span(rsdp).first(20));  // what ACPI 1.0 knew
  rsdp[32] = checksum(rsdp);
  return rsdp;
}

std::vector<std::uint8_t> make_rsdt(std::span<const std::uint32_t> tables) {
  return make_list<std::uint32_t>("RSDT", tables);
}

std::vector<std::uint8_t> make_xsdt(std::span<const std::uint32_t> tables) {
  return make_list<std::uint64_t>("XSDT", tables);
}

// Fields that are not named are 0: no SMI command, no second blocks, no general-purpose events, no
// throttling, no day or month alarm. Bit 1 of the boot flags says whether there is an 8042 that
// is worth looking at; there are a VGA, MSI if a function has it, and a CMOS RTC.
std::vector<std::uint8_t> make_fadt(const BoardDescription& board, std::uint32_t facs,
                                    std::uint32_t dsdt) {
  const std::uint16_t base = board.pm_base;
  const Register event{base, 32, spec::WORD_ACCESS};
  const Register control{static_cast<std::uint16_t>(base + 4), 16, spec::WORD_ACCESS};
  const Register timer{static_cast<std::uint16_t>(base + 8), 32, spec::DWORD_ACCESS};

  Bytes fadt = begin_table("FACP", 3, spec::FADT_SIZE);
  store(fadt, 36, facs);
  store(fadt, 40, dsdt);
  store(fadt, 46, static_cast<std::uint16_t>(board.sci));
  store(fadt, 56, std::uint32_t{event.port});
  store(fadt, 64, std::uint32_t{control.port});
  store(fadt, 76, std::uint32_t{timer.port});
  fadt[88] = static_cast<std::uint8_t>(event.bits / 8);
  fadt[89] = static_cast<std::uint8_t>(control.bits / 8);
  fadt[91] = static_cast<std::uint8_t>(timer.bits / 8);
  store(fadt, 96, spec::NO_C2);
  store(fadt, 98, spec::NO_C3);
  fadt[108] = kCenturyInCmos;
  store(fadt, 109,
        static_cast<std::uint16_t>(spec::BOOT_LEGACY_DEVICES |
                                   (board.keyboard ? spec::BOOT_8042 : 0)));
  store(fadt, 112,
        spec::FADT_WBINVD | spec::FADT_PROC_C1 | spec::FADT_SLP_BUTTON | spec::FADT_TMR_VAL_EXT |
            spec::FADT_RESET_REG_SUP);
  put_register(fadt, 116, {kResetPort, 8, spec::BYTE_ACCESS});
  fadt[128] = kResetValue;
  // Both tables have their address in two fields, of 4 and of 8 bytes; Xen misses the second one.
  store(fadt, 132, std::uint64_t{facs});
  store(fadt, 140, std::uint64_t{dsdt});
  put_register(fadt, 148, event);
  put_register(fadt, 172, control);
  put_register(fadt, 208, timer);
  return end_table(std::move(fadt));
}

std::vector<std::uint8_t> make_facs() {
  Bytes facs(64);
  put_text(facs, 0, "FACS");
  store(facs, 4, static_cast<std::uint32_t>(facs.size()));
  facs[32] = 2;  // version, since ACPI 4.0
  return facs;
}

std::vector<std::uint8_t> make_madt(const BoardDescription& board) {
  Bytes madt = begin_table("APIC", 3);
  append_number(madt, board.local_apic_address);
  append_number(madt, spec::PCAT_COMPAT);

  // A processor's UID is its place in the list.
  bool x2apic = false;
  for (std::uint32_t uid = 0; uid < board.apic_ids.size(); ++uid) {
    const std::uint32_t id = board.apic_ids[uid];
    // The 8-bit entry has room for an 8-bit UID as well, and FFh means all processors.
    if (id < kFirstX2ApicId && uid < 0xff) {
      append_bytes(madt, {0, 8, static_cast<std::uint8_t>(uid), static_cast<std::uint8_t>(id)});
      append_number(madt, spec::CPU_ENABLED);
    } else {
      x2apic = true;
      append_bytes(madt, {9, 16, 0, 0});
      append_number(madt, id);
      append_number(madt, spec::CPU_ENABLED);
      append_number(madt, uid);
    }
  }

  // The IOAPIC's pins are GSIs from 0 on.
  append_bytes(madt, {1, 12, board.io_apic_id, 0});
  append_number(madt, board.io_apic_address);
  append_number(madt, std::uint32_t{0});

  // ISA interrupts that are not on the pin of their number, edge-triggered and active high.
  const auto add_override = [&madt](unsigned irq, std::uint32_t gsi, std::uint16_t flags) {
    append_bytes(madt, {2, 10, 0, static_cast<std::uint8_t>(irq)});
    append_number(madt, gsi);
    append_number(madt, flags);
  };
  add_override(0, 2, spec::EDGE_HIGH);
  add_override(board.sci, board.sci, spec::LEVEL_HIGH);
  for (const unsigned irq : pci_irqs(board))
    if (irq != board.sci) add_override(irq, irq, spec::LEVEL_HIGH);

  // NMI at LINT1 of all processors, as the bus says: edge, active high.
  append_bytes(madt, {4, 6, 0xff, 0, 0, 1});
  if (x2apic) append_bytes(madt, {0x0a, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0});
  return end_table(std::move(madt));
}

namespace {

// Interrupts of PCI devices (6.2.13): each by a link (6.2.11 to 6.2.16), which has one choice and
// is set already, so that setting or disabling it does nothing. A link says what a number alone
// does not: active high.
struct PciInterrupts {
  aml::Bytes links;
  aml::Bytes routes;  // _PRT
};
PciInterrupts pci_interrupts(const BoardDescription& board) {
  using namespace aml;
  if (board.pci_interrupts.empty()) return {};
  PciInterrupts made;
  const std::vector<unsigned> irqs = pci_irqs(board);
  const auto link_name = [&irqs](unsigned irq) {
    const auto index = std::find(irqs.begin(), irqs.end(), irq) - irqs.begin();
    return std::string("LNK") + static_cast<char>('A' + index);
  };
  for (const unsigned irq : irqs) {
    const aml::Bytes interrupt = resources({shared_level_interrupt(irq)});
    made.links =
        join({made.links, device(link_name(irq),
                                 join({name("_HID", eisa_id("PNP0C0F")), name("_UID", integer(irq)),
                                       name("_PRS", interrupt), name("_CRS", interrupt),
                                       empty_method("_SRS", 1), empty_method("_DIS", 0)}))});
  }
  std::vector<aml::Bytes> routes;
  for (const auto& interrupt : board.pci_interrupts)
    routes.push_back(package({integer(std::uint64_t{interrupt.device} << 16 | 0xffff), integer(0),
                              reference(link_name(interrupt.irq)), integer(0)}));
  made.routes = name("_PRT", package(routes));
  return made;
}

}  // namespace

std::vector<std::uint8_t> make_dsdt(const BoardDescription& board) {
  using namespace aml;
  // PM1_CNT's sleep types, of the a and the b block.
  const auto sleep_type = [](std::uint64_t type) {
    return package({integer(type), integer(type), integer(0), integer(0)});
  };
  const aml::Bytes com1 =
      device("COM1", join({name("_HID", eisa_id("PNP0501")), name("_UID", integer(1)),
                           name("_CRS", resources({io_ports(0x3f8, 8), isa_irq(4)}))}));
  const aml::Bytes rtc =
      device("RTC", join({name("_HID", eisa_id("PNP0B00")),
                          name("_CRS", resources({io_ports(0x70, 2), isa_irq(8)}))}));
  const aml::Bytes keyboard = device(
      "KBD", join({name("_HID", eisa_id("PNP0303")),
                   name("_CRS", resources({io_ports(0x60, 1), io_ports(0x64, 1), isa_irq(1)}))}));
  const aml::Bytes isa = device("ISA", join({name("_ADR", integer(0x0001'0000)), com1, rtc,
                                             board.keyboard ? keyboard : aml::Bytes()}));
  // Configuration ports are the bridge's own; below 4 GiB it passes on what is neither RAM nor an
  // interrupt controller.
  const PciInterrupts interrupts = pci_interrupts(board);
  const aml::Bytes pci = device(
      "PCI0",
      join({name("_HID", eisa_id("PNP0A03")), name("_UID", integer(0)),
            name("_CRS",
                 resources(
                     {bus_numbers(0, 0), io_ports(0xcf8, 8), port_window(0, 0xcf7),
                      port_window(0xd00, 0xffff),
                      memory_window(static_cast<std::uint32_t>(kVgaWindow),
                                    static_cast<std::uint32_t>(kVgaWindow + kVgaWindowSize - 1)),
                      memory_window(board.pci_memory_base, board.io_apic_address - 1)})),
            interrupts.routes, isa}));

  vmm::Bytes dsdt = begin_table("DSDT", 2);
  if (board.suspend) append_bytes(dsdt, name("\\_S3", sleep_type(1)));
  append_bytes(dsdt, name("\\_S5", sleep_type(0)));
  append_bytes(dsdt, scope("\\_SB", join({interrupts.links, pci})));
  return end_table(std::move(dsdt));
}

}  // namespace vmm
