#include "vmm/core/trace_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "vmm/core/apic_message.h"
#include "vmm/core/trace_fake.h"

namespace vmm {
namespace {

using nlohmann::json;
using std::chrono::microseconds;
using testing::HasSubstr;

std::string line_of(const TraceEvent& event, const SymbolTable* symbols = nullptr) {
  std::string text;
  JsonLinesFormat(symbols).event(event, text);
  return text;
}

TEST(JsonLines, an_access_has_all_its_fields) {
  TraceEvent event = out_event(0x41, 1);
  event.time = microseconds(5);
  event.rip = 0x100020;
  EXPECT_EQ(line_of(event),
            R"({"ns":5000,"vcpu":1,"kind":"out","rip":"0x100020","address":"0x3f8","width":1,)"
            R"("count":1,"value":"0x41","device":"serial0"})"
            "\n");
}

TEST(JsonLines, an_exit_to_kvm_has_its_reason) {
  TraceEvent event{.rip = 0x1000, .kind = "kvm-exit", .value = 48, .words = "EPT violation"};
  EXPECT_EQ(line_of(event),
            R"({"ns":0,"vcpu":0,"kind":"kvm-exit","rip":"0x1000","reason":"EPT violation",)"
            R"("value":"0x30"})"
            "\n");
  EXPECT_EQ(event.text(), "kvm-exit EPT violation (30h)");
}

// What ran between KVM's entry and its exit is L2's when KVM says so right behind the exit.
TEST(ChromeTracks, kvms_events_are_slices_of_l1_and_l2_on_a_track_of_their_own) {
  ChromeFormat format(nullptr, 2);
  std::string text;
  format.begin(text);
  const auto tell = [&](TraceKind kind, int us, std::string_view words = {}) {
    format.event({.time = microseconds(us), .vcpu = 1, .kind = kind, .words = words}, text);
  };
  tell("kvm-entry", 1);
  tell("kvm-exit", 2, "VMRESUME");
  tell("kvm-entry", 3);
  tell("kvm-exit", 5, "CPUID");
  tell("kvm-l2-exit", 5, "CPUID");
  tell("kvm-exit-to-l1", 6, "CPUID");
  tell("kvm-exit", 7, "HLT");
  format.end({}, microseconds(9), text);
  std::vector<std::string> seen;
  for (const json& event : json::parse(text))
    if (event.value("cat", "") == "kvm") {
      EXPECT_EQ(event["tid"], 501);
      seen.push_back(event["name"].get<std::string>() + " " + event["ph"].get<std::string>() + " " +
                     std::to_string(event["ts"].get<double>()).substr(0, 3) + " " +
                     event["args"]["reason"].get<std::string>());
    }
  EXPECT_THAT(seen, testing::ElementsAre("L1 X 1.0 VMRESUME", "L2 X 3.0 CPUID",
                                         "kvm-exit-to-l1 CPUID i 6.0 CPUID", "L1 i 7.0 HLT"));
}

TEST(JsonLines, nobody_answering_is_null) {
  EXPECT_EQ(line_of({.kind = "in", .address = 0x2e9, .value = 0xff, .width = 1}),
            R"({"ns":0,"vcpu":0,"kind":"in","address":"0x2e9","width":1,)"
            R"("count":1,"value":"0xff","device":null})"
            "\n");
}

TEST(JsonLines, an_event_without_an_access_is_short) {
  EXPECT_EQ(line_of({.kind = "hlt"}), "{\"ns\":0,\"vcpu\":0,\"kind\":\"hlt\"}\n");
}

TEST(JsonLines, a_message_is_spelled_out) {
  EXPECT_EQ(line_of({.vcpu = 1,
                     .kind = "ipi",
                     .address = 2,
                     .value = message_bits({.logical = true, .vector = 0x30})}),
            R"({"ns":0,"vcpu":1,"kind":"ipi","mode":"fixed","vector":"0x30","destination":"0x2",)"
            R"("logical":true})"
            "\n");
  EXPECT_EQ(line_of({.kind = "ipi",
                     .value = message_bits({.mode = DeliveryMode::Init}, ApicShorthand::All)}),
            R"({"ns":0,"vcpu":0,"kind":"ipi","mode":"init","vector":"0x0","shorthand":"all"})"
            "\n");
}

TEST(JsonLines, a_delivery_names_its_sender_and_a_line_has_no_vcpu) {
  EXPECT_EQ(line_of({.vcpu = 3, .other = 0, .kind = "sipi", .value = 0x9a}),
            R"({"ns":0,"vcpu":3,"kind":"sipi","from_vcpu":0,"vector":"0x9a"})"
            "\n");
  EXPECT_EQ(line_of({.vcpu = kNoVcpu, .kind = "line", .address = 4, .value = 1}),
            R"({"ns":0,"vcpu":null,"kind":"line","gsi":4,"level":1})"
            "\n");
}

TEST(JsonLines, the_symbol_is_named_when_there_is_one) {
  SymbolTable symbols;
  symbols.add("main", 0x100000, 0x40);
  EXPECT_THAT(line_of({.rip = 0x100004, .kind = "hlt"}, &symbols),
              HasSubstr(R"("rip":"0x100004","symbol":"main+4h"})"));
  EXPECT_THAT(line_of({.rip = 0x200000, .kind = "hlt"}, &symbols), HasSubstr(R"("0x200000"})"));
}

TEST(JsonLines, a_hostile_symbol_cannot_break_the_line) {
  SymbolTable symbols;
  symbols.add("a\"b\\c\n\x01{", 0x1000, 8);
  EXPECT_THAT(line_of({.rip = 0x1000, .kind = "hlt"}, &symbols),
              HasSubstr(R"("symbol":"abcx0ax01{"})"));
}

TEST(JsonLines, every_kind_is_valid_json) {
  for (const TraceKindInfo& info : kTraceKinds) {
    const std::string line = line_of({.other = 1,
                                      .kind = *TraceKind::from_name(info.name),
                                      .value = ~std::uint64_t{0},
                                      .device = "pic"});
    const json parsed = json::parse(line);
    EXPECT_EQ(parsed["kind"], info.name);
    EXPECT_EQ(parsed["from_vcpu"], 1);
  }
}

TEST(JsonLines, says_what_is_missing_and_how_much_there_is) {
  JsonLinesFormat format(nullptr);
  std::string text;
  format.dropped(7, microseconds(1), text);
  format.end({.events = 100, .dropped = 7}, microseconds(2), text);
  EXPECT_EQ(text, R"({"ns":1000,"vcpu":null,"kind":"dropped","count":7})"
                  "\n"
                  R"({"ns":2000,"vcpu":null,"kind":"end","count":100,"dropped":7})"
                  "\n");
}

class Chrome : public testing::Test {
 protected:
  Chrome() { format_.begin(text_); }
  void add(TraceEvent event, int at) {
    event.time = microseconds(at);
    format_.event(event, text_);
    cuts_.push_back(text_.size());
  }
  json finish(int at = 1000) {
    format_.end({.events = cuts_.size()}, microseconds(at), text_);
    return json::parse(text_);
  }
  static std::vector<json> with(const json& all, const char* key, const std::string& value) {
    std::vector<json> found;
    for (const json& e : all)
      if (e.value(key, "") == value) found.push_back(e);
    return found;
  }

  std::string text_;
  std::vector<std::size_t> cuts_;
  ChromeFormat format_{nullptr, 2};
};

TEST_F(Chrome, each_vcpu_has_a_track_with_its_name) {
  const json all = finish();
  ASSERT_TRUE(all.is_array());
  EXPECT_EQ(with(all, "name", "process_name").at(0)["args"]["name"], "vmm");
  const auto tracks = with(all, "name", "thread_name");
  ASSERT_EQ(tracks.size(), 2u);
  EXPECT_EQ(tracks[1]["args"]["name"], "vCPU 1");
  EXPECT_EQ(tracks[1]["tid"], 2);
}

TEST_F(Chrome, the_guest_and_what_each_exit_took_are_slices) {
  add({.kind = "enter"}, 10);
  add(out_event(0x41), 25);
  add({.kind = "enter"}, 27);
  const json all = finish(30);
  const auto guest = with(all, "name", "guest");
  ASSERT_EQ(guest.size(), 2u);
  EXPECT_EQ(guest[0]["ph"], "X");
  EXPECT_EQ(guest[0]["ts"], 10.0);
  EXPECT_EQ(guest[0]["dur"], 15.0);
  EXPECT_EQ(guest[1]["dur"], 3.0) << "to the end of the run";
  const auto exits = with(all, "name", "out serial0");
  ASSERT_EQ(exits.size(), 1u);
  EXPECT_EQ(exits[0]["ts"], 25.0);
  EXPECT_EQ(exits[0]["dur"], 2.0);
  EXPECT_EQ(exits[0]["args"]["value"], "0x41");
}

TEST_F(Chrome, exits_without_entries_are_points) {
  add(out_event(1), 10);
  add(out_event(2), 20);
  const auto exits = with(finish(), "name", "out serial0");
  ASSERT_EQ(exits.size(), 2u);
  EXPECT_EQ(exits[0]["ph"], "i");
  EXPECT_EQ(exits[0]["ts"], 10.0);
}

TEST_F(Chrome, an_arrow_leads_from_an_ipi_to_where_it_is_taken) {
  add({.vcpu = 1, .other = 0, .kind = "accept", .value = 0x40}, 10);
  add({.vcpu = 1, .kind = "inject", .value = 0x41}, 11);
  add({.vcpu = 1, .kind = "inject", .value = 0x40}, 12);
  add({.vcpu = 1, .other = 0, .kind = "sipi", .value = 0x9a}, 20);
  add({.vcpu = 1, .kind = "enter"}, 21);
  const json all = finish();
  const auto starts = with(all, "ph", "s");
  const auto ends = with(all, "ph", "f");
  ASSERT_EQ(starts.size(), 2u);
  ASSERT_EQ(ends.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(starts[i]["id"], ends[i]["id"]);
    EXPECT_EQ(starts[i]["tid"], 1) << "the sender";
    EXPECT_EQ(ends[i]["tid"], 2);
  }
  EXPECT_EQ(ends[0]["ts"], 12.0);
  EXPECT_EQ(ends[1]["ts"], 21.0);
}

TEST_F(Chrome, devices_that_act_by_themselves_have_tracks) {
  add({.vcpu = kNoVcpu, .kind = "pit-timer", .device = "pit"}, 10);
  add({.vcpu = kNoVcpu, .kind = "line", .address = 0, .value = 1}, 11);
  add({.vcpu = kNoVcpu, .kind = "pit-timer", .device = "pit"}, 20);
  const json all = finish();
  const auto expiries = with(all, "name", "pit-timer");
  ASSERT_EQ(expiries.size(), 2u);
  EXPECT_EQ(expiries[0]["tid"], expiries[1]["tid"]);
  EXPECT_NE(with(all, "name", "line 0 high").at(0)["tid"], expiries[0]["tid"]);
  EXPECT_EQ(with(all, "name", "thread_name").size(), 4u);
}

TEST_F(Chrome, cut_off_after_any_event_it_needs_only_its_bracket) {
  for (std::size_t i = 0; i < kTraceKinds.size(); ++i) {
    const TraceKind kind = *TraceKind::from_name(kTraceKinds[i].name);
    const int at = static_cast<int>(i) * 10;
    add({.vcpu = 1, .other = 0, .kind = kind, .value = 0x4630, .width = 1}, at);
    add({.vcpu = kNoVcpu, .kind = kind, .device = "pit"}, at + 1);
    add({.vcpu = 4711, .other = 4711, .kind = kind, .value = ~std::uint64_t{0}}, at + 2);
    add({.vcpu = 0, .kind = "enter"}, at + 3);
  }
  for (const std::size_t cut : cuts_)
    EXPECT_TRUE(json::accept(text_.substr(0, cut) + "]")) << text_.substr(0, cut);
}

TEST_F(Chrome, a_gap_is_marked_and_ends_what_was_open) {
  add({.kind = "enter"}, 10);
  format_.dropped(9, microseconds(20), text_);
  add(out_event(1), 30);
  const json all = finish();
  EXPECT_TRUE(with(all, "name", "guest").empty()) << "no one knows how long it ran";
  EXPECT_EQ(with(all, "name", "9 events dropped").at(0)["args"]["count"], 9);
  EXPECT_EQ(with(all, "name", "end").at(0)["args"]["count"], 2);
}

TEST(TraceFormat, the_ending_of_the_path_chooses) {
  const auto is_chrome = [](std::string_view path) {
    const auto format = trace_format_for(path, nullptr, 1);
    return dynamic_cast<ChromeFormat*>(format.get()) != nullptr;
  };
  EXPECT_TRUE(is_chrome("a/b.json"));
  EXPECT_TRUE(is_chrome("T.JSON"));
  EXPECT_FALSE(is_chrome("t.jsonl"));
  EXPECT_FALSE(is_chrome("/dev/null"));
}

}  // namespace
}  // namespace vmm
