// The local APIC's registers and bits as SDM vol. 3A chapter 11 names them; for lapic*.cc.
#pragma once

#include <cstdint>

namespace vmm::spec {

// Register numbers: the offset in the page / 10h (table 11-1), the MSR - 800h (table 11-6).
constexpr unsigned APIC_ID = 0x02;
constexpr unsigned APIC_VERSION = 0x03;
constexpr unsigned APIC_TPR = 0x08;
constexpr unsigned APIC_APR = 0x09;
constexpr unsigned APIC_PPR = 0x0a;
constexpr unsigned APIC_EOI = 0x0b;
constexpr unsigned APIC_LDR = 0x0d;
constexpr unsigned APIC_DFR = 0x0e;
constexpr unsigned APIC_SVR = 0x0f;
constexpr unsigned APIC_ISR = 0x10;  // each of the bitmaps has 8 registers
constexpr unsigned APIC_TMR = 0x18;
constexpr unsigned APIC_IRR = 0x20;
constexpr unsigned APIC_IRR_LAST = 0x27;
constexpr unsigned APIC_ESR = 0x28;
constexpr unsigned APIC_ICR = 0x30;
constexpr unsigned APIC_ICR_HIGH = 0x31;
constexpr unsigned APIC_LVT = 0x32;  // timer, and the others in the order of Lapic::LvtEntry
constexpr unsigned APIC_LVT_LAST = 0x37;
constexpr unsigned APIC_INITIAL_COUNT = 0x38;
constexpr unsigned APIC_CURRENT_COUNT = 0x39;
constexpr unsigned APIC_DIVIDE = 0x3e;
constexpr unsigned APIC_SELF_IPI = 0x3f;
constexpr unsigned APIC_REGISTERS = 0x40;

constexpr std::uint64_t PAGE_SIZE = 0x1000;
constexpr std::uint32_t MSR_FIRST = 0x800;

constexpr std::uint64_t BASE_BSP = 1U << 8;
constexpr std::uint64_t BASE_EXTD = 1U << 10;
constexpr std::uint64_t BASE_EN = 1U << 11;

constexpr std::uint32_t VERSION = 0x00050014;  // 6 LVT entries
constexpr std::uint32_t VERSION_EOI_SUPPRESSION = 1U << 24;

constexpr std::uint32_t SVR_ENABLE = 1U << 8;
constexpr std::uint32_t SVR_BITS = 0x3ff;  // bit 9, focus checking, only reads back
constexpr std::uint32_t SVR_EOI_SUPPRESSION = 1U << 12;

constexpr std::uint32_t LVT_VECTOR = 0xff;
constexpr std::uint32_t LVT_MODE = 0x700;
constexpr std::uint32_t LVT_DELIVERY_STATUS = 1U << 12;
constexpr std::uint32_t LVT_POLARITY = 1U << 13;
constexpr std::uint32_t LVT_REMOTE_IRR = 1U << 14;
constexpr std::uint32_t LVT_LEVEL = 1U << 15;
constexpr std::uint32_t LVT_MASKED = 1U << 16;
constexpr std::uint32_t LVT_PERIODIC = 1U << 17;
constexpr std::uint32_t LVT_TSC_DEADLINE = 1U << 18;
constexpr std::uint32_t LVT_EXTINT = 0x700;

constexpr std::uint32_t ICR_LOGICAL = 1U << 11;
constexpr std::uint32_t ICR_DELIVERY_STATUS = 1U << 12;
constexpr std::uint32_t ICR_ASSERT = 1U << 14;
constexpr std::uint32_t ICR_LEVEL = 1U << 15;
constexpr std::uint32_t ICR_BITS = 0x000ccfff;  // of the low half

constexpr std::uint32_t DFR_RESERVED = 0x0fffffff;  // all ones
constexpr std::uint8_t DFR_FLAT = 0xf;              // bits 31:28
constexpr std::uint8_t DFR_CLUSTER = 0x0;

constexpr std::uint8_t DIVIDE_BITS = 0x0b;

constexpr std::uint32_t ESR_SEND_ILLEGAL_VECTOR = 1U << 5;
constexpr std::uint32_t ESR_RECEIVE_ILLEGAL_VECTOR = 1U << 6;
constexpr std::uint32_t ESR_ILLEGAL_REGISTER = 1U << 7;

constexpr std::uint8_t FIRST_LEGAL_VECTOR = 16;

}  // namespace vmm::spec
