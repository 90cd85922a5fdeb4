// The interrupt controllers in words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "devices/lapic_spec.h"
#include "vmm/machine/monitor_rig.h"

namespace vmm {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

class MonitorInterrupts : public testing::Test, public MonitorRig {
 protected:
  MonitorInterrupts() {
    LapicView& view = machine.lapics[1];
    view.id = 1;
    view.base = 0xfee00800;
    view.registers[spec::APIC_SVR] = 0x1ff;
    view.registers[spec::APIC_TPR] = 0x20;
    view.registers[spec::APIC_IRR + 1] = 1U << 16 | 1U << 17;  // 30h, 31h
    view.registers[spec::APIC_ISR + 7] = 1U << 31;             // FFh
    view.registers[spec::APIC_LVT] = 0x20020;                  // periodic
    view.registers[spec::APIC_LVT + 3] = 0x10700;              // LINT0
    view.registers[spec::APIC_LVT + 4] = 0x400;                // LINT1
    view.registers[spec::APIC_INITIAL_COUNT] = 1000;
    view.registers[spec::APIC_CURRENT_COUNT] = 400;
    view.registers[spec::APIC_DIVIDE] = 3;
    view.registers[spec::APIC_ICR] = 0x000c4030;
  }
};

TEST_F(MonitorInterrupts, a_lapic_decoded) {
  const std::string text = say("lapic 1");
  EXPECT_THAT(text, AllOf(HasSubstr("vCPU 1: vmm's LAPIC, id 1h, xAPIC, base fee00000h"),
                          HasSubstr("1ffh (enabled by software), TPR 20h"),
                          HasSubstr("IRR     30h 31h\n"), HasSubstr("ISR     ffh\n"),
                          HasSubstr("TMR     none\n"), HasSubstr("timer   vector 20h, periodic\n"),
                          HasSubstr("LINT0   masked, ExtINT, edge\n"),
                          HasSubstr("LINT1   NMI, edge\n"), HasSubstr("400 of 1000, divided by 16"),
                          HasSubstr("ICR     fixed, vector 30h, to all but self\n")));
  EXPECT_LE(widest(text), 120U);
}

TEST_F(MonitorInterrupts, the_users_vcpu_is_taken_where_none_is_named) {
  EXPECT_EQ(say("lapic", 1), say("lapic 1"));
  EXPECT_THAT(say("lapic"), HasSubstr("vCPU 0: vmm's LAPIC, id 0h, disabled"));
}

TEST_F(MonitorInterrupts, all_vectors_pending_stay_within_the_columns) {
  for (unsigned i = 0; i < 8; ++i) machine.lapics[1].registers[spec::APIC_IRR + i] = ~0U;
  const std::string text = say("lapic 1");
  EXPECT_LE(widest(text), 120U);
  EXPECT_THAT(text, HasSubstr("feh ffh"));
}

TEST_F(MonitorInterrupts, kvms_lapic_in_x2apic_mode) {
  machine.lapics[1].kvms = true;
  machine.lapics[1].base |= spec::BASE_EXTD;
  machine.lapics[1].registers[spec::APIC_ICR] = 0x30;
  machine.lapics[1].registers[spec::APIC_ICR_HIGH] = 0x12345;
  EXPECT_THAT(say("lapic 1"),
              AllOf(HasSubstr("KVM's LAPIC, id 1h, x2APIC"), HasSubstr("to 12345h")));
}

TEST_F(MonitorInterrupts, a_lapic_as_json) {
  const json lapic = json::parse(say("lapic --json 1"));
  EXPECT_EQ(lapic["irr"], (json{0x30, 0x31}));
  EXPECT_EQ(lapic["mode"], "xAPIC");
  EXPECT_EQ(lapic["lvt"]["timer"], "0x20020");
  EXPECT_EQ(lapic["divide"], 16);
}

TEST_F(MonitorInterrupts, the_divide_configurations) {
  const unsigned expected[] = {2, 4, 8, 16, 32, 64, 128, 1};
  for (unsigned i = 0; i < 8; ++i) {
    machine.lapics[1].registers[spec::APIC_DIVIDE] = (i & 3) | (i & 4) << 1;
    EXPECT_EQ(json::parse(say("lapic --json 1"))["divide"], expected[i]) << i;
  }
}

TEST_F(MonitorInterrupts, an_ioapic_decoded) {
  machine.ioapic.version = 0x20;
  machine.ioapic.entries.fill(Ioapic::kMaskedEntry);
  machine.ioapic.entries[4] = 0x0100'0000'0000'0034;   // edge, to 1
  machine.ioapic.entries[11] = 0x0300'0000'0001'f93b;  // masked, level, low, logical, lowest
  machine.ioapic.pins = 1U << 11;
  const std::string text = say("ioapic");
  EXPECT_THAT(text,
              AllOf(HasSubstr("vmm's IOAPIC, id 0h, version 20h"),
                    HasSubstr("    4  34h     fixed            1h physical     edge           0  "
                              "    open\n"),
                    HasSubstr("   11  3bh     lowest priority  3h logical      level, low     1  "
                              "    masked, remote IRR\n"),
                    HasSubstr("masked as after reset: 0 1 2 3 5")));
  EXPECT_LE(widest(text), 120U);
  const json ioapic = json::parse(say("ioapic --json"));
  EXPECT_EQ(ioapic["pins"][11]["remote_irr"], true);
  EXPECT_EQ(ioapic["pins"][4]["destination"], 1);
}

}  // namespace
}  // namespace vmm
