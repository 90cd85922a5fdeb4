#include "vmm/nested/dump.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/nested/blob.h"
#include "vmm/nested/vmx_entry_fake.h"

namespace vmm::nested {
namespace {

using testing::HasSubstr;

std::string error_of(std::string_view text) {
  const auto parsed = parse_dump(text);
  return parsed ? "" : parsed.error().text();
}

TEST(Dump, comes_back_as_it_was) {
  std::vector<std::uint8_t> bytes(100);
  bytes[0] = 1;
  bytes[70] = 0xab;
  bytes[99] = 0xff;
  const std::string text = dump_text("some bytes", bytes);
  EXPECT_THAT(text, HasSubstr("vmm-dump 100 bytes: some bytes\n0000: 01 00"));
  EXPECT_THAT(text, testing::Not(HasSubstr("0020:"))) << "a row of zeroes";
  EXPECT_EQ(parse_dump(text).value(), bytes);
}

TEST(Dump, is_found_among_other_text) {
  const std::vector<std::uint8_t> bytes = {1, 2, 3};
  const std::string text =
      "(gdb) monitor vmcs dump\r\n" + dump_text("three", bytes) + "(gdb) quit\n";
  EXPECT_EQ(parse_dump(text).value(), bytes);
  EXPECT_EQ(parse_dump("nothing of the kind\n").value(), std::nullopt);
}

TEST(Dump, names_the_line_that_does_not_fit) {
  EXPECT_THAT(error_of("vmm-dump x\n"), HasSubstr("line 1: a dump says how many bytes"));
  EXPECT_THAT(error_of("vmm-dump 65537 bytes: too many\n"), HasSubstr("line 1"));
  for (const char* row : {"0000 01", "0000: 1", "0000: 01 02 03", "0001: 01 02",
                          "0000:", "00g0: 01", "ffff: 01", "0000: 01\t02"})
    EXPECT_THAT(error_of(std::string("vmm-dump 2 bytes: two\n") + row + "\n"), HasSubstr("line 2"))
        << row;
  EXPECT_THAT(error_of("vmm-dump 2 bytes: two\n0000: 01"), HasSubstr("cut off"));
}

TEST(Dump, is_a_blob) {
  const FakeEntry fake;
  const std::string text = dump_text("a VMCS", fake.entry.vmcs.bytes());
  const auto blob = read_blob({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  ASSERT_TRUE(blob) << blob.error().text();
  ASSERT_TRUE(blob->vmcs);
  EXPECT_EQ(blob->vmcs->get(VmcsField::HostTrSelector),
            fake.entry.vmcs.get(VmcsField::HostTrSelector));
  const std::string cut = text.substr(0, text.size() / 2);
  EXPECT_FALSE(read_blob({reinterpret_cast<const std::uint8_t*>(cut.data()), cut.size()}));
}

}  // namespace
}  // namespace vmm::nested
