// The instructions by which systems write a register of the local APIC: MOV of 32 bits to memory.
#pragma once

#include "guest-tests/guests/registers.h"

namespace efi_hypervisor {

constexpr uint8_t kMaxInstruction = 15;

struct ApicStore {
  uint8_t length = 0;  // 0: another instruction
  uint32_t value = 0;
};

// `code` holds kMaxInstruction bytes. Where the store goes is not asked: the page fault has said.
inline ApicStore decode_apic_store(const uint8_t* code, const guest::Registers& registers,
                                   uint64_t rsp, bool is_64_bit) {
  const auto immediate = [code](uint8_t at) {
    return static_cast<uint32_t>(code[at] | code[at + 1] << 8 | code[at + 2] << 16) |
           static_cast<uint32_t>(code[at + 3]) << 24;
  };
  uint8_t at = 0, rex = 0;
  bool short_address = false;
  // Segment overrides and the address size; the operand size, LOCK and REP make it another one.
  for (; at < 4; ++at) {
    const uint8_t prefix = code[at];
    if (prefix == 0x67)
      short_address = true;
    else if (prefix != 0x26 && prefix != 0x2e && prefix != 0x36 && prefix != 0x3e &&
             prefix != 0x64 && prefix != 0x65)
      break;
  }
  if (is_64_bit && (code[at] & 0xf0) == 0x40) rex = code[at++];
  if ((rex & 8) != 0) return {};  // 64 bits
  const uint8_t opcode = code[at++];
  if (opcode == 0xa3) {  // MOV moffs, EAX
    at = static_cast<uint8_t>(at + (is_64_bit && !short_address ? 8 : 4));
    return {at, static_cast<uint32_t>(registers.rax)};
  }
  if (opcode != 0x89 && opcode != 0xc7) return {};
  if (!is_64_bit && short_address) return {};  // the forms of 16 bits
  const uint8_t modrm = code[at++];
  const uint8_t mod = modrm >> 6, rm = modrm & 7;
  if (mod == 3) return {};
  uint8_t displacement = mod == 1 ? 1 : mod == 2 ? 4 : 0;
  if (mod == 0 && rm == 5) displacement = 4;
  if (rm == 4) {
    const uint8_t sib = code[at++];
    if (mod == 0 && (sib & 7) == 5) displacement = 4;
  }
  at = static_cast<uint8_t>(at + displacement);
  const auto reg = static_cast<uint8_t>((modrm >> 3 & 7) | (rex & 4) << 1);
  if (opcode == 0xc7) {
    if ((modrm >> 3 & 7) != 0 || at + 4 > kMaxInstruction) return {};
    return {static_cast<uint8_t>(at + 4), immediate(at)};
  }
  // RSP has no place among the registers (registers.h).
  const auto* list = reinterpret_cast<const uint64_t*>(&registers);
  const uint64_t value = reg == 4 ? rsp : list[reg < 4 ? reg : reg - 1];
  return {at, static_cast<uint32_t>(value)};
}

}  // namespace efi_hypervisor
