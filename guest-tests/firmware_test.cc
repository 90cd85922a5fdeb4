// UEFI firmware that nobody here wrote: Debian's OVMF, and what it starts.
#include <gmock/gmock.h>

#include <filesystem>

#include "guest-tests/run_vmm.h"

namespace vmm {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kOvmf = "/usr/share/OVMF/OVMF_CODE_4M.fd";
constexpr const char* kHello = GUEST_DIR "/uefi-hello.efi";

class Firmware : public KvmTest {
 protected:
  // kvm_pvm's emulator would unpack the firmware for minutes, and lacks the SSE that it is built
  // with.
  void SetUp() override {
    KvmTest::SetUp();
    if (IsSkipped()) return;
    if (host_backend() == "pvm")
      GTEST_SKIP() << "firmware takes many minutes there; the labs do it";
    if (!std::filesystem::exists(kOvmf)) GTEST_SKIP() << kOvmf << " is not there (package ovmf)";
  }
  static RunResult run(const std::vector<std::string>& words, unsigned seconds = 300) {
    RunSetup setup{.arguments = {"run"}, .more_time = std::chrono::seconds(seconds)};
    setup.arguments.insert(setup.arguments.end(), words.begin(), words.end());
    return run_vmm(setup);
  }
};

TEST_F(Firmware, starts_an_image_that_comes_through_fw_cfg) {
  const RunResult r = run({kHello, "--mem", "128M", "--", "some", "words"});
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.out, AllOf(HasSubstr("uefi-hello: started by "), HasSubstr("options 'some words'"),
                           HasSubstr("acpi    FACP, PM1_CNT at port b004h\r\n"),
                           HasSubstr("acpi    APIC\r\n"), HasSubstr("smbios  8 structures")));
  EXPECT_THAT(r.err, AllOf(HasSubstr("is started by /usr/share/OVMF/OVMF_CODE_4M.fd"),
                           HasSubstr("the guest powered off (port B004h)")));
}

TEST_F(Firmware, gives_a_crash_the_name_of_its_image) {
  const RunResult halt = run({guest_path("uefi-crash.efi"), "--mem", "128M", "--", "halt"});
  EXPECT_EQ(halt.code, 82) << halt.text();
  EXPECT_THAT(
      halt.err,
      ContainsRegex("halted with interrupts off at [0-9a-f]+h \\(uefi-crash\\+[0-9a-f]+h\\)"))
      << halt.err;
  const RunResult named = run({guest_path("uefi-crash.efi"), "--mem", "128M", "--symbols",
                               guest_path("uefi-crash.elf"), "--", "halt"});
  EXPECT_EQ(named.code, 82) << named.text();
  EXPECT_THAT(named.err, HasSubstr("((anonymous namespace)::stops_for_good+"));
}

// The run ends with the timer in the middle of the firmware's first start, which makes its
// variables; what is in the file then is what the next start has to live with.
TEST_F(Firmware, lives_with_a_store_that_lost_its_power) {
  const TempFolder folder;
  const std::string store = read_text_file("/usr/share/OVMF/OVMF_VARS_4M.fd");
  const std::string path = folder.write("vars.fd", store);
  const std::vector<std::string> words = {kHello, "--mem", "128M", "--vars", path};
  bool cut = false;
  for (const char* seconds : {"2", "3", "4", "5", "6"}) {
    std::vector<std::string> limited = words;
    limited.insert(limited.end(), {"--timeout", seconds});
    const RunResult r = run(limited);
    EXPECT_THAT(r.code, AnyOf(0, 124)) << r.text();
    if (r.code == 124 && read_text_file(path) != store) cut = true;
  }
  // Where a rewrite was cut off the firmware repeats it: half a million exits, some minutes of a
  // lab.
  const RunResult r = run(words, 1200);
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.out, HasSubstr("uefi-hello: started by "));
  if (!cut)
    GTEST_SKIP() << "no run ended while the store was being written: the host is too fast or slow";
}

class SeaBios : public KvmTest {};

// Real mode and 32 bits without SSE, which every host's KVM runs.
TEST_F(SeaBios, starts_a_boot_sector) {
  constexpr const char* kSeaBios = "/usr/share/seabios/bios-256k.bin";
  if (!std::filesystem::exists(kSeaBios)) GTEST_SKIP() << kSeaBios << " is not there (seabios)";
  // mov si, 7C14h; mov dx, 3F8h; lodsb; test al, al; jz 7C0Eh; out dx, al; jmp 7C06h; mov al, 5;
  // out F4h, al; hlt
  std::string disk = {'\xbe', '\x14', '\x7c', '\xba', '\xf8', '\x03', '\xac',
                      '\x84', '\xc0', '\x74', '\x03', '\xee', '\xeb', '\xf8',
                      '\xb0', '\x05', '\xe6', '\xf4', '\xf4', '\x00'};
  disk += "boot sector";
  disk.resize(1 << 20);
  disk[510] = '\x55';
  disk[511] = '\xaa';
  // Its words may be cut in two: SeaBIOS writes what it has left of its own by its timer.
  const TempFolder folder;
  const std::string path = folder.write("disk.img", disk);
  const RunResult r =
      run_vmm({.arguments = {"run", "--firmware", kSeaBios, "--disk", "raw:" + path},
               .more_time = std::chrono::seconds(60)});
  EXPECT_EQ(r.code, 5) << r.text();
  EXPECT_THAT(r.out, AllOf(HasSubstr("SeaBIOS (version"), HasSubstr(" sector")));
}

// No firmware runs for these.
class FirmwareRefusals : public KvmTest {};

TEST_F(FirmwareRefusals, what_firmware_cannot_start_is_refused_at_once) {
  const RunResult elf = run_guest("hello.elf", {"--firmware", kOvmf});
  EXPECT_EQ(elf.code, 65) << elf.text();
  EXPECT_THAT(elf.err, AllOf(HasSubstr("hello.elf: no UEFI image"), HasSubstr("an ELF")));
  const RunResult module = run_guest("uefi-hello.efi", {"--module", "/etc/hostname"});
  EXPECT_EQ(module.code, 64) << module.text();
  const RunResult boot = run_guest("uefi-hello.efi", {"--boot", "elf"});
  EXPECT_EQ(boot.code, 64) << boot.text();
}

TEST_F(FirmwareRefusals, files_that_are_no_firmware_are_refused_with_the_right_one) {
  for (const char* file :
       {"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"}) {
    const RunResult r = run_guest("uefi-hello.efi", {"--firmware", file});
    EXPECT_EQ(r.code, 65) << r.text();
    EXPECT_THAT(r.err, HasSubstr("OVMF_CODE")) << file;
  }
}

TEST_F(FirmwareRefusals, without_kernel_and_firmware_there_is_nothing_to_run) {
  const RunResult r = run_vmm({.arguments = {"run"}});
  EXPECT_EQ(r.code, 64) << r.text();
  EXPECT_THAT(r.err, HasSubstr("no KERNEL was given"));
}

}  // namespace
}  // namespace vmm
