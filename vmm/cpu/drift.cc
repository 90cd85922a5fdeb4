#include "vmm/cpu/drift.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/core/quirks.h"
#include "vmm/cpu/refusal.h"
#include "vmm/cpu/vmx.h"

namespace vmm {
namespace {

constexpr const char* kModel = "vmm or the model file";

// A CPU as a guest has it: its words, and which of the bits in them the host stands behind.
struct Seen {
  CpuWords words;
  CpuWords given;
};

Seen seen_by_guest(CpuWords words, const std::vector<MissingBit>& refused) {
  Seen seen{words, std::move(words)};
  for (const MissingBit& bit : refused)
    if (const auto id = FeatureCatalog::find(bit.name)) seen.given.set(*id, false);
  return seen;
}

// Why `host` refuses bits of `words`, by place.
std::map<FeaturePlace, MissingBit> reasons(const CpuWords& words, const HostGrant& host, bool own) {
  std::map<FeaturePlace, MissingBit> result;
  for (Refusal& refusal : find_refusals(words, host, own))
    result.emplace(refusal.place, std::move(refusal.bit));
  return result;
}

std::uint64_t raw(const CpuWords& words, const FeatureWord& word) {
  if (!word.is_msr) return words.word(word);
  const auto it = words.msrs.find(word.index);
  return it != words.msrs.end() ? it->second : 0;
}

std::string parameter(const HostGrant& host, const std::string& name) {
  const auto it = host.module_parameters.find(name);
  return it != host.module_parameters.end() ? it->second : "none";
}

// "it was Y then" for a refusal by a parameter, the two kernels for one by the kernel.
std::string what_moved(const MissingBit& refusal, const HostGrant& then, const HostGrant& now,
                       bool came) {
  constexpr std::string_view kParameter = "module parameter ";
  if (refusal.refused_by.starts_with(kParameter)) {
    const std::string name = refusal.refused_by.substr(
        kParameter.size(), refusal.refused_by.find('=') - kParameter.size());
    return came ? fmt::format("it is {} now", parameter(now, name))
                : fmt::format("it was {} then", parameter(then, name));
  }
  if (refusal.refused_by == "host kernel" && then.kernel != now.kernel)
    return came ? fmt::format("Linux {} does", now.kernel)
                : fmt::format("Linux {} did", then.kernel);
  return "";
}

class Comparison {
 public:
  Comparison(const CpuLock& lock, const HostGrant& host) : lock_(lock), host_(host) {}

  Result<Drift> run() {
    const ResolvedCpu now =
        VMM_TRY(resolve_cpu(lock_.selection, lock_.policy, lock_.topology, host_));
    const ResolvedCpu replay =
        VMM_TRY(resolve_cpu(lock_.selection, lock_.policy, lock_.topology, lock_.host));
    own_ = replay.name == "host";
    then_ = seen_by_guest(lock_.words, lock_.refused);
    now_ = seen_by_guest(locked_words(now), now.missing);
    replay_ = seen_by_guest(locked_words(replay), replay.missing);
    drift_.words_digest = words_digest(now_.words);
    drift_.model_changed = replay.model_digest != lock_.model_digest ||
                           words_digest(replay_.words) != words_digest(then_.words);
    compare_bits();
    compare_values();
    if (lock_.quirks_off) compare_quirks(now.quirks_off, replay.quirks_off);
    compare_hosts();
    return std::move(drift_);
  }

 private:
  void compare_bits() {
    const auto refused_now = reasons(then_.given, host_, own_);
    const auto refused_then = reasons(now_.given, lock_.host, own_);
    const bool amd = is_amd(then_.words.cpuid);
    for (const FeatureWord& word : FeatureCatalog::words()) {
      const std::uint64_t changed =
          (then_.given.word(word) ^ now_.given.word(word)) & ~repeated_bits(word, amd);
      for (unsigned i = 0; i < 64; ++i) {
        if (!bit(changed, i)) continue;
        const FeaturePlace place{word, i};
        const bool came = now_.given.has(place);
        BitDrift drift{bit_name(place), place.text(), came, kModel, ""};
        if (replay_.given.has(place) == then_.given.has(place))
          explain(place, came ? refused_then : refused_now, drift);
        drift_.bits.push_back(std::move(drift));
      }
    }
  }

  void explain(const FeaturePlace& place, const std::map<FeaturePlace, MissingBit>& refusals,
               BitDrift& drift) const {
    drift.cause = "the host";
    const auto it = refusals.find(place);
    if (it == refusals.end()) return;
    drift.cause = it->second.refused_by;
    drift.reason = it->second.reason;
    if (const std::string moved = what_moved(it->second, lock_.host, host_, drift.came);
        !moved.empty())
      drift.reason += ", " + moved;
  }

  // What is no feature word: numbers, sizes, text.
  void compare_values() {
    std::set<FeatureWord> named;
    for (const FeatureWord& word : FeatureCatalog::words()) named.insert(word);
    const auto compare = [&](const FeatureWord& word, const std::string& name) {
      // Of VMX not everything is a feature, and the value says more than a name.
      if (named.contains(word) && !is_vmx_word(word)) return;
      const std::uint64_t then = raw(then_.words, word);
      const std::uint64_t now = raw(now_.words, word);
      if (then != now)
        drift_.values.push_back(
            {name, then, now, raw(replay_.words, word) == then ? "the host" : kModel});
    };
    for (const CpuidDifference& d : diff(then_.words.cpuid, now_.words.cpuid))
      compare({false, d.key.leaf, d.key.subleaf, d.reg}, cpuid_word_name(d.key, d.reg));
    std::set<std::uint32_t> indexes;
    for (const auto* msrs : {&then_.words.msrs, &now_.words.msrs})
      for (const auto& [index, unused] : *msrs) indexes.insert(index);
    for (const std::uint32_t index : indexes) {
      const FeatureWord word{true, index, 0, CpuidReg::Eax};
      compare(word, word.text());
    }
  }

  // `wanted` is what the CPU wants to be without today, `replayed` the same on the lock's own host.
  void compare_quirks(std::uint32_t wanted, std::uint32_t replayed) {
    const std::uint32_t now = wanted & host_.quirks;
    const bool ours = (replayed & lock_.host.quirks) != *lock_.quirks_off;
    for (const KvmQuirk& quirk : kvm_quirks())
      if (((now ^ *lock_.quirks_off) & quirk.bit) != 0)
        drift_.quirks.push_back({std::string(quirk.name), (now & quirk.bit) != 0, quirk.guest_tells,
                                 ours ? kModel : "host kernel", std::string(quirk.with_it)});
  }

  void compare_hosts() {
    const HostGrant& then = lock_.host;
    const auto note = [&](const std::string& what, const std::string& before,
                          const std::string& after) {
      if (before != after) drift_.host.push_back({what, before, after});
    };
    const auto processor = [](const HostGrant& host) {
      return fmt::format("{} {:08x}h", host.supported.vendor(), host.supported.get(1).eax);
    };
    note("backend", std::string(backend_name(then.backend)),
         std::string(backend_name(host_.backend)));
    note("kernel", then.kernel, host_.kernel);
    note("processor", processor(then), processor(host_));
    note("physical address bits", fmt::format("{}", then.supported.phys_bits()),
         fmt::format("{}", host_.supported.phys_bits()));
    std::set<std::string> names;
    for (const HostGrant* host : {&then, &host_})
      for (const auto& [name, unused] : host->module_parameters) names.insert(name);
    for (const std::string& name : names) note(name, parameter(then, name), parameter(host_, name));
    note("quirks that can be switched off", fmt::format("{:x}h", then.quirks),
         fmt::format("{:x}h", host_.quirks));
  }

  const CpuLock& lock_;
  const HostGrant& host_;
  bool own_ = false;
  Seen then_;
  Seen now_;
  Seen replay_;
  Drift drift_;
};

void add_bits(std::vector<std::string>& lines, const Drift& drift, bool came) {
  std::size_t name = 0;
  std::size_t word = 0;
  for (const BitDrift& bit : drift.bits) {
    if (bit.came != came) continue;
    name = std::max(name, bit.name.size());
    word = std::max(word, bit.word.size());
  }
  if (word == 0) return;
  lines.emplace_back(came ? "bits that came, and why they were not there:" : "bits that went:");
  for (const BitDrift& bit : drift.bits)
    if (bit.came == came)
      lines.push_back(fmt::format("  {:<{}}  {:<{}}  {}{}{}", bit.name, name, bit.word, word,
                                  bit.cause, bit.reason.empty() ? "" : ": ", bit.reason));
}

}  // namespace

bool Drift::guest_changed() const {
  return model_changed || !bits.empty() || !values.empty() ||
         std::ranges::any_of(quirks, &QuirkDrift::guest_tells);
}

Result<Drift> find_drift(const CpuLock& lock, const HostGrant& host) {
  return Comparison(lock, host).run();
}

std::vector<std::string> drift_lines(const Drift& drift, const CpuLock& lock) {
  std::vector<std::string> lines;
  if (drift.model_changed)
    lines.push_back(
        fmt::format("vmm or the model file is another: the lock, of vmm {}, would be "
                    "another one on its own host",
                    printable(lock.vmm, 40)));
  if (!drift.host.empty()) {
    std::size_t width = 0;
    for (const HostDrift& change : drift.host) width = std::max(width, change.what.size());
    lines.emplace_back("changed on the host:");
    for (const HostDrift& change : drift.host)
      lines.push_back(
          fmt::format("  {:<{}}  {} -> {}", change.what, width, change.then, change.now));
  }
  add_bits(lines, drift, false);
  add_bits(lines, drift, true);
  if (!drift.quirks.empty()) lines.emplace_back("quirks of KVM:");
  for (const QuirkDrift& quirk : drift.quirks)
    lines.push_back(fmt::format("  {} is {}  {}: {}{}", quirk.name,
                                quirk.off ? "off, and was on" : "on, and was off", quirk.cause,
                                quirk.off ? "no longer: " : "", quirk.with_it));
  if (!drift.values.empty()) lines.emplace_back("values that are other ones:");
  for (const ValueDrift& value : drift.values)
    lines.push_back(fmt::format("  {:<14}  {:x}h -> {:x}h  {}", value.word, value.then, value.now,
                                value.cause));
  return lines;
}

}  // namespace vmm
