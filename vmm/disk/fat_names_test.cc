#include "vmm/disk/fat_names.h"

#include <gtest/gtest.h>

namespace vmm {
namespace {

std::string alias(FatAliases& aliases, std::string_view name) {
  const FatShortName made = aliases.add(name);
  return {made.begin(), made.end()};
}
std::string alias(std::string_view name) {
  FatAliases aliases;
  return alias(aliases, name);
}

TEST(FatNames, capital_8_3_names_are_their_own_alias) {
  for (const char* name : {"README.TXT", "A", "BOOTX64.EFI", "X_1-2.~3", "$A!#%&'(", "A.B"})
    EXPECT_TRUE(FatAliases::is_its_own(name)) << name;
  for (const char* name :
       {"readme.txt", "TOOLONGNAME", "A.LONG", "A B", ".A", "A.", "A.B.C", "A+B", "\xc3\x84", ""})
    EXPECT_FALSE(FatAliases::is_its_own(name)) << name;
  EXPECT_EQ(alias("README.TXT"), "README  TXT");
  EXPECT_EQ(alias("A"), "A          ");
}

TEST(FatNames, other_names_get_an_alias_that_can_be_told_apart) {
  EXPECT_EQ(alias("bootx64.efi"), "BOOTX64 EFI") << "only its case is lost";
  EXPECT_EQ(alias("a long name.text"), "ALONGN~1TEX");
  EXPECT_EQ(alias(".profile"), "PROFIL~1   ");
  EXPECT_EQ(alias("a.b.c"), "AB~1    C  ");
  EXPECT_EQ(alias("x+y"), "X_Y~1      ");
  EXPECT_EQ(alias("\xc3\x84rger.txt"), "_RGER~1 TXT");
  EXPECT_EQ(alias("...x"), "_~1     X  ");
}

TEST(FatNames, aliases_of_a_directory_differ) {
  FatAliases aliases;
  EXPECT_EQ(alias(aliases, "LONGFI~2.TXT"), "LONGFI~2TXT");
  EXPECT_EQ(alias(aliases, "longfile1.txt"), "LONGFI~1TXT");
  EXPECT_EQ(alias(aliases, "longfile2.txt"), "LONGFI~3TXT") << "2 is taken";
  EXPECT_EQ(alias(aliases, "longfile3.txt"), "LONGFI~4TXT");
  std::set<std::string> seen;
  for (int i = 0; i < 2000; ++i)
    EXPECT_TRUE(seen.insert(alias(aliases, "another file " + std::to_string(i))).second) << i;
  EXPECT_TRUE(seen.contains("ANO~1000   "));
}

TEST(FatNames, long_names_are_utf_16) {
  EXPECT_EQ(*fat_long_name("a\xc3\xa4\xe2\x82\xac"),
            (std::vector<std::uint16_t>{'a', 0xe4, 0x20ac}));
  EXPECT_EQ(*fat_long_name("\xf0\x9f\x98\x80"), (std::vector<std::uint16_t>{0xd83d, 0xde00}));
  EXPECT_EQ(fat_long_name(std::string(255, 'x'))->size(), 255u);
}

TEST(FatNames, names_that_fat_cannot_have_are_refused_with_the_reason) {
  const auto reason = [](const std::string& name) {
    const auto units = fat_long_name(name);
    EXPECT_FALSE(units) << name;
    return units ? std::string() : units.error();
  };
  for (const char c : std::string("\"*/:<>?\\|"))
    EXPECT_EQ(reason(std::string("a") + c),
              std::string("has a ") + c + ", which FAT names cannot have");
  EXPECT_EQ(reason("a\nb"), "has a control character, which FAT names cannot have");
  EXPECT_EQ(reason("a\x7f"), "has a control character, which FAT names cannot have");
  EXPECT_EQ(reason("a."), "ends in a dot or a space, which FAT names lose");
  EXPECT_EQ(reason("a "), "ends in a dot or a space, which FAT names lose");
  for (const char* bad : {"\xff", "a\x80", "\xc3", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80",
                          "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80"})
    EXPECT_EQ(reason(bad), "is not UTF-8");
  EXPECT_EQ(reason(std::string(256, 'x')), "is longer than the 255 characters of a FAT name");
  EXPECT_EQ(reason(""), "is longer than the 255 characters of a FAT name");
}

TEST(FatNames, the_checksum_is_the_specifications) {
  FatShortName name;
  name.fill(0);
  EXPECT_EQ(fat_checksum(name), 0);
  FatAliases aliases;
  EXPECT_EQ(fat_checksum(aliases.add("README.TXT")), 0x73);
}

}  // namespace
}  // namespace vmm
