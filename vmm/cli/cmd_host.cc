// vmm host: what this host's KVM offers, what it does not, and what to change.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "vmm/base/text.h"
#include "vmm/cli/commands.h"
#include "vmm/cpu/nested.h"
#include "vmm/machine/host_probe.h"

namespace vmm {
namespace {

using nlohmann::json;

constexpr std::size_t kColumns = 100;

// Capabilities that change what a user can do, and what is lost without each.
struct CapabilityRow {
  Capability capability;
  const char* without;
};
constexpr CapabilityRow kCapabilities[] = {
    {capability::IRQCHIP, "no guest can run: KVM's interrupt chips are needed"},
    {capability::SPLIT_IRQCHIP, "no split interrupt chip"},
    {capability::NESTED_STATE, "no nested guests whose state can be read"},
    {capability::EXIT_ON_EMULATION_FAILURE,
     "emulation failures in ring 3 look like #UD to the guest"},
    {capability::SYNC_REGS, "traces show no RIP; a triple fault on SVM shows no registers"},
    {capability::X86_USER_SPACE_MSR, "unknown MSRs are not reported"},
    {capability::X86_MSR_FILTER, "MSRs cannot be caught by number"},
    {capability::SET_GUEST_DEBUG2, "stepping cannot hold interrupts back"},
    {capability::READONLY_MEM, "no firmware in read-only memory"},
    {capability::TSC_CONTROL, "the guest's TSC runs at the host's frequency"},
    {capability::XSAVE2, "no guest state larger than 4 KiB (AMX)"},
    {capability::ENFORCE_PV_FEATURE_CPUID,
     "guests reach KVM's paravirtual MSRs whatever the model says"},
    {capability::DISABLE_QUIRKS2, "KVM's quirks cannot be switched off one by one"},
    {capability::TRIPLE_FAULT_EVENT, "a pending triple fault is not saved"},
    {capability::DIRTY_LOG_RING, "dirty pages are found by bitmap only"},
    {capability::BINARY_STATS_FD, "no counters of exits inside KVM"},
};

// What KVM says to each of them.
using Offers = std::vector<std::pair<CapabilityRow, int>>;

Result<Offers> ask_for_capabilities(const Kvm& kvm) {
  Offers offers;
  for (const CapabilityRow& row : kCapabilities)
    offers.emplace_back(row, VMM_TRY(kvm.capability(row.capability)));
  return offers;
}

// One thing a user may miss, why it is so and what would change it.
struct Finding {
  std::string subject;
  bool available;
  std::string reason;
  std::string remedy;
};

std::string parameter(const HostGrant& host, const std::string& name) {
  const auto it = host.module_parameters.find(name);
  return it != host.module_parameters.end() ? it->second : "";
}

bool is_on(const std::string& value) { return value == "Y" || value == "1"; }

Finding nested_finding(const HostGrant& host) {
  const char* what = "nested virtualization";
  switch (host.backend) {
    case KvmBackend::Pvm:
      return {what, false,
              "kvm_pvm works without VT-x and SVM, so it has neither to pass on to a guest",
              "use a machine with kvm_intel or kvm_amd, or enable nesting in the hypervisor this "
              "machine runs in"};
    case KvmBackend::Vmx:
    case KvmBackend::Svm: {
      const std::string module = host.backend == KvmBackend::Vmx ? "kvm_intel" : "kvm_amd";
      const std::string value = parameter(host, module + ".nested");
      if (host.nested_state && is_on(value)) return {what, true, module + ".nested=" + value, ""};
      return {what, false,
              value.empty() ? "the module parameter " + module + ".nested cannot be read"
                            : module + ".nested=" + value,
              "modprobe -r " + module + " && modprobe " + module + " nested=1"};
    }
    case KvmBackend::None:
    case KvmBackend::Unknown:
      break;
  }
  return {what, host.nested_state, "KVM_CAP_NESTED_STATE", ""};
}

Finding gigabyte_pages_finding(const HostGrant& host) {
  const char* what = "1 GiB guest pages";
  if (host.supported.bit(0x80000001, 0, CpuidReg::Edx, 26))
    return {what, true, "80000001h.EDX[26] (pdpe1gb) is offered", ""};
  if (host.silicon.bit(0x80000001, 0, CpuidReg::Edx, 26))
    return {what, false,
            "the processor has pdpe1gb, KVM does not offer it: its own page walker (shadow paging) "
            "treats PS in a PDPTE as reserved",
            "use a KVM with EPT or NPT"};
  return {what, false, "the processor below lacks pdpe1gb (80000001h.EDX[26])", ""};
}

struct ModelRow {
  std::string name;
  std::size_t missing = 0;
  std::vector<std::string> first;  // some names of missing bits
};

std::vector<ModelRow> compare_models(const HostGrant& host) {
  std::vector<ModelRow> rows;
  for (const std::string& name : model_names()) {
    const auto cpu = resolve_cpu(name, CpuPolicy::Mask, Topology{}, host);
    if (!cpu) continue;
    ModelRow row{cpu->name, cpu->missing.size(), {}};
    for (const MissingBit& bit : cpu->missing) row.first.push_back(bit.name);
    rows.push_back(std::move(row));
  }
  return rows;
}

json to_json(const HostGrant& host, const Offers& offers, const std::vector<Finding>& findings,
             const std::vector<ModelRow>& models) {
  json capabilities;
  for (const auto& [row, value] : offers) capabilities[std::string(row.capability.name)] = value;
  json finding_list = json::array();
  for (const Finding& f : findings)
    finding_list.push_back({{"subject", f.subject},
                            {"available", f.available},
                            {"reason", f.reason},
                            {"remedy", f.remedy}});
  json model_list = json::array();
  for (const ModelRow& m : models)
    model_list.push_back({{"model", m.name}, {"missing", m.missing}, {"bits", m.first}});
  json msrs;
  for (const auto& [index, value] : host.feature_msrs)
    msrs[fmt::format("0x{:x}", index)] = fmt::format("0x{:x}", value);
  json nested = json::object();
  for (const NestedWord& word : nested_words(host))
    nested[word.name] = fmt::format("0x{:0{}x}", word.value, word.digits);
  json leaves;
  for (const auto& [key, r] : host.supported.entries())
    leaves[fmt::format("{:X}.{:X}", key.leaf, key.subleaf)] =
        fmt::format("{:08x} {:08x} {:08x} {:08x}", r.eax, r.ebx, r.ecx, r.edx);
  return {{"schema", "vmm-host"},
          {"version", 1},
          {"backend", backend_name(host.backend)},
          {"kernel", host.kernel},
          {"vendor", host.silicon.vendor()},
          {"brand", host.silicon.brand()},
          {"phys_bits", host.supported.phys_bits()},
          {"max_vcpus", host.max_vcpus},
          {"module_parameters", host.module_parameters},
          {"capabilities", capabilities},
          {"findings", finding_list},
          {"models", model_list},
          {"feature_msrs", msrs},
          {"nested_words", nested},
          {"supported_cpuid", leaves}};
}

std::string first_names(const ModelRow& row, std::size_t columns) {
  std::string text;
  for (std::size_t i = 0; i < row.first.size(); ++i) {
    if (text.size() + row.first[i].size() + 6 > columns) return text + ", ...";
    text += (text.empty() ? "" : ", ") + row.first[i];
  }
  return text;
}

// There are too many models to list them all: those that run here, and the ones that nearly do.
void print_models(std::vector<ModelRow> models) {
  constexpr std::size_t kNearest = 5;
  std::stable_sort(models.begin(), models.end(),
                   [](const ModelRow& a, const ModelRow& b) { return a.missing < b.missing; });
  const auto first_lacking =
      std::find_if(models.begin(), models.end(), [](const ModelRow& m) { return m.missing != 0; });
  std::vector<std::string> given;
  for (auto it = models.begin(); it != first_lacking; ++it) given.push_back(it->name);
  const std::string names = given.empty() ? "none" : fmt::format("{}", fmt::join(given, ", "));
  fmt::print("\nCPU models under --cpu-policy strict\n{}",
             wrap_text("  given in full: ", names, kColumns));
  const auto lacking = static_cast<std::size_t>(models.end() - first_lacking);
  for (std::size_t i = 0; i < std::min(lacking, kNearest); ++i) {
    const ModelRow& m = first_lacking[static_cast<std::ptrdiff_t>(i)];
    fmt::print("  {:<20} lacks {} bit{}: {}\n", m.name, m.missing, m.missing == 1 ? "" : "s",
               first_names(m, 50));
  }
  if (lacking > kNearest)
    fmt::print("  {} more lack {} bits or more: vmm cpu list\n", lacking - kNearest,
               first_lacking[kNearest].missing);
  fmt::print("\nvmm cpu check MODEL says for each bit who refuses it.\n");
}

void print_host(const HostGrant& host, const Offers& offers, const std::vector<Finding>& findings,
                const std::vector<ModelRow>& models) {
  fmt::print("backend  {} (Linux {})\n", backend_name(host.backend), host.kernel);
  fmt::print("cpu      {}{}{}, {} physical address bits\n", host.silicon.vendor(),
             host.silicon.brand().empty() ? "" : ", ", host.silicon.brand(),
             host.supported.phys_bits());
  fmt::print("vcpus    up to {} per guest\n", host.max_vcpus);
  if (!host.module_parameters.empty()) {
    fmt::print("modules ");
    for (const auto& [name, value] : host.module_parameters) fmt::print(" {}={}", name, value);
    fmt::print("\n");
  }
  fmt::print("\n");
  for (const Finding& f : findings) {
    const std::string head = fmt::format("{:<22} {:<4} ", f.subject, f.available ? "yes" : "no");
    fmt::print("{}", wrap_text(head, f.reason, kColumns));
    if (!f.remedy.empty())
      fmt::print("{}",
                 wrap_text(std::string(head.size(), ' '), "to change: " + f.remedy, kColumns));
  }
  if (const std::vector<std::string> nested = nested_lines(host); !nested.empty())
    fmt::print("\n{}\n", fmt::join(nested, "\n"));
  fmt::print("\ncapabilities of KVM\n");
  for (const auto& [row, value] : offers)
    fmt::print("  {:<26} {}\n", row.capability.name,
               value != 0 ? "yes" : fmt::format("no   {}", row.without));
  print_models(models);
}

Result<int> run_host(bool as_json) {
  const Kvm kvm = VMM_TRY(Kvm::open());
  const HostGrant host = VMM_TRY(read_host_grant(kvm));
  const Offers offers = VMM_TRY(ask_for_capabilities(kvm));
  const std::vector<Finding> findings = {nested_finding(host), gigabyte_pages_finding(host)};
  const std::vector<ModelRow> models = compare_models(host);
  if (as_json)
    fmt::print("{}\n", to_json(host, offers, findings, models).dump(2));
  else
    print_host(host, offers, findings, models);
  return 0;
}

}  // namespace

void add_host_command(CLI::App& app, Command& chosen) {
  CLI::App* host = app.add_subcommand("host", "what this host's KVM offers and what to change");
  auto as_json = std::make_shared<bool>(false);
  host->add_flag("--json", *as_json, "print JSON");
  host->callback([as_json, &chosen] {
    chosen.run = [as_json] { return run_host(*as_json); };
    chosen.paths = []() -> Result<std::vector<PathUse>> { return {}; };
  });
}

}  // namespace vmm
