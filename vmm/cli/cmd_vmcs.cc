// vmm vmcs: a VMCS or VMCB from a file, in words, checked, compared.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <nlohmann/json.hpp>

#include "vmm/base/fd.h"
#include "vmm/base/text.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/lab_paths.h"
#include "vmm/cpu/resolve.h"
#include "vmm/cpu/why.h"
#include "vmm/machine/state_json.h"
#include "vmm/nested/blob.h"
#include "vmm/nested/svm_entry.h"
#include "vmm/nested/vmcb.h"
#include "vmm/nested/vmcs_text.h"
#include "vmm/nested/vmx_entry.h"

namespace vmm {
namespace {

using nlohmann::json;

struct Options {
  std::vector<std::string> files;
  std::string model;
  bool all = false;
  bool json = false;
};

// An outcome is as long as its guest had processors.
constexpr std::size_t kMaxFile = 4 * 1024 * 1024;

// The dump in an outcome: of the vCPU whose entry failed, else the first. Nothing where it has
// none, or is no outcome.
std::optional<std::string> dump_of_outcome(std::span<const std::uint8_t> bytes) {
  if (bytes.empty() || bytes[0] != '{') return std::nullopt;
  const json document = json::parse(bytes.begin(), bytes.end(), nullptr, false);
  if (!document.is_object() || !document.contains("hypervisors")) return std::nullopt;
  const json* chosen = nullptr;
  for (const json& one : document["hypervisors"]) {
    if (!one.is_object() || !one.value("dump", json()).is_array() || one["dump"].empty()) continue;
    const bool failed = one.value("failure", json()).is_string();
    if (chosen == nullptr || failed) chosen = &one;
    if (failed) break;
  }
  if (chosen == nullptr) return std::nullopt;
  std::string text;
  for (const json& line : (*chosen)["dump"])
    if (line.is_string()) text += line.get<std::string>() + "\n";
  return text;
}

Result<nested::Blob> read_file(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail(Error::system(ErrorKind::Image, printable(path), errno));
  // One byte more, so that a file that is too long is seen to be.
  std::vector<std::uint8_t> bytes(kMaxFile + 1);
  std::size_t size = 0;
  while (size < bytes.size()) {
    const ssize_t count = ::read(fd.get(), bytes.data() + size, bytes.size() - size);
    if (count == 0) break;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail(Error::system(ErrorKind::Image, printable(path), errno));
    size += static_cast<std::size_t>(count);
  }
  bytes.resize(size);
  const auto dump = dump_of_outcome(bytes);
  if (dump) bytes.assign(dump->begin(), dump->end());
  if (bytes.size() > nested::kMaxBlobBytes)
    return fail(Error::image(fmt::format("{}: more than {} bytes, so neither a VMCS nor a VMCB",
                                         printable(path), nested::kMaxBlobBytes)));
  auto blob = nested::read_blob(bytes);
  if (!blob) return fail(std::move(blob).error().at(printable(path)));
  if (!blob->vmcs && blob->vmcb.empty())
    return fail(Error::image(
        fmt::format("{}: {} without a VMCS or VMCB in it", printable(path), blob->what)));
  return blob;
}

std::string level_text(const nested::NestedState& state) {
  const bool vmx = state.format == nested::NestedState::Format::Vmx;
  const std::uint64_t region = vmx ? state.vmcs_address : state.vmcb_address;
  return fmt::format("{}, in {}{}", vmx ? "VMX" : "SVM", state.guest_mode ? "L2" : "L1",
                     region == nested::kNoAddress
                         ? std::string()
                         : fmt::format(", {} at {:X}h", vmx ? "current VMCS" : "VMCB", region));
}

json vmcs_json(const nested::Vmcs& vmcs) {
  json fields = json::array();
  for (const nested::VmcsLine& line : nested::decode_vmcs(vmcs))
    fields.push_back({{"name", line.field->name},
                      {"encoding", json_hex(line.field->encoding())},
                      {"value", json_hex(line.value)},
                      {"meaning", line.meaning}});
  return fields;
}

json vmcb_json(const nested::Vmcb& vmcb) {
  json fields = json::array();
  for (const nested::VmcbValue& value : nested::decode_vmcb(vmcb, nested::VmcbShow::All)) {
    std::vector<std::string> bits;
    for (const nested::VmcbBitValue& bit : value.bits) bits.push_back(bit.text());
    fields.push_back({{"name", value.field->name},
                      {"offset", json_hex(value.field->offset)},
                      {"value", value.shown},
                      {"bits", bits},
                      {"meaning", value.words}});
  }
  return fields;
}

void print(const json& document) {
  fmt::print("{}\n", document.dump(2, ' ', false, json::error_handler_t::replace));
}

Result<int> run_show(const Options& options) {
  const nested::Blob blob = VMM_TRY(read_file(options.files[0]));
  std::optional<nested::Vmcb> vmcb;
  if (!blob.vmcb.empty()) vmcb = VMM_TRY(nested::Vmcb::view(blob.vmcb));
  if (options.json) {
    print({{"file", options.files[0]},
           {"what", blob.what},
           {"state", blob.state ? json(level_text(*blob.state)) : json()},
           {"fields", blob.vmcs ? vmcs_json(*blob.vmcs) : vmcb_json(*vmcb)}});
    return 0;
  }
  fmt::print("{}: {}{}\n", printable(options.files[0]), blob.what,
             blob.state ? ": " + level_text(*blob.state) : std::string());
  if (blob.vmcs)
    fmt::print("{}", nested::vmcs_text(*blob.vmcs, options.all));
  else
    fmt::print("{}\n", fmt::join(nested::describe(*vmcb, options.all ? nested::VmcbShow::All
                                                                     : nested::VmcbShow::NonZero),
                                 "\n"));
  return 0;
}

// What the rules look at beside the bytes, of a CPU model.
struct Capabilities {
  std::optional<WholeCpu> whole;
  nested::VmxCapabilities vmx;
};

Result<Capabilities> capabilities_of(const std::string& model) {
  Capabilities capabilities;
  if (model.empty()) return capabilities;
  capabilities.whole = VMM_TRY(resolve_whole(model, HostGrant{}));
  std::map<std::uint32_t, std::uint64_t> msrs;
  for (const CpuMsr& msr : capabilities.whole->cpu.msrs) msrs[msr.index] = msr.value;
  capabilities.vmx = nested::VmxCapabilities(std::move(msrs));
  return capabilities;
}

nested::CheckReport check(const nested::Blob& blob, const Capabilities& capabilities) {
  const CpuidTable* cpuid = capabilities.whole ? &capabilities.whole->cpu.cpuid : nullptr;
  if (blob.vmcs) {
    nested::VmxEntry entry{.vmcs = *blob.vmcs};
    if (blob.state) {
      entry.vmcs_address = blob.state->vmcs_address;
      entry.vmxon_address = blob.state->vmxon_address;
    }
    entry.capabilities = capabilities.vmx;
    entry.cpuid = cpuid;
    return nested::check_vm_entry(entry);
  }
  const std::span<const std::uint8_t> bytes = blob.vmcb;
  return nested::check_vmrun(
      {.vmcb = bytes.first<nested::kVmcbSize>(), .vmcb_pa = {}, .cpuid = cpuid});
}

Result<int> run_check(const Options& options) {
  const Capabilities capabilities = VMM_TRY(capabilities_of(options.model));
  const nested::Blob blob = VMM_TRY(read_file(options.files[0]));
  const nested::CheckReport report = check(blob, capabilities);
  const auto origin = [&](const nested::Violation& violation) {
    if (!violation.msr || !capabilities.whole) return std::string();
    return why_capability_is_off(capabilities.whole->cpu, *violation.msr, violation.msr_bit);
  };
  const int code = report.clean() ? 0 : 1;
  if (options.json) {
    json violations = json::array(), unchecked = json::array();
    for (const nested::Violation& violation : report.violations) {
      json one = violation_json(violation);
      one["origin"] = origin(violation);
      violations.push_back(std::move(one));
    }
    for (const nested::Unchecked& rule : report.unchecked)
      unchecked.push_back({{"rule", rule.rule->id}, {"why", rule.why}});
    print({{"file", options.files[0]},
           {"what", blob.what},
           {"violations", violations},
           {"checked", report.checked},
           {"unchecked", unchecked}});
    return code;
  }
  for (const nested::Violation& violation : report.violations) {
    const std::string from = origin(violation);
    fmt::print("{}{}\n    gives {} ({})\n", violation.text(), from.empty() ? "" : "; " + from,
               nested::result_text(violation.rule->result),
               nested::finder_text(violation.rule->finder));
  }
  fmt::print("{}: {}: {} violations; {} rules checked, {} could not be\n",
             printable(options.files[0]), blob.what, report.violations.size(), report.checked,
             report.unchecked.size());
  if (options.all)
    for (const nested::Unchecked& rule : report.unchecked)
      fmt::print("  {} {} {}: not checked: {}\n", rule.rule->id, rule.rule->subject,
                 rule.rule->text, rule.why);
  if (options.model.empty())
    fmt::print("--cpu-model gives the capabilities that the rules hang on\n");
  return code;
}

Result<int> run_diff(const Options& options) {
  const nested::Blob left = VMM_TRY(read_file(options.files[0]));
  const nested::Blob right = VMM_TRY(read_file(options.files[1]));
  if (left.vmcs.has_value() != right.vmcs.has_value())
    return fail(Error::usage("one is a VMCS and the other a VMCB: they have no field in common"));
  fmt::print("--- {}: {}\n+++ {}: {}\n", printable(options.files[0]), left.what,
             printable(options.files[1]), right.what);
  const std::string text = left.vmcs
                               ? nested::vmcs_diff_text(*left.vmcs, *right.vmcs)
                               : nested::vmcb_diff_text(VMM_TRY(nested::Vmcb::view(left.vmcb)),
                                                        VMM_TRY(nested::Vmcb::view(right.vmcb)));
  fmt::print("{}", text.empty() ? "no field differs\n" : text);
  return text.empty() ? 0 : 1;
}

}  // namespace

void add_vmcs_command(CLI::App& app, Command& chosen) {
  CLI::App* vmcs = app.add_subcommand("vmcs", "decode a VMCS or VMCB, check it, compare two");
  vmcs->require_subcommand(1);
  const auto add = [&](const char* name, const char* what, std::size_t files, auto run) {
    auto options = std::make_shared<Options>();
    CLI::App* command = vmcs->add_subcommand(name, what);
    command
        ->add_option("BLOB", options->files,
                     "what the monitor's vmcs dump or vmcb dump printed, an outcome, a VMCS (KVM's "
                     "layout), what KVM_GET_NESTED_STATE gave, or a VMCB")
        ->required()
        ->expected(static_cast<int>(files))
        ->type_name("");
    command->callback([options, run, &chosen] {
      chosen.run = [options, run] { return run(*options); };
      chosen.paths = [options]() -> Result<std::vector<PathUse>> {
        std::vector<PathUse> paths;
        for (const std::string& file : options->files)
          for (PathUse& path : VMM_TRY(input_path(file))) paths.push_back(std::move(path));
        return paths;
      };
    });
    return std::pair(command, options);
  };
  const auto [show, of_show] = add("show", "its fields by name, with what they mean", 1, run_show);
  show->add_flag("--all", of_show->all, "also fields that are zero");
  show->add_flag("--json", of_show->json, "print JSON");
  const auto [check, of_check] =
      add("check", "the rules of VM entry or VMRUN that it breaks; ends with 1 if there are any", 1,
          run_check);
  check->add_option("--cpu-model", of_check->model, "whose capabilities and CPUID count")
      ->type_name("NAME[@VERSION][,+feat,...]");
  check->add_flag("--all", of_check->all, "also the rules that could not be checked, with reasons");
  check->add_flag("--json", of_check->json, "print JSON");
  add("diff", "the fields in which two differ; ends with 1 if there are any", 2, run_diff);
}

}  // namespace vmm
