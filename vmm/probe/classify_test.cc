#include "vmm/probe/classify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "vmm/probe/reading_fake.h"
#include "vmm/probe/report.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const ProbeRow& row_of(const ProbeResult& result, std::string_view feature) {
  return result.rows[feature_id(feature)];
}

class ProbeJudge : public testing::Test {
 protected:
  ProbeResult result() const { return judge(cpu_, reading_); }
  void refuse(std::string_view feature, std::uint32_t vector) {
    exercise_in(reading_, feature).answer->verdict = probe::Verdict::Refused;
    exercise_in(reading_, feature).answer->vector = vector;
  }
  void let_work(std::string_view feature) {
    exercise_in(reading_, feature).answer->verdict = probe::Verdict::Works;
    exercise_in(reading_, feature).answer->vector = probe::kNoVector;
  }

  ResolvedCpu cpu_ = probe_model("haswell");
  ProbeReading reading_ = faithful_reading(cpu_);
};

TEST_F(ProbeJudge, a_guest_that_is_its_model_contradicts_nothing) {
  const ProbeResult r = result();
  EXPECT_EQ(r.count(ProbeStatus::Contradicted), 0u);
  EXPECT_EQ(r.count(ProbeStatus::Hole), 0u);
  EXPECT_THAT(r.words, IsEmpty());
  EXPECT_EQ(r.guest_digest, r.expected_digest);
  EXPECT_THAT(r.rows, SizeIs(FeatureCatalog::all().size()));
  EXPECT_EQ(row_of(r, "avx2").status, ProbeStatus::Works);
  EXPECT_EQ(row_of(r, "pdpe1gb").status, ProbeStatus::Refused);
  EXPECT_EQ(row_of(r, "la57").status, ProbeStatus::NotExercisable);
  for (const ProbeRow& row : r.rows)
    EXPECT_NE(row.reason, "no reason is on the list") << FeatureCatalog::get(row.feature).name;
}

TEST_F(ProbeJudge, a_claim_that_faults_is_contradicted) {
  refuse("avx2", 6);
  const ProbeResult r = result();
  EXPECT_EQ(row_of(r, "avx2").status, ProbeStatus::Contradicted);
  EXPECT_EQ(row_of(r, "avx2").reason, "#UD");
}

TEST_F(ProbeJudge, what_works_though_hidden_is_a_hole) {
  let_work("pdpe1gb");
  EXPECT_EQ(row_of(result(), "pdpe1gb").status, ProbeStatus::Hole);
}

TEST_F(ProbeJudge, what_another_feature_brings_is_no_hole) {
  ASSERT_TRUE(has_feature(cpu_.cpuid, "spec-ctrl"));
  let_work("ibpb");
  EXPECT_EQ(row_of(result(), "ibpb").status, ProbeStatus::NotExercisable);
  EXPECT_THAT(row_of(result(), "ibpb").reason, HasSubstr("spec-ctrl"));
}

TEST_F(ProbeJudge, what_ends_the_guest_is_not_exercisable_here) {
  ProbeAnswer& one = exercise_in(reading_, "invpcid");
  one.answer.reset();
  one.ending = "KVM internal error on vCPU 0";
  const ProbeRow row = row_of(result(), "invpcid");
  EXPECT_EQ(row.status, ProbeStatus::NotExercisable);
  EXPECT_THAT(row.reason, HasSubstr("KVM internal error"));
}

TEST_F(ProbeJudge, a_bit_that_the_guest_reads_otherwise_is_contradicted_and_changes_the_digest) {
  leaf_in(reading_, 1).answer->value[2] &= ~(1U << 28);  // AVX
  const ProbeResult r = result();
  EXPECT_EQ(row_of(r, "avx").status, ProbeStatus::Contradicted);
  ASSERT_THAT(r.words, SizeIs(1));
  EXPECT_EQ(r.words[0].word, "1.ECX");
  EXPECT_NE(r.guest_digest, r.expected_digest);
}

TEST_F(ProbeJudge, a_bit_too_many_is_contradicted_unless_kvm_owns_up_to_it) {
  leaf_in(reading_, 0x80000001).answer->value[3] |= 1U << 26;  // pdpe1gb
  EXPECT_EQ(row_of(result(), "pdpe1gb").status, ProbeStatus::Contradicted);
  reading_.overridden.push_back({{0x80000001, 0}, CpuidReg::Edx, 0, 1U << 26});
  EXPECT_EQ(row_of(result(), "pdpe1gb").status, ProbeStatus::Refused);
  EXPECT_TRUE(result().words[0].overridden);
  let_work("pdpe1gb");
  EXPECT_EQ(row_of(result(), "pdpe1gb").status, ProbeStatus::Hole);
}

TEST_F(ProbeJudge, run_time_bits_differ_freely) {
  leaf_in(reading_, 1).answer->value[2] ^= 1U << 27;  // OSXSAVE
  leaf_in(reading_, 0xd).answer->value[1] ^= 0x240;   // the size for XCR0
  EXPECT_THAT(result().words, IsEmpty());
  EXPECT_EQ(result().guest_digest, result().expected_digest);
}

TEST(ProbeJudgeVmx, a_control_is_had_when_it_can_be_used) {
  const FeaturePlace hlt_exit{{.is_msr = true, .index = 0x48e}, 7};
  EXPECT_TRUE(msr_feature(std::uint64_t{1} << 39, hlt_exit));
  EXPECT_TRUE(msr_feature(std::uint64_t{1} << 39 | 1 << 7, hlt_exit)) << "fixed to 1";
  const FeaturePlace cr3_load{{.is_msr = true, .index = 0x48e}, 15};  // 1 by default
  EXPECT_TRUE(msr_feature(std::uint64_t{1} << 47, cr3_load));
  EXPECT_FALSE(msr_feature(std::uint64_t{1} << 47 | 1 << 15, cr3_load)) << "it cannot be 0";
  EXPECT_FALSE(msr_feature(0, hlt_exit));
  EXPECT_TRUE(msr_feature(1, {{.is_msr = true, .index = 0x10a}, 0}));
}

TEST(ProbeJudgeVmx, without_words_of_the_model_kvms_own_are_the_claim) {
  ResolvedCpu cpu = probe_model("haswell,+vmx");
  std::erase_if(cpu.msrs, [](const CpuMsr& msr) { return msr.index >= 0x480; });
  ProbeReading reading = faithful_reading(cpu);
  for (ProbeAnswer& one : reading.answers) {
    if (one.question.kind == probe::Kind::Msr && one.question.index == 0x48e) {
      one.answer->vector = probe::kNoVector;
      one.answer->value[1] = 1 << 7 | 1 << 9;
    }
    if (one.question.kind == probe::Kind::VmxControl && one.question.index == 0x48e &&
        one.question.detail == 7)
      one.answer->verdict = probe::Verdict::Works;
  }
  const ProbeResult result = judge(cpu, reading);
  EXPECT_EQ(row_of(result, "vmx-hlt-exit").status, ProbeStatus::Works);
  EXPECT_EQ(row_of(result, "vmx-hlt-exit").claimed, std::nullopt);
  EXPECT_EQ(row_of(result, "vmx-invlpg-exit").status, ProbeStatus::Contradicted)
      << "KVM says it can be set, and it cannot";
  EXPECT_EQ(row_of(result, "vmx-mtf").status, ProbeStatus::Refused);
}

TEST(ProbeJudgeVmx, a_word_of_the_models_is_held_against_the_guest) {
  ResolvedCpu cpu = probe_model("haswell,+vmx");
  ProbeReading reading = faithful_reading(cpu);
  std::uint64_t given = 0;
  for (CpuMsr& msr : cpu.msrs)
    if (msr.index == 0x48e) {
      given = msr.value;
      msr.value &= ~(std::uint64_t{1} << (32 + 7));
    }
  const ProbeResult result = judge(cpu, reading);
  EXPECT_EQ(row_of(result, "vmx-hlt-exit").status, ProbeStatus::Contradicted);
  EXPECT_EQ(row_of(result, "vmx-hlt-exit").reason, "the guest sees it");
  ASSERT_THAT(result.words, SizeIs(1));
  EXPECT_EQ(result.words[0].word, "MSR 48E");
  EXPECT_EQ(result.words[0].guest, given);
}

TEST_F(ProbeJudge, the_report_names_what_is_untrue_and_the_document_has_all) {
  refuse("avx2", 6);
  const auto lines = probe_lines(cpu_, HostGrant{}, result(), false);
  EXPECT_THAT(lines, Contains("contradicted:"));
  EXPECT_THAT(lines, Contains(testing::AllOf(HasSubstr("avx2"), HasSubstr("#UD"))));
  const auto document = probe_json(cpu_, HostGrant{}, reading_, result());
  EXPECT_EQ(document["verdict"], "contradicted");
  EXPECT_EQ(document["features"].size(), FeatureCatalog::all().size());
  EXPECT_EQ(document["counts"]["contradicted"], 1);
}

}  // namespace
}  // namespace vmm
