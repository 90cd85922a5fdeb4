// A rule that a VM entry must keep, what breaking it leads to, and what a check found.
//
// Rules live in tables, one row a rule with the code that checks it, in the order of the manual.
// All of them are checked, never only up to the first that is broken: a processor may report any.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vmm::nested {

// What the author of a hypervisor sees when a rule is broken.
enum class EntryResult : std::uint8_t {
  InvalidOpcode,      // #UD
  GeneralProtection,  // #GP(0)
  ExitToL1,           // VMLAUNCH in L2: a VM exit to its hypervisor
  VmFailInvalid,      // CF=1, no error number
  VmFail4,            // VMLAUNCH with a VMCS that is not clear
  VmFail5,            // VMRESUME with a VMCS that is not launched
  VmFail7,            // invalid control field
  VmFail8,            // invalid host-state field
  VmFail26,           // blocked by MOV SS
  Exit33,             // VM exit, basic reason 33: invalid guest state
  Exit33Pdpte,        // ... exit qualification 2
  Exit33Nmi,          // ... exit qualification 3
  Exit33Link,         // ... exit qualification 4
  Exit34,             // VM exit, basic reason 34: MSR loading, the qualification is the entry
  Exit41,             // VM exit, basic reason 41: machine check
  VmexitInvalid,      // SVM: EXITCODE -1
  Undefined,          // whatever the processor does then
};

// "VMfail, VM-instruction error 8 (VM entry with invalid host-state field)" and the like.
std::string_view result_text(EntryResult result);

// Who finds it under KVM, as of Linux 6.18: it changes from version to version.
enum class Finder : std::uint8_t {
  KvmNamed,    // KVM checks it, and its tracepoint prints the condition
  KvmSilent,   // KVM checks it, and says nothing
  Processor,   // the processor alone, on KVM's own entry: a bare 80000021h
  NotOffered,  // KVM offers its guests nothing that could break it
  Nobody,      // KVM lets it pass, and so does the processor: it fails without KVM in between
};

std::string_view finder_text(Finder finder);

struct Rule {
  std::string_view id;       // "I098", "A23": stable
  std::string_view section;  // of the SDM or APM
  std::string_view subject;  // "HOST_TR selector"
  std::string_view text;     // "is not 0"
  EntryResult result;
  Finder finder;
};

struct Violation {
  const Rule* rule;
  std::string field;       // by its name in the manual, with encoding or offset
  std::uint64_t found;     // its value
  unsigned digits;         // of the value in hexadecimal
  std::string allowed;     // what it might have been
  std::string why;         // the capability MSR, CPUID bit or other field it hangs on; may be empty
  std::uint64_t bits = 0;  // those at fault, where single ones are
  // The capability that would allow it: a bit of an MSR's value. For CPU models.
  std::optional<std::uint32_t> msr = {};
  unsigned msr_bit = 0;

  // "I098 HOST_TR selector is not 0: Host TR selector (0C0Ch) is 0, allowed: ...; why" in one line.
  std::string text() const;
};

// "63:52, 9" for runs of bits and single ones, the highest first; cut after some.
std::string bit_list(std::uint64_t bits);
// "bit 9", "bits 63:52, 9".
std::string bits_text(std::uint64_t bits);

// A rule that could not be checked: no such field in this layout, an input that is missing.
struct Unchecked {
  const Rule* rule;
  std::string why;
};

struct CheckReport {
  std::vector<Violation> violations;
  std::vector<Unchecked> unchecked;
  unsigned checked = 0;  // rules

  bool clean() const { return violations.empty(); }
};

// Where the code of a rule puts what it finds.
class Findings {
 public:
  void begin(const Rule& rule) {
    rule_ = &rule;
    known_ = true;
  }
  void end();

  Violation& violate(std::string field, std::uint64_t found, unsigned digits, std::string allowed,
                     std::string why = {});
  void unknown(std::string why);

  CheckReport take() { return std::move(report_); }

 private:
  CheckReport report_;
  const Rule* rule_ = nullptr;
  bool known_ = true;
};

// A row of a table: the rule and its code, or why there is none.
template <typename Check>
struct CheckedRule {
  Rule rule;
  void (*check)(Check&);
  std::string_view unchecked = {};
};

// Check has a member `findings`.
template <typename Check>
void run_rules(std::span<const CheckedRule<Check>> rules, Check& check) {
  for (const CheckedRule<Check>& row : rules) {
    check.findings.begin(row.rule);
    if (row.check != nullptr)
      row.check(check);
    else
      check.findings.unknown(std::string(row.unchecked));
    check.findings.end();
  }
}

}  // namespace vmm::nested
