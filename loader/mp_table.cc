#include "loader/mp_table.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "loader/table_bytes.h"

namespace vmm {
namespace spec {
namespace {

constexpr std::uint8_t SPEC_REV = 4;  // 1.4
constexpr std::size_t HEADER_SIZE = 44;

constexpr std::uint8_t PROCESSOR = 0;
constexpr std::uint8_t BUS = 1;
constexpr std::uint8_t IO_APIC = 2;
constexpr std::uint8_t IO_INTERRUPT = 3;
constexpr std::uint8_t LOCAL_INTERRUPT = 4;

constexpr std::uint8_t CPU_ENABLED = 0x01;
constexpr std::uint8_t CPU_BOOT = 0x02;
constexpr std::uint8_t LOCAL_APIC_VERSION = 0x14;
constexpr std::uint8_t IO_APIC_ENABLED = 0x01;

constexpr std::uint8_t INT = 0;
constexpr std::uint8_t NMI = 1;
constexpr std::uint8_t EXT_INT = 3;
constexpr std::uint8_t CONFORMING = 0x00;  // on ISA: edge, active high
constexpr std::uint8_t LEVEL_HIGH = 0x0d;
constexpr std::uint8_t ALL_LOCAL_APICS = 0xff;

}  // namespace
}  // namespace spec

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint8_t kPciBus = 0;
constexpr std::uint8_t kIsaBus = 1;
constexpr unsigned kCascade = 2;

// Adds entries behind the header and counts them.
class Table {
 public:
  void processor(const BoardDescription& board, std::uint32_t apic_id, bool boot) {
    Bytes entry(20);
    entry[0] = spec::PROCESSOR;
    entry[1] = static_cast<std::uint8_t>(apic_id);
    entry[2] = spec::LOCAL_APIC_VERSION;
    entry[3] = static_cast<std::uint8_t>(spec::CPU_ENABLED | (boot ? spec::CPU_BOOT : 0));
    store(entry, 4, board.cpu_signature);
    store(entry, 8, board.cpu_features);
    add(entry);
  }
  void bus(std::uint8_t id, std::string_view type) {
    Bytes entry{spec::BUS, id, 0, 0, 0, 0, 0, 0};
    put_text(entry, 2, type);
    add(entry);
  }
  void io_apic(const BoardDescription& board) {
    Bytes entry{
        spec::IO_APIC, board.io_apic_id, board.io_apic_version, spec::IO_APIC_ENABLED, 0, 0, 0, 0};
    store(entry, 4, board.io_apic_address);
    add(entry);
  }
  // `kind` is IO_INTERRUPT or LOCAL_INTERRUPT.
  void isa_interrupt(std::uint8_t kind, std::uint8_t type, std::uint8_t flags, unsigned irq,
                     std::uint8_t apic, unsigned pin) {
    add({kind, type, flags, 0, kIsaBus, static_cast<std::uint8_t>(irq), apic,
         static_cast<std::uint8_t>(pin)});
  }
  // INTA#: the pin is in the two low bits of the source.
  void pci_interrupt(const BoardDescription& board,
                     const BoardDescription::PciInterrupt& interrupt) {
    add({spec::IO_INTERRUPT, spec::INT, spec::LEVEL_HIGH, 0, kPciBus,
         static_cast<std::uint8_t>(interrupt.device << 2), board.io_apic_id,
         static_cast<std::uint8_t>(interrupt.irq)});
  }
  Bytes finish(std::uint32_t local_apic_address) {
    put_text(bytes_, 0, "PCMP");
    store(bytes_, 4, static_cast<std::uint16_t>(bytes_.size()));
    bytes_[6] = spec::SPEC_REV;
    put_text(bytes_, 8, "VMM     ");
    put_text(bytes_, 16, "PC          ");
    store(bytes_, 34, entries_);
    store(bytes_, 36, local_apic_address);
    bytes_[7] = checksum(bytes_);
    return std::move(bytes_);
  }

 private:
  void add(const Bytes& entry) {
    append_bytes(bytes_, entry);
    ++entries_;
  }
  Bytes bytes_ = Bytes(spec::HEADER_SIZE);
  std::uint16_t entries_ = 0;
};

}  // namespace

// Feature bytes 0: there is a configuration table, and interrupts start in virtual wire mode.
std::vector<std::uint8_t> make_mp_pointer(std::uint32_t table) {
  Bytes pointer(16);
  put_text(pointer, 0, "_MP_");
  store(pointer, 4, table);
  pointer[8] = static_cast<std::uint8_t>(pointer.size() / 16);
  pointer[9] = spec::SPEC_REV;
  pointer[10] = checksum(pointer);
  return pointer;
}

// The SCI, although a PCI function's, is an ISA interrupt; those that PCI interrupts are led to are
// listed as PCI's alone.
std::vector<std::uint8_t> make_mp_table(const BoardDescription& board) {
  Table table;
  for (std::size_t i = 0; i < board.apic_ids.size(); ++i)
    if (board.apic_ids[i] < kFirstX2ApicId) table.processor(board, board.apic_ids[i], i == 0);
  table.bus(kPciBus, "PCI   ");
  table.bus(kIsaBus, "ISA   ");
  table.io_apic(board);
  const std::vector<unsigned> of_pci = pci_irqs(board);
  for (unsigned irq = 0; irq < 16; ++irq) {
    if (irq == kCascade || std::ranges::count(of_pci, irq) != 0) continue;
    const std::uint8_t flags = irq == board.sci ? spec::LEVEL_HIGH : spec::CONFORMING;
    table.isa_interrupt(spec::IO_INTERRUPT, spec::INT, flags, irq, board.io_apic_id,
                        irq == 0 ? 2 : irq);
  }
  for (const auto& interrupt : board.pci_interrupts) table.pci_interrupt(board, interrupt);
  // The 8259A's output is at LINT0 of the first processor.
  if (!board.apic_ids.empty() && board.apic_ids[0] < kFirstX2ApicId)
    table.isa_interrupt(spec::LOCAL_INTERRUPT, spec::EXT_INT, spec::CONFORMING, 0,
                        static_cast<std::uint8_t>(board.apic_ids[0]), 0);
  table.isa_interrupt(spec::LOCAL_INTERRUPT, spec::NMI, spec::CONFORMING, 0, spec::ALL_LOCAL_APICS,
                      1);
  return table.finish(board.local_apic_address);
}

}  // namespace vmm
