#include "vmm/machine/pc_board.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>

#include "vmm/base/bytes.h"
#include "vmm/core/irq_fake.h"

namespace vmm {
namespace {

// A board with controllers of its own.
std::unique_ptr<Board> own_chips(IrqChipKind kind, std::vector<std::uint8_t>& window,
                                 std::vector<ApicMessage>* sent = nullptr,
                                 std::vector<std::optional<ApicMessage>>* routes = nullptr) {
  Board::Wiring wiring;
  wiring.irqchip = kind;
  wiring.wake = [](unsigned) {};
  wiring.send = [sent](const ApicMessage& message) {
    if (sent != nullptr) sent->push_back(message);
    return true;
  };
  wiring.routes_changed = [routes](std::span<const std::optional<ApicMessage>> pins) {
    if (routes != nullptr) routes->assign(pins.begin(), pins.end());
  };
  wiring.apic_ids = {0, 1};
  wiring.vga_window = window;
  return std::move(*Board::create(wiring));
}

void out(Board& board, std::uint16_t port, std::uint8_t value) {
  board.ports.write(port, {&value, 1});
}

void ioapic_write(Board& board, std::uint8_t index, std::uint32_t value) {
  std::array<std::uint8_t, 4> data;
  store_uint(data, index);
  board.mmio.write(0xfec00000, data);
  store_uint(data, value);
  board.mmio.write(0xfec00010, data);
  board.sync_routes();
}

void raise_serial_line(Board& board) {
  out(board, 0x3fc, 0x08);  // OUT2
  out(board, 0x3f9, 0x02);  // ETBEI
}

constexpr EntryState kOpen{.ready = true, .interrupts_on = true, .cr8 = 0, .apic_base = 0xfee00900};

TEST(Board, the_port_map_is_the_documented_one) {
  RecordingIrq irq;
  std::vector<std::uint8_t> window(kVgaWindowSize);
  const auto board = *Board::create({.kernel_irq = &irq, .vga_window = window});
  EXPECT_EQ(board->ports.print(),
            "port 0060h-0060h i8042\n"
            "port 0064h-0064h i8042\n"
            "port 0070h-0071h rtc\n"
            "port 0080h-0080h post\n"
            "port 0092h-0092h port92\n"
            "port 00e9h-00e9h debugcon\n"
            "port 00f4h-00f7h debug-exit\n"
            "port 03b0h-03dfh vga\n"
            "port 03f8h-03ffh serial0\n"
            "port 0402h-0402h debugcon\n"
            "port 0510h-051bh fw-cfg\n"
            "port 0600h-060fh acpi-pm\n"
            "port 0cf8h-0cffh pci\n"
            "port 8900h-8900h bochs-shutdown\n");
  EXPECT_EQ(board->mmio.print(), "");
}

TEST(Board, trapping_puts_the_screen_memory_on_the_bus) {
  RecordingIrq irq;
  std::vector<std::uint8_t> window(kVgaWindowSize);
  const auto board = *Board::create({.kernel_irq = &irq, .vga_window = window, .vga_trap = true});
  EXPECT_EQ(board->mmio.print(), "mmio a0000h-bffffh vga-memory\n");
}

TEST(Board, the_test_device_is_there_when_asked_for) {
  RecordingIrq irq;
  std::vector<std::uint8_t> window(kVgaWindowSize);
  const auto board = *Board::create({.kernel_irq = &irq, .testdev = true, .vga_window = window});
  const std::string map = board->ports.print();
  for (const char* line :
       {"port 00e0h-00e7h testdev\n", "port 00e8h-00e8h testdev\n", "port 00e9h-00e9h debugcon\n",
        "port 00eah-00ebh testdev\n", "port 2000h-2017h testdev\n"})
    EXPECT_NE(map.find(line), std::string::npos) << line;
  EXPECT_EQ(board->mmio.print(), "mmio ff000000h-ff00ffffh testdev\n");
  const std::uint8_t one = 1;
  board->ports.write(0x200b, {&one, 1});
  ASSERT_FALSE(irq.changes.empty());
  EXPECT_EQ(irq.changes.back(), std::make_pair(11u, true));
}

TEST(Board, the_reset_port_is_reached_through_the_pci_host) {
  RecordingIrq irq;
  std::vector<std::uint8_t> window(kVgaWindowSize);
  const auto board = *Board::create({.kernel_irq = &irq, .vga_window = window});
  for (const std::uint8_t value : {std::uint8_t{0x02}, std::uint8_t{0x06}})
    board->ports.write(0xcf9, {&value, 1});
  ASSERT_TRUE(board->ending);
  EXPECT_TRUE(std::holds_alternative<ending::Reset>(*board->ending));
}

TEST(Board, after_s3_everything_but_the_clock_is_as_after_power_on) {
  std::vector<std::uint8_t> window(kVgaWindowSize);
  const auto board = own_chips(IrqChipKind::User, window);
  board->ports.write(0x3ff, std::array<std::uint8_t, 1>{0x5a});
  board->user_chip()->set_activity(1, UserIrqChip::Activity::Running);
  board->wake_up();
  std::array<std::uint8_t, 1> scratch{};
  board->ports.read(0x3ff, scratch);
  EXPECT_EQ(scratch[0], 0);
  EXPECT_EQ(board->user_chip()->activity(1), UserIrqChip::Activity::WaitForSipi);
  std::array<std::uint8_t, 2> status{};
  board->ports.read(0x600, status);
  EXPECT_NE(load_uint(status) & 0x8000, 0u) << "WAK_STS";
}

TEST(Board, a_loaded_split_board_tells_kvm_the_routes_again) {
  std::vector<std::uint8_t> window(kVgaWindowSize);
  std::vector<std::optional<ApicMessage>> told;
  const auto board = own_chips(IrqChipKind::Split, window, nullptr, &told);
  for (const std::uint32_t vector : {0x41u, 0x42u}) {
    ioapic_write(*board, 0x18, vector);  // pin 4
    board->sync_routes();
  }
  const auto routes = told;
  const StateBlock saved = save_state(*board);

  std::vector<std::optional<ApicMessage>> told_again;
  const auto other = own_chips(IrqChipKind::Split, window, nullptr, &told_again);
  ASSERT_TRUE(load_state(*other, saved));
  ASSERT_TRUE(load_state(*other->ioapic(), save_state(*board->ioapic())));
  other->sync_routes();
  EXPECT_EQ(told_again, routes) << "with the route that was before";
  EXPECT_EQ(save_state(*other), saved);
}

TEST(Board, the_serial_interrupt_is_isa_irq_4) {
  RecordingIrq irq;
  std::vector<std::uint8_t> window(kVgaWindowSize);
  const auto board = *Board::create({.kernel_irq = &irq, .vga_window = window});
  const std::uint8_t out2 = 0x08;
  const std::uint8_t etbei = 0x02;
  board->ports.write(0x3fc, {&out2, 1});
  board->ports.write(0x3f9, {&etbei, 1});
  ASSERT_FALSE(irq.changes.empty());
  EXPECT_EQ(irq.changes.back(), std::make_pair(4u, true));
}

TEST(Board, chips_of_its_own_are_where_a_pc_has_them) {
  std::vector<std::uint8_t> window(kVgaWindowSize);
  for (const IrqChipKind kind : {IrqChipKind::User, IrqChipKind::Split}) {
    const auto board = own_chips(kind, window);
    const std::string map = board->ports.print();
    for (const char* line :
         {"port 0020h-0021h pic\n", "port 0040h-0043h pit\n", "port 0061h-0061h pit\n",
          "port 00a0h-00a1h pic\n", "port 04d0h-04d1h pic\n"})
      EXPECT_NE(map.find(line), std::string::npos) << line;
    EXPECT_EQ(board->mmio.print(), "mmio fec00000h-fec00fffh ioapic\n");
    EXPECT_EQ(board->user_chip() != nullptr, kind == IrqChipKind::User);
  }
}

TEST(Board, a_line_reaches_our_lapic_through_the_ioapic) {
  std::vector<std::uint8_t> window(kVgaWindowSize);
  const auto board = own_chips(IrqChipKind::User, window);
  std::array<std::uint8_t, 4> svr;
  store_uint(svr, 0x1ff);
  ASSERT_EQ(board->user_chip()->lapic(0).write(0xf0, svr), Access::Ok);
  ioapic_write(*board, 0x10 + 2 * 4, 0x45);
  raise_serial_line(*board);
  EXPECT_EQ(board->before_entry(0, kOpen).interrupt, 0x45);
}

TEST(Board, a_line_reaches_the_bootstrap_processor_through_the_8259a) {
  std::vector<std::uint8_t> window(kVgaWindowSize);
  for (const IrqChipKind kind : {IrqChipKind::User, IrqChipKind::Split}) {
    const auto board = own_chips(kind, window);
    for (const auto& [port, value] : std::vector<std::pair<std::uint16_t, std::uint8_t>>{
             {0x20, 0x11}, {0x21, 0x20}, {0x21, 0x04}, {0x21, 0x01}, {0x21, 0xef}})
      out(*board, port, value);
    EXPECT_EQ(board->before_entry(0, kOpen).interrupt, std::nullopt);
    raise_serial_line(*board);
    EXPECT_TRUE(board->before_entry(0, {.interrupts_on = true, .apic_base = 0xfee00900}).window);
    EXPECT_EQ(board->before_entry(0, kOpen).interrupt, 0x24);
    EXPECT_EQ(board->before_entry(0, kOpen).interrupt, std::nullopt);
  }
}

TEST(Board, the_split_chip_sends_messages_and_keeps_kvms_routes_true) {
  std::vector<std::uint8_t> window(kVgaWindowSize);
  std::vector<ApicMessage> sent;
  std::vector<std::optional<ApicMessage>> routes;
  const auto board = own_chips(IrqChipKind::Split, window, &sent, &routes);
  ioapic_write(*board, 0x11 + 2 * 4, 1u << 24);
  ioapic_write(*board, 0x10 + 2 * 4, 0x8045);
  const ApicMessage expected{.destination = 1, .vector = 0x45, .level_triggered = true};
  ASSERT_EQ(routes.size(), 48u);
  EXPECT_EQ(routes[4], expected);
  EXPECT_EQ(routes[5], std::nullopt);
  raise_serial_line(*board);
  EXPECT_EQ(sent, std::vector<ApicMessage>{expected});
  ioapic_write(*board, 0x10 + 2 * 4, 0x18045);
  EXPECT_EQ(routes[4], expected) << "masked, but an EOI may still be to come";
  ioapic_write(*board, 0x11 + 2 * 4, 0);
  EXPECT_EQ(routes[4]->destination, 0u);
  EXPECT_EQ(routes[24 + 4], expected) << "what was sent there may still be in service";
}

TEST(Board, the_pit_line_is_pin_2_of_the_ioapic_and_input_0_of_the_8259a) {
  std::vector<std::uint8_t> window(kVgaWindowSize);
  std::vector<ApicMessage> sent;
  const auto board = own_chips(IrqChipKind::Split, window, &sent);
  ioapic_write(*board, 0x10 + 2 * 2, 0x30);
  ioapic_write(*board, 0x10 + 2 * 0, 0x31);
  out(*board, 0x43, 0x30);  // channel 0, mode 0
  out(*board, 0x40, 1);
  out(*board, 0x40, 0);
  while (sent.empty()) board->advance();  // one tick of the PIT is 838 ns
  EXPECT_EQ(sent.front().vector, 0x30);
  EXPECT_EQ(board->before_entry(0, kOpen).interrupt, 0x08) << "as a firmware leaves the 8259A";
}

TEST(Board, the_first_ending_stays) {
  RecordingIrq irq;
  std::vector<std::uint8_t> window(kVgaWindowSize);
  const auto board = *Board::create({.kernel_irq = &irq, .vga_window = window});
  const std::uint8_t one = 1;
  const std::uint8_t two = 2;
  board->ports.write(0xf4, {&one, 1});
  board->ports.write(0xf4, {&two, 1});
  EXPECT_EQ(board->ending, RunOutcome(ending::GuestExit{1}));
}

// ---- the timeline

std::vector<std::string> texts(const Board& board) {
  std::vector<std::string> all;
  for (const TraceEvent& event : board.recorder.last(64)) all.push_back(event.text());
  return all;
}

TEST(BoardTimeline, a_line_and_what_the_ioapic_makes_of_it) {
  for (const IrqChipKind kind : {IrqChipKind::User, IrqChipKind::Split}) {
    std::vector<std::uint8_t> window(kVgaWindowSize);
    const auto board = own_chips(kind, window);
    ioapic_write(*board, 0x18, 0x30);  // pin 4: vector 30h, fixed, edge
    raise_serial_line(*board);
    const auto all = texts(*board);
    const std::vector<std::string> expected{"line 4 high", "message fixed 30h to 0h ioapic"};
    ASSERT_GE(all.size(), 2u);
    EXPECT_EQ(std::vector(all.begin(), all.begin() + 2), expected);
    EXPECT_EQ(board->recorder.last(64).front().vcpu, kNoVcpu);
  }
}

TEST(BoardTimeline, the_rtc_and_the_pit_say_when_they_expire) {
  std::vector<std::uint8_t> window(kVgaWindowSize);
  const auto board = own_chips(IrqChipKind::Split, window);
  out(*board, 0x43, 0x34);  // counter 0, mode 2, every 2 ticks
  out(*board, 0x40, 2);
  out(*board, 0x40, 0);
  out(*board, 0x70, 0x0b);
  out(*board, 0x71, 0x42);  // PIE, at the 1024 Hz of power-on
  const auto has = [&](const char* text) {
    const auto all = texts(*board);
    return std::ranges::find(all, text) != all.end();
  };
  // Real time, as the board knows no other; it only has to go on.
  for (int i = 0; i < 1'000'000 && !(has("pit-timer pit") && has("rtc-timer 40h rtc")); ++i)
    board->advance();
  EXPECT_TRUE(has("pit-timer pit"));
  EXPECT_TRUE(has("rtc-timer 40h rtc"));
}

TEST(BoardTimeline, what_the_served_vcpu_sends_has_its_rip) {
  std::vector<std::uint8_t> window(kVgaWindowSize);
  const auto board = own_chips(IrqChipKind::User, window);
  board->serve(0, 0x1234);
  std::array<std::uint8_t, 4> command;
  store_uint(command, 0xc4500);
  (void)board->user_chip()->lapic(0).write(0x300, command);
  store_uint(command, 0xc469a);
  (void)board->user_chip()->lapic(0).write(0x300, command);
  board->serve(kNoVcpu, 0);
  const ProcessorStart& start = board->recorder.start(1);
  ASSERT_TRUE(start.sipi && start.init);
  EXPECT_EQ(start.sipi->value, 0x9au);
  EXPECT_EQ(start.sipi->other, 0u);
  EXPECT_EQ(start.sipi->rip, 0x1234u);
  board->user_chip()->init(1);
  EXPECT_EQ(board->recorder.start(1).init->rip, 0u) << "nobody is being served";
  EXPECT_EQ(board->recorder.start(1).init->other, kNoVcpu);
}

TEST(BoardTimeline, what_is_for_the_file_alone_does_not_push_out_the_rest) {
  class Listener final : public Tracer {
   public:
    void event(const TraceEvent& event) override { events.push_back(event); }
    std::vector<TraceEvent> events;
  } listener;
  std::vector<std::uint8_t> window(kVgaWindowSize);
  const auto board = own_chips(IrqChipKind::User, window);
  board->note_for_trace({.kind = "enter"});
  board->trace = &listener;
  board->note_for_trace({.vcpu = 1, .kind = "enter"});
  board->note({.vcpu = 1, .kind = "wake"});
  ASSERT_EQ(listener.events.size(), 2u);
  EXPECT_EQ(listener.events[0].kind.name(), "enter");
  EXPECT_EQ(texts(*board), std::vector<std::string>{"wake"});
}

}  // namespace
}  // namespace vmm
