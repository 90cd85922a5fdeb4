#include "vmm/gdb/target_xml.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "vmm/gdb/registers_fake.h"

namespace vmm::gdb {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::vector<RegisterSet> all_sets() {
  std::vector<RegisterSet> sets;
  for (const Arch arch : {Arch::X86_64, Arch::I386, Arch::I8086})
    for (const CpuidTable& cpuid : {plain_cpuid(), avx_cpuid(), full_cpuid()})
      sets.emplace_back(arch, cpuid);
  return sets;
}

// What is wrong with the nesting of the elements, "" if nothing.
std::string unbalanced(const std::string& xml) {
  static const std::regex kTag(
      R"re(<(\?[^<>]*\?|![^<>]*|/([a-z]+)|([a-z]+)((?: [a-z-]+="[^"<>]*")*)(/?))>)re");
  std::vector<std::string> open;
  std::size_t end = 0;
  for (std::sregex_iterator it(xml.begin(), xml.end(), kTag); it != std::sregex_iterator(); ++it) {
    const std::smatch& tag = *it;
    const std::string between = xml.substr(end, static_cast<std::size_t>(tag.position()) - end);
    if (between.find_first_of("<>") != between.npos) return "no tag: " + between;
    end = static_cast<std::size_t>(tag.position() + tag.length());
    if (tag[2].matched) {
      if (open.empty() || open.back() != tag[2]) return "closed without being open: " + tag.str();
      open.pop_back();
    } else if (tag[3].matched && tag[5].length() == 0) {
      open.push_back(tag[3]);
    }
  }
  if (xml.find_first_of("<>&", end) != xml.npos) return "no tag at the end";
  return open.empty() ? "" : "never closed: " + open.back();
}

TEST(TargetXml, elements_are_nested_and_closed) {
  EXPECT_EQ(unbalanced("<a><b c=\"d\"/></a>"), "");
  EXPECT_NE(unbalanced("<a><b c=\"d\"></a>"), "");
  EXPECT_NE(unbalanced("<a><b c=\"<\"/></a>"), "");
  EXPECT_NE(unbalanced("<a>"), "");
  for (const RegisterSet& set : all_sets()) {
    const std::string xml = target_xml(set);
    EXPECT_EQ(unbalanced(xml), "");
    EXPECT_THAT(xml, Not(HasSubstr("&")));
  }
}

TEST(TargetXml, says_the_architecture_and_that_there_is_no_os) {
  const CpuidTable cpuid = plain_cpuid();
  EXPECT_THAT(target_xml({Arch::X86_64, cpuid}),
              HasSubstr("<architecture>i386:x86-64</architecture>\n<osabi>none</osabi>"));
  EXPECT_THAT(target_xml({Arch::I386, cpuid}), HasSubstr("<architecture>i386</architecture>"));
  EXPECT_THAT(target_xml({Arch::I8086, cpuid}), HasSubstr("<architecture>i8086</architecture>"));
}

TEST(TargetXml, control_bits_have_their_names) {
  const std::string xml = target_xml({Arch::X86_64, full_cpuid()});
  EXPECT_THAT(xml, HasSubstr("<reg name=\"cr0\" bitsize=\"64\" type=\"x86_cr0\" regnum=\"147\" "
                             "group=\"general\" save-restore=\"no\"/>"));
  EXPECT_THAT(xml, HasSubstr("<field name=\"PG\" start=\"31\" end=\"31\"/>"));
  EXPECT_THAT(xml, HasSubstr("<field name=\"IOPL\" start=\"12\" end=\"13\"/>"));
  EXPECT_THAT(xml, HasSubstr("<field name=\"DPL\" start=\"5\" end=\"6\"/>"));
}

TEST(TargetXml, groups_put_the_kernel_developers_registers_first) {
  const RegisterSet set(Arch::X86_64, full_cpuid());
  for (const char* name :
       {"rax", "rip", "cs", "fs_base", "gs_base", "cr0", "cr2", "cr3", "cr4", "efer"})
    EXPECT_EQ(set.find(name)->group, "general") << name;
  for (const char* name : {"cr8", "xcr0", "dr0", "dr7", "gdtr_base", "tr", "cs_attr"})
    EXPECT_EQ(set.find(name)->group, "system") << name;
  EXPECT_EQ(set.find("lstar")->group, "msr");
  EXPECT_EQ(set.find("st0")->group, "float");
  EXPECT_EQ(set.find("xmm0")->group, "vector");
}

// A type is gdb's own or defined before its use in the same feature.
TEST(TargetXml, every_type_is_known_where_it_is_used) {
  const std::regex kLine(R"re(<(feature|flags|vector|union|reg) (?:name|id)="([^"]+)"(.*))re");
  const std::regex kType(R"re(type="([^"]+)")re");
  for (const RegisterSet& set : all_sets()) {
    std::istringstream xml(target_xml(set));
    std::set<std::string> known;
    std::string line;
    while (std::getline(xml, line)) {
      std::smatch match;
      if (!std::regex_search(line, match, kLine)) continue;
      if (match[1] == "feature")
        known = {"int",      "int8",     "int16",       "int32",      "int64",
                 "uint16",   "uint32",   "uint64",      "uint128",    "data_ptr",
                 "code_ptr", "i387_ext", "ieee_single", "ieee_double"};
      std::smatch type;
      const std::string rest = match[3];
      if (std::regex_search(rest, type, kType)) {
        EXPECT_TRUE(known.contains(type[1])) << line;
      }
      if (match[1] != "reg" && match[1] != "feature") {
        EXPECT_TRUE(known.insert(match[2]).second) << line;
      }
    }
  }
}

// The debugger for which it is made, where there is one.
class TargetXmlInGdb : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::system("gdb --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "no gdb on this host";
  }
  static std::string gdb(const std::string& xml, const std::string& command) {
    const std::filesystem::path path =
        std::filesystem::temp_directory_path() / fmt::format("vmm-target-{}.xml", ::getpid());
    std::ofstream(path) << xml;
    const std::string line = fmt::format(
        "gdb -nx -batch -ex 'set tdesc filename {}' -ex 'show architecture' -ex '{}' 2>&1",
        path.string(), command);
    std::string text;
    FILE* pipe = ::popen(line.c_str(), "r");
    char part[4096];
    while (pipe != nullptr) {
      const std::size_t count = std::fread(part, 1, sizeof part, pipe);
      if (count == 0) break;
      text.append(part, count);
    }
    EXPECT_EQ(pipe != nullptr ? ::pclose(pipe) : -1, 0);
    std::filesystem::remove(path);
    return text;
  }
};

TEST_F(TargetXmlInGdb, is_accepted_without_a_warning_and_numbers_and_offsets_agree) {
  for (const RegisterSet& set : all_sets()) {
    const std::string xml = target_xml(set);
    std::istringstream text(gdb(xml, "maintenance print remote-registers"));
    std::string line;
    std::getline(text, line);
    const std::size_t begin = xml.find("<architecture>") + 14;
    const std::string arch = xml.substr(begin, xml.find('<', begin) - begin);
    EXPECT_EQ(line,
              fmt::format("The target architecture is set to \"auto\" (currently \"{}\").", arch));
    std::map<std::string, std::vector<std::string>> rows;
    while (std::getline(text, line)) {
      EXPECT_EQ(line.find("warning"), line.npos) << line;
      std::istringstream words(line);
      std::vector<std::string> row;
      for (std::string word; words >> word;) row.push_back(word);
      if (!row.empty()) rows[row[0]] = row;
    }
    // Name, number, relative number, offset, size, type, remote number, offset in g.
    for (const Register& r : set.registers()) {
      const std::vector<std::string>& row = rows[r.name];
      ASSERT_EQ(row.size(), 8U) << r.name;
      EXPECT_EQ(row[6], std::to_string(r.number)) << r.name;
      EXPECT_EQ(row[4], std::to_string(r.size())) << r.name;
      if (r.in_g) {
        EXPECT_EQ(row[7], std::to_string(r.offset)) << r.name;
      } else {
        EXPECT_GE(std::stoul(row[7]), set.g_size()) << r.name;
      }
    }
  }
}

}  // namespace
}  // namespace vmm::gdb
