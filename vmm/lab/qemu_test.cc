#include "vmm/lab/qemu.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "vmm/lab/backends.h"

namespace vmm {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += word + "\n";
  return text;
}

constexpr QemuDescriptors kDescriptors = {.kernel = 5, .initramfs = 6, .channel = 7, .console = 8};

TEST(QemuArguments, of_the_default_lab) {
  EXPECT_EQ(joined(qemu_arguments({}, kDescriptors, 2500000, "")),
            "qemu-system-x86_64\n-no-user-config\n-nodefaults\n-no-reboot\n-display\nnone\n"
            "-accel\ntcg,thread=multi\n-machine\nq35,hpet=off,smbus=off,sata=off,usb=off\n"
            "-cpu\nmax,+svm,+npt\n-smp\n1\n-m\n2048M\n"
            "-kernel\n/proc/self/fd/5\n-initrd\n/proc/self/fd/6\n-append\n"
            "console=ttyS0 panic=-1 quiet cryptomgr.notests nokaslr mitigations=off tsc=reliable "
            "tsc_early_khz=2500000 pmtmr=0 no_timer_check 8250.nr_uarts=1\n"
            "-chardev\nfile,id=console,path=/proc/self/fd/8\n-serial\nchardev:console\n"
            "-device\nvirtio-serial-pci,max_ports=2\n-chardev\nsocket,id=channel,fd=7\n"
            "-device\nvirtserialport,chardev=channel,name=org.vmm.lab\n");
}

TEST(QemuArguments, follow_the_spec) {
  const LabSpec spec = {.backend = LabBackend::Svm,
                        .cpus = 2,
                        .memory = 512_MiB,
                        .cpu = "EPYC,+svm",
                        .icount = true,
                        .kernel = {},
                        .modules = {},
                        .kvm_params = {},
                        .fresh = false,
                        .log_dir = {}};
  const std::string text =
      joined(qemu_arguments(spec, kDescriptors, 2500000, "kvm.x=1 kvm_amd.npt=0"));
  EXPECT_THAT(text, HasSubstr("-cpu\nEPYC,+svm\n-smp\n2\n-m\n512M\n-icount\nshift=5\n"));
  EXPECT_THAT(text, HasSubstr("-accel\ntcg,thread=single\n"));
  EXPECT_THAT(text, HasSubstr(" kvm.x=1 kvm_amd.npt=0\n-chardev\n"));
}

TEST(QemuArguments, of_a_lab_that_is_saved_and_of_one_that_is_loaded) {
  QemuDescriptors descriptors = kDescriptors;
  descriptors.monitor = 9;
  EXPECT_THAT(joined(qemu_arguments({}, descriptors, 2500000, "")),
              testing::EndsWith("name=org.vmm.lab\n-chardev\nsocket,id=monitor,fd=9\n-mon\n"
                                "chardev=monitor,mode=control\n"));
  descriptors.monitor = -1;
  descriptors.state = 10;
  EXPECT_THAT(joined(qemu_arguments({}, descriptors, 2500000, "")),
              testing::EndsWith("name=org.vmm.lab\n-incoming\nfd:10\n"));
}

// A PATH of our own with a fake emulator in it.
class QemuFake : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing::TempDir() + "qemuXXXXXX";
    ASSERT_NE(::mkdtemp(directory_.data()), nullptr);
    path_ = ::getenv("PATH");
    ::setenv("PATH", (directory_ + ":" + path_).c_str(), 1);
  }
  void TearDown() override {
    ::setenv("PATH", path_.c_str(), 1);
    fs::remove_all(directory_);
  }
  void put(const std::string& script) {
    const std::string file = directory_ + "/" + kQemuProgram;
    std::ofstream(file) << "#!/bin/sh\n" << script << "\n";
    fs::permissions(file, fs::perms::owner_all);
  }
  static LabImage image() {
    LabImage image;
    image.kernel = Fd::open("/dev/zero", O_RDONLY).value();
    image.initramfs = Fd::open("/dev/zero", O_RDONLY).value();
    return image;
  }
  static std::string wait_for_death(Emulator& emulator) {
    for (int i = 0; i < 6000; ++i) {
      if (auto text = emulator.death()) return *text;
      ::usleep(10'000);
    }
    return "it still lives";
  }
  std::string directory_;
  std::string path_;
};

TEST_F(QemuFake, an_assertion_is_quoted) {
  put("echo 'ERROR:accel/tcg: assertion failed' >&2; kill -ABRT $$");
  auto emulator = start_qemu({}, image(), {});
  ASSERT_TRUE(emulator) << emulator.error().text();
  const std::string text = wait_for_death(**emulator);
  EXPECT_THAT(text, testing::StartsWith("qemu-system-x86_64 (PID "));
  EXPECT_THAT(text, HasSubstr(") was ended by SIGABRT; its last lines: ERROR:accel/tcg: assertion "
                              "failed"));
}

TEST_F(QemuFake, the_channel_and_the_console_reach_the_lab) {
  // $10 and so on are beyond a portable shell: the words are searched for their descriptors.
  put("for word in \"$@\"; do case $word in\n"
      "  socket,id=channel,fd=*) channel=${word##*=};;\n"
      "  file,id=console,path=*) console=${word##*=};;\n"
      "esac; done\n"
      "echo 'Kernel panic' > $console\n"
      "eval \"echo hello >&$channel\"; eval \"read line <&$channel\"; echo got $line; exit 4");
  const std::string logs = directory_ + "/logs";
  LabSpec spec;
  spec.log_dir = logs;
  auto emulator = start_qemu(spec, image(), {});
  ASSERT_TRUE(emulator) << emulator.error().text();
  std::string heard;
  for (int i = 0; i < 6000 && heard.empty(); ++i) {
    char buffer[16];
    const ssize_t count = ::read((*emulator)->channel().get(), buffer, sizeof buffer);
    if (count > 0) heard.assign(buffer, static_cast<std::size_t>(count));
    if (count < 0) {
      EXPECT_EQ(errno, EAGAIN);
    }
    ::usleep(10'000);
  }
  EXPECT_EQ(heard, "hello\n");
  EXPECT_EQ((*emulator)->console_tail(), "Kernel panic");
  EXPECT_EQ(::write((*emulator)->channel().get(), "ping\n", 5), 5);
  EXPECT_THAT(wait_for_death(**emulator),
              HasSubstr(") exited with 4; its last lines: got ping; the lab's console ended with: "
                        "Kernel panic"));
  EXPECT_EQ(read_first_line(logs + "/console.log"), "Kernel panic");
  EXPECT_EQ(read_first_line(logs + "/qemu.log"), "got ping");
  EXPECT_THAT(read_first_line(logs + "/qemu-command").value_or(""),
              HasSubstr(" -append 'console=ttyS0 panic=-1 quiet "));
}

TEST_F(QemuFake, a_missing_emulator_comes_with_the_apt_command) {
  ::setenv("PATH", directory_.c_str(), 1);
  const auto emulator = start_qemu({}, image(), {});
  ASSERT_FALSE(emulator);
  EXPECT_EQ(emulator.error().kind(), ErrorKind::NoLab);
  EXPECT_THAT(emulator.error().text(), HasSubstr("qemu-system-x86_64"));
  EXPECT_THAT(emulator.error().hint_text(), testing::StartsWith("apt-get install qemu-system-x86"));
  EXPECT_THAT(backend_list(), HasSubstr("missing: qemu-system-x86_64"));
}

TEST(Backends, have_names) {
  EXPECT_EQ(parse_backend("SVM").value(), LabBackend::Svm);
  EXPECT_EQ(parse_backend("vmx").value(), LabBackend::Vmx);
  EXPECT_FALSE(parse_backend("kvm"));
}

}  // namespace
}  // namespace vmm
