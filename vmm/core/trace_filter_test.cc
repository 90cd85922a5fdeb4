#include "vmm/core/trace_filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "vmm/core/apic_message.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TraceFilter filter(const std::vector<std::string>& alternatives) {
  const auto parsed = TraceFilter::parse(alternatives);
  EXPECT_TRUE(parsed) << parsed.error().text();
  return parsed ? *parsed : TraceFilter();
}

bool passes(const std::string& text, const TraceEvent& event) {
  return filter({text}).matches(event);
}

std::string error_of(const std::string& text) {
  const auto parsed = TraceFilter::parse(std::vector{text});
  if (parsed) return "(taken)";
  EXPECT_EQ(parsed.error().kind(), ErrorKind::Usage);
  return parsed.error().text() + "\n" + parsed.error().hint_text();
}

const TraceEvent kOut{
    .vcpu = 1, .kind = "out", .address = 0x3f8, .value = 0x41, .width = 1, .device = "serial0"};
const TraceEvent kSipi{.vcpu = 2, .other = 0, .kind = "sipi", .value = 0x9a};
const TraceEvent kLine{.vcpu = kNoVcpu, .kind = "line", .address = 4, .value = 1};

TEST(TraceFilter, without_terms_takes_everything) {
  for (const TraceEvent& event : {kOut, kSipi, kLine}) EXPECT_TRUE(TraceFilter().matches(event));
}

TEST(TraceFilter, kinds_by_name_and_by_group) {
  EXPECT_TRUE(passes("kind=out", kOut));
  EXPECT_TRUE(passes("kind=ipi|SIPI", kSipi));
  EXPECT_FALSE(passes("kind=ipi|sipi", kOut));
  for (const char* group : {"exit", "access"}) {
    EXPECT_TRUE(passes(std::string("kind=") + group, kOut)) << group;
    EXPECT_FALSE(passes(std::string("kind=") + group, kSipi)) << group;
  }
  for (const char* group : {"apic", "start"})
    EXPECT_TRUE(passes(std::string("kind=") + group, kSipi)) << group;
  EXPECT_TRUE(passes("kind=timer", {.kind = "rtc-timer"}));
}

TEST(TraceFilter, a_vcpu_is_any_that_takes_part) {
  EXPECT_TRUE(passes("vcpu=1", kOut));
  EXPECT_FALSE(passes("vcpu=0", kOut));
  EXPECT_TRUE(passes("vcpu=0", kSipi)) << "the sender";
  EXPECT_TRUE(passes("vcpu=2-3", kSipi));
  EXPECT_FALSE(passes("vcpu=0-63", kLine));
}

TEST(TraceFilter, ports_addresses_and_msrs_are_hexadecimal_ranges) {
  for (const char* text : {"port=3f8", "port=0x3f8", "port=3F8h", "port=3f0-3ff", "port=60|3f8"})
    EXPECT_TRUE(passes(text, kOut)) << text;
  EXPECT_FALSE(passes("port=3f9", kOut));
  EXPECT_FALSE(passes("address=3f8", kOut)) << "a port is no memory";
  const TraceEvent write{.kind = "mmio-write", .address = 0xfee00300, .width = 4};
  EXPECT_TRUE(passes("address=fee00000-fee00fff", write));
  EXPECT_TRUE(passes("address=fee00303", write)) << "the last byte of the access";
  EXPECT_FALSE(passes("address=fee00304", write));
  EXPECT_TRUE(passes("msr=800-8ff", {.kind = "wrmsr", .address = 0x830, .width = 8}));
  EXPECT_FALSE(passes("msr=838", {.kind = "wrmsr", .address = 0x830, .width = 8}));
}

TEST(TraceFilter, devices_by_name_with_or_without_their_number) {
  EXPECT_TRUE(passes("device=serial0", kOut));
  EXPECT_TRUE(passes("device=Serial", kOut));
  EXPECT_FALSE(passes("device=ser", kOut));
  EXPECT_FALSE(passes("device=serial01", kOut));
  EXPECT_TRUE(passes("device=none", {.kind = "in", .address = 0x80, .width = 1}));
  EXPECT_FALSE(passes("device=none", kOut));
  EXPECT_FALSE(passes("device=none", kSipi)) << "no access, so nobody was asked";
}

TEST(TraceFilter, vectors_and_lines) {
  EXPECT_TRUE(passes("vector=9a", kSipi));
  EXPECT_TRUE(passes("vector=90-9f", {.kind = "ipi", .value = message_bits({.vector = 0x90})}));
  EXPECT_FALSE(passes("vector=41", kOut)) << "41h was written, it is no vector";
  EXPECT_TRUE(passes("gsi=4", kLine));
  EXPECT_FALSE(passes("gsi=5", kLine));
}

TEST(TraceFilter, commas_join_and_repetition_offers_a_choice) {
  EXPECT_TRUE(passes("kind=out,vcpu=1", kOut));
  EXPECT_FALSE(passes("kind=out,vcpu=0", kOut));
  EXPECT_TRUE(passes(" kind = out , vcpu=1 ", kOut));
  const TraceFilter either = filter({"kind=out,vcpu=0", "kind=sipi"});
  EXPECT_TRUE(either.matches(kSipi));
  EXPECT_FALSE(either.matches(kOut));
}

TEST(TraceFilter, an_exclamation_mark_turns_a_term_round) {
  EXPECT_FALSE(passes("!kind=out", kOut));
  EXPECT_TRUE(passes("!kind=out", kSipi));
  EXPECT_TRUE(passes("!port=3f8", kSipi));
  EXPECT_FALSE(passes("kind=exit,!device=serial0", kOut));
}

TEST(TraceFilter, mistakes_are_named_with_what_would_be_right) {
  EXPECT_THAT(error_of("kind=sippi"), HasSubstr("'sippi'"));
  EXPECT_THAT(error_of("kind=sippi"), HasSubstr("did you mean sipi?"));
  EXPECT_THAT(error_of("kind=timers"), HasSubstr("did you mean timer?"));
  EXPECT_THAT(error_of("kind=zzzzzzzz"), HasSubstr("groups and kinds: exit, access,"));
  EXPECT_THAT(error_of("prot=3f8"), HasSubstr("did you mean port?"));
  EXPECT_THAT(error_of("sipi"), HasSubstr("'sipi' is not KEY=VALUE"));
  EXPECT_THAT(error_of(""), HasSubstr("KEY=VALUE"));
  EXPECT_THAT(error_of("kind=out,"), HasSubstr("KEY=VALUE"));
  EXPECT_THAT(error_of("kind="), HasSubstr("kind= needs a value"));
  EXPECT_THAT(error_of("kind=in||out"), HasSubstr("kind= needs a value"));
  EXPECT_THAT(error_of("!"), HasSubstr("KEY=VALUE"));
  EXPECT_THAT(error_of("!!kind=in"), HasSubstr("no key is named"));
  for (const char* text : {"port=3fg", "port=-3f8", "port=3f8-", "port=0x", "port=h", "port=+3f8",
                           "port=3f8 3f9", "port=3f8-3f9-3fa"})
    EXPECT_THAT(error_of(text), HasSubstr("not a hexadecimal number")) << text;
  EXPECT_THAT(error_of("port=3ff-3f8"), HasSubstr("ends before it begins"));
  EXPECT_THAT(error_of("port=10000"), HasSubstr("the largest is ffff"));
  EXPECT_THAT(error_of("vcpu=64"), HasSubstr("the largest is 63"));
  EXPECT_THAT(error_of("vcpu=a"), HasSubstr("not a number"));
  EXPECT_THAT(error_of("address=11112222333344445"), HasSubstr("not a hexadecimal number"));
  EXPECT_THAT(error_of("kind=a\x1b[2J"), testing::Not(HasSubstr("\x1b")));
}

TEST(TraceFilter, knows_what_a_chip_cannot_show) {
  const TraceFilter asks = filter({"kind=sipi|apic,vcpu=0", "kind=timer|in|sipi,!kind=eoi"});
  EXPECT_THAT(asks.invisible_under(IrqChipKind::User), IsEmpty());
  EXPECT_THAT(asks.invisible_under(IrqChipKind::Split), ElementsAre("sipi"));
  EXPECT_THAT(asks.invisible_under(IrqChipKind::Kernel), ElementsAre("sipi", "apic"));
}

TEST(TraceFilter, lists_the_devices_it_names) {
  EXPECT_THAT(filter({"device=Serial0|none", "!device=pit"}).devices(),
              ElementsAre("serial0", "pit"));
}

TEST(TraceFilter, knows_what_only_kvm_tells) {
  const std::vector<std::string> texts = {"kind=kvm|hlt", "kind=kvm-exit,vcpu=0", "!kind=kvm-entry",
                                          "kind=exit"};
  const auto filter = TraceFilter::parse(texts);
  ASSERT_TRUE(filter) << filter.error().text();
  EXPECT_EQ(filter->asked_of(trace_group::kKvm),
            (std::vector<std::string_view>{"kvm", "kvm-exit"}));
  EXPECT_TRUE(TraceFilter().asked_of(trace_group::kKvm).empty());
}

}  // namespace
}  // namespace vmm
