#include "vmm/lab/lab_image.h"

#include <fmt/format.h>

#include <algorithm>

#include "loader/newc.h"
#include "vmm/base/descriptors.h"
#include "vmm/base/text.h"
#include "vmm/lab/agent_config.h"

namespace vmm {
namespace {

std::string vendor_module(LabBackend backend) {
  return backend == LabBackend::Svm ? "kvm_amd" : "kvm_intel";
}

// Drivers of the channel's device; what they depend on follows by itself.
std::vector<std::string> channel_modules(LabBackend backend) {
  if (backend == LabBackend::Svm) return {"virtio_pci", "virtio_console"};
  return {"ata_piix", "sd_mod"};
}

bool is_name(std::string_view text) {
  return !text.empty() && text.find_first_not_of(
                              "abcdefghijklmnopqrstuvwxyz"
                              "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == text.npos;
}

// Neither ends a word of the kernel's command line nor opens a quotation in it.
bool is_value(std::string_view text) {
  for (const char c : text)
    if (c <= ' ' || c > '~' || c == '"') return false;
  return true;
}

// For kvm_intel in Bochs 2.7.
//
// ple_window: while a guest runs with interrupts off Bochs holds the interrupts of the kernel below
// it back as well, the timer's among them. A guest that waits with PAUSE would hold up the whole
// lab, since KVM doubles the time after which PAUSE makes an exit; now there is one every 2 ms of
// Bochs' time.
//
// preemption_timer: with it KVM 6.1 serves writes to IA32_TSC_DEADLINE before it looks at the MSR
// filter, and keeps them from --irqchip user. KVM leaves a timer alone that counts as fast as the
// TSC of a real machine; that of Bochs is slow enough for it.
constexpr std::string_view kBochsParameters =
    "ple_window=262144 ple_window_grow=0 preemption_timer=0";

void append_word(std::string& line, std::string_view word) {
  if (!line.empty()) line += ' ';
  line += word;
}

// A --kvm-param.
struct UserParameter {
  std::string module;
  std::string name;
  std::string value;
};

Result<std::vector<UserParameter>> user_parameters(const LabSpec& spec) {
  const std::string vendor = vendor_module(spec.backend);
  std::vector<UserParameter> parameters;
  for (const std::string& text : spec.kvm_params) {
    const std::size_t equals = text.find('=');
    const std::string_view whole = std::string_view(text).substr(0, equals);
    const std::size_t dot = whole.find('.');
    const std::string module = dot == whole.npos ? vendor : module_name(whole.substr(0, dot));
    const std::string_view name = dot == whole.npos ? whole : whole.substr(dot + 1);
    if (equals == text.npos || !is_name(name) ||
        !is_value(std::string_view(text).substr(equals + 1)))
      return fail(
          Error::usage(fmt::format("--kvm-param {}: NAME=VALUE or kvm.NAME=VALUE is "
                                   "expected, without spaces and quotation marks",
                                   printable(text))));
    if (module != vendor && module != "kvm")
      return fail(Error::usage(fmt::format("--kvm-param {}: this lab loads kvm and {}, not {}",
                                           printable(text), vendor, printable(module))));
    parameters.push_back({module, std::string(name), text.substr(equals + 1)});
  }
  return parameters;
}

// Linux ignores a parameter that the module has not, and a lab would be another than was asked for.
Result<void> check_parameters(const LabSpec& spec, const LabModules& modules) {
  for (const UserParameter& parameter : VMM_TRY(user_parameters(spec)))
    for (const LabModules::Entry& entry : modules.entries) {
      const std::vector<std::string>& known = entry.module.info.parameters;
      if (entry.module.name != parameter.module || known.empty() ||
          std::find(known.begin(), known.end(), parameter.name) != known.end())
        continue;
      Error error = Error::usage(fmt::format("--kvm-param: {} has no parameter '{}'",
                                             parameter.module, printable(parameter.name)));
      if (const auto near = nearest_name(parameter.name, known))
        error = std::move(error).hint(fmt::format("did you mean {}?", *near));
      return fail(std::move(error));
    }
  return {};
}

}  // namespace

LabChannelDevice lab_channel_device(LabBackend backend) {
  if (backend == LabBackend::Svm) return {.kind = "tty", .device = "/dev/vport0p1"};
  return {.kind = "mailbox", .device = "/dev/sda"};
}

Result<ModuleParameters> module_parameters(const LabSpec& spec) {
  ModuleParameters parameters;
  parameters.vendor = "nested=1";
  if (spec.backend == LabBackend::Vmx) append_word(parameters.vendor, kBochsParameters);
  for (const UserParameter& parameter : VMM_TRY(user_parameters(spec)))
    append_word(parameter.module == "kvm" ? parameters.kvm : parameters.vendor,
                fmt::format("{}={}", parameter.name, parameter.value));
  return parameters;
}

Result<LabModules> lab_modules(const LabSpec& spec, const ModuleTree& tree) {
  const ModuleParameters parameters = VMM_TRY(module_parameters(spec));
  const std::string vendor = vendor_module(spec.backend);
  std::vector<std::string> wanted = channel_modules(spec.backend);
  wanted.insert(wanted.end(), {"kvm", vendor});
  LabModules modules;
  const auto parameters_of = [&](std::string_view name) -> std::string {
    if (name == vendor) return parameters.vendor;
    return name == "kvm" ? parameters.kvm : std::string();
  };
  for (KernelModule& module : VMM_TRY(tree.load_order(wanted))) {
    std::string text = parameters_of(module.name);
    // A kernel of the user's own may insist on signatures (CONFIG_MODULE_SIG_FORCE).
    if (spec.kernel.empty()) module.bytes.resize(without_signature(module.bytes).size());
    modules.entries.push_back({.module = std::move(module), .parameters = std::move(text)});
  }
  VMM_TRY(check_parameters(spec, modules));
  for (const char* name : {"kvm", vendor.c_str()}) {
    if (tree.contains(name) || !tree.is_builtin(name)) continue;
    const std::string text = parameters_of(name);
    for (const std::string_view word : split(text, ' '))
      if (!word.empty()) append_word(modules.append, fmt::format("{}.{}", name, word));
  }
  return modules;
}

std::vector<std::uint8_t> lab_initramfs(const LabSpec& spec, const LabModules& modules,
                                        std::span<const std::uint8_t> agent) {
  NewcArchive archive;
  for (const char* directory : {"dev", "proc", "sys", "tmp", "run", "root"})
    archive.add_directory(directory);
  // The kernel opens it for /init before anything can be mounted.
  archive.add_character_device("dev/console", 5, 1);
  AgentConfig config;
  for (const auto& [module, parameters] : modules.entries) {
    const std::string path = fmt::format("lib/modules/{}.ko", module.name);
    archive.add_file(path, module.bytes);
    config.modules.push_back({.path = "/" + path, .parameters = parameters});
  }
  const LabChannelDevice channel = lab_channel_device(spec.backend);
  config.channel_kind = channel.kind;
  config.channel_device = channel.device;
  // Bochs has no ACPI power-off; its BIOS port takes the word "Shutdown" instead.
  if (spec.backend == LabBackend::Vmx) config.shutdown_port = 0x8900;
  const std::string text = to_json(config) + "\n";
  archive.add_file(std::string_view(kAgentConfigPath).substr(1),
                   {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  archive.add_file("init", agent, 0755);
  return std::move(archive).finish();
}

Result<LabImage> build_lab_image(const LabSpec& spec, std::span<const std::uint8_t> agent,
                                 int cancel) {
  VMM_TRY(module_parameters(spec));  // a typing error is told before anything is fetched
  const LabKernel kernel = VMM_TRY(find_lab_kernel(spec, cancel));
  const LabModules modules = VMM_TRY(lab_modules(spec, kernel.modules));
  LabImage image;
  image.release = kernel.release;
  image.append = modules.append;
  image.kernel = VMM_TRY(memory_file("lab-kernel", kernel.image));
  image.initramfs = VMM_TRY(memory_file("lab-initramfs", lab_initramfs(spec, modules, agent)));
  return image;
}

}  // namespace vmm
