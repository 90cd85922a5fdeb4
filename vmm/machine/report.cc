#include "vmm/machine/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "vmm/base/sha256.h"
#include "vmm/base/text.h"
#include "vmm/core/quirks.h"
#include "vmm/cpu/guest_text.h"
#include "vmm/cpu/why.h"
#include "vmm/machine/explain_nested.h"
#include "vmm/machine/kernel_slide.h"
#include "vmm/machine/state_json.h"
#include "vmm/machine/trace_file.h"
#include "vmm/nested/dump.h"

namespace vmm {
namespace {

using nlohmann::json;

constexpr std::size_t kLastExits = 32;
constexpr std::size_t kListedOddities = 8;
constexpr auto hex = json_hex;

json ending_json(const RunOutcome& outcome, ExitProtocol protocol) {
  json j = {{"kind", kind_name(outcome)},
            {"headline", headline(outcome)},
            {"exit_code", exit_code(outcome, protocol)}};
  std::visit(Overload{
                 [&](const ending::GuestExit& e) { j["value"] = e.value; },
                 [&](const ending::PowerOff& e) { j["via"] = e.via; },
                 [&](const ending::Reset& e) { j["via"] = e.via; },
                 [&](const ending::TripleFault& e) { j["vcpu"] = e.vcpu; },
                 [&](const ending::InternalFailure& e) {
                   j["vcpu"] = e.vcpu;
                   j["suberror"] = e.error.suberror;
                   json data = json::array();
                   for (std::uint32_t i = 0; i < e.error.ndata; ++i)
                     data.push_back(hex(e.error.data[i]));
                   j["data"] = std::move(data);
                 },
                 [&](const ending::EntryFailure& e) {
                   j["vcpu"] = e.vcpu;
                   j["reason"] = hex(e.reason);
                 },
                 [&](const ending::Caught& e) {
                   j["vcpu"] = e.vcpu;
                   j["what"] = e.what;
                 },
                 [](const ending::HaltedForever&) {},
                 [&](const ending::Stalled& e) { j["seconds"] = e.seconds; },
                 [&](const ending::TimedOut& e) { j["seconds"] = e.seconds; },
                 [&](const ending::Stopped& e) { j["signal"] = e.signal; },
                 [](const ending::Quit&) {},
                 [&](const ending::MonitorFailure& e) { j["what"] = e.what; },
             },
             outcome);
  return j;
}

json cpu_json(const ResolvedCpu& cpu) {
  json missing = json::array();
  for (const MissingBit& bit : cpu.missing)
    missing.push_back({{"name", bit.name},
                       {"word", bit.word},
                       {"refused_by", bit.refused_by},
                       {"status", cpu.policy == CpuPolicy::Force  ? "UNBACKED"
                                  : cpu.policy == CpuPolicy::Mask ? "masked"
                                                                  : "missing"}});
  return {{"model", cpu.name},
          {"selection", cpu.text},
          {"policy", policy_name(cpu.policy)},
          {"model_digest", cpu.model_digest},
          {"guest_digest", nullptr},
          {"overridden_by_kvm", json::array()},
          {"missing", missing},
          {"notes", cpu.notes}};
}

json host_json(const HostGrant& host) {
  return {{"backend", backend_name(host.backend)},
          {"kernel", host.kernel},
          {"module_parameters", host.module_parameters}};
}

json disks_json(const MachineSpec& spec, const std::vector<RunReport::Disk>& reports) {
  json disks = json::array();
  for (std::size_t i = 0; i < spec.disks.size(); ++i) {
    const RunReport::Disk report = i < reports.size() ? reports[i] : RunReport::Disk{};
    disks.push_back({{"disk", disk_text(spec.disks[i])},
                     {"failed_requests", report.failed_requests},
                     {"problem", report.problem.empty() ? json() : json(report.problem)},
                     {"notes", report.notes}});
  }
  return disks;
}

json machine_json(const MachineSpec& spec, std::optional<IrqChipKind> irqchip,
                  std::optional<std::uint32_t> tsc_khz,
                  const std::vector<std::string>& capabilities,
                  const std::vector<std::string>& disabled_quirks) {
  return {
      {"vcpus", spec.topology.vcpus},       {"sockets", spec.topology.sockets},
      {"cores", spec.topology.cores},       {"threads", spec.topology.threads},
      {"memory_bytes", spec.memory},        {"irqchip", irqchip ? irqchip_name(*irqchip) : "auto"},
      {"vga_trap", spec.vga.trap},          {"kvm_capabilities", capabilities},
      {"disabled_quirks", disabled_quirks}, {"tsc_khz", tsc_khz ? json(*tsc_khz) : json()}};
}

json common_json(const MachineSpec& spec) {
  return {{"schema", "vmm-outcome"},
          {"version", kOutcomeVersion},
          {"vmm", {{"version", VMM_VERSION}}},
          {"command", spec.command_line},
          {"repeat", shell_line(spec.command_line)}};
}

// A guest may end by itself because its VM entry was refused: with an exit code, or a reset. One
// that was caught before its entry has not been refused yet.
bool may_be_a_refusal(const RunOutcome& outcome) {
  const auto* exit = std::get_if<ending::GuestExit>(&outcome);
  return (exit == nullptr || exit->value != 0) &&
         !std::holds_alternative<ending::PowerOff>(outcome) &&
         !std::holds_alternative<ending::Caught>(outcome);
}

// Of an ending that is the guest's own: a hypervisor's VM entry was refused, or its guest, which
// asked for a reset, may have died of an instruction that it lacks.
bool has_nested_cause(const RunReport& report) {
  const auto* exit = std::get_if<ending::GuestExit>(&report.outcome);
  const bool reset = std::holds_alternative<ending::Reset>(report.outcome);
  if (exit != nullptr ? exit->value == 0 : !reset) return false;
  return std::ranges::any_of(report.hypervisors, [&](const NestedFinding& finding) {
    return !finding.failure.empty() || (reset && finding.l2_lacks_instructions());
  });
}

json hypervisors_json(const std::vector<NestedFinding>& findings) {
  json list = json::array();
  for (const NestedFinding& finding : findings) {
    const nested::NestedState& state = finding.state;
    const bool vmx = state.format == nested::NestedState::Format::Vmx;
    const auto address = [](std::uint64_t value) {
      return value == nested::kNoAddress ? json() : json(hex(value));
    };
    json violations = json::array(), dump = json::array();
    if (!finding.bytes.empty()) {
      const std::string text = nested::dump_text(finding.bytes_name, finding.bytes);
      for (const std::string_view line : split(trim(text), '\n')) dump.push_back(line);
    }
    json walks = json::array();
    for (const L2Walk& walk : finding.walks) {
      json one = walk_json(walk.address, walk.walk);
      one["of"] = walk.of;
      one["nested"] = walk.nested ? nested_walk_json(*walk.nested) : json();
      walks.push_back(std::move(one));
    }
    for (const nested::Violation& violation : finding.report.violations)
      violations.push_back(violation_json(violation));
    list.push_back({{"vcpu", finding.vcpu},
                    {"extension", vmx ? "vmx" : "svm"},
                    {"level", state.guest_mode ? 2 : 1},
                    {"vmxon", address(state.vmxon_address)},
                    {"control_block", address(vmx ? state.vmcs_address : state.vmcb_address)},
                    {"failure", finding.failure.empty() ? json() : json(finding.failure)},
                    {"counters", finding.counters},
                    {"dump", std::move(dump)},
                    {"lines", finding.lines},
                    {"l2_walks", std::move(walks)},
                    {"violations", std::move(violations)}});
  }
  return list;
}

std::string counts_text(std::uint64_t reads, std::uint64_t writes) {
  const auto part = [](std::uint64_t n, const char* what) {
    return n == 0 ? std::string() : fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
  };
  const std::string r = part(reads, "read");
  const std::string w = part(writes, "write");
  return r.empty() ? w : w.empty() ? r : r + ", " + w;
}

}  // namespace

Result<RunReport> gather(Machine& machine, const RunOutcome& outcome, const MachineSpec& spec,
                         const ResolvedCpu& cpu, const HostGrant& host) {
  RunReport report;
  report.outcome = outcome;
  report.elapsed_seconds = std::chrono::duration<double>(machine.now()).count();
  report.irqchip = machine.irqchip();
  report.tsc_khz = machine.tsc_khz();
  report.test_verdicts = machine.test_verdicts();
  if (const TraceFile* trace = machine.trace())
    report.trace = {trace->path(), trace->totals().events, trace->totals().dropped,
                    trace->error_number() != 0 ? errno_name(trace->error_number()) : ""};
  report.kvm_exits = machine.kvm_exits();
  if (report.kvm_exits) {
    report.kvm_exits->emulated = host.backend == KvmBackend::Pvm;
    for (unsigned i = 0; i < machine.vcpu_count(); ++i)
      if (const auto counters = machine.vcpu(i).counters())
        for (const auto& [name, count] : *counters) report.kvm_exits->counters[name] += count;
  }
  report.kvm_capabilities = machine.kvm_capabilities();
  report.disabled_quirks = quirk_constants(machine.disabled_quirks());
  report.cpuid_differences = machine.cpuid_differences();
  {
    auto board = machine.board().lock();
    for (const auto& disk : (*board)->disks())
      report.disks.push_back({disk->failures(), std::string(disk->problem())});
  }
  for (std::size_t i = 0; i < machine.disk_notes().size(); ++i)
    report.disks.at(i).notes = machine.disk_notes()[i];
  report.vars_failures = machine.vars_failures();
  report.resets = machine.resets();
  report.guest_digest = guest_digest(machine.guest_cpuid(), machine.guest_msrs());
  for (unsigned i = 0; i < machine.vcpu_count(); ++i)
    report.vcpus.push_back(VMM_TRY(machine.cpu_state(i)));

  unsigned died = 0;
  if (const auto* e = std::get_if<ending::TripleFault>(&outcome)) {
    died = e->vcpu;
    // SVM: KVM resets the vCPU before it tells us (debugging the reset state would explain
    // nothing).
    if (host.backend == KvmBackend::Svm) {
      report.registers_trusted = false;
      CpuState& state = report.vcpus[died];
      machine.vcpu(died).registers_before_last_exit(state.regs, state.sregs);
    }
  } else if (const auto* internal = std::get_if<ending::InternalFailure>(&outcome)) {
    died = internal->vcpu;
  } else if (const auto* entry = std::get_if<ending::EntryFailure>(&outcome)) {
    died = entry->vcpu;
  } else if (const auto* caught = std::get_if<ending::Caught>(&outcome)) {
    died = caught->vcpu;
  }
  report.vcpu = died;
  std::vector<ProcessorStart> starts;
  {
    auto board = machine.board().lock();
    if ((*board)->user_chip() != nullptr)
      for (unsigned i = 0; i < machine.vcpu_count(); ++i)
        starts.push_back((*board)->recorder.start(i));
    report.last_exits = (*board)->recorder.last_exits(kLastExits);
    for (const Bus* bus : {&(*board)->ports, &(*board)->mmio}) {
      for (const auto& [address, counts] : bus->unclaimed())
        report.unclaimed.push_back({std::string(bus->name()), address, counts});
    }
    report.unknown_msrs = (*board)->unknown_msrs;
  }

  CrashScene scene;
  scene.outcome = outcome;
  scene.model = cpu.text;
  scene.cpuid = machine.guest_cpuid();
  scene.vcpus = report.vcpus;
  scene.vcpu = died;
  scene.registers_trusted = report.registers_trusted;
  scene.memory = &machine.memory();
  scene.symbols = &machine.symbols();
  scene.last_exits = report.last_exits;
  scene.starts = std::move(starts);
  scene.kvm_backend = backend_name(host.backend);
  for (unsigned i = 0; i < machine.vcpu_count(); ++i)
    scene.hypervisors.push_back(machine.hypervisor_state(i));
  for (unsigned i = 0; i < machine.vcpu_count(); ++i)
    scene.hypervisors[i].counters = machine.counters(i);
  if (may_be_a_refusal(outcome)) scene.refused_vmcbs = machine.refused_vmcbs();
  scene.capability_origin = [&](std::uint32_t msr, unsigned bit) {
    return why_capability_is_off(cpu, msr, bit);
  };
  const MachineAbout about = machine.about();
  scene.host_has_pdpe1gb = about.host_has_pdpe1gb;
  scene.nested_paging = about.nested_paging;
  report.hypervisors = nested_findings(scene);
  SymbolTable moved;
  if (!spec.images.firmware.empty()) {
    report.uefi_images = find_uefi_images(machine.memory(), machine.guest_memory().low_end());
    moved = uefi_symbols(report.uefi_images, machine.symbols(), spec.images.symbols);
    scene.symbols = &moved;
  }
  if (wants_explanation(outcome) || has_nested_cause(report)) {
    // Also of one that died before any exit told.
    if (const auto slide = kernel_slide(scene); slide && *slide != scene.symbols->slide()) {
      if (scene.symbols != &moved) moved = *scene.symbols;
      moved.move_kernel(*slide);
      scene.symbols = &moved;
    }
    report.card = explain(scene, report.hypervisors);
  }
  if (spec.lint_paging) report.paging_lint = paging_lint_lines(scene);
  return report;
}

json outcome_json(const RunReport& report, const MachineSpec& spec, const ResolvedCpu& cpu,
                  const HostGrant& host, const LoadedImage& image) {
  json j = common_json(spec);
  j["ending"] = ending_json(report.outcome, spec.exit_protocol);
  // Who ended the run, or, for a death, who has to change something.
  j["layer"] = report.card ? report.card->layer : std::string(layer_name(report.outcome));
  j["cause"] = report.card ? json{{"rule", report.card->rule},
                                  {"text", report.card->cause},
                                  {"card", report.card->lines}}
                           : json();
  j["cpu"] = cpu_json(cpu);
  j["cpu"]["guest_digest"] = report.guest_digest;
  for (const CpuidDifference& d : report.cpuid_differences)
    j["cpu"]["overridden_by_kvm"].push_back(
        {{"word", cpuid_word_name(d.key, d.reg)}, {"set", hex(d.left)}, {"read", hex(d.right)}});
  j["machine"] = machine_json(spec, report.irqchip, report.tsc_khz, report.kvm_capabilities,
                              report.disabled_quirks);
  j["machine"]["disks"] = disks_json(spec, report.disks);
  if (spec.vars)
    j["machine"]["vars"] = {{"file", vars_text(*spec.vars)}, {"failures", report.vars_failures}};
  j["host"] = host_json(host);
  j["image"] = {{"path", image.path},
                {"protocol", protocol_name(image.protocol)},
                {"entry", hex(image.entry)},
                {"sha256", sha256_hex(image.bytes)}};
  j["resets"] = {{"count", report.resets.count},
                 {"last", report.resets.count == 0 ? json() : json(report.resets.last)}};
  j["elapsed_seconds"] = report.elapsed_seconds;
  j["paging_lint"] = report.paging_lint;
  for (const UefiImage& uefi : report.uefi_images)
    j["uefi_images"].push_back(
        {{"name", uefi.name}, {"base", hex(uefi.base)}, {"size", uefi.size}});
  if (!report.hypervisors.empty()) j["hypervisors"] = hypervisors_json(report.hypervisors);
  json vcpus = json::array();
  for (std::size_t i = 0; i < report.vcpus.size(); ++i) {
    json v = registers_json(report.vcpus[i]);
    v["index"] = i;
    v["mp_state"] = mp_state_name(report.vcpus[i].mp_state);
    v["trusted"] = report.registers_trusted;
    vcpus.push_back(std::move(v));
  }
  j["vcpus"] = std::move(vcpus);
  json exits = json::array();
  for (const TraceEvent& e : report.last_exits) exits.push_back(event_json(e));
  j["last_exits"] = std::move(exits);
  json unclaimed = json::array();
  for (const auto& u : report.unclaimed)
    unclaimed.push_back({{"bus", u.bus},
                         {"address", hex(u.address)},
                         {"reads", u.counts.reads},
                         {"writes", u.counts.writes}});
  j["unclaimed"] = std::move(unclaimed);
  json msrs = json::array();
  for (const auto& [index, counts] : report.unknown_msrs)
    msrs.push_back({{"msr", hex(index)}, {"reads", counts.reads}, {"writes", counts.writes}});
  j["unknown_msrs"] = std::move(msrs);
  if (const auto& trace = report.trace)
    j["trace"] = {{"path", trace->path},
                  {"events", trace->events},
                  {"dropped", trace->dropped},
                  {"error", trace->error.empty() ? json() : json(trace->error)}};
  if (report.kvm_exits) j["kvm_trace"] = kvm_exits_json(*report.kvm_exits);
  if (const auto& verdicts = report.test_verdicts)
    j["test_verdicts"] = {
        {"passed", verdicts->passed}, {"failed", verdicts->failed}, {"skipped", verdicts->skipped}};
  return j;
}

namespace {

const char* layer_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::Host:
      return "host";
    case ErrorKind::Lab:
    case ErrorKind::NoLab:
      return "lab";
    default:
      return "monitor";
  }
}

// kvm-unit-tests: what an image writes to port f4h that found nothing here to test (77 as QEMU's
// exit code).
bool skipped_itself(const RunOutcome& outcome) {
  constexpr std::uint64_t kSkipped = 77 >> 1;
  const auto* exit = std::get_if<ending::GuestExit>(&outcome);
  return exit != nullptr && exit->value == kSkipped;
}

}  // namespace

json refusal_json(const Error& error, const MachineSpec& spec, const ResolvedCpu* cpu,
                  const HostGrant* host) {
  json j = common_json(spec);
  j["ending"] = {
      {"kind", "not-started"}, {"headline", error.text()}, {"exit_code", exit_code(error.kind())}};
  j["layer"] = layer_of(error.kind());
  j["cause"] = nullptr;
  j["cpu"] = cpu != nullptr ? cpu_json(*cpu) : json();
  j["machine"] = machine_json(spec, spec.irqchip, spec.tsc_khz, {}, {});
  j["machine"]["disks"] = disks_json(spec, {});
  j["host"] = host != nullptr ? host_json(*host) : json();
  j["image"] = nullptr;
  j["elapsed_seconds"] = 0;
  for (const char* list : {"paging_lint", "vcpus", "last_exits", "unclaimed", "unknown_msrs"})
    j[list] = json::array();
  return j;
}

std::string summary_text(const RunReport& report, const MachineSpec& spec) {
  std::string text;
  if (report.card) text += report.card->text();
  for (const std::string& line : report.paging_lint) text += "vmm: " + line + "\n";
  std::size_t listed = 0;
  // Firmware asks for many things that may be there; it is told of those when it did not end well.
  const bool probing = !spec.images.firmware.empty() && !report.card;
  for (const auto& u : report.unclaimed) {
    if (probing) break;
    if (listed++ == kListedOddities) {
      text += fmt::format("vmm: ... and {} more addresses that nothing claims (--outcome-json)\n",
                          report.unclaimed.size() - kListedOddities);
      break;
    }
    text += fmt::format("vmm: {} {:x}h: nothing is there ({}; reads gave all ones)\n", u.bus,
                        u.address, counts_text(u.counts.reads, u.counts.writes));
  }
  listed = 0;
  for (const auto& [index, counts] : report.unknown_msrs) {
    if (listed++ == kListedOddities) {
      text += fmt::format("vmm: ... and {} more MSRs (--outcome-json)\n",
                          report.unknown_msrs.size() - kListedOddities);
      break;
    }
    text += fmt::format("vmm: MSR {:x}h: KVM refused it and the guest got #GP ({})\n", index,
                        counts_text(counts.reads, counts.writes));
  }
  if (const auto& resets = report.resets; resets.count != 0 && !spec.quiet)
    text += fmt::format("vmm: it started again {} time{}, the last time by {}\n", resets.count,
                        resets.count == 1 ? "" : "s", resets.last);
  for (std::size_t i = 0; i < report.disks.size(); ++i)
    if (!report.disks[i].problem.empty())
      text += fmt::format("vmm: disk{} stopped, the driver broke a rule of VIRTIO: {}\n", i,
                          report.disks[i].problem);
  if (report.vars_failures != 0)
    text += fmt::format(
        "vmm: --vars {}: {} times the host could not do what the guest wanted: its "
        "variables may be lost\n",
        printable(spec.vars->path), report.vars_failures);
  for (std::size_t i = 0; i < report.disks.size(); ++i)
    for (const std::string& note : report.disks[i].notes)
      text += fmt::format("vmm: {} {}: {}\n", disk_option(spec.disks[i]),
                          printable(spec.disks[i].path), note);
  if (const auto& trace = report.trace; trace && trace->dropped > 0)
    text += fmt::format("vmm: --trace {}: {} events were dropped, {} written: {}\n",
                        printable(trace->path), trace->dropped, trace->events,
                        trace->error.empty() ? "they came faster than they could be written; "
                                               "--trace-filter takes fewer"
                                             : trace->error);
  if (report.kvm_exits && !spec.quiet) text += kvm_exits_text(*report.kvm_exits);
  if (const auto& verdicts = report.test_verdicts; verdicts && !spec.quiet)
    text += fmt::format("vmm: test results: {} passed, {} failed, {} skipped{}\n", verdicts->passed,
                        verdicts->failed, verdicts->skipped,
                        skipped_itself(report.outcome) ? " (the whole test skipped itself)" : "");
  if (!spec.quiet || exit_code(report.outcome, spec.exit_protocol) >= 64)
    text += fmt::format("vmm: {} (exit {})\n", headline(report.outcome),
                        exit_code(report.outcome, spec.exit_protocol));
  return text;
}

std::string differences_text(const std::vector<CpuidDifference>& differences) {
  if (differences.empty()) return {};
  std::vector<std::string> words;
  for (const CpuidDifference& d : differences) words.push_back(cpuid_word_name(d.key, d.reg));
  return "vmm: this KVM (kvm_pvm) shows the guest the processor's own bits in some CPUID words, "
         "whatever is set:\n" +
         wrap_text("  ", fmt::format("{}", fmt::join(words, " ")), 100);
}

std::string missing_text(const ResolvedCpu& cpu) {
  if (cpu.missing.empty()) return {};
  std::string text;
  if (cpu.policy == CpuPolicy::Strict) {
    for (const std::string& line : describe(cpu.missing)) text += line + "\n";
    return text;
  }
  std::vector<std::string> names;
  for (const MissingBit& bit : cpu.missing) names.push_back(bit.name);
  const bool one = names.size() == 1;
  const std::string bits =
      fmt::format("{} bit{} of {} {}", names.size(), one ? "" : "s", cpu.name, one ? "is" : "are");
  const std::string_view it = one ? "it" : "them";
  text = cpu.policy == CpuPolicy::Mask
             ? fmt::format("vmm: {} masked, this host cannot give {}:\n", bits, it)
             : fmt::format("vmm: {} UNBACKED, set although this host cannot give {}:\n", bits, it);
  return text + wrap_text("  ", fmt::format("{}", fmt::join(names, " ")), 100);
}

}  // namespace vmm
