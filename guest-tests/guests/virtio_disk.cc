// A virtio disk as a driver meets it. The command line says how: "legacy" or "modern", then "poll",
// "pic", "ioapic" or "msix", then perhaps "read-only", or "flood" for nothing but requests, or
// "busy" for reads until a tester writes to `tester_says_stop`. Each 32-bit word of the disk is to
// be its sector in the high and its place in the low half; sectors 8 to 15 are written with the
// complement, which whoever made the disk can check.
#include "guest-tests/guests/virtio_disk.h"

#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/multiboot.h"

using namespace guest;

extern "C" {
volatile uint32_t disk_reads, tester_says_stop;
}

namespace {

constexpr uint32_t kSector = 512, kWords = kSector / 4;
constexpr uint64_t kFirstWritten = 8;
constexpr uint32_t kWritten = 8;
constexpr uint8_t kVector = 0x61;

alignas(4096) Rings rings;
alignas(16) volatile uint32_t data[kWritten * kWords];
Descriptor table[4];
Idt idt;
VirtioDisk* served;
volatile uint32_t interrupts, isr_seen;

void eoi_pics() {
  out8(0xa0, 0x20);
  out8(0x20, 0x20);
}
__attribute__((interrupt)) void on_intx_pic(InterruptFrame*) {
  interrupts = interrupts + 1;
  isr_seen = isr_seen | served->take_isr();
  eoi_pics();
}
__attribute__((interrupt)) void on_intx_apic(InterruptFrame*) {
  interrupts = interrupts + 1;
  isr_seen = isr_seen | served->take_isr();
  eoi();
}
__attribute__((interrupt)) void on_message(InterruptFrame*) {
  interrupts = interrupts + 1;
  eoi();
}

bool has_word(const char* text, const char* word) {
  for (; *text != '\0'; ++text) {
    const char *a = text, *b = word;
    while (*b != '\0' && *a == *b) ++a, ++b;
    if (*b == '\0') return true;
  }
  return false;
}

uint32_t pattern(uint64_t sector, uint32_t word) {
  return static_cast<uint32_t>(sector) << 16 | word;
}
void* buffer() { return const_cast<uint32_t*>(data); }
bool buffer_is(uint64_t sector, uint32_t sectors, uint32_t flip) {
  for (uint32_t i = 0; i < sectors * kWords; ++i)
    if (data[i] != (pattern(sector + i / kWords, i % kWords) ^ flip)) return false;
  return true;
}
void clear_buffer() {
  for (auto& word : data) word = 0x12345678;
}

void check_requests(VirtioDisk& disk, bool read_only, uint64_t sectors) {
  clear_buffer();
  require(
      disk.request(spec::BLK_IN, 2, buffer(), 2 * kSector) == spec::BLK_OK && buffer_is(2, 2, 0),
      "sectors are read", 10);
  require(data[2 * kWords] == 0x12345678, "and nothing behind them", 11);
  for (uint32_t i = 0; i < kWritten * kWords; ++i)
    data[i] = ~pattern(kFirstWritten + i / kWords, i % kWords);
  const uint8_t written = disk.request(spec::BLK_OUT, kFirstWritten, buffer(), kWritten * kSector);
  require(written == (read_only ? spec::BLK_IOERR : spec::BLK_OK),
          read_only ? "a write is an error" : "sectors are written", 12);
  clear_buffer();
  require(disk.request(spec::BLK_IN, kFirstWritten, buffer(), kWritten * kSector) == spec::BLK_OK &&
              buffer_is(kFirstWritten, kWritten, read_only ? 0 : ~0u),
          read_only ? "and changed nothing" : "and read back", 13);
  require(disk.request(spec::BLK_FLUSH, 0, nullptr, 0) == spec::BLK_OK, "a flush is done", 14);
  clear_buffer();
  require(disk.request(spec::BLK_GET_ID, 0, buffer(), 20) == spec::BLK_OK && data[0] == 0x2d6d6d76,
          "the id begins with vmm-", 15);
  require(disk.request(spec::BLK_IN, sectors, buffer(), kSector) == spec::BLK_IOERR &&
              disk.request(spec::BLK_IN, sectors - 1, buffer(), 2 * kSector) == spec::BLK_IOERR &&
              disk.request(spec::BLK_OUT, ~uint64_t{0}, buffer(), kSector) == spec::BLK_IOERR,
          "sectors outside of the disk are errors", 16);
  require(disk.request(spec::BLK_IN, 0, buffer(), kSector + 1) == spec::BLK_IOERR,
          "so is a part of a sector", 17);
  require(disk.request(77, 0, buffer(), kSector) == spec::BLK_UNSUPP,
          "unknown requests are not supported", 18);
  require(disk.request(spec::BLK_IN, sectors - 1, buffer(), kSector) == spec::BLK_OK &&
              buffer_is(sectors - 1, 1, 0),
          "the last sector is there", 19);
}

// A request in as many descriptors as there are: a read of 254 pieces, of 512 bytes together.
void check_long_chain(VirtioDisk& disk) {
  static volatile BlockHeader header;
  static volatile uint8_t status;
  header.type = spec::BLK_IN;
  header.sector = 5;
  status = 0xfe;
  clear_buffer();
  disk.describe(0, const_cast<BlockHeader*>(&header), sizeof(BlockHeader), spec::DESC_NEXT, 1);
  auto* at = static_cast<uint8_t*>(buffer());
  for (uint16_t i = 1; i < 255; ++i) {
    const uint32_t size = i < 254 ? 2 : 6;
    disk.describe(i, at, size, spec::DESC_NEXT | spec::DESC_WRITE, static_cast<uint16_t>(i + 1));
    at += size;
  }
  disk.describe(255, const_cast<uint8_t*>(&status), 1, spec::DESC_WRITE);
  disk.offer(0);
  require(disk.wait() && status == spec::BLK_OK && buffer_is(5, 1, 0),
          "a chain may have as many descriptors as the queue", 26);
}

// Offers the chain at 0, which breaks a rule: it never comes back, and a modern driver is told.
void expect_broken(VirtioDisk& disk, bool modern, const char* claim, uint32_t code) {
  disk.offer(0);
  // The other end of this is a thread of the monitor's; a modern driver sees when it has looked.
  bool told = !modern;
  for (uint32_t i = 0; i < 200000 && !told; ++i)
    told = (disk.status() & spec::STATUS_NEEDS_RESET) != 0;
  require(told && !disk.wait(2000), claim, code);
  if (!disk.start(1u << 28)) exit_with(code);
  require(disk.request(spec::BLK_IN, 1, buffer(), kSector) == spec::BLK_OK && buffer_is(1, 1, 0),
          "after a reset it works again", code);
}

void check_malformed(VirtioDisk& disk, bool modern) {
  disk.describe(0, buffer(), 16, spec::DESC_NEXT, 1);
  disk.describe(1, buffer(), 16, spec::DESC_NEXT, 0);
  expect_broken(disk, modern, "a loop stops the device", 30);
  disk.describe(0, reinterpret_cast<void*>(~uintptr_t{7}), 16, 0);
  expect_broken(disk, modern, "so does an address that wraps", 31);
  disk.describe(0, buffer(), 0xffffffff, spec::DESC_WRITE);
  expect_broken(disk, modern, "a length beyond memory", 32);
  disk.describe(0, buffer(), 16, spec::DESC_NEXT, 999);
  expect_broken(disk, modern, "an index outside of the table", 33);
  table[0] = {reinterpret_cast<uintptr_t>(table), 64, spec::DESC_INDIRECT, 0};
  disk.describe(0, table, sizeof table, spec::DESC_INDIRECT);
  expect_broken(disk, modern, "an indirect table within one", 34);
}

// The I/O window answers where it is moved to, and no longer where it was.
void check_moving(const PciDevice& pci) {
  const uint32_t before = pci.read32(spec::PCI_BAR0);
  pci.write32(spec::PCI_BAR0, 0xffffffff);
  require((pci.read32(spec::PCI_BAR0) & 0xffff) == 0xff81, "BAR 0 says its size", 3);
  pci.write32(spec::PCI_BAR0, 0xd000);
  const auto old_port = static_cast<uint16_t>(before & 0xfffc);
  require(in16(0xd00c) == 256 && in16(static_cast<uint16_t>(old_port + 0xc)) == 0xffff,
          "and can be moved", 4);
  pci.write32(spec::PCI_BAR0, before);
  require(in16(static_cast<uint16_t>(old_port + 0xc)) == 256, "and back", 5);
}

void set_up_interrupts(const char* how, const PciDevice& pci, VirtioDisk& disk) {
  const uint8_t line = pci.read8(spec::PCI_INTERRUPT_LINE);
  served = &disk;
  init_pics(0);
  idt.load();
  if (has_word(how, "msix")) {
    idt.set(kVector, on_message);
    enable_lapic();
    disk.use_msix(kVector);
  } else if (has_word(how, "ioapic")) {
    idt.set(kVector, on_intx_apic);
    enable_lapic();
    mmio_write<uint32_t>(0xfec00000, 0x11u + 2u * line);
    mmio_write<uint32_t>(0xfec00010, lapic_read(spec::APIC_ID));
    mmio_write<uint32_t>(0xfec00000, 0x10u + 2u * line);
    mmio_write<uint32_t>(0xfec00010, kVector | 1u << 15);
  } else {
    require(line >= 8 && line < 16 && (in8(0x4d1) >> (line - 8) & 1) != 0,
            "the interrupt line is a level", 6);
    idt.set(static_cast<uint8_t>(0x20 + line), on_intx_pic);
    init_pics(static_cast<uint16_t>(1u << line | 1u << 2));
  }
}

void check_interrupts(const char* how, VirtioDisk& disk) {
  const bool messages = has_word(how, "msix");
  for (uint32_t n = 1; n <= 3; ++n) {
    require(disk.request(spec::BLK_IN, n, buffer(), kSector) == spec::BLK_OK && buffer_is(n, 1, 0),
            "a request is served", 20);
    for (uint32_t i = 0; i < 20000 && interrupts < n; ++i) let_interrupts_in();
    require(interrupts == n, "with one interrupt", 21);
    require(messages || isr_seen == 1, "of the queue", 22);
    isr_seen = 0;
  }
  rings.available_flags = 1;
  require(disk.request(spec::BLK_IN, 1, buffer(), kSector) == spec::BLK_OK, "a request is served",
          23);
  for (int i = 0; i < 100; ++i) let_interrupts_in();
  require(interrupts == 3, "without one, if the driver wants none", 24);
  rings.available_flags = 0;
}

// As many requests as the queue holds, again and again: each is answered without the disk.
void flood(VirtioDisk& disk) {
  require(disk.request(77, 0, nullptr, 0) == spec::BLK_UNSUPP, "a request is refused", 40);
  for (uint32_t batch = 0; batch < 300; ++batch) {
    disk.offer(0, 256);
    if (!disk.wait()) exit_with(41);
  }
}

// Each read has to bring its sectors and one interrupt.
void stay_busy(VirtioDisk& disk) {
  while (tester_says_stop == 0) {
    clear_buffer();
    const uint64_t sector = disk_reads % 56;
    const uint8_t status = disk.request(spec::BLK_IN, sector, buffer(), kWritten * kSector);
    if (status != spec::BLK_OK || !buffer_is(sector, kWritten, 0)) exit_with(50);
    for (uint32_t i = 0; i < 20000 && interrupts == disk_reads; ++i) let_interrupts_in();
    if (interrupts != disk_reads + 1) exit_with(51);
    disk_reads = disk_reads + 1;
  }
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t info) {
  serial_init();
  const char* how = arguments_of(*at_address<MultibootInfo>(info));
  const bool modern = has_word(how, "modern");
  PciDevice pci;
  require(find_pci_device(spec::VIRTIO_BLK, pci), "a virtio disk is on PCI", 1);
  static VirtioDisk disk(pci, modern, rings);
  require(disk.find_windows(), "with all of its windows", 2);
  check_moving(pci);
  disk.enable();
  if (!has_word(how, "poll")) set_up_interrupts(how, pci, disk);
  const uint64_t sectors = disk.capacity();
  const bool read_only = has_word(how, "read-only");
  require(sectors == 64 && disk.read_only_offered() == read_only, "it has 64 sectors", 7);
  require(disk.start(1u << 28), "the driver and the device agree", 8);
  if (has_word(how, "flood")) {
    flood(disk);
    return 0;
  }
  if (has_word(how, "busy")) {
    stay_busy(disk);
    return 0;
  }
  if (!has_word(how, "poll")) check_interrupts(how, disk);
  check_requests(disk, read_only, sectors);
  check_long_chain(disk);
  check_malformed(disk, modern);
  return 0;
}
