// Why a guest of SVM stopped, in words: EXITCODE (APM vol. 2, appendix C), what EXITINFO1 and 2
// mean for it (15.8 to 15.14, 15.25.6, 15.29.9, 15.36.10), and the events in EVENTINJ and
// EXITINTINFO.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace vmm::nested {

namespace svm_exit {
constexpr std::uint64_t kExcp0 = 0x40;
constexpr std::uint64_t kNpf = 0x400;
constexpr std::uint64_t kInvalid = ~0ull;  // -1; older KVM writes its low 32 bits alone
}  // namespace svm_exit

// The bits of EXITINFO1 at VMEXIT_NPF.
namespace npf {
constexpr std::uint64_t kPresent = 1ull << 0;
constexpr std::uint64_t kWrite = 1ull << 1;
constexpr std::uint64_t kUser = 1ull << 2;
constexpr std::uint64_t kReserved = 1ull << 3;
constexpr std::uint64_t kFetch = 1ull << 4;
constexpr std::uint64_t kShadowStack = 1ull << 6;
constexpr std::uint64_t kRmp = 1ull << 31;
constexpr std::uint64_t kFinal = 1ull << 32;   // at the guest's final physical address
constexpr std::uint64_t kTables = 1ull << 33;  // at one of the guest's page tables
}  // namespace npf

// "VMEXIT_NPF", "VMEXIT_EXCP14"; empty for a code that the manual does not define.
std::string svm_exit_name(std::uint64_t code);

// The name of the bit `index` of the intercept vectors (0 to 191), which is that of its exit:
// "CPUID", "CR0_WRITE"; empty for a bit without one.
std::string svm_intercept_name(unsigned index);

// "VMEXIT_CPUID (72h): CPUID instruction"; "exit code 1234h, which the manual does not define".
std::string svm_exit_text(std::uint64_t code);

// What EXITINFO1 and EXITINFO2 say for that exit, in words; empty where they say nothing.
std::string svm_exit_info_text(std::uint64_t code, std::uint64_t info1, std::uint64_t info2);

// EVENTINJ or EXITINTINFO: "#PF (exception 14), error code 2h"; "none" when V is 0.
std::string svm_event_text(std::uint64_t event);

// "P|W|U|final"; "0" when none is set.
std::string npf_code_text(std::uint64_t info1);

// "#PF" for 14; empty for a vector that is reserved or no exception (APM vol. 2, table 8-1).
std::string_view svm_exception_name(unsigned vector);

}  // namespace vmm::nested
