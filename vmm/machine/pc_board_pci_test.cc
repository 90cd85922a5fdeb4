// The board's PCI side: where disks are, what becomes of a guest's wishes, how they interrupt.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "devices/virtio_rings_fake.h"
#include "vmm/base/bytes.h"
#include "vmm/core/irq_fake.h"
#include "vmm/machine/pc_board.h"
#include "vmm/machine/pci_layout.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class BoardPci : public testing::Test {
 protected:
  static constexpr std::uint8_t kIsa = 1, kDisk0 = 3, kDisk1 = 4;

  RecordingIrq irq;
  std::vector<std::uint8_t> window = std::vector<std::uint8_t>(kVgaWindowSize);
  GuestMemory memory = std::move(GuestMemory::create(4_MiB)).value();
  std::vector<ApicMessage> sent;
  unsigned works = 0;

  std::unique_ptr<Board> make(IrqChipKind kind = IrqChipKind::Kernel, std::size_t disks = 2) {
    Board::Wiring wiring;
    wiring.irqchip = kind;
    wiring.kernel_irq = &irq;
    wiring.wake = [](unsigned) {};
    wiring.send = [this](const ApicMessage& message) {
      sent.push_back(message);
      return true;
    };
    wiring.routes_changed = [](const auto&) {};
    wiring.apic_ids = {0};
    wiring.vga_window = window;
    wiring.memory = &memory;
    for (std::size_t i = 0; i < disks; ++i) wiring.disks.push_back({.sectors = 8, .id = "d"});
    wiring.disk_work = [this] { ++works; };
    return std::move(*Board::create(wiring));
  }

  template <typename T>
  static void out(Board& board, std::uint16_t port, T value) {
    std::array<std::uint8_t, sizeof value> data;
    store(data, 0, value);
    board.ports.write(port, data);
  }
  template <typename T>
  static T in(Board& board, std::uint16_t port) {
    std::array<std::uint8_t, sizeof(T)> data{};
    board.ports.read(port, data);
    return load<T>(data);
  }
  static void select(Board& board, std::uint8_t device, std::uint8_t offset) {
    out(board, 0xcf8, 0x8000'0000u | static_cast<std::uint32_t>(device) << 11 | (offset & 0xfcu));
  }
  template <typename T>
  static void set_config(Board& board, std::uint8_t device, std::uint8_t offset, T value) {
    select(board, device, offset);
    out(board, static_cast<std::uint16_t>(0xcfc + offset % 4), value);
  }
  template <typename T>
  static T config(Board& board, std::uint8_t device, std::uint8_t offset) {
    select(board, device, offset);
    return in<T>(board, static_cast<std::uint16_t>(0xcfc + offset % 4));
  }

  // A flush through the legacy registers of `disk`, served: its interrupt follows.
  // With MSI-X on, `vector` is the queue's.
  void serve_flush(Board& board, std::size_t disk, std::optional<std::uint16_t> vector = {}) {
    const auto device =
        static_cast<std::uint8_t>(pci_layout::device_of_disk(static_cast<unsigned>(disk)));
    const auto io = static_cast<std::uint16_t>(config<std::uint32_t>(board, device, 0x10) & 0xfffc);
    set_config(board, device, 0x04, std::uint16_t{7});
    const auto port = [io](unsigned offset) { return static_cast<std::uint16_t>(io + offset); };
    FakeRings rings(memory, 0x10000 + disk * 0x10000, VirtQueueState::kMaxSize);
    const Gpa header = 0x80000;
    rings.put(header, std::uint32_t{4});
    rings.put(header + 8, std::uint64_t{0});
    rings.chain(0, {{header, 16}, {header + 64, 1, FakeDescriptor::kWrite}});
    rings.start_at(0);
    out(board, port(0x12), std::uint8_t{0});
    out(board, port(0x12), std::uint8_t{3});
    out(board, port(0x08), static_cast<std::uint32_t>(rings.descriptors >> 12));
    if (vector) out(board, port(0x16), *vector);
    out(board, port(0x12), std::uint8_t{7});
    rings.offer(0);
    out(board, port(0x10), std::uint16_t{0});
    std::vector<std::uint8_t> buffer(512);
    const auto job = board.disks()[disk]->next_job(buffer);
    ASSERT_TRUE(job);
    board.disks()[disk]->finish_job(*job, true, buffer);
  }
};

TEST_F(BoardPci, disks_are_where_firmware_would_put_them) {
  const auto board = make();
  EXPECT_THAT(board->ports.print(), HasSubstr("port c000h-c07fh disk0\nport c080h-c0ffh disk1\n"));
  EXPECT_EQ(board->mmio.print(),
            "mmio fe000000h-fe000fffh disk0\nmmio fe004000h-fe007fffh disk0\n"
            "mmio fe008000h-fe008fffh disk1\nmmio fe00c000h-fe00ffffh disk1\n");
  EXPECT_EQ(config<std::uint32_t>(*board, kDisk0, 0x00), 0x1001'1af4u);
  EXPECT_EQ(config<std::uint8_t>(*board, kDisk0, 0x3c), 11) << "PIRQ C";
  EXPECT_EQ(config<std::uint8_t>(*board, kDisk1, 0x3c), 11) << "PIRQ D";
  EXPECT_EQ(config<std::uint32_t>(*board, kIsa, 0x60), 0x0b0b'0a0au);
}

TEST_F(BoardPci, sixteen_disks_have_windows_of_their_own) {
  const auto board = make(IrqChipKind::Kernel, pci_layout::kMaxDisks);
  const std::string map = board->ports.print() + board->mmio.print();
  for (unsigned i = 0; i < pci_layout::kMaxDisks; ++i) {
    std::size_t windows = 0;
    const std::string name = " disk" + std::to_string(i) + "\n";
    for (std::size_t at = map.find(name); at != std::string::npos; at = map.find(name, at + 1))
      ++windows;
    EXPECT_EQ(windows, 3u) << i;
  }
}

TEST_F(BoardPci, without_disks_nothing_of_it_is_there) {
  const auto board = make(IrqChipKind::User, 0);
  EXPECT_EQ(config<std::uint32_t>(*board, kIsa, 0x60), 0x8080'8080u);
  EXPECT_EQ(config<std::uint32_t>(*board, kDisk0, 0x00), 0xffff'ffffu);
  EXPECT_EQ(in<std::uint8_t>(*board, 0x4d1), 0);
}

TEST_F(BoardPci, a_guest_moves_windows_and_switches_them_off) {
  const auto board = make(IrqChipKind::Kernel, 1);
  set_config(*board, kDisk0, 0x10, 0xd100u);
  EXPECT_EQ(in<std::uint16_t>(*board, 0xd10c), 256);
  EXPECT_EQ(in<std::uint16_t>(*board, 0xc00c), 0xffff);
  set_config(*board, kDisk0, 0x20, 0xe000'0000u);
  EXPECT_THAT(board->mmio.print(), HasSubstr("mmio e0000000h-e0003fffh disk0\n"));
  set_config(*board, kDisk0, 0x04, std::uint16_t{0x0002});
  EXPECT_THAT(board->ports.print(), Not(HasSubstr("disk0")));
  set_config(*board, kDisk0, 0x04, std::uint16_t{0});
  EXPECT_EQ(board->mmio.print(), "");
}

TEST_F(BoardPci, a_window_over_another_chip_does_not_hide_it) {
  const auto board = make(IrqChipKind::Kernel, 2);
  set_config(*board, kDisk0, 0x10, 0x0380u);  // over the VGA and COM1
  EXPECT_EQ(board->ports.find(0x3f8)->name(), "serial0");
  EXPECT_THAT(board->ports.print(), Not(HasSubstr("disk0")));
  set_config(*board, kDisk0, 0x10, 0xffff'ffffu);  // sizing
  set_config(*board, kDisk0, 0x10, 0xc080u);
  EXPECT_EQ(board->ports.find(0xc080)->name(), "disk0") << "the lower slot answers";
  set_config(*board, kDisk0, 0x10, 0xc000u);
  EXPECT_EQ(board->ports.find(0xc080)->name(), "disk1") << "and lets it go again";
  set_config(*board, kDisk0, 0x14, 0xfec0'0000u);
  set_config(*board, kDisk0, 0x20, 0xffff'ffffu);
  set_config(*board, kDisk0, 0x10, 0u);
  EXPECT_EQ(board->ports.find(0x60)->name(), "i8042");
}

TEST_F(BoardPci, an_interrupt_takes_the_way_that_the_isa_bridge_says) {
  const auto board = make(IrqChipKind::Kernel, 2);
  serve_flush(*board, 0);
  EXPECT_THAT(irq.changes, ElementsAre(std::pair(11u, true)));
  serve_flush(*board, 1);
  EXPECT_EQ(irq.changes.size(), 1u) << "they share the line";
  set_config(*board, kIsa, 0x62, std::uint8_t{5});  // PIRQ C
  EXPECT_THAT(irq.changes, ElementsAre(std::pair(11u, true), std::pair(5u, true)))
      << "the other disk holds line 11";
  set_config(*board, kIsa, 0x62, std::uint8_t{0x80});
  EXPECT_EQ(irq.changes.back(), std::pair(5u, false));
  set_config(*board, kIsa, 0x63, std::uint8_t{0x80});
  EXPECT_EQ(irq.changes.back(), std::pair(11u, false));
  irq.changes.clear();
  for (const unsigned reserved : {0u, 1u, 2u, 8u, 13u}) {
    set_config(*board, kIsa, 0x62, static_cast<std::uint8_t>(reserved));
    EXPECT_TRUE(irq.changes.empty()) << "interrupts of the board's own: " << reserved;
  }
}

TEST_F(BoardPci, those_interrupts_are_levels_to_our_8259a) {
  for (const IrqChipKind kind : {IrqChipKind::User, IrqChipKind::Split}) {
    const auto board = make(kind);
    EXPECT_EQ(in<std::uint8_t>(*board, 0x4d1), 0x08);
    EXPECT_EQ(in<std::uint8_t>(*board, 0x4d0), 0);
  }
  EXPECT_EQ(Board::pci_interrupt_levels(4), 0x0c00);
}

TEST_F(BoardPci, a_message_reaches_the_local_apics) {
  const auto aim = [](Board& board, std::uint32_t address) {
    const auto mmio = [&](std::uint64_t at, std::uint32_t value) {
      std::array<std::uint8_t, 4> data;
      store(data, 0, value);
      board.mmio.write(at, data);
    };
    set_config(board, kDisk0, 0x42, std::uint16_t{0x8000});
    mmio(0xfe00'0010, address);
    mmio(0xfe00'0018, 0x55);
    mmio(0xfe00'001c, 0);
  };
  for (const IrqChipKind kind : {IrqChipKind::Split, IrqChipKind::Kernel}) {
    const auto board = make(kind, 1);
    sent.clear();
    aim(*board, 0xfee0'3000);
    serve_flush(*board, 0, 1);
    EXPECT_THAT(sent, ElementsAre(ApicMessage{.destination = 3, .vector = 0x55}));
    aim(*board, 0x0000'1000);
    serve_flush(*board, 0, 1);
    EXPECT_EQ(sent.size(), 1u) << "a write to memory is no interrupt";
    serve_flush(*board, 0, 0xffff);
    EXPECT_EQ(sent.size(), 1u) << "no vector was chosen";
  }
  const auto board = make(IrqChipKind::User, 1);
  std::array<std::uint8_t, 4> svr;
  store_uint(svr, 0x1ff);
  ASSERT_EQ(board->user_chip()->lapic(0).write(0xf0, svr), Access::Ok);
  aim(*board, 0xfee0'0000);
  serve_flush(*board, 0, 1);
  EXPECT_EQ(board->user_chip()->lapic(0).pending(), 0x55);
}

TEST_F(BoardPci, after_s3_disks_are_as_firmware_leaves_them) {
  const auto board = make(IrqChipKind::User, 1);
  set_config(*board, kDisk0, 0x10, 0xd000u);
  set_config(*board, kDisk0, 0x04, std::uint16_t{7});
  set_config(*board, kIsa, 0x62, std::uint8_t{0x80});
  board->wake_up();
  EXPECT_EQ(in<std::uint16_t>(*board, 0xc00c), 256);
  EXPECT_EQ(config<std::uint16_t>(*board, kDisk0, 0x04), 3);
  EXPECT_EQ(config<std::uint8_t>(*board, kIsa, 0x62), 11);
  EXPECT_EQ(in<std::uint8_t>(*board, 0x4d1), 0x08);
}

TEST_F(BoardPci, a_loaded_board_has_its_windows_and_levels_without_edges) {
  const auto board = make(IrqChipKind::Kernel, 1);
  set_config(*board, kDisk0, 0x10, 0xd000u);
  set_config(*board, kIsa, 0x62, std::uint8_t{10});
  serve_flush(*board, 0);
  ASSERT_TRUE(board->pins().level(10));
  std::vector<StateBlock> saved;
  for (Device* device : board->devices()) saved.push_back(save_state(*device));

  const auto other = make(IrqChipKind::Kernel, 1);
  irq.changes.clear();
  works = 0;
  for (std::size_t i = 0; i < saved.size(); ++i)
    ASSERT_TRUE(load_state(*other->devices()[i], saved[i]));
  other->restored();
  EXPECT_EQ(in<std::uint16_t>(*other, 0xd00c), 256);
  EXPECT_EQ(other->ports.find(0xc000), nullptr);
  EXPECT_TRUE(other->pins().level(10));
  EXPECT_FALSE(other->pins().level(11));
  EXPECT_TRUE(irq.changes.empty());
  EXPECT_GE(works, 1u) << "what was left over is looked for";
  EXPECT_EQ(in<std::uint8_t>(*other, 0xd013), 1);
  EXPECT_THAT(irq.changes, ElementsAre(std::pair(10u, false)));
}

// OVMF sets PMBASE and then reads the tables (platform contract: i440fx has it at B000h).
TEST_F(BoardPci, acpi_registers_and_tables_follow_the_firmware) {
  FirmwareFacts facts{.memory = &memory, .board = {.apic_ids = {0}}};
  const FirmwareItems items = make_firmware_items(facts);
  std::vector<std::uint16_t> asked;
  Board::Wiring wiring;
  wiring.irqchip = IrqChipKind::Kernel;
  wiring.kernel_irq = &irq;
  wiring.apic_ids = {0};
  wiring.vga_window = window;
  wiring.memory = &memory;
  wiring.firmware = &items;
  wiring.acpi_files = [&](std::uint16_t pm_base) {
    asked.push_back(pm_base);
    BoardDescription description = facts.board;
    description.pm_base = pm_base;
    return make_acpi_files(description);
  };
  const auto board = std::move(*Board::create(wiring));
  EXPECT_EQ(board->ports.find(0x604), nullptr);
  const auto configure = [&](std::uint8_t offset, std::uint32_t value) {
    out<std::uint32_t>(*board, 0xcf8, 0x8000'0000 | 1u << 11 | 3u << 8 | offset);
    out<std::uint32_t>(*board, 0xcfc, value);
  };
  configure(0x40, 0xb001);
  EXPECT_EQ(board->ports.find(0xb004), nullptr) << "PMREGMISC comes second";
  configure(0x80, 0x01);
  ASSERT_NE(board->ports.find(0xb004), nullptr);
  EXPECT_EQ(board->ports.find(0xb004)->name(), "acpi-pm");
  EXPECT_EQ(asked, std::vector<std::uint16_t>{0xb000});
  out<std::uint16_t>(*board, 0xb004, 0x2001);
  ASSERT_TRUE(board->ending.has_value());
  EXPECT_THAT(headline(*board->ending), HasSubstr("port B004h"));
  // Where another chip is they cannot be.
  configure(0x40, 0x3c1);
  EXPECT_EQ(board->ports.find(0xb004), nullptr);
  EXPECT_EQ(board->ports.find(0x3f8)->name(), "serial0");
}

}  // namespace
}  // namespace vmm
