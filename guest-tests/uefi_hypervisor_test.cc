// examples/uefi-hypervisor under Debian's OVMF: on every number of processors, as an application
// and as a driver, and Linux under it. And its decoder of stores to the APIC, which needs no
// machine.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "examples/uefi-hypervisor/apic_store.h"
#include "guest-tests/nested.h"
#include "loader/newc.h"

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kFirmware = "/usr/share/OVMF/OVMF_CODE_4M.fd";

// What a terminal shows of it: no escape sequences, no carriage returns.
std::string plain(const std::string& console) {
  std::string text;
  for (std::size_t i = 0; i < console.size(); ++i) {
    if (console[i] == '\x1b' && i + 1 < console.size() && console[i + 1] == '[') {
      i += 2;
      while (i < console.size() && (console[i] < '@' || console[i] > '~')) ++i;
    } else if (console[i] != '\r') {
      text += console[i];
    }
  }
  return text;
}

class UefiHypervisor : public Nested {
 protected:
  void SetUp() override {
    Nested::SetUp();
    if (!IsSkipped() && ::access(kFirmware, R_OK) != 0)
      GTEST_SKIP() << kFirmware << " is not there: apt-get install ovmf";
  }

  // A run takes a minute or two on an idle machine, and several where it is busy.
  static RunResult run(const std::vector<std::string>& words, std::string model = {}) {
    if (model.empty()) model = host_backend() == "vmx" ? "skylake-server,+vmx" : "epyc,+svm";
    RunSetup setup;
    setup.arguments = {"run",         "-q",  "--firmware",   kFirmware,
                       "--cpu-model", model, "--cpu-policy", "mask"};
    setup.arguments.insert(setup.arguments.end(), words.begin(), words.end());
    setup.more_time = std::chrono::seconds{1140};
    return run_vmm(std::move(setup));
  }

  static void expect_virtualized(const std::string& text, unsigned processors, const char* kind) {
    EXPECT_THAT(text, HasSubstr(fmt::format("efi-hypervisor: {} processor{}, {}, started as {}\n",
                                            processors, processors == 1 ? "" : "s",
                                            host_backend() == "vmx" ? "VT-x" : "SVM", kind)));
    EXPECT_THAT(text, HasSubstr(fmt::format("efi-hypervisor: {} of {} processors virtualized\n",
                                            processors, processors)));
    // OVMF's processors sleep in HLT, so that it starts each with one INIT; the first of its two
    // SIPIs does it.
    for (unsigned round = 1; round <= 2 && processors > 1; ++round)
      EXPECT_THAT(text, HasSubstr(fmt::format("efi-hypervisor: {0} of {0} other processors started "
                                              "again under it, INIT {1}, SIPI {1}\n",
                                              processors - 1, round * (processors - 1))));
  }

  static void expect_resident(unsigned processors, const std::string& chip) {
    SCOPED_TRACE(fmt::format("{} processors, {}", processors, chip));
    const RunResult r =
        run({"--smp", std::to_string(processors), "--irqchip", chip, "--share", guest_path("efi")});
    EXPECT_EQ(r.code, 0) << r.text();
    const std::string text = plain(r.out);
    expect_virtualized(text, processors, "an application");
    EXPECT_THAT(text, HasSubstr("efi-hypervisor: powers off\n"));
  }
};

TEST_F(UefiHypervisor, svm_goes_under_the_firmware_on_two_processors) {
  expect_resident(2, "split");
}

TEST_F(UefiHypervisor, vmx_goes_under_the_firmware_on_one_processor) {
  expect_resident(1, "split");
}

// For tools/test --full.
TEST_F(UefiHypervisor, DISABLED_svm_goes_under_the_firmware_on_any_number_of_processors) {
  for (const unsigned processors : {1u, 3u, 4u, 8u}) expect_resident(processors, "split");
  expect_resident(2, "kernel");
}

TEST_F(UefiHypervisor, DISABLED_vmx_goes_under_the_firmware_on_two_processors) {
  expect_resident(2, "split");
}

// The driver comes by fw_cfg and stays; the boot manager then starts the application, which finds
// it.
TEST_F(UefiHypervisor, DISABLED_svm_stays_as_a_driver_under_an_application) {
  const RunResult r = run({"--smp", "2", "--share", guest_path("efi"),
                           guest_path("efi-driver/efi-hypervisor-driver.efi")});
  EXPECT_EQ(r.code, 0) << r.text();
  const std::string text = plain(r.out);
  expect_virtualized(text, 2, "a driver");
  EXPECT_THAT(text, HasSubstr("efi-hypervisor: 2 processors, under a hypervisor of this kind "
                              "already, started as an application\n"));
}

// ---- when it fails

TEST_F(UefiHypervisor, svm_without_svm_in_the_model_is_said) {
  const RunResult r = run({"--share", guest_path("efi")}, "epyc");
  EXPECT_EQ(r.code, 2) << r.text();
  EXPECT_THAT(plain(r.out), HasSubstr("efi-hypervisor: CPUID has neither VT-x (1.ECX[5]) nor SVM"));
}

// ---- Linux

constexpr const char* kLinux = FETCHED_DIR "/linux/vmlinuz";
constexpr const char* kBusybox = FETCHED_DIR "/linux/root/bin/busybox";

// An init and a busybox.
std::string initramfs(std::string_view init) {
  const auto bytes = [](std::string_view text) {
    return std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
  };
  NewcArchive archive;
  for (const char* folder : {"bin", "proc", "dev"}) archive.add_directory(folder);
  archive.add_file("bin/busybox", bytes(read_text_file(kBusybox)), 0755);
  archive.add_file("init", bytes(init), 0755);
  const std::vector<std::uint8_t> made = std::move(archive).finish();
  return {made.begin(), made.end()};
}

TEST_F(UefiHypervisor, DISABLED_svm_linux_runs_under_it_on_each_processor) {
  namespace fs = std::filesystem;
  if (::access(kLinux, R_OK) != 0 || ::access(kBusybox, R_OK) != 0)
    GTEST_SKIP() << "there is no " << kLinux << ": tools/fetch-guests linux";
  const TempFolder folder;
  fs::create_directories(folder.file("tree/EFI/BOOT"));
  fs::copy_file(guest_path("efi/EFI/BOOT/BOOTX64.EFI"), folder.file("tree/EFI/BOOT/BOOTX64.EFI"));
  fs::copy_file(kLinux, folder.file("tree/EFI/LINUX.EFI"));
  folder.write("tree/EFI/INITRD.IMG",
               initramfs("#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc\n"
                         "echo \"userspace: $(/bin/busybox nproc) processors, "
                         "$(/bin/busybox grep -c '^flags.*hypervisor' /proc/cpuinfo) under one\"\n"
                         "/bin/busybox poweroff -f\n"));
  folder.write("tree/EFI/LINUX.TXT",
               "initrd=\\EFI\\INITRD.IMG console=ttyS0 quiet panic=-1 cpu_init_udelay=10000\n");
  for (const unsigned processors : {1u, 2u, 4u}) {
    const RunResult r =
        run({"--smp", std::to_string(processors), "--mem", "512M", "--share", folder.file("tree")});
    EXPECT_EQ(r.code, 0) << r.text();
    const std::string text = plain(r.out);
    expect_virtualized(text, processors, "an application");
    EXPECT_THAT(text,
                HasSubstr(fmt::format("userspace: {0} processors, {0} under one\n", processors)));
  }
}

// ---- stores to the APIC

using efi_hypervisor::ApicStore;
using efi_hypervisor::decode_apic_store;

ApicStore decode(std::initializer_list<std::uint8_t> bytes, bool is_64_bit = true) {
  guest::Registers registers{};
  auto* list = reinterpret_cast<std::uint64_t*>(&registers);
  for (std::uint64_t i = 0; i < 15; ++i) list[i] = 0xffffffff00000100 + i;
  std::array<std::uint8_t, efi_hypervisor::kMaxInstruction> code{};
  std::copy(bytes.begin(), bytes.end(), code.begin());
  return decode_apic_store(code.data(), registers, 0x5555, is_64_bit);
}

struct StoreCase {
  const char* text;
  std::initializer_list<std::uint8_t> bytes;
  std::uint8_t length;
  std::uint32_t value;
};

TEST(ApicStores, the_forms_that_compilers_write_are_known) {
  // The registers hold 100h and their place: RAX, RCX, RDX, RBX, RBP, RSI, RDI, R8 to R15.
  const StoreCase cases[] = {
      {"mov [rdi], esi", {0x89, 0x37}, 2, 0x105},
      {"mov [rdi-0xa02d00], esi", {0x89, 0xb7, 0x00, 0xd3, 0x5f, 0xff}, 6, 0x105},
      {"mov [rcx+16], r15d", {0x44, 0x89, 0x79, 0x10}, 4, 0x10e},
      {"mov [r12+rax*4], esp", {0x41, 0x89, 0x24, 0x84}, 4, 0x5555},
      {"mov [disp32], ebp", {0x89, 0x2c, 0x25, 0, 0xd3, 0x5f, 0xff}, 7, 0x104},
      {"mov [rip+disp32], eax", {0x89, 0x05, 1, 2, 3, 4}, 6, 0x100},
      {"mov [rbp+0+rax], edi", {0x89, 0x7c, 0x05, 0x00}, 4, 0x106},
      {"ds mov [rax], edx", {0x3e, 0x89, 0x10}, 3, 0x102},
      {"mov [disp32], 0xc4500",
       {0xc7, 0x04, 0x25, 0, 0xd3, 0x5f, 0xff, 0, 0x45, 0x0c, 0},
       11,
       0xc4500},
      {"mov [rax], imm", {0xc7, 0x00, 0xef, 0xbe, 0xad, 0xde}, 6, 0xdeadbeef},
      {"mov moffs64, eax", {0xa3, 1, 2, 3, 4, 5, 6, 7, 8}, 9, 0x100},
      {"mov moffs32, eax", {0x67, 0xa3, 1, 2, 3, 4}, 6, 0x100},
  };
  for (const StoreCase& c : cases) {
    const ApicStore store = decode(c.bytes);
    EXPECT_EQ(store.length, c.length) << c.text;
    EXPECT_EQ(store.value, c.value) << c.text;
  }
}

TEST(ApicStores, code_of_32_bits_has_no_rex) {
  EXPECT_EQ(decode({0x44}, false).length, 0);
  EXPECT_EQ(decode({0xa3, 1, 2, 3, 4}, false).length, 5);
  EXPECT_EQ(decode({0x89, 0x05, 1, 2, 3, 4}, false).length, 6);
}

TEST(ApicStores, all_else_is_refused) {
  const std::initializer_list<std::uint8_t> cases[] = {
      {0x48, 0x89, 0x37},                          // 64 bits
      {0x66, 0x89, 0x37},                          // 16 bits
      {0x88, 0x37},                                // 8 bits
      {0xf0, 0x89, 0x37},                          // LOCK
      {0x87, 0x37},                                // XCHG
      {0x89, 0xf7},                                // a register
      {0xc7, 0x08, 1, 0, 0, 0},                    // C7 /1
      {0x8b, 0x37},                                // a load
      {0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x89, 0x37},  // more prefixes than anyone writes
  };
  for (const auto& bytes : cases) EXPECT_EQ(decode(bytes).length, 0) << int{*bytes.begin()};
}

// Whatever the bytes are: never more than an instruction has.
TEST(ApicStores, no_length_is_beyond_an_instruction) {
  for (unsigned first = 0; first < 256; ++first)
    for (unsigned second = 0; second < 256; ++second)
      for (const std::uint8_t sib : {std::uint8_t{0x04}, std::uint8_t{0x25}, std::uint8_t{0x85}}) {
        const auto a = static_cast<std::uint8_t>(first), b = static_cast<std::uint8_t>(second);
        for (const bool is_64_bit : {false, true}) {
          EXPECT_LE(decode({a, b, sib, 0x84, sib}, is_64_bit).length,
                    efi_hypervisor::kMaxInstruction);
          EXPECT_LE(decode({0x67, 0x3e, 0x67, 0x3e, a, b, 0x84, sib}, is_64_bit).length,
                    efi_hypervisor::kMaxInstruction);
        }
      }
}

}  // namespace
}  // namespace vmm
