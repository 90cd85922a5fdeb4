// Kernels by each boot protocol: what they were given, and real ones to the end of their boot.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>

#include "guest-tests/run_vmm.h"

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::Not;

class Boot : public KvmTest {};

TEST_F(Boot, multiboot2_kernels_get_every_tag_and_their_modules) {
  const TempFolder folder;
  const std::string module = folder.write("module.txt", "first line\nsecond line\n");
  for (const char* guest : {"entry-multiboot2.elf", "entry-multiboot2-elf64.elf"}) {
    const RunResult r =
        run_guest(guest, {"--append", "one two", "--module", module + " some args"});
    EXPECT_EQ(r.code, 0) << r.text();
    EXPECT_THAT(r.out, HasSubstr(std::string(guest) + " one two'"));
    EXPECT_THAT(r.out, HasSubstr("loader  'vmm'"));
    EXPECT_THAT(r.out, HasSubstr("23 bytes '" + module + " some args': first line\n"));
    EXPECT_THAT(r.out, HasSubstr("lower   639 KiB, upper 261120 KiB"));
    EXPECT_THAT(r.out, HasSubstr("rsdp    tag 15"));
    EXPECT_THAT(r.out, HasSubstr("sections "));
    EXPECT_THAT(r.out, Not(HasSubstr("FAILED")));
  }
}

TEST_F(Boot, pvh_kernels_get_the_initrd_first_and_then_their_modules) {
  const TempFolder folder;
  const std::string initrd = folder.write("initrd", "the initrd\n");
  const std::string module = folder.write("module.txt", "the module\n");
  for (const char* guest : {"entry-pvh.elf", "entry-pvh-elf64.elf"}) {
    const RunResult r = run_guest(
        guest, {"--append", "one two", "--module", module + " some args", "--initrd", initrd});
    EXPECT_EQ(r.code, 0) << r.text();
    EXPECT_THAT(r.out, HasSubstr("cmdline 'one two'"));
    EXPECT_THAT(r.out, HasSubstr("module  11 bytes '': the initrd\n"
                                 "module  11 bytes 'some args': the module\n"));
    EXPECT_THAT(r.out, Not(HasSubstr("FAILED")));
  }
}

TEST_F(Boot, what_decided_about_the_protocol_is_told) {
  const RunResult r = run_guest("entry-pvh.elf", {"--dry-run"});
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.err, HasSubstr("multiboot2: no header in the first 32768 bytes\n"
                               "vmm: multiboot1: no header in the first 8192 bytes\n"
                               "vmm: pvh: entry "));
  const RunResult forced = run_guest("entry-pvh.elf", {"--dry-run", "--boot", "elf"});
  EXPECT_THAT(forced.err, HasSubstr("(elf32)"));
}

// ---- Debian's kernel; examples/linux/fetch puts it there

class Linux : public KvmTest {
 protected:
  void SetUp() override {
    KvmTest::SetUp();
    if (IsSkipped()) return;
    if (test_lab().empty())
      GTEST_SKIP() << "this host would take many minutes for a Linux; the svm lab boots it";
    if (!std::filesystem::exists(kKernel))
      GTEST_SKIP() << kKernel << " is not there: examples/linux/fetch brings it";
  }
  // Runs `command` in the guest's shell.
  static RunResult boot(const std::string& command, std::vector<std::string> options) {
    RunSetup setup{.arguments = {"run", "--timeout", "400"},
                   .in = ChildStdin::Text,
                   .more_time = std::chrono::seconds(400)};
    auto& words = setup.arguments;
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), {"--initrd-add", kRoot + "=/", "--append",
                               "quiet run='" + command + "'", kKernel});
    return run_vmm(setup);
  }
  static void expect_userspace(const RunResult& r, unsigned processors) {
    EXPECT_EQ(r.code, 0) << r.text();
    EXPECT_THAT(r.out, HasSubstr(fmt::format(", {} processor(s), up in ", processors)));
    EXPECT_THAT(r.out, HasSubstr("run: 0"));
    // Of ACPI, as in "ACPI Error:" and "ACPI BIOS Warning (bug):".
    EXPECT_THAT(r.out, Not(HasSubstr("ACPI Error")));
    EXPECT_THAT(r.out, Not(HasSubstr("ACPI BIOS")));
  }

  static inline const std::string kRoot = LINUX_DIR "/root";
  static inline const std::string kKernel = LINUX_DIR "/vmlinuz";
};

TEST_F(Linux, reaches_userspace_by_its_64_bit_entry_and_powers_off) {
  expect_userspace(boot("dmesg | grep -i acpi", {"--smp", "2", "--irqchip", "split"}), 2);
}

TEST_F(Linux, reaches_userspace_by_pvh_on_our_own_chips) {
  const RunResult r = boot("cat /proc/interrupts", {"--boot", "pvh", "--irqchip", "user"});
  expect_userspace(r, 1);
  EXPECT_THAT(r.out, HasSubstr("ttyS0"));
}

// Each number of processors on each chip, by each entry: for tools/test --full.
TEST_F(Linux, DISABLED_reaches_userspace_in_every_shape) {
  for (const unsigned processors : {1, 2, 4})
    for (const char* chip : {"user", "split", "kernel"})
      for (const char* protocol : {"", "pvh", "linux64", "linux32"}) {
        SCOPED_TRACE(fmt::format("{} {} {}", processors, chip, protocol));
        std::vector<std::string> options = {"--smp", std::to_string(processors), "--irqchip", chip};
        if (*protocol != 0) options.insert(options.end(), {"--boot", protocol});
        expect_userspace(boot("true", options), processors);
      }
}

// The nested hypervisor's door: KVM's own module in the guest.
TEST_F(Linux, has_a_usable_dev_kvm_of_its_own_under_svm) {
  if (host_backend() != "svm") GTEST_SKIP() << "needs nested SVM";
  const std::string modules = LINUX_DIR "/modules";
  const RunResult r = boot(
      "cd /modules; for m in irqbypass kvm kvm-amd; do insmod $m.ko || exit; done; ls -l /dev/kvm; "
      "dmesg | grep kvm:",
      {"--cpu-model", "host,+svm", "--initrd-add", modules + "=/modules", "--mem", "512M"});
  expect_userspace(r, 1);
  EXPECT_THAT(r.out, HasSubstr("/dev/kvm"));
}

}  // namespace
}  // namespace vmm
