// Any VMCB, registers, CPUID and memory: decoded, checked and walked, within bounds.
#include <algorithm>
#include <array>
#include <string_view>

#include "vmm/base/bytes.h"
#include "vmm/base/check.h"
#include "vmm/nested/npt.h"
#include "vmm/nested/svm_check.h"
#include "vmm/nested/svm_exits.h"

namespace {

using namespace vmm;
using namespace vmm::nested;

// Takes bytes off the front, zeroes when there are no more.
class Input {
 public:
  explicit Input(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  std::uint64_t word(std::size_t size = 8) {
    const auto part = bytes_.first(std::min(size, bytes_.size()));
    bytes_ = bytes_.subspan(part.size());
    return load_uint(part);
  }
  std::optional<std::uint64_t> maybe() {
    if (word(1) % 4 == 0) return std::nullopt;
    return word();
  }
  std::span<const std::uint8_t> rest() const { return bytes_; }

 private:
  std::span<const std::uint8_t> bytes_;
};

// The input over and over, so that tables lead somewhere; no RAM above 1 TiB.
class Memory : public MemoryReader {
 public:
  explicit Memory(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  bool read(Gpa gpa, std::span<std::uint8_t> data) const override {
    if (bytes_.empty() || gpa >= 1024_GiB) return false;
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = bytes_[(gpa + i) % bytes_.size()];
    return true;
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

CpuidTable cpuid_of(Input& input) {
  CpuidTable cpuid;
  for (const std::uint32_t leaf :
       {0x1u, 0x7u, 0x80000001u, 0x80000008u, 0x8000000au, 0x8000001fu, 0x80000021u}) {
    if (input.word(1) % 8 == 0) continue;
    CpuidRegs& regs = cpuid.at(leaf);
    for (std::uint32_t* reg : {&regs.eax, &regs.ebx, &regs.ecx, &regs.edx})
      *reg = static_cast<std::uint32_t>(input.word(4));
  }
  return cpuid;
}

void check_line(std::string_view line, std::size_t most) {
  VMM_CHECK(!line.empty() && line.size() <= most, "a line of bounded length");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input({data, size});
  const CpuidTable cpuid = cpuid_of(input);
  const std::uint64_t choice = input.word(1);
  const Memory memory({data, size});
  const auto cpl = input.maybe();
  SvmHost host{.cr0 = input.maybe(),
               .efer = input.maybe(),
               .rflags = input.maybe(),
               .cpl = {},
               .hsave_pa = input.maybe(),
               .vm_cr = input.maybe(),
               .u_cet = input.maybe()};
  if (cpl) host.cpl = static_cast<unsigned>(*cpl % 4);
  const auto vmcb_pa = input.maybe();
  const std::uint64_t cr4 = input.word();
  std::array<std::uint64_t, 4> addresses{};
  for (std::uint64_t& address : addresses) address = input.word();

  VmcbBytes bytes{};
  const auto rest = input.rest();
  std::copy_n(rest.begin(), std::min(rest.size(), bytes.size()), bytes.begin());
  const Vmcb vmcb(bytes);

  const auto lines = describe(vmcb, bit(choice, 0) ? VmcbShow::All : VmcbShow::NonZero);
  VMM_CHECK(lines.size() <= vmcb_fields().size() + 1, "a line a field");
  for (const std::string& line : lines) check_line(line, 1000);

  const SvmEntry entry{.vmcb = bytes,
                       .vmcb_pa = vmcb_pa,
                       .cpuid = bit(choice, 1) ? &cpuid : nullptr,
                       .memory = bit(choice, 2) ? &memory : nullptr,
                       .host = host};
  const CheckReport report = check_vmrun(entry);
  const std::size_t rows =
      svm_instruction_rules().size() + svm_control_rules().size() + svm_state_rules().size();
  VMM_CHECK(report.checked + report.unchecked.size() == rows, "each rule is checked or is not");
  VMM_CHECK(report.violations.size() <= 4 * rows, "a few violations a rule");
  for (const Violation& violation : report.violations) check_line(violation.text(), 500);
  for (const Unchecked& rule : report.unchecked) check_line(rule.why, 200);

  const NptContext context =
      NptContext::from(vmcb, cr4, host.efer.value_or(0), bit(choice, 1) ? &cpuid : nullptr);
  for (const std::uint64_t address : addresses) {
    const NptWalk walk = walk_npt(memory, context, address,
                                  {.write = bit(choice, 3),
                                   .fetch = bit(choice, 4),
                                   .guest_table = bit(choice, 5),
                                   .guest_user = bit(choice, 6)});
    VMM_CHECK(walk.walk.gpa.has_value() != walk.walk.failure.has_value(), "an end or a failure");
    VMM_CHECK(walk.walk.failure.has_value() == (walk.exit_info1 != 0), "EXITINFO1 with a failure");
    VMM_CHECK(walk.walk.steps.size() <= 5, "a step a level");
    for (const std::string& line : describe(walk)) check_line(line, 300);
  }

  for (const std::uint64_t address : addresses) {
    check_line(svm_exit_text(address), 200);
    check_line(svm_event_text(address), 200);
    check_line(npf_code_text(address), 200);
    VMM_CHECK(svm_exit_info_text(address % 0x404, addresses[0], addresses[1]).size() <= 300,
              "bounded words");
  }
  return 0;
}
