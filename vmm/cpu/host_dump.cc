#include "vmm/cpu/host_dump.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "vmm/base/fd.h"
#include "vmm/base/text.h"
#include "vmm/cpu/words_json.h"

namespace vmm {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kMaxFileSize = 1 << 20;
constexpr std::size_t kMaxParameters = 256;
constexpr std::size_t kMaxText = 256;
constexpr std::uint64_t kMaxVcpus = 1 << 20;
constexpr const char* kHint = "vmm cpu dump-host > FILE writes one";

constexpr std::array kBackends = {KvmBackend::None, KvmBackend::Vmx, KvmBackend::Svm,
                                  KvmBackend::Pvm, KvmBackend::Unknown};

Result<KvmBackend> backend_of(const JsonNode& node) {
  const std::string text = VMM_TRY(node.string(1, kMaxText));
  for (const KvmBackend backend : kBackends)
    if (backend_name(backend) == text) return backend;
  return fail(
      node.error(fmt::format("'{}' is not vmx, svm, pvm, none or unknown", printable(text, 40))));
}

Result<std::map<std::string, std::string>> parameters_of(const JsonNode& node) {
  std::map<std::string, std::string> result;
  for (const auto& [name, value] : VMM_TRY(node.members(kMaxParameters))) {
    if (name.find('.') == std::string::npos || name.size() > kMaxText ||
        !std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c <= '~'; }))
      return fail(value.error("a key is MODULE.PARAMETER, as \"kvm_intel.nested\""));
    result[name] = VMM_TRY(value.string(0, kMaxText));
  }
  return result;
}

// Everything asks for the vendor, and prints it.
Result<void> check_vendor(const JsonNode& node, const CpuidTable& supported) {
  if (supported.find(0) == nullptr) return fail(node.error("leaf 0 is missing: no CPU is without"));
  const std::string vendor = supported.vendor();
  if (vendor.size() != 12 ||
      !std::all_of(vendor.begin(), vendor.end(), [](char c) { return c >= ' ' && c <= '~'; }))
    return fail(
        node.error(fmt::format("leaf 0 names the vendor '{}', where 12 printable "
                               "characters are meant",
                               printable(vendor))));
  return {};
}

}  // namespace

ordered_json host_dump_json(const HostGrant& host) {
  // A new member of HostGrant does not compile here until it is written, and read below.
  const auto& [backend, kernel, module_parameters, supported, silicon, feature_msrs,
               tsc_deadline_timer, nested_state, max_vcpus, quirks] = host;
  ordered_json parameters = ordered_json::object();
  for (const auto& [name, value] : module_parameters) parameters[name] = printable(value, 60);
  ordered_json capabilities = {{"tsc_deadline_timer", tsc_deadline_timer},
                               {"nested_state", nested_state},
                               {"max_vcpus", max_vcpus},
                               {"disable_quirks2", fmt::format("{:08x}", quirks)}};
  return {{"schema", "vmm-host-dump"},
          {"version", 1},
          {"backend", backend_name(backend)},
          {"kernel", printable(kernel, 60)},
          {"module_parameters", std::move(parameters)},
          {"capabilities", std::move(capabilities)},
          {"supported_cpuid", cpuid_json(supported)},
          {"silicon_cpuid", cpuid_json(silicon)},
          {"feature_msrs", msrs_json(feature_msrs)}};
}

Result<HostGrant> host_dump_of_json(const JsonNode& node) {
  VMM_TRY(node.expect_schema("vmm-host-dump", kHint));
  VMM_TRY(node.only({"schema", "version", "backend", "kernel", "module_parameters", "capabilities",
                     "supported_cpuid", "silicon_cpuid", "feature_msrs"}));
  HostGrant host;
  const JsonNode backend = VMM_TRY(node.member("backend"));
  host.backend = VMM_TRY(backend_of(backend));
  host.kernel = VMM_TRY(node.string("kernel", 0, kMaxText));
  const JsonNode parameters = VMM_TRY(node.member("module_parameters"));
  host.module_parameters = VMM_TRY(parameters_of(parameters));
  const JsonNode capabilities = VMM_TRY(node.member("capabilities"));
  VMM_TRY(
      capabilities.only({"tsc_deadline_timer", "nested_state", "max_vcpus", "disable_quirks2"}));
  host.tsc_deadline_timer = VMM_TRY(capabilities.flag("tsc_deadline_timer"));
  host.nested_state = VMM_TRY(capabilities.flag("nested_state"));
  host.max_vcpus = static_cast<unsigned>(VMM_TRY(capabilities.number("max_vcpus", 0, kMaxVcpus)));
  host.quirks = static_cast<std::uint32_t>(VMM_TRY(capabilities.hex("disable_quirks2", 8)));
  const JsonNode supported = VMM_TRY(node.member("supported_cpuid"));
  host.supported = VMM_TRY(cpuid_of_json(supported));
  VMM_TRY(check_vendor(supported, host.supported));
  const JsonNode silicon = VMM_TRY(node.member("silicon_cpuid"));
  host.silicon = VMM_TRY(cpuid_of_json(silicon));
  const JsonNode msrs = VMM_TRY(node.member("feature_msrs"));
  host.feature_msrs = VMM_TRY(msrs_of_json(msrs));
  return host;
}

std::string host_dump_text(const HostGrant& host) { return host_dump_json(host).dump(2) + "\n"; }

Result<HostGrant> parse_host_dump(std::string_view text, std::string_view file) {
  const JsonDocument document = VMM_TRY(JsonDocument::parse(text, file, kMaxFileSize));
  return host_dump_of_json(document.root());
}

Result<HostGrant> read_host_dump(const std::string& path) {
  const auto bytes = VMM_TRY(read_file(path, kMaxFileSize, ErrorKind::Usage));
  return parse_host_dump({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

}  // namespace vmm
