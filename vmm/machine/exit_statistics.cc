#include "vmm/machine/exit_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "vmm/base/text.h"
#include "vmm/nested/svm_exits.h"
#include "vmm/nested/vmx_exits.h"

namespace vmm {
namespace {

// Of kvm_vcpu_stats: entries into L2, and all exits.
constexpr const char* kNestedRuns = "nested_run";
constexpr std::size_t kWidth = 100;
constexpr std::size_t kNameWidth = 34;

std::uint64_t counter(const KvmExits& exits, const char* name) {
  const auto found = exits.counters.find(name);
  return found == exits.counters.end() ? 0 : found->second;
}

// Most frequent first.
std::vector<std::pair<ExitStatistics::Key, ExitStatistics::Reason>> by_count(
    const ExitStatistics& statistics) {
  std::vector<std::pair<ExitStatistics::Key, ExitStatistics::Reason>> list(
      statistics.reasons().begin(), statistics.reasons().end());
  std::ranges::stable_sort(list, [](const auto& a, const auto& b) {
    return std::pair(a.second.total(), a.second.to_l1) >
           std::pair(b.second.total(), b.second.to_l1);
  });
  return list;
}

std::string table_text(const ExitStatistics& statistics) {
  ExitStatistics::Reason sum;
  for (const auto& [key, reason] : statistics.reasons()) {
    sum.l1 += reason.l1;
    sum.l2 += reason.l2;
    sum.kept += reason.kept;
    sum.to_l1 += reason.to_l1;
  }
  const bool nested = sum.l2 != 0 || sum.to_l1 != 0;
  std::string text;
  const auto row = [&](const std::string& name, const auto& l1, const auto& l2, const auto& kept,
                       const auto& to_l1) {
    text += fmt::format("  {:<{}} {:>12}", name, kNameWidth, l1);
    if (nested) text += fmt::format(" {:>12} {:>12} {:>12}", l2, kept, to_l1);
    text += "\n";
  };
  if (nested) row("", "of L1", "of L2", "kept by KVM", "given to L1");
  for (const auto& [key, reason] : by_count(statistics))
    row(exit_reason_text(key.first, key.second), reason.l1, reason.l2, reason.kept, reason.to_l1);
  row("all", sum.l1, sum.l2, sum.kept, sum.to_l1);
  return text;
}

std::string counters_text(const KvmExits& exits) {
  std::vector<std::string> words;
  for (const auto& [name, count] : exits.counters)
    words.push_back(fmt::format("{} {}", name, count));
  return wrap_text("  ", fmt::format("{}", fmt::join(words, ", ")), kWidth);
}

std::string failure_text(const std::string& message, std::uint32_t error) {
  std::string text = message.empty() ? "without a word" : message;
  if (error != 0) text += nested::vm_instruction_error_text(error);
  return text;
}

}  // namespace

std::string exit_reason_name(bool svm, std::uint32_t code) {
  return svm ? nested::svm_exit_name(code)
             : std::string(nested::vmx_exit_name(static_cast<std::uint16_t>(code)));
}

std::string exit_reason_text(bool svm, std::uint32_t code) {
  std::string name = exit_reason_name(svm, code);
  if (name.empty())
    name = svm ? fmt::format("exit code {:X}h", code) : fmt::format("reason {}", code & 0xffff);
  if (!svm && (code & nested::kEntryFailure) != 0) name = "VM-entry failure: " + name;
  return name;
}

ExitStatistics::Reason& ExitStatistics::reason(const Key& key) {
  const auto found = reasons_.find(key);
  if (found != reasons_.end()) return found->second;
  if (reasons_.size() < kMaxReasons) return reasons_[key];
  ++other_exits_;
  return beyond_;
}

// The next event of that vCPU is none that says more about its last exit.
void ExitStatistics::settle(Vcpu& vcpu) {
  if (vcpu.exit) ++reason(*vcpu.exit).l1;
  if (vcpu.l2) ++reason(*vcpu.l2).kept;
  vcpu = {};
}

void ExitStatistics::add(const KvmEvent& event) {
  if (event.vcpu >= vcpus_.size()) return;
  ++events_;
  Vcpu& vcpu = vcpus_[event.vcpu];
  const Key key{event.svm, event.code};
  switch (event.kind) {
    case KvmEventKind::Entry:
      settle(vcpu);
      break;
    case KvmEventKind::AnyExit:
      settle(vcpu);
      vcpu.exit = key;
      break;
    case KvmEventKind::L2Exit:
      if (vcpu.exit == key) vcpu.exit.reset();
      settle(vcpu);
      ++reason(key).l2;
      vcpu.l2 = key;
      break;
    case KvmEventKind::ExitToL1:
      ++reason(key).to_l1;
      // Another reason is another exit: of an interrupt for L1, say, that came meanwhile.
      if (vcpu.l2 == key) vcpu.l2.reset();
      settle(vcpu);
      break;
    case KvmEventKind::L2Entry:
      ++entries_;
      break;
    case KvmEventKind::L2EntryFailed: {
      std::pair<std::string, std::uint32_t> what{event.message, event.code};
      if (failures_.size() < kMaxFailures || failures_.contains(what))
        ++failures_[std::move(what)];
      else
        ++other_failures_;
      break;
    }
  }
}

void ExitStatistics::finish() {
  for (Vcpu& vcpu : vcpus_) settle(vcpu);
}

std::optional<std::uint64_t> KvmExits::entries() const {
  if (!counters.empty()) return counter(*this, kNestedRuns);
  if (problem.empty() && entries_traced) return statistics.entries();
  return std::nullopt;
}

std::string kvm_exits_text(const KvmExits& exits) {
  std::string text;
  if (!exits.problem.empty()) {
    if (exits.counters.empty())
      return "vmm: --kvm-trace: KVM's counters of this run are 0, or it has none (Linux 5.14)\n";
    const std::uint64_t entries = exits.entries().value_or(0);
    text += fmt::format(
        "vmm: {} {} into L2, by KVM's counters; reasons and levels of exits need tracefs:\n",
        entries, entries == 1 ? "entry" : "entries");
    return text + counters_text(exits);
  }
  const ExitStatistics& statistics = exits.statistics;
  if (statistics.reasons().empty())
    text += fmt::format("vmm: --kvm-trace: KVM told of no exit{}\n",
                        exits.emulated ? ": kvm_pvm emulates ring 0, which makes none" : "");
  else
    text += "vmm: exits from the guest to KVM, by reason (--kvm-trace):\n" + table_text(statistics);
  if (const auto entries = exits.entries(); entries.value_or(0) != 0)
    text += fmt::format("vmm: {} {} into L2\n", *entries, *entries == 1 ? "entry" : "entries");
  for (const auto& [what, count] : statistics.failures())
    text += fmt::format("vmm: a VM entry was refused {}, as KVM says: {}\n",
                        count == 1 ? "once" : fmt::format("{} times", count),
                        failure_text(what.first, what.second));
  if (const auto more = statistics.other_failures(); more != 0)
    text += fmt::format("vmm: ... and {} more VM entries, for other reasons\n", more);
  if (const auto more = statistics.other_exits(); more != 0)
    text += fmt::format("vmm: ... and {} exits of more reasons than are told apart\n", more);
  if (exits.lost != 0)
    text += fmt::format(
        "vmm: {} of KVM's events came faster than they could be read and are lost: the numbers are "
        "too small\n",
        exits.lost);
  return text;
}

nlohmann::json kvm_exits_json(const KvmExits& exits) {
  using nlohmann::json;
  const auto hex = [](std::uint64_t value) { return fmt::format("0x{:x}", value); };
  json reasons = json::array(), failures = json::array();
  for (const auto& [key, reason] : by_count(exits.statistics))
    reasons.push_back({{"extension", key.first ? "svm" : "vmx"},
                       {"code", hex(key.second)},
                       {"reason", exit_reason_text(key.first, key.second)},
                       {"l1", reason.l1},
                       {"l2", reason.l2},
                       {"l2_kept_by_kvm", reason.kept},
                       {"given_to_l1", reason.to_l1}});
  for (const auto& [what, count] : exits.statistics.failures())
    failures.push_back({{"text", failure_text(what.first, what.second)}, {"count", count}});
  const auto entries = exits.entries();
  return {{"source", exits.problem.empty() ? "tracefs" : "counters"},
          {"problem", exits.problem.empty() ? json() : json(exits.problem)},
          {"l2_entries", entries ? json(*entries) : json()},
          {"reasons", std::move(reasons)},
          {"refused_entries", std::move(failures)},
          {"events", exits.statistics.events()},
          {"lost", exits.lost},
          {"counters", exits.counters}};
}

}  // namespace vmm
