#include "vmm/probe/classify.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "vmm/base/bytes.h"
#include "vmm/cpu/guest_text.h"
#include "vmm/cpu/vmx.h"
#include "vmm/probe/reasons.h"

namespace vmm {
namespace {

using probe::Kind;
using probe::Verdict;

bool is_vmx_msr(std::uint32_t msr) { return msr >= 0x480 && msr <= 0x493; }

// The MSRs that the CPUID of `table` announces; what else can be read is KVM's kindness.
bool announced(const CpuidTable& table, std::uint32_t msr) {
  switch (msr) {
    case 0x3a:
      return has_feature(table, "vmx");
    case 0xcf:
      return has_feature(table, "core-capability");
    case 0x10a:
      return has_feature(table, "arch-capabilities");
    case 0x345:
      return has_feature(table, "pdcm");
    default:
      return is_vmx_msr(msr) && has_feature(table, "vmx");
  }
}

std::string vector_name(std::uint32_t vector) {
  switch (vector) {
    case 6:
      return "#UD";
    case 7:
      return "#NM";
    case 13:
      return "#GP";
    case 14:
      return "#PF";
    default:
      return fmt::format("exception {}", vector);
  }
}

class Judge {
 public:
  Judge(const ResolvedCpu& cpu, const ProbeReading& reading)
      : cpu_(cpu), reading_(reading), guest_(reading.cpuid()) {
    for (const CpuMsr& msr : msrs_of_vcpu(cpu)) model_msrs_[msr.index] = msr.value;
  }

  ProbeResult result() {
    ProbeResult result;
    for (FeatureId id = 0; id < FeatureCatalog::all().size(); ++id) result.rows.push_back(row(id));
    compare_words(result);
    result.guest_digest = guest_digest(guest_, result.msrs);
    result.expected_digest = guest_digest(cpu_.cpuid, expected_msrs(result));
    result.starts = reading_.starts;
    return result;
  }

 private:
  ProbeRow row(FeatureId id) const {
    const Feature& feature = FeatureCatalog::get(id);
    ProbeRow row;
    row.feature = id;
    row.claimed = claimed(feature.place);
    row.shown = shown(feature.place);
    const bool claim = row.claimed.value_or(row.shown.value_or(false));
    if (row.claimed && row.shown.value_or(false) != *row.claimed && !overridden(feature.place)) {
      row.status = ProbeStatus::Contradicted;
      row.reason = claim ? "the guest does not see it" : "the guest sees it";
      return row;
    }
    const auto* exercise = exercise_of(feature);
    if (exercise == nullptr) {
      row.reason = no_exercise(feature);
      return row;
    }
    if (!exercise->answer) {
      row.reason = exercise->ending.empty()
                       ? "the probe ended before it came to that"
                       : fmt::format("not here, for it ends the guest: {}", exercise->ending);
      return row;
    }
    if (exercise->answer->verdict == Verdict::None) {
      row.reason = "the guest gave no verdict";
      return row;
    }
    weigh(row, claim, *exercise);
    return row;
  }

  void weigh(ProbeRow& row, bool claim, const ProbeAnswer& exercise) const {
    const probe::Answer& answer = *exercise.answer;
    if (answer.verdict == Verdict::Works) {
      const std::string_view also = exercise.question.kind == Kind::Exercise
                                        ? probe::kExercises[exercise.question.index].also
                                        : "";
      if (claim) {
        row.status = ProbeStatus::Works;
      } else if (!also.empty() && has_feature(cpu_.cpuid, also)) {
        row.reason = fmt::format("{}, which the model has, brings the same", also);
      } else {
        row.status = ProbeStatus::Hole;
        row.reason = row.shown.value_or(false) ? "it works, and KVM shows it" : "it works";
      }
      return;
    }
    const std::string how = behaviour(exercise.question, answer);
    row.status = claim ? ProbeStatus::Contradicted : ProbeStatus::Refused;
    row.reason = claim || how != "#UD" ? how : std::string();
    if (!claim && row.shown.value_or(false)) row.reason = how + ", though KVM shows the bit";
  }

  static std::string behaviour(const probe::Question& question, const probe::Answer& answer) {
    if (answer.vector != probe::kNoVector) {
      if (answer.vector == 14)
        return fmt::format("#PF at {:x}h, error code {:x}h", answer.address, answer.error);
      return vector_name(answer.vector);
    }
    const std::uint32_t detail = answer.value[1];
    if (question.kind == Kind::VmxControl)
      return answer.verdict == Verdict::Refused
                 ? fmt::format("VM entry fails with error {}", detail)
                 : fmt::format("it can be set and does not act (exit reason {})", detail);
    if (answer.verdict == Verdict::Refused) return "it is refused";
    return detail != 0 ? fmt::format("it runs and does something else ({:x}h)", detail)
                       : std::string("it runs and does something else");
  }

  // The question about a feature, if there was one.
  const ProbeAnswer* exercise_of(const Feature& feature) const {
    const FeatureWord& word = feature.place.word;
    if (word.is_msr && is_vmx_control_msr(word.index))
      return reading_.find(Kind::VmxControl, word.index, feature.place.bit);
    for (std::uint32_t i = 0; i < probe::kExerciseCount; ++i)
      if (feature.name == probe::kExercises[i].feature) return reading_.find(Kind::Exercise, i);
    return nullptr;
  }

  std::string no_exercise(const Feature& feature) const {
    if (const auto reason = not_exercisable(feature.name)) return std::string(*reason);
    if (const auto parent = missing_parent(cpu_, feature_id(feature.name)))
      return fmt::format("it is a part of {}, which the model does not have", *parent);
    return "no reason is on the list";
  }

  std::optional<bool> claimed(const FeaturePlace& place) const {
    if (!place.word.is_msr)
      return cpu_.cpuid.bit(place.word.index, place.word.subleaf, place.word.reg, place.bit);
    const auto it = model_msrs_.find(place.word.index);
    if (it != model_msrs_.end()) return msr_feature(it->second, place);
    // What is announced without a value of the model's is KVM's own.
    return announced(cpu_.cpuid, place.word.index) ? std::nullopt : std::optional(false);
  }

  std::optional<bool> shown(const FeaturePlace& place) const {
    if (!place.word.is_msr)
      return guest_.bit(place.word.index, place.word.subleaf, place.word.reg, place.bit);
    // An MSR that CPUID does not announce is not looked at, whatever it holds.
    if (!announced(guest_, place.word.index)) return false;
    const auto value = reading_.msr(place.word.index);
    return value ? std::optional(msr_feature(*value, place)) : std::nullopt;
  }

  bool overridden(const FeaturePlace& place) const {
    if (place.word.is_msr) return !announced(cpu_.cpuid, place.word.index);
    return overridden({place.word.index, place.word.subleaf}, place.word.reg);
  }
  bool overridden(CpuidKey key, CpuidReg reg) const {
    return std::ranges::any_of(reading_.overridden, [&](const CpuidDifference& difference) {
      return difference.key == key && difference.reg == reg;
    });
  }

  void compare_words(ProbeResult& result) const {
    // Leaves beyond what was asked are beyond the limits, where no guest looks.
    CpuidTable model;
    for (const ProbeAnswer& one : reading_.answers) {
      const probe::Question& q = one.question;
      if (q.kind == Kind::Cpuid && one.answer) {
        model.at(q.index, q.detail) = cpu_.cpuid.get(q.index, q.detail);
        result.words_read += 4;
      }
    }
    for (const CpuidDifference& d : unexpected_differences(model, guest_))
      result.words.push_back(
          {cpuid_word_name(d.key, d.reg), d.left, d.right, overridden(d.key, d.reg)});
    for (const ProbeAnswer& one : reading_.answers) {
      const std::uint32_t index = one.question.index;
      if (one.question.kind != Kind::Msr || !one.answer) continue;
      const auto value = reading_.msr(index);
      if (value) result.msrs[index] = *value;
      ++result.words_read;
      const auto wanted = model_msrs_.find(index);
      if (wanted != model_msrs_.end() && value != wanted->second)
        result.words.push_back({fmt::format("MSR {:X}", index), wanted->second, value, false});
    }
  }

  std::map<std::uint32_t, std::uint64_t> expected_msrs(const ProbeResult& result) const {
    std::map<std::uint32_t, std::uint64_t> msrs = model_msrs_;
    // Where the model leaves an MSR to KVM, so does what is expected.
    for (const auto& [index, value] : result.msrs)
      if (announced(cpu_.cpuid, index)) msrs.try_emplace(index, value);
    return msrs;
  }

  const ResolvedCpu& cpu_;
  const ProbeReading& reading_;
  CpuidTable guest_;
  std::map<std::uint32_t, std::uint64_t> model_msrs_;
};

}  // namespace

std::string_view status_name(ProbeStatus status) {
  constexpr std::array<std::string_view, 5> kNames = {"works", "refused", "not exercisable", "hole",
                                                      "contradicted"};
  return kNames[static_cast<std::size_t>(status)];
}

std::size_t ProbeResult::count(ProbeStatus status) const {
  return static_cast<std::size_t>(
      std::ranges::count_if(rows, [&](const ProbeRow& row) { return row.status == status; }));
}

bool msr_feature(std::uint64_t value, const FeaturePlace& place) {
  return bit(is_vmx_word(place.word) ? vmx_features(place.word.index, value) : value, place.bit);
}

ProbeResult judge(const ResolvedCpu& cpu, const ProbeReading& reading) {
  return Judge(cpu, reading).result();
}

}  // namespace vmm
