#include "vmm/nested/vmx_denied.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/nested/vmx_entry_fake.h"

namespace vmm::nested {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// CPUID offers all four, no control is on.
struct Denied {
  Denied() {
    fake.on(VmcsField::ProcBasedControls, kActivateSecondary);
    fake.set(VmcsField::ProcBasedControls2, 0);
    fake.cpuid.at(0x80000001).edx |= 1u << 27;
    fake.cpuid.at(7).ebx |= 1u << 10;
    fake.cpuid.at(7).ecx |= 1u << 5;
    fake.cpuid.at(0xd, 1).eax |= 1u << 3;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const DeniedInstruction& denied : look()) names.emplace_back(denied.name);
    return names;
  }
  std::vector<DeniedInstruction> look() const {
    return denied_instructions(fake.entry.vmcs, fake.entry.capabilities, fake.cpuid);
  }
  FakeEntry fake;
};

TEST(DeniedInstructions, are_those_whose_control_is_0) {
  Denied d;
  EXPECT_THAT(d.names(), ElementsAre("RDTSCP", "INVPCID", "XSAVES", "TPAUSE"));
  for (const unsigned control : {3u, 12u, kEnableXsaves, 26u}) d.fake.secondary(control);
  EXPECT_THAT(d.names(), IsEmpty());
}

TEST(DeniedInstructions, are_all_of_them_while_the_secondary_controls_are_not_active) {
  Denied d;
  d.fake.set(VmcsField::ProcBasedControls2, ~0u);
  d.fake.off(VmcsField::ProcBasedControls, kActivateSecondary);
  EXPECT_EQ(d.names().size(), 4u);
}

TEST(DeniedInstructions, are_none_that_cpuid_lacks) {
  Denied d;
  d.fake.cpuid.at(0xd, 1).eax = 0;
  EXPECT_THAT(d.names(), ElementsAre("RDTSCP", "INVPCID", "TPAUSE"));
}

TEST(DeniedInstructions, say_whether_the_capability_allows_the_control) {
  Denied d;
  d.fake.cpuid = {};
  d.fake.cpuid.at(0xd, 1).eax = 1u << 3;
  EXPECT_EQ(d.look().at(0).text(),
            "XSAVES is #UD in L2: \"enable XSAVES/XRSTORS\" (SECONDARY[20]) is 0 though "
            "IA32_VMX_PROCBASED_CTLS2 (48Bh) allows it, while CPUID Dh.1.EAX[3] offers it");
  d.fake.set_msr(0x48b, 0x000378ef00000000);
  EXPECT_EQ(d.look().at(0).text(),
            "XSAVES is #UD in L2: \"enable XSAVES/XRSTORS\" (SECONDARY[20]) is 0, and "
            "IA32_VMX_PROCBASED_CTLS2 (48Bh) does not allow it, while CPUID Dh.1.EAX[3] offers it");
  EXPECT_EQ(d.look().at(0).msr_bit(), 52u);
  d.fake.entry.capabilities = {};
  EXPECT_EQ(d.look().at(0).text(),
            "XSAVES is #UD in L2: \"enable XSAVES/XRSTORS\" (SECONDARY[20]) is 0, while CPUID "
            "Dh.1.EAX[3] offers it");
}

}  // namespace
}  // namespace vmm::nested
