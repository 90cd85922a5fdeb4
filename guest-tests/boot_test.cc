// Kernels by each boot protocol: what they were given, and real ones to the end of their boot.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "guest-tests/run_vmm.h"
#include "vmm/base/sha256.h"

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

// ---- kernels that nobody here wrote; tools/fetch-guests puts them there

class Fetched : public KvmTest {
 protected:
  // Skips unless `file` is there and the host runs ring 0 at more than an emulator's speed.
  static void need(const std::string& file) {
    if (host_backend() == "pvm")
      GTEST_SKIP()
          << "kvm_pvm's emulator takes many minutes and lacks instructions; the labs do it";
    if (!std::filesystem::exists(file))
      GTEST_SKIP() << file << " is not there: tools/fetch-guests brings it";
  }
  static RunResult run(const std::vector<std::string>& words) {
    RunSetup setup{.arguments = {"run"}, .more_time = std::chrono::seconds(400)};
    setup.arguments.insert(setup.arguments.end(), words.begin(), words.end());
    return run_vmm(setup);
  }
};

class Linux : public Fetched {
 protected:
  void SetUp() override {
    Fetched::SetUp();
    if (!IsSkipped()) need(kKernel);
  }
  // Runs `command` in the guest's shell; `words` go to the kernel.
  static RunResult boot(const std::string& command, std::vector<std::string> options,
                        const std::string& words = {}) {
    options.insert(options.end(), {"--timeout", "400", "--initrd-add", kRoot + "=/", "--append",
                                   "quiet run='" + command + "' " + words, kKernel});
    return run(options);
  }
  static void expect_userspace(const RunResult& r, unsigned processors) {
    EXPECT_EQ(r.code, 0) << r.text();
    EXPECT_THAT(r.out, HasSubstr(fmt::format(", {} processor(s), up in ", processors)));
    EXPECT_THAT(r.out, HasSubstr("run: 0"));
    // Of ACPI, as in "ACPI Error:" and "ACPI BIOS Warning (bug):".
    EXPECT_THAT(r.out, Not(HasSubstr("ACPI Error")));
    EXPECT_THAT(r.out, Not(HasSubstr("ACPI BIOS")));
  }

  static inline const std::string kRoot = FETCHED_DIR "/linux/root";
  static inline const std::string kKernel = FETCHED_DIR "/linux/vmlinuz";
};

TEST_F(Linux, reaches_userspace_by_its_64_bit_entry_and_powers_off) {
  expect_userspace(boot("dmesg | grep -i acpi", {"--smp", "2", "--irqchip", "split"}), 2);
}

TEST_F(Linux, reaches_userspace_by_pvh_on_our_own_chips) {
  const RunResult r = boot("cat /proc/interrupts", {"--boot", "pvh", "--irqchip", "user"});
  expect_userspace(r, 1);
  EXPECT_THAT(r.out, HasSubstr("ttyS0"));
}

// Writes a disk, reads it back and a shared directory, by Linux's drivers: with messages, or with
// one line for both and the legacy registers.
TEST_F(Linux, uses_a_disk_and_a_shared_directory) {
  const std::string modules = FETCHED_DIR "/linux/disk-modules";
  if (!std::filesystem::exists(modules))
    GTEST_SKIP() << modules << " is not there: tools/fetch-guests brings it";
  const TempFolder folder, shared;
  shared.write("a name of more than 8.3", std::string(300'000, 'x'));
  const std::string script = folder.write(
      "io.sh",
      "set -e\n"
      "for m in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev; do\n"
      "  insmod /modules/$m.ko; done\n"
      "grep -q legacy /proc/cmdline && p=force_legacy=1\n"
      "insmod /modules/virtio_pci.ko $p\n"
      "for m in virtio_blk fat vfat nls_cp437 nls_ascii; do insmod /modules/$m.ko; done\n"
      "dd if=/dev/urandom of=/random bs=64k count=40 2>/dev/null\n"
      "dd if=/random of=/dev/vda bs=64k conv=fsync 2>/dev/null\n"
      "echo 3 > /proc/sys/vm/drop_caches\n"
      "dd if=/dev/vda of=/back bs=64k count=40 2>/dev/null\n"
      "cmp /random /back && echo equal\n"
      "sha256sum /random\n"
      "mkdir /mnt && mount -t vfat -o ro /dev/vdb1 /mnt\n"
      "wc -c /mnt/*\n"
      "[ $(tr -d x < /mnt/* | wc -c) = 0 ] && echo whole\n"
      "grep virtio /proc/interrupts\n");
  const std::string image = folder.file("disk.img");
  for (const auto& [chip, words, interrupts] :
       {std::tuple<const char*, const char*, const char*>{"user", "", "PCI-MSI"},
        {"split", "", "PCI-MSI"},
        {"split", "pci=nomsi legacy", "virtio0, virtio1"},
        {"kernel", "pci=nomsi", "virtio0, virtio1"}}) {
    SCOPED_TRACE(fmt::format("{} {}", chip, words));
    folder.write("disk.img", std::string(40 * 64 * 1024, '\0'));
    const RunResult r = boot("sh /io.sh",
                             {"--irqchip", chip, "--cpu-policy", "mask", "--disk", "raw:" + image,
                              "--share", shared.file("."), "--initrd-add", modules + "=/modules",
                              "--initrd-add", script + "=/io.sh"},
                             words);
    expect_userspace(r, 1);
    EXPECT_THAT(r.out, HasSubstr("equal"));
    EXPECT_THAT(r.out, HasSubstr("300000 /mnt/a name of more than 8.3"));
    EXPECT_THAT(r.out, HasSubstr("whole"));
    EXPECT_THAT(r.out, HasSubstr(interrupts));
    // What the guest wrote has come back from the lab.
    EXPECT_THAT(r.out, HasSubstr(sha256_hex(read_text_file(image))));
  }
}

// Each number of processors on each chip, by each entry: for tools/test --full.
TEST_F(Linux, DISABLED_reaches_userspace_in_every_shape) {
  for (const unsigned processors : {1u, 2u, 4u})
    for (const char* chip : {"user", "split", "kernel"})
      for (const char* protocol : {"", "pvh", "linux64", "linux32"}) {
        SCOPED_TRACE(fmt::format("{} {} {}", processors, chip, protocol));
        std::vector<std::string> options = {"--smp", std::to_string(processors), "--irqchip", chip};
        if (*protocol != 0) options.insert(options.end(), {"--boot", protocol});
        expect_userspace(boot("true", options), processors);
      }
}

// The nested hypervisor's door: KVM's own module in the guest. Part of what the next test does as
// well.
TEST_F(Linux, DISABLED_has_a_usable_dev_kvm_of_its_own_under_svm) {
  if (host_backend() != "svm") GTEST_SKIP() << "needs nested SVM";
  const std::string modules = FETCHED_DIR "/linux/modules";
  const RunResult r = boot(
      "cd /modules; for m in irqbypass kvm kvm-amd; do insmod $m.ko || exit; done; ls -l /dev/kvm; "
      "dmesg | grep kvm:",
      {"--cpu-model", "host,+svm", "--initrd-add", modules + "=/modules", "--mem", "512M"});
  expect_userspace(r, 1);
  EXPECT_THAT(r.out, HasSubstr("/dev/kvm"));
}

// examples/vmm-in-vmm: our own monitor on that door.
TEST_F(Linux, runs_vmm_in_it_which_boots_a_kernel_under_svm) {
  if (host_backend() != "svm") GTEST_SKIP() << "needs nested SVM";
  const std::string root = FETCHED_DIR "/linux/vmm-root";
  need(root);
  if (IsSkipped()) return;
  const RunResult r = boot(
      "sh /hello.sh", {"--cpu-model", "host,+svm", "--initrd-add", root + "=/", "--mem", "512M"});
  expect_userspace(r, 1);
  EXPECT_THAT(r.out, HasSubstr("/guests/hello.elf (elf64) on host"));
  EXPECT_THAT(r.out, HasSubstr("Hello from AuthenticAMD!"));
  EXPECT_THAT(r.out, HasSubstr("(exit 0)"));
}

// Machines paused, saved, loaded and reset on a real kvm_amd: what needs another program than vmm
// in the lab. tools/test --full packs it.
TEST_F(Linux, DISABLED_runs_the_tests_of_a_machines_state_under_svm) {
  if (host_backend() != "svm") GTEST_SKIP() << "needs nested SVM";
  const std::string root = FETCHED_DIR "/linux/vmm-root";
  need(root + "/machine_state_test");
  if (IsSkipped()) return;
  const RunResult r =
      boot("cd /; . /kvm.sh; VMM_GUESTS=/guests /machine_state_test --gtest_brief=1",
           {"--cpu-model", "host,+svm", "--initrd-add", root + "=/", "--mem", "1G"});
  expect_userspace(r, 1);
}

// examples/linux-hypervisor-module goes under a Linux that runs.
class LinuxModule : public Linux {
 protected:
  void SetUp() override {
    Linux::SetUp();
    if (!IsSkipped()) need(kModule);
  }
  static RunResult load(const std::string& model, unsigned processors,
                        const std::string& words = {}) {
    const TempFolder folder;
    const std::string script = folder.write("load.sh",
                                            "insmod /hypervisor.ko || exit\n"
                                            "for i in 1 2 3 4; do sh -c 'echo $((6 * 7))' & done\n"
                                            "wait\n"
                                            "rmmod hypervisor || exit\n"
                                            "dmesg | grep hypervisor:\n");
    return boot("sh /load.sh",
                {"--smp", std::to_string(processors), "--cpu-model", model, "--cpu-policy", "mask",
                 "--initrd-add", script + "=/load.sh", "--initrd-add", kModule + "=/hypervisor.ko"},
                words);
  }

  static inline const std::string kModule = FETCHED_DIR "/linux/hypervisor/hypervisor.ko";
};

// In the vmx lab one processor: two of them soon wait for each other with interrupts off, which
// makes it silent (docs/lab.md). And without AVX, of which XSAVES loses half there.
TEST_F(LinuxModule, virtualizes_every_processor_and_lets_them_go) {
  const unsigned processors = host_backend() == "vmx" ? 1 : 2;
  const RunResult r =
      load(host_backend() == "vmx" ? "skylake-client@4,+vmx,-avx" : "epyc,+svm", processors);
  expect_userspace(r, processors);
  for (unsigned cpu = 0; cpu < processors; ++cpu)
    EXPECT_THAT(r.out,
                HasSubstr(fmt::format("CPU {} runs as L2: the hypercall answers 0x6c32", cpu)));
  EXPECT_THAT(r.out, HasSubstr("42\r\n"));
  EXPECT_THAT(r.out, HasSubstr(fmt::format("{} CPUs run on their own again", processors)));
}

// The first of the two stories (docs/nested.md).
TEST_F(LinuxModule, that_lacks_the_control_for_xsaves_panics_and_the_card_says_why) {
  if (host_backend() != "vmx") GTEST_SKIP() << "needs nested VMX";
  const RunResult r = load("skylake-client@3,+xsaves,+vmx", 1, "panic=-1 loglevel=0");
  EXPECT_EQ(r.code, 83) << r.text();
  EXPECT_THAT(r.err, HasSubstr("skylake-client@3: xsaves without vmx-xsaves"));
  const std::string err = r.unwrapped_err();
  EXPECT_THAT(err, HasSubstr("XSAVES is #UD in L2"));
  EXPECT_THAT(err, HasSubstr("@1 to @3 of skylake-client lack it, @4 has it"));
}

class Xen : public Fetched, public testing::WithParamInterface<const char*> {};

TEST_P(Xen, reaches_the_userspace_of_its_dom0_and_powers_off) {
  const std::string directory = FETCHED_DIR "/xen";
  need(directory + "/dom0.cpio");
  if (IsSkipped()) return;
  // With these two a dom0 of TCG's processor dies of a page fault, under QEMU as well.
  const RunResult r = run({"--timeout", "400", "--cpu-model", "host,-smap,-smep", "--mem", "768M",
                           "--boot", GetParam(), directory + "/xen.gz", "--append",
                           "console=com1 com1=115200,8n1 loglvl=all dom0_mem=400M", "--module",
                           directory + "/vmlinuz console=hvc0 quiet run='uname -a'", "--module",
                           directory + "/dom0.cpio"});
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.out, HasSubstr("(XEN) Bootloader: vmm"));
  EXPECT_THAT(r.out, HasSubstr("*** Building a PV Dom0 ***"));
  EXPECT_THAT(r.out, HasSubstr("processor(s), up in "));
  EXPECT_THAT(r.out, HasSubstr("run: 0"));
  EXPECT_THAT(r.out, HasSubstr("(XEN) Entering ACPI S5 state."));
  // What it says about the platform where a table is wrong or a timer fails.
  for (const char* complaint : {"mismatch in FADT", "BIOS bug", "IO-APIC + timer doesn't work",
                                "BIOS does not setup all CPUs", "ACPI Error"})
    EXPECT_THAT(r.out, Not(HasSubstr(complaint)));
  // 0 for where it was linked.
  const bool moved = r.out.find("Xen image load base address: 0x") != std::string::npos;
  EXPECT_EQ(moved, std::string(GetParam()) == "multiboot2") << r.text();
}

INSTANTIATE_TEST_SUITE_P(Each, Xen, testing::Values("multiboot1", "multiboot2"),
                         [](const auto& each) { return std::string(each.param); });

class Memtest : public Fetched {};

TEST_F(Memtest, shows_its_screen_as_text_and_as_a_picture) {
  const std::string image = FETCHED_DIR "/memtest/memtest.bin";
  need(image);
  if (IsSkipped()) return;
  const RunResult text = run({"--mem", "32M", "--vga", "text", "--timeout", "25", image});
  EXPECT_EQ(text.code, 124) << text.text();
  EXPECT_THAT(text.err, HasSubstr("Memtest86+ v6"));
  EXPECT_THAT(text.err, HasSubstr("Test #"));
  const std::string picture = FETCHED_DIR "/memtest/screen.png";
  std::filesystem::remove(picture);
  const RunResult png = run({"--mem", "32M", "--vga", "png:" + picture, "--timeout", "5", image});
  EXPECT_EQ(png.code, 124) << png.text();
  EXPECT_TRUE(read_text_file(picture).starts_with("\x89PNG"));
}

}  // namespace
}  // namespace vmm
