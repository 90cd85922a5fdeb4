#include "loader/firmware_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "loader/firmware_builder.h"
#include "vmm/base/fd.h"

namespace vmm {
namespace {

using namespace testing_firmware;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr std::size_t kCode2M = 0x1e0000;
constexpr std::size_t kCode4M = 0x37c000;
constexpr std::size_t kVars2M = 0x20000;
constexpr std::size_t kVars4M = 0x84000;

Result<FirmwareImage> firmware(const ByteVector& bytes) { return parse_firmware("F.fd", bytes); }
Result<FirmwareImage> vars(const ByteVector& bytes) { return parse_variables("V.fd", bytes); }

std::string words(const Result<FirmwareImage>& result) {
  return result ? "it was accepted" : result.error().text() + " | " + result.error().hint_text();
}

ByteVector seabios(std::size_t size) {
  ByteVector bytes(size, 0xff);
  put_text(bytes, 0x100, "SeaBIOS (version %s)");
  const ByteVector vector = {0xea, 0x5b, 0xe0, 0x00, 0xf0};
  std::copy(vector.begin(), vector.end(), bytes.end() - 16);
  return bytes;
}

TEST(FirmwareImage, code_ends_at_4_gib) {
  const auto image = firmware(code(kCode4M));
  ASSERT_TRUE(image) << words(image);
  EXPECT_EQ(image->kind, FirmwareKind::OvmfCode);
  EXPECT_EQ(image->size, kCode4M);
  EXPECT_EQ(image->base(), 0xffc84000U);
  EXPECT_EQ(image->vars_size, 0U);
}

TEST(FirmwareImage, whole_image_has_its_store_in_front) {
  ByteVector bytes = variables(kVars2M);
  add(bytes, code(kCode2M));
  const auto image = firmware(bytes);
  ASSERT_TRUE(image) << words(image);
  EXPECT_EQ(image->kind, FirmwareKind::OvmfWhole);
  EXPECT_EQ(image->base(), 0xffe00000U);
  EXPECT_EQ(image->vars_size, kVars2M);
  EXPECT_EQ(image->store_size, 0xdfb8U);
}

TEST(FirmwareImage, seabios_is_known_by_its_jump_and_its_name) {
  for (const std::size_t size : {std::size_t{128_KiB}, std::size_t{256_KiB}}) {
    const auto image = firmware(seabios(size));
    ASSERT_TRUE(image) << words(image);
    EXPECT_EQ(image->kind, FirmwareKind::SeaBios);
    EXPECT_EQ(image->base(), 4_GiB - size);
  }
  ByteVector nameless = seabios(128_KiB);
  nameless[0x100] = 'X';
  EXPECT_THAT(words(firmware(nameless)), HasSubstr("neither UEFI firmware"));
}

TEST(FirmwareImage, store_belongs_below_the_code_of_its_layout) {
  const auto code2 = firmware(code(kCode2M));
  const auto code4 = firmware(code(kCode4M));
  const auto vars2 = vars(variables(kVars2M));
  const auto vars4 = vars(variables(kVars4M));
  ASSERT_TRUE(code2 && code4 && vars2 && vars4);
  EXPECT_TRUE(vars4->authenticated);
  EXPECT_EQ(vars4->store_size, 0x3ffb8U);
  EXPECT_EQ(variables_base(*code2, *vars2, "V.fd").value(), 0xffe00000U);
  EXPECT_EQ(variables_base(*code4, *vars4, "V.fd").value(), 0xffc00000U);
  const auto small = variables_base(*code4, *vars2, "V.fd");
  ASSERT_FALSE(small);
  EXPECT_EQ(small.error().kind(), ErrorKind::Image);
  EXPECT_EQ(small.error().text(),
            "V.fd: --vars: the store has 20000h bytes, and the firmware's code of 37c000h bytes is "
            "built for one of 84000h");
  EXPECT_EQ(small.error().hint_text(), "OVMF_VARS_4M.fd belongs to OVMF_CODE_4M.fd");
  EXPECT_EQ(variables_base(*code2, *vars4, "V.fd").error().hint_text(),
            "OVMF_VARS.fd belongs to OVMF_CODE.fd");
  EXPECT_THAT(
      variables_base(*firmware(code(0x10000)), *vars2, "V.fd").error().text(),
      HasSubstr("the store of 20000h bytes and the firmware's code of 10000h bytes are not built"));
  const auto bios = firmware(seabios(256_KiB));
  ASSERT_TRUE(bios);
  EXPECT_THAT(variables_base(*bios, *vars4, "V.fd").error().text(),
              HasSubstr("the firmware is SeaBIOS, which has no place"));
}

TEST(FirmwareImage, wrong_sizes_are_refused) {
  EXPECT_THAT(words(firmware({})), HasSubstr("F.fd: the file is empty"));
  EXPECT_THAT(words(firmware(ByteVector(17_MiB))),
              HasSubstr("has 17 MiB; firmware here has 16 MiB"));
  ByteVector cut = code(kCode4M);
  cut.resize(0x1234);
  EXPECT_THAT(words(firmware(cut)), HasSubstr("4660 bytes (1234h), no multiple of 4 KiB"));
  cut = code(kCode4M);
  cut.resize(0x2000);
  EXPECT_THAT(words(firmware(cut)),
              HasSubstr("the firmware volume at 0h has 378000h bytes, and the file ends after "
                        "2000h: it is cut off"));
}

TEST(FirmwareImage, build_that_needs_smm_is_refused_with_the_right_file) {
  ByteVector pei = file(kSomeFile, 4, {1, 2, 3});
  add(pei, file(kSmmAccessPei, 6, {4, 5}));
  const auto image = firmware(code(kCode4M, pei));
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().kind(), ErrorKind::Image);
  EXPECT_THAT(words(image), AllOf(HasSubstr("system management mode (SMM)"),
                                  HasSubstr("OVMF_CODE_4M.fd is the build without SMM")));
}

TEST(FirmwareImage, store_and_code_in_each_others_place_are_told_apart) {
  EXPECT_THAT(words(firmware(variables(kVars4M))),
              AllOf(HasSubstr("this is a variable store"), HasSubstr("give it as --vars")));
  EXPECT_THAT(words(vars(code(kCode4M))), HasSubstr("this is firmware code, no variable store"));
  ByteVector whole = variables(kVars2M);
  add(whole, code(kCode2M));
  EXPECT_THAT(words(vars(whole)), HasSubstr("this is a whole firmware"));
}

TEST(FirmwareImage, something_else_is_refused_with_what_it_starts_with) {
  EXPECT_THAT(words(firmware(ByteVector(0x10000))),
              HasSubstr("neither UEFI firmware (a volume with \"_FVH\" at 28h) nor SeaBIOS; it "
                        "starts with 00 00"));
  EXPECT_THAT(words(vars(ByteVector(kVars4M))), HasSubstr("this is no variable store"));
  ByteVector half = code(kCode4M);
  std::fill_n(half.end() - 16, 16, std::uint8_t{0xff});
  EXPECT_THAT(words(firmware(half)), HasSubstr("hold no code"));
  ByteVector gap = code(kCode4M);
  gap[kCode4M - 0x4000 + 0x28] = 'x';
  EXPECT_THAT(words(firmware(gap)), HasSubstr("at 378000h, where a firmware volume has to begin"));
}

TEST(FirmwareImage, damaged_store_is_refused_and_an_interrupted_one_is_not) {
  ByteVector bad = variables(kVars4M);
  bad[0x33] ^= 1;
  EXPECT_THAT(words(vars(bad)), HasSubstr("bad checksum"));
  bad = variables(kVars4M);
  bad[0x48] ^= 1;
  EXPECT_THAT(words(vars(bad)), HasSubstr("has no variable store behind its header, at 48h"));
  ByteVector interrupted = variables(kVars4M);
  std::fill_n(interrupted.begin(), 0x1000, std::uint8_t{0xff});
  const auto image = vars(interrupted);
  ASSERT_TRUE(image) << words(image);
  EXPECT_EQ(image->store_size, 0U);
  EXPECT_THAT(words(vars(ByteVector(kVars4M, 0xff))), HasSubstr("this is no variable store"));
}

TEST(FirmwareImage, every_flipped_bit_of_the_structures_is_refused_or_accepted) {
  ByteVector bytes = variables(kVars2M);
  add(bytes, code(0x10000));
  unsigned refused = 0;
  const auto flip = [&](std::size_t first, std::size_t size) {
    for (std::size_t i = first * 8; i < (first + size) * 8; ++i) {
      const auto mask = static_cast<std::uint8_t>(1U << i % 8);
      bytes[i / 8] ^= mask;
      if (!firmware(bytes)) ++refused;
      bytes[i / 8] ^= mask;
    }
  };
  flip(0, 0x70);
  flip(kVars2M, 0x200);
  flip(bytes.size() - 0x4000, 0x50);
  EXPECT_GT(refused, 0U);
  EXPECT_TRUE(firmware(bytes));
}

struct Installed {
  const char* path;
  FirmwareKind kind;
  const char* refusal;  // nullptr: accepted
};

TEST(FirmwareImage, installed_files_are_what_their_names_say) {
  constexpr std::array<Installed, 7> kFiles = {{
      {"/usr/share/OVMF/OVMF_CODE_4M.fd", FirmwareKind::OvmfCode, nullptr},
      {"/usr/share/OVMF/OVMF_CODE.fd", FirmwareKind::OvmfCode, nullptr},
      {"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", FirmwareKind::OvmfCode, "SMM"},
      {"/usr/share/OVMF/OVMF_CODE.secboot.fd", FirmwareKind::OvmfCode, "SMM"},
      {"/usr/share/ovmf/OVMF.fd", FirmwareKind::OvmfWhole, nullptr},
      {"/usr/share/OVMF/OVMF_VARS_4M.fd", FirmwareKind::OvmfVars, "variable store"},
      {"/usr/share/seabios/bios-256k.bin", FirmwareKind::SeaBios, nullptr},
  }};
  unsigned seen = 0;
  for (const Installed& file : kFiles) {
    SCOPED_TRACE(file.path);
    const auto bytes = read_file(file.path, kMaxFirmwareSize, ErrorKind::Image);
    if (!bytes) continue;
    ++seen;
    const auto image = firmware(*bytes);
    if (file.refusal != nullptr) {
      EXPECT_THAT(words(image), HasSubstr(file.refusal));
    } else {
      ASSERT_TRUE(image) << words(image);
      EXPECT_EQ(image->kind, file.kind);
    }
    if (file.kind == FirmwareKind::OvmfVars) {
      EXPECT_TRUE(vars(*bytes)) << words(vars(*bytes));
    }
  }
  if (seen == 0) GTEST_SKIP() << "Debian's packages ovmf and seabios are not installed";
}

}  // namespace
}  // namespace vmm
