// QEMU's -cpu: MODEL[,+feat][,-feat][,feat=on|off][,property=value]...
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "vmm/base/text.h"
#include "vmm/cpu/import_edit.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxItems = 512;

// What an item of the list is about.
enum class Kind {
  Family,
  Model,
  Stepping,
  Level,
  ExtLevel,
  PhysBits,
  Brand,
  Vendor,
  HostPhysBits,
  Left,  // no part of a model; `why` says where it has gone
};

struct Property {
  std::string_view name;
  Kind kind;
  std::string_view why = {};
};

constexpr std::string_view kPolicy = "that is --cpu-policy: strict refuses, mask removes";
constexpr std::string_view kTopology = "that follows from --smp and the model's caches";
constexpr std::string_view kHyperV = "vmm does not pretend to be Hyper-V";
constexpr std::string_view kAutomatic = "leaf limits grow with the features by themselves";

constexpr Property kProperties[] = {
    {"family", Kind::Family},
    {"model", Kind::Model},
    {"stepping", Kind::Stepping},
    {"level", Kind::Level},
    {"min-level", Kind::Level},
    {"xlevel", Kind::ExtLevel},
    {"min-xlevel", Kind::ExtLevel},
    {"phys-bits", Kind::PhysBits},
    {"host-phys-bits", Kind::HostPhysBits},
    {"host-phys-bits-limit", Kind::Left, "write phys-bits=N with the width that is meant"},
    {"guest-phys-bits", Kind::Left, "80000008.EAX[23:16] is KVM's to say"},
    {"model-id", Kind::Brand},
    {"vendor", Kind::Vendor},
    {"enforce", Kind::Left, kPolicy},
    {"check", Kind::Left, kPolicy},
    {"migratable", Kind::Left, "only QEMU's rules host and max know it"},
    {"kvm", Kind::Left, "vmm announces KVM only by the kvm features that a model names"},
    {"kvm-pv-enforce-cpuid", Kind::Left, "vmm always enforces that"},
    {"kvm-type", Kind::Left, "it is no property of a CPU"},
    {"l3-cache", Kind::Left, kTopology},
    {"legacy-cache", Kind::Left, kTopology},
    {"host-cache-info", Kind::Left, kTopology},
    {"cpuid-0xb", Kind::Left, kTopology},
    {"apic-id", Kind::Left, kTopology},
    {"socket-id", Kind::Left, kTopology},
    {"core-id", Kind::Left, kTopology},
    {"thread-id", Kind::Left, kTopology},
    {"die-id", Kind::Left, kTopology},
    {"module-id", Kind::Left, kTopology},
    {"node-id", Kind::Left, kTopology},
    {"tsc-frequency", Kind::Left, "that is --tsc-khz"},
    {"tsc-freq", Kind::Left, "that is --tsc-khz"},
    {"vmware-cpuid-freq", Kind::Left, "vmm has no leaf 40000010h"},
    {"tcg-cpuid", Kind::Left, "it is for QEMU without KVM"},
    {"pmu", Kind::Left, "no model here has a PMU"},
    {"lbr-fmt", Kind::Left, "no model here has a PMU"},
    {"fill-mtrr-mask", Kind::Left, "it is no property of a CPU"},
    {"ucode-rev", Kind::Left, "MSR 8Bh is KVM's"},
    {"full-cpuid-auto-level", Kind::Left, kAutomatic},
    {"level-func7", Kind::Left, kAutomatic},
    {"min-level-func7", Kind::Left, kAutomatic},
    {"xen-vapic", Kind::Left, "vmm does not pretend to be Xen"},
    {"hotpluggable", Kind::Left, "it is no property of a CPU"},
    {"memory", Kind::Left, "it is no property of a CPU"},
};

// A word of the text, and where it stands.
struct Word {
  std::string_view text;
  std::string place;
};

class Reader {
 public:
  explicit Reader(const ImportInput& input) : input_(input) {}

  Result<ImportedModel> read() {
    std::string_view text = trim(input_.text);
    // A command line may come along whole.
    if (text.starts_with("-cpu ") || text.starts_with("-cpu\t")) text = trim(text.substr(4));
    if (const std::size_t end = text.find_first_of("\r\n"); end != std::string_view::npos)
      return fail(Error::usage("a -cpu is one line").at(place_of(text.substr(end))));
    const std::vector<std::string_view> items = split(text, ',');
    if (items.size() > kMaxItems)
      return fail(
          Error::usage(fmt::format("{} items, at most {} are read", items.size(), kMaxItems))
              .at(place_of(text)));
    auto base = find_base(trim(items.front()));
    if (!base) return fail(std::move(base).error().at(place_of(items.front())));
    edit_.emplace(*base, input_.name);
    if (!is_versioned(trim(items.front()), *base))
      edit_->note(place_of(items.front()),
                  fmt::format("{} is taken for {}-v{}, as QEMU's machine types pc and q35 do",
                              trim(items.front()), trim(items.front()), base->version));
    for (std::size_t i = 1; i < items.size(); ++i) VMM_TRY(read_item(trim(items[i])));
    edit_->apply_qemu_defaults(phys_bits_known_);
    return edit_->finish(fmt::format("QEMU's -cpu {}", text));
  }

 private:
  std::string place_of(std::string_view part) const {
    return text_place(
        input_.file, input_.text,
        part.empty() ? 0 : static_cast<std::size_t>(part.data() - input_.text.data()));
  }

  static Result<CpuModel> find_base(std::string_view name) {
    const std::string lowered = lower(name);
    if (name.empty())
      return fail(Error::usage("no model is named").hint("a -cpu begins with one: Haswell-v4"));
    if (lowered == "host" || lowered == "max")
      return fail(
          Error::usage(fmt::format("'{}' is another CPU on each machine, no model", lowered))
              .hint("--cpu-model host is that; vmm cpu dump-host on the machine, then vmm "
                    "cpu baseline, makes a model of it"));
    if (lowered == "base")
      return fail(Error::usage("'base' is a CPU without any feature")
                      .hint("name a model; qemu64 is the least that boots"));
    if (lowered == "help" || name == "?")
      return fail(Error::usage(fmt::format("'{}' is a question, no model", name)));
    return find_qemu_model(name);
  }

  // A bare name of QEMU's is of the machine type's choice; an alias is not.
  static bool is_versioned(std::string_view name, const CpuModel& model) {
    return dashed(name) != model.name;
  }

  Result<void> read_item(std::string_view item) {
    if (item.empty()) return {};  // QEMU skips it too
    const std::string place = place_of(item);
    if (item.front() == '+' || item.front() == '-')
      return set(trim(item.substr(1)), item.front() == '+', place);
    const std::size_t equals = item.find('=');
    const std::string_view key = trim(item.substr(0, equals));
    // QEMU takes a lone name for on.
    const std::string_view value =
        equals == std::string_view::npos ? "on" : trim(item.substr(equals + 1));
    const std::string name = dashed(key);
    for (const Property& property : kProperties)
      if (property.name == name) return read_property(property, value, place);
    if (name.starts_with("hv-") || name.starts_with("x-")) {
      edit_->note(place,
                  fmt::format("{} is left out: {}", printable(key, 60),
                              name.starts_with("hv-") ? kHyperV : "it is for QEMU's own tests"));
      return {};
    }
    const auto on = parse_switch(value);
    if (!on && FeatureCatalog::find(key))
      return fail(Error::usage(fmt::format("{}={}: 'on' or 'off' is meant", printable(key, 60),
                                           printable(value, 60)))
                      .at(place));
    return set(key, on.value_or(false), place);
  }

  static std::optional<bool> parse_switch(std::string_view value) {
    for (const std::string_view word : {"on", "yes", "true", "y"})
      if (value == word) return true;
    for (const std::string_view word : {"off", "no", "false", "n"})
      if (value == word) return false;
    return std::nullopt;
  }

  // Properties are near names as well.
  static Error unknown_name(std::string_view name, const std::string& place) {
    Error error = Error::usage(fmt::format("unknown CPU feature '{}'", printable(name, 60)));
    std::vector<std::string> names;
    for (const Property& property : kProperties) names.emplace_back(property.name);
    if (const auto feature = FeatureCatalog::nearest(name)) names.push_back(*feature);
    if (const auto near = nearest_name(name, names))
      error = std::move(error).hint(fmt::format("did you mean '{}'?", *near));
    return std::move(error).at(place);
  }

  Result<void> set(std::string_view name, bool on, const std::string& place) {
    if (!FeatureCatalog::find(name)) return fail(unknown_name(name, place));
    return edit_->set(name, on, place);
  }

  Result<void> read_number(std::string_view key, std::string_view value, const std::string& place,
                           std::uint64_t low, std::uint64_t high, std::uint32_t& result) const {
    const auto number = parse_number(value);
    if (!number || *number < low || *number > high)
      return fail(Error::usage(fmt::format("{}={}: a number from {} to {} is meant", key,
                                           printable(value, 40), low, high))
                      .at(place));
    result = static_cast<std::uint32_t>(*number);
    return {};
  }

  Result<void> read_property(const Property& property, std::string_view value,
                             const std::string& place) {
    CpuModel& model = edit_->model();
    const auto number = [&](std::uint64_t low, std::uint64_t high, std::uint32_t& result) {
      return read_number(property.name, value, place, low, high, result);
    };
    switch (property.kind) {
      case Kind::Family:
        return number(0, 15 + 255, model.family);
      case Kind::Model:
        return number(0, 255, model.model);
      case Kind::Stepping:
        return number(0, 15, model.stepping);
      case Kind::Level:
        return number(1, 0xff, model.max_leaf);
      case Kind::ExtLevel:
        return number(0x80000008, 0x800000ff, model.max_ext_leaf);
      case Kind::PhysBits:
        if (value == "0") return {};  // QEMU: as if it were not there
        phys_bits_known_ = true;
        return number(32, 52, model.phys_bits);
      case Kind::HostPhysBits:
        if (parse_switch(value) == true) {
          phys_bits_known_ = true;
          edit_->note(place, fmt::format("host-phys-bits is another width on each machine: the {} "
                                         "bits of the model are kept",
                                         model.phys_bits));
        }
        return {};
      case Kind::Brand:
      case Kind::Vendor: {
        const bool vendor = property.kind == Kind::Vendor;
        if (value.size() > (vendor ? 12U : 48U) || (vendor && value.size() != 12) ||
            value.empty() || printable(value) != value)
          return fail(Error::usage(fmt::format("{}: {} of printable ASCII are meant", property.name,
                                               vendor ? "12 characters" : "1 to 48 characters"))
                          .at(place));
        (vendor ? model.vendor : model.brand) = value;
        return {};
      }
      case Kind::Left:
        break;
    }
    edit_->note(place, fmt::format("{} is left out: {}", property.name, property.why));
    return {};
  }

  const ImportInput& input_;
  std::optional<ModelEdit> edit_;
  bool phys_bits_known_ = false;
};

}  // namespace

Result<ImportedModel> import_qemu(const ImportInput& input) { return Reader(input).read(); }

}  // namespace vmm
