// Hosts as files: what is written reads back equal, and what was not written so is refused.
#include "vmm/cpu/host_dump.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include "vmm/cpu/host_grant_fake.h"

namespace vmm {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

HostGrant busy_grant() {
  HostGrant host;
  host.backend = KvmBackend::Vmx;
  host.kernel = "6.18.2-test";
  host.module_parameters = {{"kvm_intel.nested", "Y"}, {"kvm.ignore_msrs", ""}};
  host.supported.at(0) = {0x16, 0x756e6547, 0x6c65746e, 0x49656e69};
  host.supported.at(0xd, 0x3f) = {1, 2, 3, 0xffffffff};
  host.supported.at(0x80000008) = {0x302e, 0, 0, 0};
  host.silicon.at(7, 0x123) = {~0U, 0, 0, 0};
  host.feature_msrs = {{0x10a, 0x400000000c08e0eb}, {0x480, ~0ULL}, {0xc0000104, 0}};
  host.tsc_deadline_timer = host.nested_state = true;
  host.max_vcpus = 1024;
  host.quirks = 0x5ff;
  return host;
}

// "ERROR | HINT" of a text that is no dump.
std::string refusal(const std::string& text) {
  const auto host = parse_host_dump(text, "a.json");
  if (host) return "read";
  EXPECT_EQ(host.error().kind(), ErrorKind::Usage);
  return host.error().text() + " | " + host.error().hint_text();
}

// The dump of busy_grant() with one value replaced.
std::string changed(const std::string& pointer, const nlohmann::json& value) {
  auto document = nlohmann::json::parse(host_dump_text(busy_grant()));
  document[nlohmann::json::json_pointer(pointer)] = value;
  return document.dump();
}

TEST(HostDump, what_was_written_reads_back_equal) {
  const HostGrant host = busy_grant();
  const auto again = parse_host_dump(host_dump_text(host), "a.json");
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(*again, host);
  EXPECT_EQ(host_dump_text(*again), host_dump_text(host));
}

TEST(HostDump, any_host_reads_back_equal) {
  std::mt19937 random(1);
  const auto number = [&](unsigned limit) { return static_cast<unsigned>(random() % limit); };
  for (int round = 0; round < 200; ++round) {
    HostGrant host = busy_grant();
    host.backend = static_cast<KvmBackend>(number(5));
    for (unsigned i = number(60); i != 0; --i) {
      host.supported.at(number(2) << 31 | number(64), number(300)) = {
          static_cast<std::uint32_t>(random()), number(2), 0, static_cast<std::uint32_t>(random())};
      host.silicon.at(static_cast<std::uint32_t>(random()), number(4)) = {};
      host.feature_msrs[static_cast<std::uint32_t>(random())] = std::uint64_t{random()} << 20;
    }
    host.supported.at(0) = busy_grant().supported.get(0);
    host.max_vcpus = number(4096);
    host.nested_state = number(2) == 0;
    const auto again = parse_host_dump(host_dump_text(host), "a.json");
    ASSERT_TRUE(again) << again.error().text();
    ASSERT_EQ(*again, host);
  }
}

TEST(HostDump, what_is_not_json_is_refused_with_line_and_column) {
  EXPECT_THAT(refusal("{\n  \"schema\": oops\n}"), StartsWith("a.json:2:13: not JSON: "));
  EXPECT_THAT(refusal(""), StartsWith("a.json:1:1: not JSON: "));
  EXPECT_THAT(refusal("{} {}"), StartsWith("a.json:1:4: not JSON: "));
  EXPECT_THAT(refusal("\xff\xfe\x1b[31m"), AllOf(StartsWith("a.json:1:1: "), HasSubstr("\\x")));
  EXPECT_THAT(refusal("{\"a\": 1e999}"), StartsWith("a.json: not JSON: number overflow"));
  EXPECT_THAT(refusal(std::string(100000, '[')), StartsWith("a.json:1:"));
}

TEST(HostDump, another_document_is_refused_with_what_would_do) {
  EXPECT_THAT(refusal("[]"), AllOf(HasSubstr("not a document of schema 'vmm-host-dump'"),
                                   HasSubstr("| vmm cpu dump-host > FILE writes one")));
  EXPECT_THAT(refusal("{}"), HasSubstr("not a document of schema"));
  EXPECT_THAT(refusal(changed("/schema", "vmm-host")),
              HasSubstr("a document of schema 'vmm-host' where 'vmm-host-dump' is meant"));
  EXPECT_THAT(refusal(changed("/version", 2)),
              AllOf(HasSubstr("version 2 of schema 'vmm-host-dump'"),
                    HasSubstr("| use the vmm that wrote it")));
  EXPECT_THAT(refusal(changed("/version", "1")), HasSubstr("version \"1\" of schema"));
}

TEST(HostDump, a_wrong_value_is_named_by_its_path) {
  EXPECT_THAT(refusal(changed("/backend", "xen")),
              StartsWith("a.json:1:12: backend: 'xen' is not vmx"));
  EXPECT_THAT(refusal(changed("/kernel", "\x1b[31m")), HasSubstr("kernel: '\\x1b[31m' is not"));
  EXPECT_THAT(refusal(changed("/kernel", std::string(300, 'a'))), HasSubstr("300 characters"));
  EXPECT_THAT(refusal(changed("/capabilities/max_vcpus", -1)),
              HasSubstr("capabilities.max_vcpus: a whole number from 0 to"));
  EXPECT_THAT(refusal(changed("/capabilities/nested_state", 1)),
              HasSubstr("capabilities.nested_state: a number where true or false is meant"));
  EXPECT_THAT(refusal(changed("/module_parameters/nested", "Y")),
              HasSubstr("module_parameters.nested: a key is MODULE.PARAMETER"));
  EXPECT_THAT(refusal(changed("/supported_cpuid", nlohmann::json::array())),
              HasSubstr("supported_cpuid: of type array where an object is meant"));
  EXPECT_THAT(refusal(changed("/supported_cpuid/0000000d.3f", "0 0 0 0")),
              HasSubstr("supported_cpuid[\"0000000d.3f\"]: EAX, EBX, ECX and EDX are meant"));
  for (const char* const key : {"7.0", "00000007", "00000007.000", "0000000D.00", "-0000007.00"})
    EXPECT_THAT(refusal(changed(std::string("/silicon_cpuid/") + key, "")),
                HasSubstr("a key is LEAF.SUBLEAF"))
        << key;
  EXPECT_THAT(refusal(changed("/feature_msrs/10a", "0")),
              HasSubstr("a key is the index of an MSR"));
  EXPECT_THAT(refusal(changed("/feature_msrs/0000010a", "0x1")),
              HasSubstr("feature_msrs[\"0000010a\"]: '0x1' where 16 hex digits are meant"));
}

TEST(HostDump, a_wrong_value_is_named_by_its_place) {
  // Strings that look like structure, escapes, and keys that repeat at another depth.
  std::string text = host_dump_text(busy_grant());
  text.insert(1, "\n\"kernal\": [\"{\\\"}[\", [], {\"kernel\": 1}, -2.5e3, null],");
  EXPECT_THAT(refusal(text), StartsWith("a.json:1:1: unknown key 'kernal'"));
  text = host_dump_text(busy_grant());
  const std::size_t line = text.find("\"max_vcpus\": 1024");
  ASSERT_NE(line, text.npos);
  text.replace(line, 17, "\"max_vcpus\": -1");
  const std::size_t newline = text.rfind('\n', line);
  EXPECT_THAT(refusal(text),
              StartsWith(fmt::format("a.json:{}:{}: capabilities.max_vcpus: ",
                                     1 + std::count(text.data(), text.data() + line, '\n'),
                                     line - newline + 13)));
}

TEST(HostDump, a_key_too_many_or_missing_or_twice_is_refused) {
  EXPECT_THAT(refusal(changed("/kernal", "6.1")), HasSubstr("unknown key 'kernal' | did you mean"));
  auto document = nlohmann::json::parse(host_dump_text(busy_grant()));
  document.erase("silicon_cpuid");
  EXPECT_THAT(refusal(document.dump()), HasSubstr("a.json:1:1: 'silicon_cpuid' is missing"));
  std::string twice = host_dump_text(busy_grant());
  twice.insert(1, "\"kernel\": \"5.10\",");
  EXPECT_THAT(refusal(twice), HasSubstr("the key 'kernel' is there twice"));
}

TEST(HostDump, sizes_and_counts_have_bounds) {
  EXPECT_THAT(refusal(std::string((1 << 20) + 1, ' ')), HasSubstr("1048577 bytes, at most"));
  nlohmann::json msrs;
  for (int i = 0; i < 1025; ++i) msrs[std::to_string(10000000 + i)] = "0000000000000000";
  EXPECT_THAT(refusal(changed("/feature_msrs", msrs)), HasSubstr("1025 entries, at most 1024"));
}

TEST(HostDump, every_host_has_a_vendor) {
  auto document = nlohmann::json::parse(host_dump_text(busy_grant()));
  document["supported_cpuid"].erase("00000000.00");
  EXPECT_THAT(refusal(document.dump()), HasSubstr("supported_cpuid: leaf 0 is missing"));
  EXPECT_THAT(
      refusal(changed("/supported_cpuid/00000000.00", "00000001 0000001b 00000000 00000000")),
      HasSubstr("leaf 0 names the vendor '\\x1b'"));
}

}  // namespace
}  // namespace vmm
