#include "vmm/nested/npt.h"

#include <fmt/format.h>

#include <string_view>

#include "vmm/base/bytes.h"
#include "vmm/core/cpu_state.h"
#include "vmm/nested/svm_exits.h"

namespace vmm::nested {

namespace {

constexpr std::uint32_t kErrorP = 1u << 0;
constexpr std::uint32_t kErrorReserved = 1u << 3;

PagingContext paging_of(const NptContext& context, bool smep) {
  // Nested paging is on with the hypervisor's paging alone (A14).
  return {.cr0 = spec::CR0_PE | spec::CR0_PG,
          .cr3 = context.n_cr3,
          .cr4 = (context.cr4 & ~(spec::CR4_SMEP | spec::CR4_SMAP)) | (smep ? spec::CR4_SMEP : 0),
          .efer = context.efer,
          .rflags = 0,
          .features = context.features};
}

// How many bits of an address the tables translate.
unsigned reach_of(PagingMode mode) {
  switch (mode) {
    case PagingMode::Level5:
      return 57;
    case PagingMode::Level4:
      return 48;
    default:
      return 32;
  }
}

void replace(std::string& text, std::string_view what, std::string_view with) {
  if (const std::size_t place = text.find(what); place != text.npos)
    text.replace(place, what.size(), with);
}

// The walker speaks of linear addresses, of CR3 and of rings.
void reword(WalkFailure& failure) {
  if (failure.rule == "smep") {
    failure.rule = "gmet";
    failure.depends_on = "GMET (VMCB 090h bit 3)";
    replace(failure.text, "CR4.SMEP forbids ring 0 to execute it",
            "GMET forbids the guest to execute it at CPL 0 to 2");
  } else if (failure.rule == "supervisor-page") {
    replace(failure.text, "the access is of CPL 3", "each access of a guest counts as a user's");
  } else if (failure.rule == "table-not-ram") {
    replace(failure.text, "(CR3 =", "(N_CR3 =");
  }
}

}  // namespace

NptContext NptContext::from(const Vmcb& vmcb, std::uint64_t cr4, std::uint64_t efer,
                            const CpuidTable* cpuid) {
  NptContext context;
  context.n_cr3 = vmcb.get(VmcbId::NCr3);
  context.cr4 = cr4;
  context.efer = efer;
  context.features =
      cpuid != nullptr ? PagingFeatures::from(*cpuid) : PagingFeatures::all_allowed();
  context.features.amd = true;  // whoever's name is in CPUID: nested tables are AMD's
  const auto enabled = [&](unsigned index, unsigned feature) {
    return vmcb.bit(VmcbId::NestedControl, index) &&
           (cpuid == nullptr || cpuid->bit(0x8000000a, 0, CpuidReg::Edx, feature));
  };
  context.gmet = enabled(3, 17);
  context.rogpt = enabled(6, 21);
  return context;
}

PagingMode NptContext::mode() const { return paging_of(*this, false).mode(); }

NptWalk walk_npt(const MemoryReader& memory, const NptContext& context, Gpa gpa,
                 const NptAccess& access) {
  const bool write = access.write || (access.guest_table && !context.rogpt);
  const bool fetch = access.fetch && !access.guest_table;
  const bool by_gmet = context.gmet && fetch;
  std::uint64_t code = (access.guest_table ? npf::kTables : npf::kFinal) |
                       (write ? npf::kWrite : 0) | (fetch ? npf::kFetch : 0);
  if (!by_gmet || access.guest_user) code |= npf::kUser;

  NptWalk result;
  const PagingMode mode = context.mode();
  const unsigned reach = reach_of(mode);
  if (gpa > low_mask(reach)) {
    result.walk.mode = mode;
    result.walk.failure = WalkFailure{
        .rule = "out-of-reach",
        .level = 0,
        .text = fmt::format("{:X}h has more than the {} bits that the nested tables translate", gpa,
                            reach),
        .depends_on = reach == 48 ? "CR4.LA57 of the hypervisor" : "",
        .feature = "",
        .vector = 14,
        .error_code = 0};
    result.exit_info1 = code;
    return result;
  }
  // The walker's addresses are linear and canonical; the bits above are no part of an index.
  const Gva address = mode == PagingMode::Level4 && bit(gpa, 47) ? gpa | ~low_mask(48) : gpa;
  // GMET gives U/S of a fetch the meaning it has under SMEP, and none at the guest's CPL 3.
  result.walk = walk_page(memory, paging_of(context, by_gmet && !access.guest_user), address,
                          {.write = write, .fetch = fetch, .user = !by_gmet, .implicit = false});
  if (!result.walk.failure) return result;
  WalkFailure& failure = *result.walk.failure;
  // In PAE mode MOV to CR3 would have refused that entry with #GP; N_CR3 is not loaded by MOV.
  if (failure.vector != 14) failure.error_code = kErrorP | kErrorReserved;
  failure.vector = 14;
  reword(failure);
  code |= failure.error_code & (kErrorP | kErrorReserved);
  failure.error_code = static_cast<std::uint32_t>(code);
  result.exit_info1 = code;
  return result;
}

std::vector<std::string> describe(const NptWalk& walk) {
  std::vector<std::string> lines = vmm::describe(walk.walk);
  if (walk.walk.failure)
    lines.push_back(
        fmt::format("EXITINFO1 = {:X}h ({})", walk.exit_info1, npf_code_text(walk.exit_info1)));
  return lines;
}

}  // namespace vmm::nested
