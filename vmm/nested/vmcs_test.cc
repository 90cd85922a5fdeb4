#include "vmm/nested/vmcs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "vmm/base/bytes.h"
#include "vmm/nested/nested_state.h"
#include "vmm/nested/vmcs_text.h"
#include "vmm/nested/vmx_exits.h"

namespace vmm::nested {
namespace {

using F = VmcsField;
using testing::HasSubstr;
using testing::Not;

TEST(VmcsFields, stand_where_their_encoding_says) {
  std::uint32_t last = 0;
  for (const VmcsFieldInfo& info : vmcs_fields()) {
    EXPECT_TRUE(last < info.encoding() || last == 0) << info.name;
    last = info.encoding();
    // Bits 14:13 are the width: 16 bits, 64, 32, the processor's own.
    constexpr unsigned kBytes[] = {2, 8, 4, 8};
    EXPECT_EQ(info.bytes, kBytes[(info.encoding() >> 13) & 3]) << info.name;
    EXPECT_EQ(info.offset % info.bytes, 0u) << info.name;
    EXPECT_LE(info.offset + info.bytes, 998u) << info.name;
  }
  EXPECT_EQ(vmcs_fields().size(), 151u);
}

TEST(VmcsFields, share_no_byte_and_no_name) {
  std::set<unsigned> bytes;
  std::set<std::string_view> names;
  for (const VmcsFieldInfo& info : vmcs_fields()) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    for (unsigned i = 0; i < info.bytes; ++i)
      EXPECT_TRUE(bytes.insert(info.offset + i).second) << info.name;
  }
}

TEST(VmcsFields, are_found_by_encoding_name_and_high_half) {
  EXPECT_EQ(find_vmcs_field(0x0c0cu)->field, F::HostTrSelector);
  EXPECT_EQ(find_vmcs_field(0x201bu)->field, F::EptPointer);
  EXPECT_EQ(find_vmcs_field(0x0c0du), nullptr);
  EXPECT_EQ(find_vmcs_field(0x20ffu), nullptr);
  EXPECT_EQ(find_vmcs_field("host tr SELECTOR")->field, F::HostTrSelector);
  EXPECT_EQ(find_vmcs_field("0C0Ch")->field, F::HostTrSelector);
  EXPECT_EQ(find_vmcs_field("0x681e")->field, F::GuestRip);
  EXPECT_EQ(find_vmcs_field(""), nullptr);
  EXPECT_EQ(find_vmcs_field("rip"), nullptr);
  EXPECT_EQ(vmcs_field_text(F::HostTrSelector), "Host TR selector (0C0Ch)");
}

TEST(Vmcs, each_field_reads_back_what_was_set) {
  Vmcs vmcs = empty_vmcs();
  std::uint64_t value = 0x1234567890abcdef;
  for (const VmcsFieldInfo& info : vmcs_fields()) {
    vmcs.set(info.field, value);
    const std::uint64_t kept = info.bytes == 8 ? value : value & ((1ull << 8 * info.bytes) - 1);
    EXPECT_EQ(vmcs.get(info.field), kept) << info.name;
    value = value * 6364136223846793005 + 1442695040888963407;
  }
  EXPECT_EQ(vmcs.revision(), kVmcs12Revision);
}

TEST(Vmcs, foreign_and_short_bytes_are_refused) {
  std::vector<std::uint8_t> bytes(4096);
  const auto foreign = Vmcs::from(bytes);
  ASSERT_FALSE(foreign);
  EXPECT_THAT(foreign.error().text(), HasSubstr("revision identifier is 0h, KVM's is 11E57ED0h"));
  const auto good = empty_vmcs();
  EXPECT_FALSE(Vmcs::from(good.bytes().first(997)));
  EXPECT_TRUE(Vmcs::from(good.bytes().first(998)));
}

TEST(VmcsText, says_what_values_mean) {
  Vmcs vmcs = empty_vmcs();
  vmcs.set(F::PinBasedControls, 1 << 0 | 1 << 3);
  vmcs.set(F::ProcBasedControls2, 1 << 20);
  vmcs.set(F::VmInstructionError, 8);
  vmcs.set(F::VmExitReason, 0x80000021);
  vmcs.set(F::ExitQualification, 4);
  vmcs.set(F::GuestCsAccessRights, 0xa09b);
  const std::string text = vmcs_text(vmcs, false);
  EXPECT_THAT(text, HasSubstr("external-interrupt exiting, NMI exiting"));
  EXPECT_THAT(text, HasSubstr("not activated: enable XSAVES/XRSTORS"));
  EXPECT_THAT(text, HasSubstr("8 (VM entry with invalid host-state field(s))"));
  EXPECT_THAT(text, HasSubstr("80000021h (VM-entry failure: invalid guest state)"));
  EXPECT_THAT(text, HasSubstr("the VMCS link pointer"));
  EXPECT_THAT(text, HasSubstr("type 11, S 1, DPL 0, P, L, G"));
  EXPECT_THAT(text, Not(HasSubstr("Host TR selector")));
  EXPECT_THAT(vmcs_text(vmcs, true), HasSubstr("0C0Ch Host TR selector"));
}

TEST(VmcsText, differences_are_the_fields_that_differ) {
  Vmcs left = empty_vmcs(), right = empty_vmcs();
  right.set(F::GuestRip, 0x1000);
  right.set(F::VmEntryControls, 1 << 9);
  const auto differences = diff_vmcs(left, right);
  ASSERT_EQ(differences.size(), 2u);
  EXPECT_EQ(differences[0].field->field, F::VmEntryControls);
  EXPECT_EQ(differences[0].right_meaning, "IA-32e mode guest");
  EXPECT_EQ(differences[1].field->field, F::GuestRip);
  EXPECT_EQ(differences[1].right, 0x1000u);
}

TEST(VmxExits, are_told_in_words) {
  EXPECT_EQ(vmx_exit_text(48), "48 (EPT violation)");
  EXPECT_EQ(vmx_exit_text(35), "35 (unknown reason)");
  EXPECT_EQ(vmx_qualification_text(48, 0x182), "a write, nothing is mapped there");
  EXPECT_EQ(vmx_qualification_text(48, 0x8a), "a write of a page-table entry, the EPT allows R");
  EXPECT_EQ(vmx_qualification_text(30, 0x3f80000), "OUT, port 3F8h, 1 byte");
  EXPECT_EQ(vmx_qualification_text(28, 0x4), "MOV CR4, RAX");
  EXPECT_EQ(vmx_qualification_text(28, 0x314), "MOV RBX, CR4");
  EXPECT_EQ(vmx_interruption_text(0x80000b0e), "hardware exception 14 (#PF) with an error code");
  EXPECT_EQ(vmx_interruption_text(0x800000ef), "external interrupt 239");
  EXPECT_EQ(vmx_interruption_text(0x0e), "none");
  EXPECT_EQ(vm_instruction_error_text(7), "7 (VM entry with invalid control field(s))");
  EXPECT_EQ(vm_instruction_error_text(14), "14");
  EXPECT_EQ(vm_instruction_error_text(4711), "4711");
}

std::vector<std::uint8_t> vmx_blob(std::uint16_t flags, std::size_t size) {
  std::vector<std::uint8_t> blob(size);
  store(std::span(blob), 0, flags);
  store(std::span(blob), 4, static_cast<std::uint32_t>(size));
  store(std::span(blob), 8, std::uint64_t{0x2000});
  store(std::span(blob), 16, std::uint64_t{0x3000});
  if (size >= 128 + 4096) {
    const Vmcs vmcs = empty_vmcs();
    std::ranges::copy(vmcs.bytes(), blob.begin() + 128);
  }
  return blob;
}

TEST(NestedState, of_vmx_holds_the_current_vmcs) {
  const auto state = parse_nested_state(vmx_blob(1, 128 + 4096));
  ASSERT_TRUE(state) << state.error().text();
  EXPECT_TRUE(state->guest_mode);
  EXPECT_EQ(state->vmxon_address, 0x2000u);
  EXPECT_EQ(state->vmcs_address, 0x3000u);
  EXPECT_TRUE(state->vmcs.has_value());
  EXPECT_FALSE(state->shadow_vmcs.has_value());
}

TEST(NestedState, without_a_vmcs_is_its_header) {
  const auto state = parse_nested_state(vmx_blob(0, 128));
  ASSERT_TRUE(state) << state.error().text();
  EXPECT_FALSE(state->vmcs.has_value());
}

TEST(NestedState, of_svm_holds_a_vmcb_in_l2_only) {
  std::vector<std::uint8_t> blob = vmx_blob(0x101, 128 + 4096);
  store(std::span(blob), 2, std::uint16_t{1});
  const auto in_l2 = parse_nested_state(blob);
  ASSERT_TRUE(in_l2) << in_l2.error().text();
  EXPECT_TRUE(in_l2->gif);
  EXPECT_EQ(in_l2->vmcb_address, 0x2000u);
  EXPECT_EQ(in_l2->vmcb.size(), 4096u);
  store(std::span(blob), 0, std::uint16_t{0});
  const auto in_l1 = parse_nested_state(blob);
  ASSERT_TRUE(in_l1) << in_l1.error().text();
  EXPECT_FALSE(in_l1->gif);
  EXPECT_TRUE(in_l1->vmcb.empty());
}

TEST(NestedState, a_halt_in_l2_ends_where_its_hypervisor_hears_of_interrupts) {
  NestedState state{.guest_mode = true, .vmcs = empty_vmcs()};
  EXPECT_FALSE(may_leave_halt(state));
  for (const unsigned control : {0u, 6u}) {
    state.vmcs->set(F::PinBasedControls, 1ull << control);
    EXPECT_TRUE(may_leave_halt(state)) << control;
  }
  state.guest_mode = false;
  EXPECT_FALSE(may_leave_halt(state));
  NestedState svm{.format = NestedState::Format::Svm, .guest_mode = true};
  svm.vmcb.resize(4096);
  EXPECT_FALSE(may_leave_halt(svm));
  svm.vmcb[0xc] = 1;  // INTR, of the third intercept vector
  EXPECT_TRUE(may_leave_halt(svm));
}

TEST(NestedState, that_does_not_fit_is_refused) {
  std::vector<std::uint8_t> blob = vmx_blob(0, 128);
  EXPECT_FALSE(parse_nested_state(std::span(blob).first(127)));
  store(std::span(blob), 4, std::uint32_t{129});
  EXPECT_FALSE(parse_nested_state(blob));
  store(std::span(blob), 4, std::uint32_t{127});
  EXPECT_FALSE(parse_nested_state(blob));
  store(std::span(blob), 4, std::uint32_t{128});
  store(std::span(blob), 2, std::uint16_t{2});
  EXPECT_FALSE(parse_nested_state(blob));
  // The VMCS is no VMCS.
  std::vector<std::uint8_t> foreign = vmx_blob(0, 128 + 4096);
  store(std::span(foreign), 128, std::uint32_t{1});
  EXPECT_FALSE(parse_nested_state(foreign));
}

}  // namespace
}  // namespace vmm::nested
