#include "vmm/machine/explain_dump.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "vmm/machine/explain_golden.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

std::string dump(const std::string& name) { return read_fixture("dumps/" + name); }

std::vector<CrashCard> cards_of(const std::string& text) {
  auto cards = explain_dump(text);
  EXPECT_TRUE(cards) << (cards ? "" : cards.error().text());
  if (!cards) return {};
  for (const CrashCard& card : *cards) {
    EXPECT_FALSE(card.lines.empty() || card.rule.empty() || card.layer.empty());
    EXPECT_LE(card.lines.size(), kMaxCardLines);
    for (const std::string& line : card.lines) EXPECT_LE(line.size(), 120u) << line;
  }
  return std::move(*cards);
}

CrashCard one_card(const std::string& text) {
  auto cards = cards_of(text);
  EXPECT_EQ(cards.size(), 1u);
  return cards.empty() ? CrashCard{} : cards.front();
}

TEST(ExplainDump, a_processor_in_the_vga_hole) {
  const CrashCard card = one_card(dump("a-vga-hole.txt"));
  EXPECT_EQ(card.rule, "executes-in-hole");
  EXPECT_THAT(card.text(), HasSubstr("executes in the VGA hole"));
  expect_golden(card.text(), "a-vga-hole.txt");
}

TEST(ExplainDump, entering_long_mode_and_the_fetch_fails) {
  const CrashCard card = one_card(dump("b-one-gib-pages.txt"));
  EXPECT_EQ(card.rule, "paging-just-enabled-rip-unmapped");
  expect_golden(card.text(), "b-one-gib-pages.txt");
}

TEST(ExplainDump, the_trace_names_the_pdpte_of_the_dump) {
  const CrashCard card =
      one_card(dump("b-one-gib-pages.txt") + "\n" + dump("c-one-gib-pages-trace.txt"));
  EXPECT_EQ(card.rule, "pdpte-ps-without-pdpe1gb");
  expect_golden(card.text(), "b-with-c.txt");
  // In the other order they still belong together.
  EXPECT_EQ(one_card(dump("c-one-gib-pages-trace.txt") + dump("b-one-gib-pages.txt")).text(),
            card.text());
}

TEST(ExplainDump, a_trace_alone) {
  const CrashCard card = one_card(dump("c-one-gib-pages-trace.txt"));
  EXPECT_EQ(card.rule, "pdpte-ps-without-pdpe1gb");
  expect_golden(card.text(), "c-one-gib-pages-trace.txt");
}

TEST(ExplainDump, a_capability_word_without_xsaves) {
  const CrashCard card = one_card(dump("d-procbased-ctls2.txt"));
  EXPECT_EQ(card.rule, "vmx-lacks-xsaves-control");
  expect_golden(card.text(), "d-procbased-ctls2.txt");
  EXPECT_EQ(one_card("PROCBASED_CTLS2 378ef00000000").rule, "vmx-lacks-xsaves-control");
  EXPECT_EQ(one_card("IA32_VMX_PROCBASED_CTLS2 = 0x1378ef00000000").rule, "vmx-capability-word");
}

TEST(ExplainDump, a_trace_of_another_place_stays_a_card_of_its_own) {
  const auto cards = cards_of(dump("a-vga-hole.txt") + dump("j-ftrace.txt"));
  ASSERT_EQ(cards.size(), 2u);
  EXPECT_EQ(cards[0].rule, "executes-in-hole");
  EXPECT_EQ(cards[1].rule, "page-walk-not-present");
}

TEST(ExplainDump, ftrace_lines) {
  const CrashCard card = one_card(dump("j-ftrace.txt"));
  EXPECT_EQ(card.cause,
            "the walk of ffff800000200000h met a level-2 entry that is not present (0h)");
  EXPECT_THAT(card.lines, Contains(HasSubstr("for a write: PML4E 3007h, PDPTE 4007h, PDE 0h")));
  EXPECT_THAT(card.lines, Contains(HasSubstr("EPT_VIOLATION at RIP 101020h")));
  EXPECT_THAT(card.lines, Contains(HasSubstr("KVM_EXIT_SHUTDOWN")));
}

TEST(ExplainDump, event_delivery_with_its_data_words) {
  const CrashCard card = one_card(dump("e-delivery.txt"));
  EXPECT_EQ(card.rule, "event-delivery-hits-hole");
  EXPECT_THAT(card.cause, HasSubstr("hardware exception #PF (vector 14) with an error code"));
  EXPECT_THAT(card.cause, HasSubstr("GPA fed1f000h, which is the MMIO hole below 4 GiB"));
  EXPECT_THAT(card.lines, Contains(HasSubstr("the stack, at fed1ffe8h, is in that page if")));
  EXPECT_THAT(card.lines, Contains(HasSubstr("EFER d01h (SCE LME LMA NXE)")));
  EXPECT_THAT(card.lines, Contains(HasSubstr("48 89 07  mov [rdi], rax")));
}

TEST(ExplainDump, exit_words_of_svm_name_the_address) {
  const CrashCard card = one_card(dump("f-fetch-words.txt"));
  EXPECT_EQ(card.rule, "executes-in-hole");
  EXPECT_THAT(card.lines, Contains(HasSubstr("400h nested page fault")));
  EXPECT_THAT(card.lines, Contains(HasSubstr("32-bit protected mode")));
}

TEST(ExplainDump, a_failed_entry) {
  const CrashCard card = one_card(dump("g-entry-failed.txt"));
  EXPECT_EQ(card.rule, "entry-failure-cs-base");
  EXPECT_THAT(card.cause, HasSubstr("CS.base = 7fffeed269c6h"));
}

TEST(ExplainDump, unknown_msrs_of_a_kernel_log) {
  const auto cards = cards_of(dump("h-kernel-msr.txt"));
  ASSERT_EQ(cards.size(), 2u);
  EXPECT_EQ(cards[0].rule, "unknown-msr");
  EXPECT_EQ(cards[0].cause,
            "the guest read MSR c0011020h (LS_CFG) at RIP ffffffff81060f3ah, which this host's KVM "
            "does not know");
  EXPECT_THAT(cards[0].lines, Contains(HasSubstr("2 messages")));
  EXPECT_THAT(cards[1].cause, HasSubstr("wrote MSR 1a2h (MSR_TEMPERATURE_TARGET)"));
}

TEST(ExplainDump, a_vmcs_from_the_kernel_log) {
  const CrashCard card = one_card(dump("i-dump-vmcs.txt"));
  EXPECT_EQ(card.rule, "entry-failure-injection");
  EXPECT_THAT(card.cause, HasSubstr("external interrupt d1h is injected while RFLAGS.IF is 0"));
}

TEST(ExplainDump, an_ept_misconfiguration) {
  const CrashCard card = one_card("[1.0] kvm: vcpu 0 EPT misconfiguration, gpa 0xfed00000\n");
  EXPECT_EQ(card.rule, "ept-misconfiguration");
  EXPECT_THAT(card.cause, HasSubstr("GPA fed00000h"));
}

TEST(ExplainDump, a_triple_fault_of_qemus_reset_log) {
  const CrashCard card = one_card(dump("k-triple-fault.txt"));
  EXPECT_EQ(card.rule, "idt-too-small-or-unmapped");
}

TEST(ExplainDump, several_processors) {
  std::string second = dump("a-vga-hole.txt");
  second.erase(0, second.find("RAX="));
  const auto cards = cards_of(dump("b-one-gib-pages.txt") + "\nCPU#3\n" + second);
  ASSERT_EQ(cards.size(), 2u);
  EXPECT_EQ(cards[1].rule, "executes-in-hole");
  EXPECT_THAT(cards[1].lines, Contains(HasSubstr("on vCPU 3")));
  EXPECT_THAT(cards[0].lines, Not(Contains(HasSubstr("on vCPU"))));
}

TEST(ExplainDump, carriage_returns_and_prefixes_do_no_harm) {
  std::string text = dump("a-vga-hole.txt");
  const std::string plain = one_card(text).text();
  std::string crlf;
  for (const char c : text) crlf += c == '\n' ? std::string("\r\n") : std::string(1, c);
  EXPECT_EQ(one_card(crlf).text(), plain);
  EXPECT_EQ(one_card("some words before\n\n" + text + "\nand after").text(), plain);
}

TEST(ExplainDump, registers_without_an_error_are_no_crash) {
  std::string text = dump("a-vga-hole.txt");
  text.erase(0, text.find("RAX="));
  EXPECT_FALSE(explain_dump(text));
}

TEST(ExplainDump, an_error_line_alone_is_recognised) {
  EXPECT_EQ(one_card("KVM internal error. Suberror: 1\n").rule, "unexplained");
  EXPECT_EQ(one_card("KVM internal error. Suberror: 4\nextra data[0]: 0x000000000000004b\n").rule,
            "unexpected-exit-reason");
}

TEST(ExplainDump, an_outcome_of_ours) {
  const CrashCard card = one_card(
      R"({"layer": "guest", "cause": {"rule": "ud2", "text": "it ended", "card": ["it ended", "  x"]}})");
  EXPECT_EQ(card.rule, "ud2");
  EXPECT_EQ(card.text(), "it ended\n  x\n");
  EXPECT_FALSE(explain_dump(R"({"cause": null})"));
  EXPECT_FALSE(explain_dump(R"({"cause": {"rule": 3}})"));
}

TEST(ExplainDump, nothing_recognised_says_what_was_looked_for) {
  for (const std::string text : {"", "\n\n", "hello", "{", "\xff\xfe\x00"}) {
    const auto cards = explain_dump(text);
    ASSERT_FALSE(cards);
    EXPECT_EQ(cards.error().kind(), ErrorKind::Image);
    EXPECT_THAT(cards.error().hint_text(), HasSubstr("KVM internal error"));
  }
}

TEST(ExplainDump, every_prefix_and_damaged_bytes_of_the_fixtures_are_survived) {
  std::mt19937 random(5);
  for (const char* name :
       {"a-vga-hole.txt", "b-one-gib-pages.txt", "c-one-gib-pages-trace.txt",
        "d-procbased-ctls2.txt", "e-delivery.txt", "g-entry-failed.txt", "i-dump-vmcs.txt"}) {
    const std::string text = dump(name);
    for (std::size_t size = 0; size < text.size(); size += 7)
      (void)explain_dump(text.substr(0, size));
    for (int i = 0; i < 200; ++i) {
      std::string damaged = text;
      for (int j = 0; j < 5; ++j) damaged[random() % damaged.size()] = static_cast<char>(random());
      if (auto cards = explain_dump(damaged)) {
        for (const CrashCard& card : *cards) {
          EXPECT_LE(card.lines.size(), kMaxCardLines);
          EXPECT_EQ(card.text().find('\x1b'), std::string::npos);
        }
      }
    }
  }
}

TEST(ExplainDump, floods_stay_bounded) {
  std::string text;
  for (int i = 0; i < 20000; ++i)
    text +=
        "KVM internal error. Suberror: 1\nEAX=1\nEIP=2\nkvm_mmu_pagetable_walk: addr 2 pferr 1\n"
        "kvm_mmu_walker_error: pferr 9\nkvm [1]: vcpu0 unhandled rdmsr: 0x" +
        std::to_string(i) + "\n";
  EXPECT_LE(cards_of(text).size(), 200u);
  EXPECT_FALSE(explain_dump(std::string(kMaxDumpSize + 100, '=')));
  EXPECT_FALSE(explain_dump(std::string(kMaxDumpSize, '\n')));
}

}  // namespace
}  // namespace vmm
