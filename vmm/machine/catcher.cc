#include "vmm/machine/catcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "vmm/base/text.h"
#include "vmm/machine/explain_nested.h"
#include "vmm/nested/svm_exits.h"
#include "vmm/nested/vmx_exits.h"

namespace vmm {
namespace {

using What = CatchSpec::What;
using nested::VmcsField;

constexpr unsigned kEntryBytes = 3;

constexpr std::pair<std::string_view, What> kWords[] = {
    {"vmentry", What::VmEntry}, {"vmentry-fail", What::VmEntryFail}, {"vmexit", What::VmExit}};

std::string_view word_of(What what) {
  return std::ranges::find(kWords, what, &std::pair<std::string_view, What>::second)->first;
}

// As one types it: "port I/O" is port-i-o, "VMEXIT_NPF" is npf.
std::string typed(std::string_view name) {
  std::string text = lower(name);
  for (char& c : text)
    if (c == ' ' || c == '_' || c == '/') c = '-';
  constexpr std::string_view kPrefix = "vmexit-";
  return text.starts_with(kPrefix) ? text.substr(kPrefix.size()) : text;
}

// Bit 31 of an exit reason, and what lies beyond the basic one, are no part of its name.
std::string exit_name(std::uint64_t code, bool svm) {
  return svm ? typed(nested::svm_exit_name(code))
             : typed(nested::vmx_exit_name(static_cast<std::uint16_t>(code)));
}

std::vector<std::string> exit_names(bool svm) {
  constexpr std::uint64_t kVmxEnd = 0x80, kSvmEnd = 0x410;
  std::vector<std::string> names;
  for (std::uint64_t code = 0; code < (svm ? kSvmEnd : kVmxEnd); ++code)
    if (std::string name = exit_name(code, svm); !name.empty()) names.push_back(std::move(name));
  return names;
}

// A VM exit leaves RFLAGS clear (SDM 27.5.3), a VMLAUNCH or VMRESUME that failed sets CF or ZF
// (30.2).
bool has_result_flags(const CpuState& cpu) {
  constexpr std::uint64_t kCarry = 1u << 0, kZero = 1u << 6;
  return (cpu.regs.rflags & (kCarry | kZero)) != 0;
}

std::optional<std::uint64_t> number_of(std::string_view text) {
  if (text.ends_with('h')) return parse_number("0x" + std::string(text.substr(0, text.size() - 1)));
  return parse_number(text);
}

}  // namespace

Result<CatchSpec> parse_catch(std::string_view text) {
  CatchSpec spec;
  std::string_view words = text;
  if (const auto at = words.find('@'); at != std::string_view::npos) {
    spec.place = words.substr(at + 1);
    words = words.substr(0, at);
    if (spec.place.empty())
      return fail(
          Error::usage(fmt::format("--catch '{}': nothing stands behind @", printable(text)))
              .hint("such as --catch vmentry@0x101440, or a symbol"));
  }
  const auto colon = words.find(':');
  if (colon != std::string_view::npos) {
    spec.reason = typed(words.substr(colon + 1));
    words = words.substr(0, colon);
  }
  const auto found = std::ranges::find(kWords, lower(words),
                                       [](const auto& word) { return std::string(word.first); });
  if (found == std::end(kWords)) {
    std::vector<std::string> names;
    for (const auto& [word, what] : kWords) names.emplace_back(word);
    const auto nearest = nearest_name(lower(words), names);
    return fail(Error::usage(fmt::format("--catch '{}' is unknown", printable(text)))
                    .hint(nearest ? fmt::format("did you mean {}?", *nearest)
                                  : "write vmentry, vmentry-fail, vmexit or vmexit:REASON"));
  }
  spec.what = found->second;
  if (colon != std::string_view::npos && (spec.what != What::VmExit || spec.reason.empty()))
    return fail(
        Error::usage(fmt::format("--catch '{}': a reason follows vmexit: alone", printable(text)))
            .hint("such as --catch vmexit:cpuid"));
  return spec;
}

std::string catch_text(const CatchSpec& spec) {
  return fmt::format("{}{}{}{}{}", word_of(spec.what), spec.reason.empty() ? "" : ":", spec.reason,
                     spec.place.empty() ? "" : "@", spec.place);
}

Catcher::Catcher(DebugTarget& target, MonitorMachine& machine, Debugger& debugger, Setup setup)
    : target_(target),
      machine_(machine),
      debugger_(debugger),
      setup_(std::move(setup)),
      awaited_(target.vcpu_count()) {}

// Where the VM entries are that are asked about, by hand or by what the image has.
Result<std::vector<Gva>> Catcher::places() const {
  std::vector<Gva> places;
  for (const CatchSpec& spec : setup_.specs) {
    if (spec.place.empty()) {
      if (setup_.sites.empty())
        return fail(
            Error::usage(fmt::format("--catch {}: the image has no VMLAUNCH, VMRESUME or VMRUN",
                                     printable(catch_text(spec))))
                .hint(fmt::format("of a hypervisor that is unpacked, copied or loaded later, say "
                                  "where one is: --catch {}@ADDRESS",
                                  word_of(spec.what))));
      places.insert(places.end(), setup_.sites.begin(), setup_.sites.end());
      continue;
    }
    auto address = target_.symbols().address_of(spec.place);
    if (!address) address = number_of(spec.place);
    if (!address)
      return fail(Error::usage(fmt::format("--catch {}: '{}' is no address and no symbol",
                                           printable(catch_text(spec)), printable(spec.place)))
                      .hint("write for instance 0x101440; --symbols FILE brings more names"));
    places.push_back(*address);
  }
  std::ranges::sort(places);
  places.erase(std::unique(places.begin(), places.end()), places.end());
  return places;
}

Result<void> Catcher::start() {
  const auto names = exit_names(setup_.svm);
  for (const CatchSpec& spec : setup_.specs) {
    if (spec.reason.empty() || number_of(spec.reason) ||
        std::ranges::find(names, spec.reason) != names.end())
      continue;
    const auto nearest = nearest_name(spec.reason, names);
    return fail(Error::usage(fmt::format("--catch {}: {} has no such exit",
                                         printable(catch_text(spec)), setup_.svm ? "SVM" : "VT-x"))
                    .hint(nearest ? fmt::format("did you mean vmexit:{}?", *nearest)
                                  : "a number works as well, such as vmexit:0x30"));
  }
  const std::vector<Gva> sites = VMM_TRY(places());
  const DebugSupport support = target_.debug_support();
  if (!support.hardware || !support.resume)
    return fail(
        Error::host(fmt::format("--catch: this host's KVM {} (tried with a VM of a few "
                                "instructions)",
                                !support.hardware
                                    ? "delivers no breakpoints, only single steps, which end where "
                                      "a VM entry begins"
                                    : "stops again at a breakpoint that RFLAGS.RF should let pass"))
            .hint("the vmx lab delivers them; the rules are checked at the end of a run without "
                  "--catch too"));
  if (sites.size() > DebugControl::kSlots) {
    std::string list;
    for (const Gva site : sites) list += (list.empty() ? "" : ", ") + name_of(site);
    return fail(Error::usage(fmt::format("--catch: {} VM entries and four debug registers: {}",
                                         sites.size(), list))
                    .hint("name those that matter, such as --catch vmentry@ADDRESS"));
  }
  for (const Gva site : sites)
    VMM_TRY_CONTEXT(
        debugger_.insert({.kind = Breakpoint::Kind::Hardware, .address = site, .catching = true},
                         [this](unsigned vcpu) { return at_entry(vcpu); }),
        "--catch");
  // The place behind a VMRUN is known; that behind a VMLAUNCH is in the VMCS.
  if (!wants(What::VmExit) || !setup_.svm) return {};
  for (const Gva site : sites) VMM_TRY_CONTEXT(break_at_exit(site + kEntryBytes), "--catch vmexit");
  return {};
}

// A register, as long as there is one: int3 is planted by the tables of one vCPU, which may be
// L2's.
Result<void> Catcher::break_at_exit(Gva place) {
  const auto caught = [this, place](unsigned vcpu) { return at_exit(vcpu, place); };
  for (const auto kind : {Breakpoint::Kind::Hardware, Breakpoint::Kind::Software})
    if (std::ranges::find(debugger_.breakpoints(),
                          Breakpoint{.kind = kind, .address = place, .catching = true}) !=
        debugger_.breakpoints().end())
      return {};
  if (debugger_.insert({.kind = Breakpoint::Kind::Hardware, .address = place, .catching = true},
                       caught))
    return {};
  return debugger_.insert({.kind = Breakpoint::Kind::Software, .address = place, .catching = true},
                          caught);
}

bool Catcher::wants(What what) const {
  return std::ranges::find(setup_.specs, what, &CatchSpec::what) != setup_.specs.end();
}

bool Catcher::wants_exit(const ExitBehind& exit) const {
  const std::uint64_t number = setup_.svm ? exit.code : exit.code & 0xffff;
  return std::ranges::any_of(setup_.specs, [&](const CatchSpec& spec) {
    return spec.what == What::VmExit && (spec.reason.empty() || number_of(spec.reason) == number ||
                                         spec.reason == exit_name(exit.code, setup_.svm));
  });
}

std::string Catcher::name_of(Gva address) const {
  if (const auto name = target_.symbols().name_of(address))
    return fmt::format("{:x}h ({})", address, printable(*name, 48));
  return fmt::format("{:x}h", address);
}

// What the checks look at, of one vCPU; nothing of it where it cannot be read.
CrashScene Catcher::scene_of(unsigned vcpu) const {
  CrashScene scene;
  const auto state = target_.cpu_state(vcpu);
  if (!state) return scene;
  scene.cpuid = target_.cpuid();
  scene.memory = &target_.memory();
  scene.symbols = &target_.symbols();
  scene.capability_origin = setup_.capability_origin;
  scene.vcpus.resize(vcpu + 1);
  scene.vcpus[vcpu] = *state;
  scene.hypervisors.resize(vcpu + 1);
  scene.hypervisors[vcpu] = machine_.hypervisor_state(vcpu);
  return scene;
}

bool Catcher::at_entry(unsigned vcpu) {
  const CrashScene scene = scene_of(vcpu);
  const auto ahead = entry_ahead(scene, vcpu);
  if (!ahead) return false;
  if (wants(What::VmExit)) await_exit(vcpu, *ahead);
  const auto& violations = ahead->finding.report.violations;
  const bool fails = !violations.empty();
  if (!wants(What::VmEntry) && !(fails && wants(What::VmEntryFail))) return false;
  const bool by_fail = fails && wants(What::VmEntryFail);
  CaughtEvent event{
      .vcpu = vcpu, .what = by_fail ? What::VmEntryFail : What::VmEntry, .fails = fails};
  event.place = fmt::format("{} at {}", ahead->instruction, name_of(ahead->address));
  event.text = fmt::format(
      "vCPU {} {}, {} {}, L2 RIP {:X}h: ", vcpu, event.place, setup_.svm ? "VMCB" : "VMCS",
      ahead->block ? fmt::format("{:X}h", *ahead->block) : "none", ahead->l2_rip);
  if (!fails)
    event.text += "breaks no rule";
  else
    event.text +=
        fmt::format("{}: {}{}", ahead->finding.failure, violation_text(scene, violations[0]),
                    violations.size() == 1 ? std::string()
                                           : fmt::format(" (and {} more)", violations.size() - 1));
  return setup_.caught(event);
}

// A breakpoint where the hypervisor goes on, before the entry that leads there. It stays, for
// there are few such places.
void Catcher::await_exit(unsigned vcpu, const EntryAhead& ahead) {
  awaited_[vcpu].reset();
  if (setup_.svm) {
    awaited_[vcpu] = ahead.address + kEntryBytes;
    return;
  }
  const auto& vmcs = ahead.finding.state.vmcs;
  if (!vmcs) return;
  const Gva place = vmcs->get(VmcsField::HostRip);
  const auto inserted = break_at_exit(place);
  if (inserted) {
    awaited_[vcpu] = place;
  } else if (!std::exchange(complained_, true)) {
    (void)setup_.caught({.vcpu = vcpu,
                         .what = What::VmExit,
                         .place = "exit at " + name_of(place),
                         .text = fmt::format("VM exits to {} are not seen: {}", name_of(place),
                                             inserted.error().text())});
  }
}

bool Catcher::at_exit(unsigned vcpu, Gva place) {
  // Whoever comes here by a jump has not entered before, or the entry failed.
  if (awaited_[vcpu] != place) return false;
  const CrashScene scene = scene_of(vcpu);
  const auto exit = exit_behind(scene, vcpu);
  if (!exit || (!setup_.svm && has_result_flags(scene.vcpus[vcpu]))) return false;
  awaited_[vcpu].reset();
  if (!wants_exit(*exit)) return false;
  return setup_.caught(
      {.vcpu = vcpu,
       .what = What::VmExit,
       .place = "exit at " + name_of(place),
       .text = fmt::format("vCPU {} {} from L2 RIP {:X}h: {}", vcpu, "exit to " + name_of(place),
                           exit->l2_rip, exit->text)});
}

}  // namespace vmm
