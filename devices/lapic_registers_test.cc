// The register page, the MSRs, the ICR and the ESR; the section numbers are those of SDM vol. 3A
// chapter 11.
#include <random>
#include <set>

#include "devices/lapic_rig.h"

namespace vmm {
namespace {

class LapicRegisters : public LapicRig {
 protected:
  LapicRegisters() { enable(); }
  void expect_nothing_sent(std::uint32_t errors_expected) {
    EXPECT_TRUE(sent.empty());
    EXPECT_EQ(errors(), errors_expected);
  }
};
class LapicMsrs : public LapicRig {
 protected:
  LapicMsrs() : LapicRig(0x25, false) {
    enter_x2apic();
    EXPECT_TRUE(put_msr(0x80f, 0x1ff));
  }
  std::uint64_t msr_errors() {
    EXPECT_TRUE(put_msr(0x828, 0));
    return get_msr(0x828);
  }
};

bool exists_in_xapic(std::uint64_t reg) {
  static const std::set<std::uint64_t> kSingles = {0x020, 0x030, 0x080, 0x090, 0x0a0,
                                                   0x0b0, 0x0d0, 0x0e0, 0x0f0, 0x280,
                                                   0x300, 0x310, 0x380, 0x390, 0x3e0};
  return kSingles.contains(reg) || (reg >= 0x100 && reg < 0x280) || (reg >= 0x320 && reg <= 0x370);
}

TEST_F(LapicRegisters, every_offset_and_width_reads_what_the_map_says) {
  put(0x310, 0xa5000000);
  for (std::uint64_t offset = 0; offset < 0x1000; ++offset) {
    const std::uint64_t reg = offset & ~std::uint64_t{0xf};
    for (const std::size_t width : {1u, 2u, 4u, 8u}) {
      put(0x280, 0);
      std::array<std::uint8_t, 8> data;
      data.fill(0x5a);
      const Access access = lapic.read(offset, std::span(data).first(width));
      if (!exists_in_xapic(reg)) {
        ASSERT_EQ(access, Access::NoRegister) << std::hex << offset;
        ASSERT_EQ(errors(), 0x80u) << std::hex << offset;
        continue;
      }
      ASSERT_EQ(access, (offset & 0xf) + width <= 4 ? Access::Ok : Access::BadWidth)
          << std::hex << offset << " width " << width;
      ASSERT_EQ(errors(), 0u) << std::hex << offset;
      if (access != Access::Ok) continue;
      const std::uint32_t whole = get(reg) >> (offset & 3) * 8;
      std::uint32_t part = 0;
      std::memcpy(&part, data.data(), width);
      ASSERT_EQ(part, width == 4 ? whole : whole & ((1U << width * 8) - 1)) << std::hex << offset;
    }
  }
}

TEST_F(LapicRegisters, every_offset_and_width_but_the_manuals_is_refused_as_a_write) {
  for (std::uint64_t offset = 0; offset < 0x1000; ++offset) {
    const bool exists = exists_in_xapic(offset & ~std::uint64_t{0xf});
    for (const std::size_t width : {1u, 2u, 4u, 8u}) {
      if (exists && width == 4 && (offset & 0xf) == 0) continue;
      const Lapic::State before = lapic.state();
      const std::array<std::uint8_t, 8> data = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
      const Access access = lapic.write(offset, std::span(data).first(width));
      ASSERT_EQ(access, exists ? Access::BadWidth : Access::NoRegister) << std::hex << offset;
      if (exists) {
        ASSERT_EQ(lapic.state(), before) << std::hex << offset;
        continue;
      }
      put(0x280, 0);
      ASSERT_EQ(get(0x280), 0x80u) << std::hex << offset;
      put(0x280, 0);
      ASSERT_EQ(lapic.state(), before) << std::hex << offset;
    }
  }
  EXPECT_TRUE(sent.empty());
}

TEST_F(LapicRegisters, random_writes_of_every_width_never_break_an_invariant) {
  std::mt19937_64 random(3);
  lapic.allow_tsc_deadline(true);
  VmTime now{0};
  for (unsigned i = 0; i < 200'000; ++i) {
    std::array<std::uint8_t, 8> data{};
    const std::uint64_t value = random() >> random() % 64;
    std::memcpy(data.data(), &value, sizeof value);
    const std::uint64_t offset = random() % 8 != 0 ? random() % 0x40 * 16 : random() % 0x1000;
    (void)lapic.write(offset, std::span(data).first(std::size_t{1} << random() % 4));
    if (i % 16 == 0) lapic.advance(now += VmTime(random() >> (24 + random() % 40)));
    if (i % 8 == 0) lapic.set_lint(static_cast<unsigned>(random() % 2), random() % 2 == 0);
    if (const auto vector = lapic.pending()) {
      ASSERT_GE(*vector, 16);
      lapic.acknowledge(*vector);
    }
    const Lapic::State& s = lapic.state();
    ASSERT_EQ(s.irr[0] | s.irr[1] | s.isr[0] | s.isr[1] | s.tmr[0] | s.tmr[1], 0);
    if (const auto deadline = lapic.next_deadline()) {
      ASSERT_GT(*deadline, now);
    }
    if (sent.size() > 1000) sent.clear();
    for (const ApicCommand& command : sent) {
      if (command.message.mode == DeliveryMode::Fixed) {
        ASSERT_GE(command.message.vector, 16);
      }
    }
    notes.clear();
    eois.clear();
    events.clear();
    sent.clear();
  }
}

TEST_F(LapicRegisters, reserved_bits_stay_clear) {
  lapic.allow_tsc_deadline(false);
  const std::vector<std::pair<std::uint64_t, std::uint32_t>> expected = {
      {0x020, 0xff000000}, {0x080, 0x000000ff}, {0x0d0, 0xff000000}, {0x0e0, 0xffffffff},
      {0x0f0, 0x000013ff}, {0x310, 0xff000000}, {0x320, 0x000300ff}, {0x330, 0x000107ff},
      {0x340, 0x000107ff}, {0x350, 0x0001a7ff}, {0x360, 0x0001a7ff}, {0x370, 0x000100ff},
      {0x380, 0xffffffff}, {0x3e0, 0x0000000b}};
  for (const auto& [offset, value] : expected) {
    put(offset, 0xffffffff);
    EXPECT_EQ(get(offset), value) << std::hex << offset;
  }
  put(0x300, 0xfffff4ff);
  EXPECT_EQ(get(0x300), 0x000cc4ffu);
  put(0x0e0, 0);
  EXPECT_EQ(get(0x0e0), 0x0fffffffu);
}

TEST_F(LapicRegisters, all_of_the_spurious_vector_can_be_written) {
  put(0xf0, 0x1a5);
  EXPECT_EQ(get(0xf0), 0x1a5u);
  put(0xf0, 0x100);
  EXPECT_EQ(get(0xf0), 0x100u);
}

TEST_F(LapicRegisters, read_only_registers_ignore_writes) {
  lapic.accept(0x65, true);
  const Lapic::State before = lapic.state();
  put(0x30, 0xffffffff);
  put(0x90, 0xffffffff);
  put(0xa0, 0xffffffff);
  put(0x390, 0xffffffff);
  for (std::uint64_t bitmap = 0x100; bitmap < 0x280; bitmap += 0x10) put(bitmap, 0xffffffff);
  EXPECT_EQ(lapic.state(), before);
  EXPECT_EQ(errors(), 0u);
}

TEST_F(LapicRegisters, eoi_reads_0_and_accepts_any_value) {
  EXPECT_EQ(get(0xb0), 0u);
  lapic.accept(0x65, false);
  take();
  put(0xb0, 0xdeadbeef);
  EXPECT_FALSE(isr(0x65));
}

TEST_F(LapicRegisters, bitmaps_have_32_vectors_every_16_bytes) {
  lapic.accept(0x20, false);
  lapic.accept(0x3f, true);
  lapic.accept(0xe1, true);
  EXPECT_EQ(get(0x210), 0x80000001u);
  EXPECT_EQ(get(0x270), 0x00000002u);
  EXPECT_EQ(get(0x190), 0x80000000u);
  EXPECT_EQ(get(0x1f0), 0x00000002u);
  take();
  EXPECT_EQ(get(0x170), 0x00000002u);
}

// ICR, 11.6.1.

TEST_F(LapicRegisters, writing_the_low_half_sends_to_the_high_half) {
  put(0x310, 0x07000000);
  EXPECT_TRUE(sent.empty());
  put(0x300, 0x00004041);
  ApicCommand expected;
  expected.message = {.destination = 7, .mode = DeliveryMode::Fixed, .vector = 0x41};
  EXPECT_EQ(sent, std::vector{expected});
  put(0x300, 0x00004842);
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_TRUE(sent[1].message.logical);
  EXPECT_EQ(sent[1].message.vector, 0x42);
  EXPECT_EQ(get(0x300), 0x4842u) << "delivery is complete at once";
}

TEST_F(LapicRegisters, destination_ff_is_the_broadcast) {
  put(0x310, 0xff000000);
  put(0x300, 0x00004041);
  put(0x300, 0x00004841);
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_EQ(sent[0].message.destination, kApicBroadcast);
  EXPECT_EQ(sent[1].message.destination, kApicBroadcast);
}

TEST_F(LapicRegisters, shorthands_and_modes_are_passed_on) {
  const std::vector<std::pair<std::uint32_t, ApicShorthand>> shorthands = {
      {0x00000041, ApicShorthand::None},
      {0x00040041, ApicShorthand::Self},
      {0x00080041, ApicShorthand::All},
      {0x000c0041, ApicShorthand::AllButSelf}};
  for (const auto& [command, shorthand] : shorthands) {
    put(0x300, command);
    EXPECT_EQ(sent.back().shorthand, shorthand);
  }
  const std::vector<std::pair<std::uint32_t, DeliveryMode>> modes = {
      {0x141, DeliveryMode::LowestPriority},
      {0x200, DeliveryMode::Smi},
      {0x400, DeliveryMode::Nmi},
      {0x500, DeliveryMode::Init},
      {0x608, DeliveryMode::Startup}};
  for (const auto& [command, mode] : modes) {
    put(0x300, command);
    EXPECT_EQ(sent.back().message.mode, mode);
    EXPECT_EQ(sent.back().message.vector, command & 0xff);
  }
  EXPECT_EQ(sent.size(), 9u);
  EXPECT_EQ(errors(), 0u);
}

TEST_F(LapicRegisters, reserved_delivery_modes_are_not_sent) {
  put(0x300, 0x341);
  put(0x300, 0x741);
  expect_nothing_sent(0);
  EXPECT_EQ(get(0x300), 0x741u);
}

TEST_F(LapicRegisters, level_and_trigger_mode_count_for_init_only) {
  put(0x300, 0x0000c500);
  put(0x300, 0x00008500);
  put(0x300, 0x00000500);
  ASSERT_EQ(sent.size(), 3u);
  EXPECT_TRUE(sent[0].message.asserted);
  EXPECT_TRUE(sent[0].message.level_triggered);
  EXPECT_FALSE(sent[1].message.asserted) << "the de-assert of the universal start-up sequence";
  EXPECT_TRUE(sent[2].message.asserted);
  put(0x300, 0x00008041);
  EXPECT_FALSE(sent[3].message.level_triggered);
  EXPECT_TRUE(sent[3].message.asserted);
}

TEST_F(LapicRegisters, fixed_and_lowest_priority_vectors_below_16_are_errors) {
  for (std::uint32_t vector = 0; vector < 16; ++vector) {
    put(0x300, 0x4000 | vector);
    expect_nothing_sent(0x20);
    put(0x300, 0x4100 | vector);
    expect_nothing_sent(0x20);
  }
  put(0x300, 0x4010);
  EXPECT_EQ(sent.size(), 1u);
  EXPECT_EQ(errors(), 0u);
}

TEST_F(LapicRegisters, a_software_disabled_lapic_still_sends) {
  put(0xf0, 0xff);
  put(0x300, 0x000c4500);
  EXPECT_EQ(sent.size(), 1u);
}

TEST(LapicStorm, a_million_commands_leave_what_one_does) {
  Lapic lapic("lapic0", 0, true, {});
  const std::array<std::uint8_t, 4> command = {0x41, 0x40, 0x0c, 0x00};
  EXPECT_EQ(lapic.write(0x300, command), Access::Ok);
  const Lapic::State after_one = lapic.state();
  for (unsigned i = 1; i < 1'000'000; ++i) ASSERT_EQ(lapic.write(0x300, command), Access::Ok);
  EXPECT_EQ(lapic.state(), after_one);
}

// ESR, 11.5.3.

TEST_F(LapicRegisters, the_esr_shows_what_was_latched_by_the_last_write) {
  put(0x300, 0x4001);
  EXPECT_EQ(get(0x280), 0u);
  put(0x280, 0x12345678);
  EXPECT_EQ(get(0x280), 0x20u);
  EXPECT_EQ(get(0x280), 0x20u);
  lapic.accept(1, false);
  EXPECT_EQ(get(0x280), 0x20u);
  put(0x280, 0);
  EXPECT_EQ(get(0x280), 0x40u);
  put(0x280, 0);
  EXPECT_EQ(get(0x280), 0u);
}

TEST_F(LapicRegisters, errors_add_up_between_writes) {
  put(0x300, 0x4001);
  lapic.accept(2, true);
  EXPECT_EQ(try_put(0x400, 1), Access::NoRegister);
  EXPECT_EQ(errors(), 0xe0u);
  EXPECT_EQ(notes, (std::vector<Note>{
                       {"lapic-error", 0x20}, {"lapic-error", 0x60}, {"lapic-error", 0xe0}}));
}

TEST_F(LapicRegisters, the_first_error_interrupts_and_an_esr_write_rearms) {
  put(0x370, 0x71);
  put(0x300, 0x4001);
  EXPECT_EQ(take(), 0x71);
  eoi();
  put(0x300, 0x4001);
  lapic.accept(2, false);
  EXPECT_FALSE(lapic.requested());
  put(0x280, 0);
  put(0x300, 0x4001);
  EXPECT_EQ(take(), 0x71);
}

TEST_F(LapicRegisters, a_masked_error_entry_only_records) {
  put(0x370, 0x10071);
  put(0x300, 0x4001);
  EXPECT_FALSE(lapic.requested());
  EXPECT_EQ(errors(), 0x20u);
}

TEST_F(LapicRegisters, an_illegal_vector_in_the_error_entry_is_one_more_error) {
  put(0x370, 0x02);
  put(0x300, 0x4001);
  EXPECT_FALSE(lapic.requested());
  EXPECT_EQ(errors(), 0x60u);
}

// x2APIC, 11.12.

TEST_F(LapicMsrs, what_exists_and_which_way_it_goes) {
  const std::set<std::uint32_t> read_only = {0x802, 0x803, 0x80a, 0x80d, 0x839};
  const std::set<std::uint32_t> write_only = {0x80b, 0x83f};
  const std::set<std::uint32_t> both = {0x808, 0x80f, 0x828, 0x830, 0x832, 0x833,
                                        0x834, 0x835, 0x836, 0x837, 0x838, 0x83e};
  for (std::uint32_t index = 0x700; index < 0xa00; ++index) {
    const bool bitmap = index >= 0x810 && index <= 0x827;
    const bool reads = bitmap || read_only.contains(index) || both.contains(index);
    const bool writes = write_only.contains(index) || both.contains(index);
    std::uint64_t value = 0x5a5a;
    EXPECT_EQ(lapic.read_msr(index, value), reads) << std::hex << index;
    if (!reads) {
      EXPECT_EQ(value, 0x5a5au);
    }
    // A self-IPI needs a vector, and 0 is a value that all the others take.
    EXPECT_EQ(put_msr(index, index == 0x83f ? 0x20 : 0), writes) << std::hex << index;
    if (index == 0x80f) {
      EXPECT_TRUE(put_msr(0x80f, 0x1ff));
    }
  }
  for (const std::uint32_t far : {0u, 0x802u - 0x800u, 0x1b0u, 0x80000802u, 0xffffffffu}) {
    std::uint64_t value = 0;
    EXPECT_FALSE(lapic.read_msr(far, value)) << std::hex << far;
    EXPECT_FALSE(put_msr(far, 0)) << std::hex << far;
  }
}

TEST_F(LapicMsrs, each_reserved_bit_is_a_fault_that_changes_nothing) {
  const std::vector<std::pair<std::uint32_t, std::uint64_t>> legal = {
      {0x808, 0xff},       {0x80b, 0},
      {0x80f, 0x13ff},     {0x828, 0},
      {0x832, 0x310ff},    {0x833, 0x117ff},
      {0x834, 0x117ff},    {0x835, 0x1f7ff},
      {0x836, 0x1f7ff},    {0x837, 0x110ff},
      {0x838, 0xffffffff}, {0x83e, 0xb},
      {0x83f, 0xff},       {0x830, 0xffffffff'000cdfff}};
  for (const auto& [index, mask] : legal) {
    for (unsigned bit = 0; bit < 64; ++bit) {
      const Lapic::State before = lapic.state();
      const bool allowed = (mask >> bit & 1) != 0;
      EXPECT_EQ(put_msr(index, std::uint64_t{1} << bit), allowed)
          << std::hex << index << " " << bit;
      if (!allowed) {
        EXPECT_EQ(lapic.state(), before);
      }
      EXPECT_TRUE(put_msr(0x80f, 0x1ff));
    }
  }
}

TEST_F(LapicMsrs, what_was_read_can_be_written_back) {
  EXPECT_TRUE(put_msr(0x835, 0x8061));
  lapic.set_lint(0, true);
  EXPECT_EQ(get_msr(0x835), 0xc061u);
  EXPECT_TRUE(put_msr(0x835, get_msr(0x835)));
  EXPECT_EQ(get_msr(0x835), 0xc061u);
}

TEST_F(LapicMsrs, ids_are_32_bits_and_read_only) {
  EXPECT_EQ(get_msr(0x802), 0x25u);
  EXPECT_FALSE(put_msr(0x802, 0x25));
  EXPECT_EQ(get_msr(0x80d), 0x00020020u);
  EXPECT_FALSE(put_msr(0x80d, 0));
  EXPECT_EQ(get_msr(0x803), 0x01050014u);
}

TEST_F(LapicMsrs, the_icr_is_one_write_with_a_32_bit_destination) {
  EXPECT_TRUE(put_msr(0x830, 0x00010203'00004841));
  ApicCommand expected;
  expected.message = {
      .destination = 0x00010203, .logical = true, .mode = DeliveryMode::Fixed, .vector = 0x41};
  EXPECT_EQ(sent, std::vector{expected});
  EXPECT_EQ(get_msr(0x830), 0x00010203'00004841u);
  EXPECT_TRUE(put_msr(0x830, 0x000000ff'00004041));
  EXPECT_EQ(sent[1].message.destination, 0xffu) << "an id like any other";
  EXPECT_TRUE(put_msr(0x830, 0xffffffff'00005041));
  EXPECT_EQ(sent[2].message.destination, kApicBroadcast);
  EXPECT_EQ(get_msr(0x830), 0xffffffff'00004041u) << "delivery status reads idle";
}

TEST_F(LapicMsrs, illegal_vectors_are_errors_not_faults) {
  EXPECT_TRUE(put_msr(0x830, 0x4005));
  EXPECT_TRUE(sent.empty());
  EXPECT_EQ(msr_errors(), 0x20u);
  EXPECT_TRUE(put_msr(0x83f, 0x0f));
  EXPECT_TRUE(sent.empty());
  EXPECT_EQ(msr_errors(), 0x20u);
}

TEST_F(LapicMsrs, self_ipi_is_a_fixed_edge_to_itself_and_leaves_the_icr) {
  EXPECT_TRUE(put_msr(0x830, 0x00000007'000c0400));
  sent.clear();
  EXPECT_TRUE(put_msr(0x83f, 0x99));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].shorthand, ApicShorthand::Self);
  EXPECT_EQ(sent[0].message.mode, DeliveryMode::Fixed);
  EXPECT_EQ(sent[0].message.vector, 0x99);
  EXPECT_FALSE(sent[0].message.level_triggered);
  EXPECT_EQ(get_msr(0x830), 0x00000007'000c0400u);
}

TEST_F(LapicMsrs, interrupts_are_served_through_msrs) {
  lapic.accept(0x45, true);
  EXPECT_EQ(get_msr(0x822), 0x20u);
  EXPECT_EQ(get_msr(0x81a), 0x20u);
  EXPECT_TRUE(put_msr(0x808, 0x40));
  EXPECT_FALSE(lapic.pending());
  EXPECT_TRUE(put_msr(0x808, 0x30));
  EXPECT_EQ(take(), 0x45);
  EXPECT_EQ(get_msr(0x812), 0x20u);
  EXPECT_EQ(get_msr(0x80a), 0x40u);
  EXPECT_FALSE(put_msr(0x80b, 1));
  EXPECT_EQ(get_msr(0x812), 0x20u);
  EXPECT_TRUE(put_msr(0x80b, 0));
  EXPECT_EQ(get_msr(0x812), 0u);
  EXPECT_EQ(eois, std::vector<std::uint8_t>{0x45});
}

TEST_F(LapicMsrs, the_esr_takes_only_0) {
  EXPECT_TRUE(put_msr(0x83f, 0x01));
  EXPECT_FALSE(put_msr(0x828, 1));
  EXPECT_EQ(get_msr(0x828), 0u);
  EXPECT_EQ(msr_errors(), 0x20u);
}

TEST_F(LapicMsrs, suppression_that_is_not_offered_is_a_reserved_bit) {
  lapic.offer_eoi_suppression(false);
  EXPECT_FALSE(put_msr(0x80f, 0x11ff));
  EXPECT_EQ(get_msr(0x803), 0x00050014u);
}

TEST_F(LapicMsrs, the_page_is_gone) {
  for (std::uint64_t offset = 0; offset < 0x1000; offset += 16) {
    std::array<std::uint8_t, 4> data = {0x5a, 0x5a, 0x5a, 0x5a};
    EXPECT_EQ(lapic.read(offset, data), Access::NoRegister);
    EXPECT_EQ(lapic.write(offset, data), Access::NoRegister);
    EXPECT_EQ(data[0], 0x5a);
  }
  EXPECT_EQ(msr_errors(), 0u);
}

TEST_F(LapicRegisters, msrs_are_faults_in_xapic_mode) {
  for (std::uint32_t index = 0x800; index < 0x900; ++index) {
    std::uint64_t value = 0;
    EXPECT_FALSE(lapic.read_msr(index, value));
    EXPECT_FALSE(put_msr(index, 0));
  }
}

TEST_F(LapicMsrs, random_msr_accesses_never_break_an_invariant) {
  std::mt19937_64 random(5);
  lapic.allow_tsc_deadline(true);
  for (unsigned i = 0; i < 200'000; ++i) {
    const auto index = static_cast<std::uint32_t>(0x7f0 + random() % 0x60);
    std::uint64_t value = random() >> random() % 64;
    const Lapic::State before = lapic.state();
    if (!put_msr(index, value)) {
      ASSERT_EQ(lapic.state(), before) << std::hex << index;
    }
    (void)lapic.read_msr(index, value);
    lapic.advance(VmTime(i) * 1000);
    if (const auto vector = lapic.pending()) lapic.acknowledge(*vector);
    for (const ApicCommand& command : sent) {
      if (command.message.mode == DeliveryMode::Fixed) {
        ASSERT_GE(command.message.vector, 16);
      }
    }
    sent.clear();
    notes.clear();
    eois.clear();
  }
}

}  // namespace
}  // namespace vmm
