// What KVM said when it gave up, in words: the data words of KVM_EXIT_INTERNAL_ERROR, the names of
// exit reasons, vectors and injected events.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/outcome.h"

namespace vmm {

// "#PF" for 14, "vector 32" for what has no name.
std::string vector_name(unsigned vector);
// "30h EPT violation" for VMX, "400h nested page fault" for SVM, the number alone elsewhere.
std::string exit_reason_name(std::uint64_t reason, std::string_view backend);
// An IDT-vectoring or EXITINTINFO field: "hardware exception #PF (vector 14) with an error code".
std::string vectoring_text(std::uint64_t info);

// The words of an internal error, as far as their meaning is known.
struct ErrorWords {
  std::vector<std::string> lines;       // for the card
  std::string backend;                  // "vmx" or "svm", from the reason when nobody said it
  std::optional<std::uint64_t> reason;  // of the VM exit
  std::optional<std::uint64_t> gpa;     // that the access went to
  bool fetch = false;                   // the access was an instruction fetch
  bool write = false;
  bool misconfig_or_mmio = false;          // EPT misconfiguration: KVM's mark for MMIO
  std::optional<std::uint64_t> vectoring;  // what was being delivered, valid bit set
  std::vector<std::uint8_t> insn;          // the instruction's bytes, when KVM gave them
};

// `backend` is "vmx", "svm", "pvm" or empty. Any words are accepted.
ErrorWords decode_error(const InternalError& error, std::string_view backend);

}  // namespace vmm
