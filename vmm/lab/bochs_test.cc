// The configuration and the command line that the vmx lab hands to Bochs.
#include "vmm/lab/bochs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::Not;

LabSpec vmx_spec() {
  LabSpec spec;
  spec.backend = LabBackend::Vmx;
  spec.memory = 1_GiB;
  return spec;
}

TEST(BochsConfiguration, is_the_recipe) {
  EXPECT_EQ(bochs_configuration(vmx_spec(), {.disk = 7, .console = 8, .log = 9}),
            "plugin_ctrl: unmapped=1, biosdev=1, speaker=0\n"
            "display_library: term\n"
            "romimage: file=/usr/share/bochs/BIOS-bochs-latest\n"
            "vgaromimage: file=/usr/share/vgabios/vgabios.bin\n"
            "cpu: model=corei7_skylake_x, count=1, ips=100000000, reset_on_triple_fault=0, "
            "ignore_bad_msrs=1\n"
            "memory: guest=1024, host=1024\n"
            "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n"
            "ata0-master: type=disk, path=/proc/self/fd/7, mode=flat\n"
            "boot: disk\n"
            "com1: enabled=1, mode=file, dev=/proc/self/fd/8\n"
            "clock: sync=none\n"
            "pci: enabled=1, chipset=i440fx\n"
            "panic: action=fatal\n"
            "log: /proc/self/fd/9\n");
}

TEST(BochsConfiguration, takes_the_users_processors_model_and_memory) {
  LabSpec spec = vmx_spec();
  spec.cpus = 2;
  spec.cpu = "corei7_haswell_4770";
  spec.memory = 512_MiB;
  const std::string text = bochs_configuration(spec, {});
  EXPECT_THAT(text, HasSubstr("model=corei7_haswell_4770, count=2,"));
  EXPECT_THAT(text, HasSubstr("memory: guest=512, host=512\n"));
}

TEST(BochsConfiguration, listens_on_no_port) {
  const std::string text = bochs_configuration(vmx_spec(), {});
  EXPECT_THAT(text, Not(HasSubstr("rfb")));
  EXPECT_THAT(text, Not(HasSubstr("socket")));
}

TEST(BochsCommandLine, adds_the_words_for_built_in_modules) {
  EXPECT_THAT(bochs_command_line(""), HasSubstr("clearcpuid=avx512f,pku"));
  EXPECT_THAT(bochs_command_line("kvm_intel.nested=1"), testing::EndsWith(" kvm_intel.nested=1"));
}

TEST(StartBochs, refuses_what_bochs_cannot_do) {
  LabSpec large = vmx_spec();
  large.memory = 4_GiB;
  LabSpec counted = vmx_spec();
  counted.icount = true;
  for (const LabSpec& spec : {large, counted}) {
    const auto started = start_bochs(spec, {});
    ASSERT_FALSE(started.has_value());
    EXPECT_THAT(started.error().kind(),
                testing::AnyOf(ErrorKind::Usage, ErrorKind::NoLab));  // no Bochs on this machine
  }
}

}  // namespace
}  // namespace vmm
