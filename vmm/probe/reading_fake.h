// A guest that is exactly its model, for tests to change a little.
#pragma once

#include <optional>
#include <string_view>

#include "vmm/base/check.h"
#include "vmm/cpu/features.h"
#include "vmm/probe/run.h"

namespace vmm {

inline ResolvedCpu probe_model(std::string_view selection) {
  auto cpu = resolve_cpu(selection, CpuPolicy::Force, Topology{}, HostGrant{});
  VMM_CHECK(cpu.has_value(), "the model resolves");
  return std::move(*cpu);
}

inline ProbeReading faithful_reading(const ResolvedCpu& cpu) {
  ProbeReading reading{.answers = probe_questions(cpu), .starts = 1, .overridden = {}};
  for (ProbeAnswer& one : reading.answers) {
    const probe::Question& q = one.question;
    probe::Answer answer{};
    answer.state = probe::State::Answered;
    answer.vector = probe::kNoVector;
    if (q.kind == probe::Kind::Cpuid) {
      const CpuidRegs regs = cpu.cpuid.get(q.index, q.detail);
      answer.value[0] = regs.eax;
      answer.value[1] = regs.ebx;
      answer.value[2] = regs.ecx;
      answer.value[3] = regs.edx;
    } else if (q.kind == probe::Kind::Msr) {
      answer.vector = 13;
      for (const CpuMsr& msr : msrs_of_vcpu(cpu)) {
        if (msr.index != q.index) continue;
        answer.vector = probe::kNoVector;
        answer.value[0] = static_cast<std::uint32_t>(msr.value);
        answer.value[1] = static_cast<std::uint32_t>(msr.value >> 32);
      }
    } else if (q.kind == probe::Kind::Exercise) {
      const auto name = probe::kExercises[q.index].feature;
      const FeaturePlace& place = FeatureCatalog::get(feature_id(name)).place;
      bool has = has_feature(cpu.cpuid, name);
      if (place.word.is_msr)
        for (const CpuMsr& msr : cpu.msrs)
          has = has || (msr.index == place.word.index && (msr.value >> place.bit & 1) != 0);
      answer.verdict = has ? probe::Verdict::Works : probe::Verdict::Refused;
      if (!has) answer.vector = 6;
    } else if (q.kind == probe::Kind::VmxControl) {
      answer.verdict = probe::Verdict::Refused;
      answer.value[1] = 7;
    }
    one.answer = answer;
  }
  return reading;
}

// The answer about one feature's exercise.
inline ProbeAnswer& exercise_in(ProbeReading& reading, std::string_view feature) {
  for (ProbeAnswer& one : reading.answers)
    if (one.question.kind == probe::Kind::Exercise &&
        feature == probe::kExercises[one.question.index].feature)
      return one;
  VMM_CHECK(false, "the feature has an exercise");
  return reading.answers.front();
}

inline ProbeAnswer& leaf_in(ProbeReading& reading, std::uint32_t leaf) {
  for (ProbeAnswer& one : reading.answers)
    if (one.question.kind == probe::Kind::Cpuid && one.question.index == leaf) return one;
  VMM_CHECK(false, "the leaf was read");
  return reading.answers.front();
}

}  // namespace vmm
