// What a VM exit and a failed VMX instruction say, in words.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace vmm::nested {

// Bit 31 of an exit reason: the VM entry failed.
constexpr std::uint32_t kEntryFailure = 1u << 31;

// "EPT violation" of basic reason 48 (SDM Vol. 3D appendix C); empty for what has no name.
std::string_view vmx_exit_name(std::uint16_t basic_reason);
// "80000021h (VM-entry failure: invalid guest state)".
std::string vmx_exit_text(std::uint32_t reason);
// The exit qualification in words (SDM 27.2.1), of the basic reasons that have one; else empty.
std::string vmx_qualification_text(std::uint32_t reason, std::uint64_t qualification);
// An interruption-information or IDT-vectoring field: "hardware exception 14 (#PF) with an error
// code"; "none" without its valid bit.
std::string vmx_interruption_text(std::uint32_t info);
// "8 (VM entry with invalid host-state field(s))" (SDM 30.4).
std::string vm_instruction_error_text(std::uint32_t error);

// "#PF" of 14; empty for a vector that is no exception's.
std::string_view exception_name(unsigned vector);

}  // namespace vmm::nested
