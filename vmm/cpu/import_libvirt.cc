// libvirt's <cpu>: by itself, in a domain, or as the host-model of domain capabilities.
#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/text.h"
#include "vmm/cpu/import_edit.h"
#include "vmm/cpu/xml_node.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxFeatures = 1024;
constexpr std::size_t kMaxName = 60;

// Bits that follow the guest's registers: libvirt lists them, nobody chooses them.
constexpr std::string_view kRunTime[] = {"osxsave", "ospke"};

// The element that holds <model> and <feature>.
Result<XmlNode> find_cpu(const XmlNode& root) {
  if (root.name() == "cpu") return root;
  if (root.name() == "domain") {
    if (const auto cpu = root.child("cpu")) return *cpu;
    return fail(root.error("this domain has no <cpu>, so its CPU is QEMU's choice")
                    .hint("vmm cpu import qemu, with the -cpu that QEMU was started with"));
  }
  if (root.name() == "domainCapabilities") {
    if (const auto cpu = root.child("cpu"))
      for (const XmlNode& mode : cpu->children())
        if (mode.name() == "mode" && mode.has("name") &&
            VMM_TRY(mode.attribute("name", kMaxName)) == "host-model" && mode.child("model"))
          return mode;
    return fail(root.error("these capabilities have no host-model"));
  }
  return fail(
      root.error(fmt::format("<{}> where <cpu> or <domain> is meant", printable(root.name(), 40)))
          .hint("virsh dumpxml DOMAIN and virsh domcapabilities write what is read here"));
}

Result<std::string> mode_of(const XmlNode& cpu) {
  if (cpu.name() == "mode" || !cpu.has("mode")) return std::string("custom");
  return cpu.attribute("mode", kMaxName);
}

class Reader {
 public:
  explicit Reader(const ImportInput& input) : input_(input) {}

  Result<ImportedModel> read() {
    const XmlDocument document = VMM_TRY(
        XmlDocument::parse(input_.text, input_.file, import_size_limit(ImportFormat::Libvirt)));
    const XmlNode cpu = VMM_TRY(find_cpu(document.root()));
    const std::string mode = VMM_TRY(mode_of(cpu));
    const auto model = cpu.child("model");
    if (mode == "host-passthrough" || mode == "maximum")
      return fail(Error::usage(fmt::format("mode '{}' is another CPU on each machine", mode))
                      .at(cpu.place("mode"))
                      .hint("--cpu-model host is that; virsh domcapabilities shows what a "
                            "host-model is on a machine"));
    if (mode != "custom" && mode != "host-model")
      return fail(Error::usage(fmt::format("mode '{}' is unknown", mode))
                      .at(cpu.place("mode"))
                      .hint("custom, or host-model with its <model>, is read"));
    if (!model)
      return fail(cpu.error(mode == "host-model"
                                ? "a host-model that nobody has looked up yet names no model"
                                : "<cpu> has no <model>")
                      .hint("virsh dumpxml of the running domain has one"));
    const std::string name = VMM_TRY(model->text(kMaxName));
    auto base = find_qemu_model(name);
    if (!base) return fail(std::move(base).error().at(model->place()));
    edit_.emplace(*base, input_.name);
    VMM_TRY(read_children(cpu, *model));
    edit_->apply_qemu_defaults(phys_bits_known_);
    return edit_->finish(fmt::format("libvirt's {}", name));
  }

 private:
  Result<void> read_children(const XmlNode& cpu, const XmlNode& model) {
    const std::vector<XmlNode> children = cpu.children();
    if (children.size() > kMaxFeatures)
      return fail(cpu.error(
          fmt::format("{} elements, at most {} are read", children.size(), kMaxFeatures)));
    if (model.has("vendor_id")) {
      const std::string vendor = VMM_TRY(model.attribute("vendor_id", 12));
      if (vendor.size() != 12)
        return fail(Error::usage(fmt::format("vendor_id '{}' has not 12 characters", vendor))
                        .at(model.place("vendor_id")));
      edit_->model().vendor = vendor;
    }
    bool model_seen = false;
    for (const XmlNode& child : children) {
      if (child.name() == "feature") {
        VMM_TRY(read_feature(child));
      } else if (child.name() == "vendor") {
        VMM_TRY(check_vendor(child));
      } else if (child.name() == "maxphysaddr") {
        VMM_TRY(read_width(child));
      } else if (child.name() == "model") {
        if (model_seen) return fail(child.error("a second <model>"));
        model_seen = true;
      } else {
        edit_->note(child.place(), left_out(child.name()));
      }
    }
    return {};
  }

  static std::string left_out(std::string_view name) {
    const std::string head = fmt::format("<{}> is left out", printable(name, 40));
    if (name == "topology") return head + ": that is --smp";
    if (name == "cache") return head + ": the caches are the model's";
    if (name == "numa") return head + ": vmm has one node";
    return head + ": not known here";
  }

  Result<void> check_vendor(const XmlNode& vendor) {
    const std::string name = VMM_TRY(vendor.text(kMaxName));
    const std::string& model = edit_->model().vendor;
    const std::string_view wanted = name == "Intel"   ? "GenuineIntel"
                                    : name == "AMD"   ? "AuthenticAMD"
                                    : name == "Hygon" ? "HygonGenuine"
                                                      : std::string_view(name);
    if (wanted != model)
      return fail(vendor.error(fmt::format("<vendor> is {}, and the model's is {}", name, model)));
    return {};
  }

  Result<void> read_width(const XmlNode& width) {
    const std::string mode = VMM_TRY(width.attribute("mode", kMaxName));
    if (mode == "passthrough") {
      phys_bits_known_ = true;
      edit_->note(width.place(), fmt::format("the machine's own address width is another on each: "
                                             "the {} bits of the model are kept",
                                             edit_->model().phys_bits));
      return {};
    }
    if (mode != "emulate")
      return fail(Error::usage(fmt::format("mode '{}' is unknown", mode))
                      .at(width.place("mode"))
                      .hint("emulate or passthrough is meant"));
    if (!width.has("bits")) return {};
    const auto bits = parse_number(VMM_TRY(width.attribute("bits", kMaxName)));
    if (!bits || *bits < 32 || *bits > 52)
      return fail(Error::usage("a number of bits from 32 to 52 is meant").at(width.place("bits")));
    edit_->model().phys_bits = static_cast<unsigned>(*bits);
    phys_bits_known_ = true;
    return {};
  }

  Result<void> read_feature(const XmlNode& feature) {
    const std::string name = VMM_TRY(feature.attribute("name", kMaxName));
    const std::string policy =
        feature.has("policy") ? VMM_TRY(feature.attribute("policy", kMaxName)) : "require";
    const std::string place = feature.place("name");
    if (std::ranges::find(kRunTime, lower(name)) != std::end(kRunTime)) {
      edit_->note(place, fmt::format("{} is left out: it follows the guest's CR4", name));
      return {};
    }
    if (policy == "optional")
      edit_->note(place, fmt::format("{0} is on in the model; --cpu-model FILE,optional:{0} "
                                     "leaves it to the host",
                                     name));
    else if (policy == "force")
      edit_->note(place, fmt::format("{} is forced, and on in the model: --cpu-policy force sets "
                                     "it where the host lacks it",
                                     name));
    else if (policy == "forbid")
      edit_->note(place, fmt::format("{0} is off in the model; --cpu-model FILE,forbid:{0} "
                                     "also refuses hosts that have it",
                                     name));
    else if (policy != "require" && policy != "disable")
      return fail(unknown_policy(policy, feature));
    return edit_->set(name, policy != "disable" && policy != "forbid", place);
  }

  static Error unknown_policy(const std::string& policy, const XmlNode& feature) {
    const std::vector<std::string> policies = {"force", "require", "optional", "disable", "forbid"};
    return Error::usage(fmt::format("policy '{}' is unknown", policy))
        .at(feature.place("policy"))
        .hint(
            fmt::format("did you mean '{}'?", nearest_name(policy, policies).value_or("require")));
  }

  const ImportInput& input_;
  std::optional<ModelEdit> edit_;
  bool phys_bits_known_ = false;
};

}  // namespace

Result<ImportedModel> import_libvirt(const ImportInput& input) { return Reader(input).read(); }

}  // namespace vmm
