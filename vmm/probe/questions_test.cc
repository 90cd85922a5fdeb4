#include "vmm/probe/questions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <set>

#include "vmm/cpu/features.h"
#include "vmm/probe/reading_fake.h"
#include "vmm/probe/reasons.h"

namespace vmm {
namespace {

using probe::Kind;
using testing::HasSubstr;

// The mailbox as a guest leaves it.
struct Mail {
  explicit Mail(std::vector<ProbeAnswer> questions) : answers(std::move(questions)) {
    bytes = make_mailbox(answers, asked);
  }
  void set(std::size_t slot, const probe::Answer& answer) {
    std::memcpy(bytes.data() + offsetof(probe::Mailbox, slots) + slot * sizeof(probe::Slot) +
                    offsetof(probe::Slot, answer),
                &answer, sizeof answer);
  }
  probe::Slot slot(std::size_t index) const {
    probe::Slot slot;
    std::memcpy(&slot, bytes.data() + offsetof(probe::Mailbox, slots) + index * sizeof(probe::Slot),
                sizeof slot);
    return slot;
  }

  std::vector<ProbeAnswer> answers;
  std::vector<std::size_t> asked;
  std::vector<std::uint8_t> bytes;
};

probe::Answer answered(probe::Verdict verdict = probe::Verdict::Works) {
  return {probe::State::Answered, verdict, probe::kNoVector, 0, 0, {1, 2, 3, 4}};
}

TEST(ProbeQuestions, every_leaf_msr_and_exercise_is_asked_once) {
  const auto questions = probe_questions(probe_model("haswell,+vmx"));
  std::set<std::array<std::uint32_t, 3>> seen;
  for (const ProbeAnswer& one : questions)
    EXPECT_TRUE(seen.insert({static_cast<std::uint32_t>(one.question.kind), one.question.index,
                             one.question.detail})
                    .second);
  const auto asked = [&](Kind kind, std::uint32_t index, std::uint32_t detail) {
    return seen.contains({static_cast<std::uint32_t>(kind), index, detail});
  };
  for (const std::uint32_t leaf : {0x0U, 0xdU, 0x40000000U, 0x80000000U, 0x80000008U})
    EXPECT_TRUE(asked(Kind::Cpuid, leaf, 0)) << leaf;
  EXPECT_TRUE(asked(Kind::Cpuid, 7, 1)) << "one subleaf further than the model has";
  EXPECT_FALSE(asked(Kind::Cpuid, 0xe, 0)) << "beyond the limit";
  EXPECT_TRUE(asked(Kind::Msr, 0x48b, 0));
  EXPECT_TRUE(asked(Kind::VmxControl, 0x48b, 20));
  EXPECT_EQ(questions.front().question.kind, Kind::Setup);
}

TEST(ProbeQuestions, what_needs_vmx_or_svm_is_asked_with_it_only) {
  for (const ProbeAnswer& one : probe_questions(probe_model("haswell"))) {
    EXPECT_NE(one.question.kind, Kind::VmxControl);
    if (one.question.kind != Kind::Exercise) continue;
    const std::string_view name = probe::kExercises[one.question.index].feature;
    EXPECT_FALSE(name.starts_with("vmx-") || name == "npt") << name;
  }
}

TEST(ProbeQuestions, every_feature_is_exercised_or_has_a_reason) {
  std::set<std::string_view> exercised;
  for (const auto& exercise : probe::kExercises) {
    EXPECT_TRUE(exercised.insert(exercise.feature).second) << exercise.feature << " twice";
    EXPECT_TRUE(FeatureCatalog::find(exercise.feature)) << exercise.feature;
    const std::string_view also = exercise.also;
    EXPECT_TRUE(also.empty() || FeatureCatalog::find(also)) << also;
  }
  for (const Feature& feature : FeatureCatalog::all()) {
    const std::uint32_t msr = feature.place.word.is_msr ? feature.place.word.index : 0;
    const bool control = msr == 0x48b || (msr >= 0x48d && msr <= 0x490);
    const int ways = (exercised.contains(feature.name) ? 1 : 0) + (control ? 1 : 0) +
                     (not_exercisable(feature.name) ? 1 : 0);
    EXPECT_EQ(ways, 1) << feature.name << ": exercises.h, reasons.cc, or a VMX control";
  }
}

TEST(ProbeMailbox, answers_come_back_to_their_questions) {
  Mail mail(probe_questions(probe_model("qemu64")));
  ASSERT_EQ(mail.asked.size(), mail.answers.size());
  mail.set(3, answered());
  const auto under_way = take_answers(mail.bytes, mail.asked, mail.answers);
  ASSERT_TRUE(under_way.has_value()) << under_way.error().text();
  EXPECT_FALSE(under_way->has_value());
  EXPECT_EQ(mail.answers[3].answer->value[2], 3u);
  EXPECT_TRUE(mail.answers[2].open());
}

TEST(ProbeMailbox, a_question_that_killed_is_named_and_not_asked_again_but_setup_is) {
  Mail mail(probe_questions(probe_model("qemu64")));
  mail.set(0, answered(probe::Verdict::None));
  mail.set(1, answered(probe::Verdict::None));
  mail.set(2, {probe::State::Started, {}, 0, 0, 0, {}});
  const auto under_way = take_answers(mail.bytes, mail.asked, mail.answers);
  ASSERT_TRUE(under_way.has_value());
  ASSERT_EQ(*under_way, std::optional<std::size_t>(2));
  mail.answers[2].ending = "the guest triple-faulted on vCPU 0";
  Mail next(mail.answers);
  EXPECT_EQ(next.asked[0], 0u) << "its effect ended with the guest";
  EXPECT_EQ(next.asked[1], 3u);
  EXPECT_EQ(next.slot(1).question.index, mail.answers[3].question.index);
}

TEST(ProbeMailbox, setup_that_killed_is_not_asked_again) {
  Mail mail(probe_questions(probe_model("qemu64")));
  mail.answers[0].ending = "KVM internal error";
  Mail next(mail.answers);
  EXPECT_EQ(next.asked[0], 1u);
}

TEST(ProbeMailbox, a_hostile_guest_gets_no_answer_through) {
  const probe::Answer bad[] = {
      {static_cast<probe::State>(3), {}, 0, 0, 0, {}},
      {static_cast<probe::State>(0xffffffff), {}, 0, 0, 0, {}},
      {probe::State::Answered, static_cast<probe::Verdict>(4), 6, 0, 0, {}},
      {probe::State::Answered, probe::Verdict::Works, 32, 0, 0, {}},
  };
  for (const probe::Answer& answer : bad) {
    Mail mail(probe_questions(probe_model("qemu64")));
    mail.set(5, answer);
    const auto result = take_answers(mail.bytes, mail.asked, mail.answers);
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().kind(), ErrorKind::Internal);
    EXPECT_THAT(result.error().text(), HasSubstr("question 5"));
  }
}

TEST(ProbeMailbox, questions_that_the_guest_rewrote_do_not_matter) {
  Mail mail(probe_questions(probe_model("qemu64")));
  const probe::Question before = mail.answers[1].question;
  std::memset(mail.bytes.data(), 0xff, 8);  // magic and count
  std::memset(mail.bytes.data() + offsetof(probe::Mailbox, slots) + sizeof(probe::Slot), 0xff,
              sizeof(probe::Question));
  mail.set(1, answered());
  ASSERT_TRUE(take_answers(mail.bytes, mail.asked, mail.answers).has_value());
  EXPECT_EQ(mail.answers[1].question.index, before.index);
  EXPECT_TRUE(mail.answers[1].answer.has_value());
}

TEST(ProbeMailbox, a_short_mailbox_is_an_error) {
  Mail mail(probe_questions(probe_model("qemu64")));
  mail.bytes.resize(100);
  EXPECT_FALSE(take_answers(mail.bytes, mail.asked, mail.answers).has_value());
}

}  // namespace
}  // namespace vmm
