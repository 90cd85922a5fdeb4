#include "vmm/probe/questions.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "vmm/base/check.h"
#include "vmm/cpu/vmx.h"

namespace vmm {
namespace {

using probe::Kind;
using probe::Question;
using probe::Setup;

// The MSRs that tell what a processor can do: FEATURE_CONTROL, the microcode revision,
// PLATFORM_INFO, CORE_CAPABILITIES, ARCH_CAPABILITIES, PERF_CAPABILITIES, and with VMX its own (SDM
// Vol. 4, table 2-2).
constexpr std::uint32_t kCapabilityMsrs[] = {0x3a, kMicrocodeRevision, kPlatformInfo, 0xcf, 0x10a,
                                             0x345};
constexpr std::uint32_t kFirstVmxMsr = 0x480;
constexpr std::uint32_t kLastVmxMsr = 0x493;

std::uint32_t last_subleaf(const CpuidTable& table, std::uint32_t leaf) {
  std::uint32_t last = 0;
  for (const auto& [key, regs] : table.entries())
    if (key.leaf == leaf) last = std::max(last, key.subleaf);
  return last;
}

void ask_leaves(const CpuidTable& table, std::uint32_t first, std::vector<Question>& questions) {
  constexpr std::uint32_t kMostLeaves = 0x100;
  constexpr std::uint32_t kMostSubleaves = 64;
  const std::uint32_t limit = std::clamp(table.get(first).eax, first, first + kMostLeaves - 1);
  for (std::uint32_t leaf = first; leaf <= limit; ++leaf) {
    // Beyond the last level leaves Bh and 1Fh give the subleaf back, which is no part of a model.
    const std::uint32_t further = leaf == 0xb || leaf == 0x1f ? 0 : 1;
    const std::uint32_t last =
        has_subleaves(leaf) ? std::min(last_subleaf(table, leaf) + further, kMostSubleaves - 1) : 0;
    for (std::uint32_t subleaf = 0; subleaf <= last; ++subleaf)
      questions.push_back({Kind::Cpuid, leaf, subleaf});
  }
}

bool sensible(const probe::Answer& answer) {
  return answer.verdict <= probe::Verdict::Refused &&
         (answer.vector < 32 || answer.vector == probe::kNoVector ||
          answer.vector == probe::kSyscallVector);
}

}  // namespace

std::optional<std::string_view> missing_parent(const ResolvedCpu& cpu, FeatureId feature) {
  static const FeatureId vmx = feature_id("vmx");
  static const FeatureId svm = feature_id("svm");
  // SMX needs VMX, and its switch can be tried without.
  static const FeatureId smx = feature_id("smx");
  if (feature == smx) return std::nullopt;
  if (FeatureCatalog::needs(feature, vmx) && !has_feature(cpu.cpuid, "vmx")) return "vmx";
  if (FeatureCatalog::needs(feature, svm) && !has_feature(cpu.cpuid, "svm")) return "svm";
  return std::nullopt;
}

std::vector<ProbeAnswer> probe_questions(const ResolvedCpu& cpu) {
  const bool vmx = has_feature(cpu.cpuid, "vmx");
  std::vector<Question> questions;
  const auto ask_setup = [&](Setup setup) {
    questions.push_back({Kind::Setup, static_cast<std::uint32_t>(setup), 0});
  };
  ask_setup(Setup::Vectors);
  if (vmx) ask_setup(Setup::Vmx);
  for (const std::uint32_t first : {0x0U, 0x40000000U, 0x80000000U})
    ask_leaves(cpu.cpuid, first, questions);
  if (cpu.cpuid.find(0xc0000000) != nullptr) ask_leaves(cpu.cpuid, 0xc0000000, questions);
  for (const std::uint32_t index : kCapabilityMsrs) questions.push_back({Kind::Msr, index, 0});
  for (std::uint32_t index = kFirstVmxMsr; index <= kLastVmxMsr; ++index)
    questions.push_back({Kind::Msr, index, 0});
  for (std::uint32_t i = 0; i < probe::kExerciseCount; ++i)
    if (!missing_parent(cpu, feature_id(probe::kExercises[i].feature)))
      questions.push_back({Kind::Exercise, i, 0});
  if (vmx)
    for (const Feature& feature : FeatureCatalog::all()) {
      const auto& [word, bit] = feature.place;
      if (is_vmx_word(word) && is_vmx_control_msr(word.index))
        questions.push_back({Kind::VmxControl, word.index, bit});
    }
  VMM_CHECK(questions.size() <= probe::kMaxQuestions, "the mailbox has room for every question");
  std::vector<ProbeAnswer> answers;
  for (const Question& question : questions) answers.push_back({question, std::nullopt, {}});
  return answers;
}

std::vector<std::uint8_t> make_mailbox(std::span<const ProbeAnswer> answers,
                                       std::vector<std::size_t>& asked) {
  std::vector<std::uint8_t> bytes(sizeof(probe::Mailbox));
  asked.clear();
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const ProbeAnswer& answer = answers[i];
    const bool again = answer.question.kind == Kind::Setup && answer.ending.empty();
    if (!answer.open() && !again) continue;
    const probe::Slot slot{.question = answer.question, .reserved = 0, .answer = {}};
    std::memcpy(bytes.data() + offsetof(probe::Mailbox, slots) + asked.size() * sizeof slot, &slot,
                sizeof slot);
    asked.push_back(i);
  }
  const std::uint32_t head[2] = {probe::kMailboxMagic, static_cast<std::uint32_t>(asked.size())};
  std::memcpy(bytes.data(), head, sizeof head);
  return bytes;
}

Result<std::optional<std::size_t>> take_answers(std::span<const std::uint8_t> mailbox,
                                                std::span<const std::size_t> asked,
                                                std::vector<ProbeAnswer>& answers) {
  std::optional<std::size_t> under_way;
  for (std::size_t i = 0; i < asked.size(); ++i) {
    probe::Answer answer;
    const std::size_t offset =
        offsetof(probe::Mailbox, slots) + i * sizeof(probe::Slot) + offsetof(probe::Slot, answer);
    if (asked[i] >= answers.size() || offset + sizeof answer > mailbox.size())
      return fail(Error::internal("the probe's mailbox is smaller than what was asked in it"));
    std::memcpy(&answer, mailbox.data() + offset, sizeof answer);
    if (answer.state == probe::State::Asked) continue;
    if (answer.state == probe::State::Started) {
      if (!under_way) under_way = asked[i];
      continue;
    }
    if (answer.state != probe::State::Answered || !sensible(answer))
      return fail(Error::internal(
          fmt::format("the probe's guest left no possible answer to its question {}", i)));
    answers[asked[i]].answer = answer;
  }
  return under_way;
}

}  // namespace vmm
