// The machine on the real /dev/kvm: every set-up ioctl failing in turn, the walker against
// KVM_TRANSLATE. Skipped, with the reason, where there is no /dev/kvm.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <string>

#include "vmm/base/fault.h"
#include "vmm/core/page_walk.h"
#include "vmm/machine/host_probe.h"
#include "vmm/machine/machine.h"

namespace vmm {
namespace {

class MachineKvm : public testing::Test {
 protected:
  void SetUp() override {
    if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "no access to /dev/kvm";
    spec_.serial.kind = SerialKind::Null;
    spec_.memory = 16_MiB;
    spec_.boot.protocol = "flat";
    image_ = *parse_image("test.bin", {0xe6, 0xf4, 0xf4}, spec_.boot);  // out 0xf4, al; hlt
  }
  void TearDown() override { set_faults({}); }

  // Everything from opening /dev/kvm to the machine before its first instruction.
  Result<void> create() {
    const Kvm kvm = VMM_TRY(Kvm::open());
    const HostGrant host = VMM_TRY(read_host_grant(kvm));
    ResolvedCpu cpu = VMM_TRY(resolve_cpu(spec_.cpu_model, spec_.cpu_policy, spec_.topology, host));
    const IrqChipChoice irqchip = VMM_TRY(choose_irqchip(spec_.irqchip, cpu));
    VMM_TRY(Machine::create(kvm, spec_, cpu, host, irqchip, image_));
    return {};
  }

  void expect_each_to_be_named(std::initializer_list<const char*> ioctls) {
    ASSERT_TRUE(create()) << create().error().text();
    for (const char* name : ioctls) {
      set_faults({{name, EIO, 1}});
      const auto result = create();
      ASSERT_FALSE(result) << name;
      EXPECT_NE(result.error().text().find(name), std::string::npos) << result.error().text();
      EXPECT_NE(result.error().text().find("EIO"), std::string::npos) << result.error().text();
      EXPECT_EQ(result.error().kind(), ErrorKind::Host) << name;
      set_faults({});
    }
  }

  MachineSpec spec_;
  LoadedImage image_;
};

TEST_F(MachineKvm, each_set_up_ioctl_that_fails_is_named_and_nothing_else_happens) {
  spec_.irqchip = IrqChipKind::Kernel;
  expect_each_to_be_named({"KVM_GET_API_VERSION",
                           "KVM_GET_VCPU_MMAP_SIZE",
                           "KVM_GET_SUPPORTED_CPUID",
                           "KVM_GET_MSR_FEATURE_INDEX_LIST",
                           "KVM_CHECK_EXTENSION",
                           "KVM_CREATE_VM",
                           "KVM_SET_IDENTITY_MAP_ADDR",
                           "KVM_SET_TSS_ADDR",
                           "KVM_ENABLE_CAP",
                           "KVM_CREATE_IRQCHIP",
                           "KVM_CREATE_PIT2",
                           "KVM_SET_USER_MEMORY_REGION",
                           "KVM_CREATE_VCPU",
                           "KVM_SET_CPUID2",
                           "KVM_GET_CPUID2",
                           "KVM_GET_REGS",
                           "KVM_GET_SREGS",
                           "KVM_GET_DEBUGREGS",
                           "KVM_GET_VCPU_EVENTS",
                           "KVM_GET_MP_STATE",
                           "KVM_SET_SREGS",
                           "KVM_SET_REGS",
                           "KVM_SET_DEBUGREGS",
                           "KVM_SET_VCPU_EVENTS",
                           "KVM_SET_MP_STATE",
                           "KVM_GET_MSR_INDEX_LIST",
                           "KVM_GET_XCRS",
                           "KVM_GET_LAPIC",
                           "KVM_GET_CLOCK",
                           "KVM_GET_IRQCHIP",
                           "KVM_GET_PIT2",
                           "KVM_GET_TSC_KHZ"});
  spec_.irqchip = IrqChipKind::Split;
  expect_each_to_be_named({"KVM_ENABLE_CAP", "KVM_CREATE_VCPU"});
  spec_.irqchip = IrqChipKind::User;
  spec_.cpu_policy = CpuPolicy::Mask;
  expect_each_to_be_named({"KVM_ENABLE_CAP", "KVM_SET_SREGS"});
  const Kvm kvm = *Kvm::open();
  if (kvm.supported_cpuid()->bit(1, 0, CpuidReg::Ecx, 24))
    expect_each_to_be_named({"KVM_GET_TSC_KHZ", "KVM_X86_SET_MSR_FILTER", "KVM_RUN"});
}

// Whichever question it is: none of them may come to "absent" because the call failed.
TEST_F(MachineKvm, each_capability_that_cannot_be_asked_for_is_named) {
  std::set<std::string> named;
  Result<void> result;
  for (unsigned nth = 1; nth < 100; ++nth) {
    set_faults({{"KVM_CHECK_EXTENSION", ENOMEM, nth}});
    result = create();
    if (result) break;
    const std::string text = result.error().text();
    EXPECT_EQ(result.error().kind(), ErrorKind::Host) << text;
    const std::size_t at = text.find("KVM_CHECK_EXTENSION: ENOMEM (KVM_CAP_");
    ASSERT_NE(at, std::string::npos) << text;
    named.insert(text.substr(at, text.find(')', at) - at));
  }
  EXPECT_TRUE(result) << "there is an end to the questions";
  EXPECT_GE(named.size(), 7u);
}

TEST_F(MachineKvm, an_interrupted_create_vm_is_tried_again) {
  set_faults({{"KVM_CREATE_VM", EINTR, 1}});
  EXPECT_TRUE(create());
}

TEST_F(MachineKvm, a_supported_cpuid_that_is_too_long_is_asked_for_again) {
  set_faults({{"KVM_GET_SUPPORTED_CPUID", E2BIG, 1}});
  EXPECT_TRUE(create());
}

// Tables in guest memory, the same question to KVM's walker and to ours.
TEST_F(MachineKvm, the_walker_agrees_with_kvm_translate) {
  const Kvm kvm = *Kvm::open();
  GuestMemory memory = *GuestMemory::create(16_MiB);
  const auto vm = *Vm::create(kvm, IrqChipKind::Kernel);
  ASSERT_TRUE(vm->map(memory));
  const auto vcpu = *vm->create_vcpu(0);
  const CpuidTable cpuid = *kvm.supported_cpuid();
  ASSERT_TRUE(vcpu->set_cpuid(cpuid));
  const auto put = [&memory](Gpa gpa, std::uint64_t entry) {
    std::array<std::uint8_t, 8> raw;
    store(std::span<std::uint8_t>(raw), 0, entry);
    ASSERT_TRUE(memory.write(gpa, raw));
  };
  // PML4 at 10000h: [0] -> PDPT, [1] absent, [2] -> outside RAM, [511] -> itself.
  put(0x10000, 0x11000 | 7);
  put(0x10010, 0xf0000000 | 7);
  put(0x10ff8, 0x10000 | 3);
  put(0x11000, 0x12000 | 7);       // PDPT[0] -> PD
  put(0x12000, 0x000000 | 0x83);   // PD[0]: 2 MiB page
  put(0x12008, 0x13000 | 3);       // PD[1] -> PT
  put(0x12010, 0x202000 | 0x83);   // PD[2]: 2 MiB page with a reserved bit (13)
  put(0x13000, 0x5000 | 3);        // PT[0]
  put(0x13008, 0x6000);            // PT[1]: not present
  put(0x13010, 0x7000 | 1);        // PT[2]: read-only
  put(0x13018, (1ull << 51) | 3);  // PT[3]: beyond MAXPHYADDR
  CpuState state = *vcpu->state();
  state.sregs.cr3 = 0x10000;
  state.sregs.cr4 = spec::CR4_PAE;
  state.sregs.efer = spec::EFER_LME | spec::EFER_LMA;
  state.sregs.cr0 = spec::CR0_PE | spec::CR0_PG | spec::CR0_ET;
  state.sregs.cs.l = 1;
  state.sregs.cs.db = 0;
  state.sregs.cs.type = 11;
  ASSERT_TRUE(vcpu->set_state(state));
  const PagingContext context = PagingContext::from(state, PagingFeatures::from(cpuid));
  for (const Gva gva :
       {0x0ull, 0x1234ull, 0x1fffffull, 0x200000ull, 0x200abcull, 0x201000ull, 0x202000ull,
        0x203000ull, 0x204000ull, 0x400000ull, 0x600000ull, 0x40000000ull, 0x8000000000ull,
        0x10000000000ull, 0xffffff8000000000ull, 0xfffffffffffff000ull}) {
    const Walk ours = walk_page(memory, context, gva, PageAccess{});
    const auto kvms = vcpu->translate(gva);
    ASSERT_TRUE(kvms) << kvms.error().text();
    EXPECT_EQ(ours.gpa, *kvms) << std::hex << gva
                               << (ours.failure ? ": " + ours.failure->text : "");
  }
}

}  // namespace
}  // namespace vmm
