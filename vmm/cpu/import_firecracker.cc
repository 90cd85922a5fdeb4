// Firecracker's CPU templates: bits of CPUID and of MSRs that are set or cleared over the CPU of
// whatever host there is. Here they are laid over a named model instead.
#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/cpu/flatten.h"
#include "vmm/cpu/import_edit.h"
#include "vmm/cpu/import_words.h"
#include "vmm/cpu/json_node.h"
#include "vmm/cpu/vmx.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxModifiers = 1024;

// "0b01xx": what is kept of the value before, and what is set.
struct Bitmap {
  std::uint64_t changed = 0;
  std::uint64_t value = 0;
  std::uint64_t over(std::uint64_t before) const { return (before & ~changed) | value; }
};

Result<Bitmap> read_bitmap(const JsonNode& node, unsigned width) {
  const std::string text = VMM_TRY(node.string(1, 160));
  const auto wrong = [&] {
    return fail(node.error(
        fmt::format("'{}' where 0b and at most {} of 0, 1 and x are meant", text, width)));
  };
  if (!text.starts_with("0b")) return wrong();
  Bitmap bitmap;
  unsigned digits = 0;
  for (const char c : text.substr(2)) {
    if (c == '_') continue;
    if ((c != '0' && c != '1' && c != 'x') || ++digits > width) return wrong();
    bitmap.changed = bitmap.changed << 1 | (c == 'x' ? 0 : 1);
    bitmap.value = bitmap.value << 1 | (c == '1' ? 1 : 0);
  }
  if (digits == 0) return wrong();
  return bitmap;
}

// "0x1", "1" or 1.
Result<std::uint32_t> read_index(const JsonNode& parent, std::string_view key) {
  const JsonNode node = VMM_TRY(parent.member(key));
  if (const auto number = node.number(0, 0xffffffff)) return static_cast<std::uint32_t>(*number);
  const std::string text = VMM_TRY(node.string(1, 40));
  const auto number = parse_number(text);
  if (!number || *number > 0xffffffff)
    return fail(node.error(fmt::format("'{}' where a number of 32 bits is meant", text)));
  return static_cast<std::uint32_t>(*number);
}

Result<CpuidReg> read_register(const JsonNode& parent) {
  const JsonNode node = VMM_TRY(parent.member("register"));
  const std::string name = lower(VMM_TRY(node.string(1, 10)));
  constexpr std::string_view kNames[] = {"eax", "ebx", "ecx", "edx"};
  for (std::size_t i = 0; i < std::size(kNames); ++i)
    if (name == kNames[i]) return static_cast<CpuidReg>(i);
  return fail(node.error(fmt::format("'{}' is not eax, ebx, ecx or edx", name)));
}

// Bits that a model holds as numbers: identity, widths, limits, brand, the line of CLFLUSH.
std::uint32_t identity_bits(const FeatureWord& word) {
  if (word.index == 0 || (word.index >= 0x80000002 && word.index <= 0x80000004)) return ~0U;
  if (word.reg != CpuidReg::Eax) return 0;
  if (word.index == 1) return 0x0fff3fff;
  if (word.index == 0x80000000) return ~0U;
  return word.index == 0x80000008 ? 0xff : 0;
}

// None where the key is absent.
Result<std::vector<JsonNode>> items_of(const JsonNode& node, std::string_view key) {
  if (!node.has(key)) return std::vector<JsonNode>();
  return VMM_TRY(node.member(key)).items(kMaxModifiers);
}

class Reader {
 public:
  explicit Reader(const ImportInput& input) : input_(input) {}

  Result<ImportedModel> read() {
    if (input_.base.empty())
      return fail(Error::usage("a template changes a CPU, and does not say which")
                      .at(input_.file)
                      .hint("name the model that it is laid over: --base skylake-server@5"));
    if (model_file_of(input_.base) || lower(input_.base) == "host")
      return fail(Error::usage(fmt::format("--base {}: a built-in model is meant",
                                           printable(input_.base, 60)))
                      .hint("vmm cpu list shows the models"));
    const CpuModel base = VMM_TRY_CONTEXT(find_cpu_model(input_.base), "--base");
    edit_.emplace(base, input_.name);
    words_ = model_words(base);
    words_.set(feature_id("vmx"), true);
    for (const FeatureId id : base.vmx) words_.set(id, true);
    for (const FeatureId id : base.vmx_fixed) words_.fix(id);
    derive(words_, {});
    const JsonDocument document = VMM_TRY(JsonDocument::parse(
        input_.text, input_.file, import_size_limit(ImportFormat::Firecracker)));
    VMM_TRY(read_template(document.root()));
    ImportedModel imported =
        edit_->finish(fmt::format("a Firecracker template over {}", base.full_name()));
    if (identity_) {
      // What the table has of the base's, and the template has not named, is the base's own.
      CpuModel changed = imported.model;
      take_identity(words_.cpuid, changed, imported.notes);
      changed.caches = imported.model.caches;
      if (words_.cpuid.get(0).eax == before_.get(0).eax) changed.max_leaf = base.max_leaf;
      if (words_.cpuid.get(0x80000000).eax == before_.get(0x80000000).eax)
        changed.max_ext_leaf = base.max_ext_leaf;
      imported.model = std::move(changed);
    }
    return imported;
  }

 private:
  Result<void> read_template(const JsonNode& root) {
    before_ = words_.cpuid;
    VMM_TRY(root.only({"cpuid_modifiers", "msr_modifiers", "kvm_capabilities", "reg_modifiers",
                       "vcpu_features"}));
    for (const char* const key : {"reg_modifiers", "vcpu_features"})
      if (!VMM_TRY(items_of(root, key)).empty())
        return fail(VMM_TRY(root.member(key)).error("this is a template for ARM"));
    for (const JsonNode& item : VMM_TRY(items_of(root, "kvm_capabilities")))
      edit_->note(item.place(), fmt::format("KVM capability {} is left out: it is vmm's to switch",
                                            VMM_TRY(item.string(1, 20))));
    for (const JsonNode& leaf : VMM_TRY(items_of(root, "cpuid_modifiers")))
      VMM_TRY(read_leaf(leaf));
    for (const JsonNode& msr : VMM_TRY(items_of(root, "msr_modifiers"))) VMM_TRY(read_msr(msr));
    return {};
  }

  Result<void> read_leaf(const JsonNode& node) {
    VMM_TRY(node.only({"leaf", "subleaf", "flags", "modifiers"}));
    FeatureWord word;
    word.index = VMM_TRY(read_index(node, "leaf"));
    word.subleaf = node.has("subleaf") ? VMM_TRY(read_index(node, "subleaf")) : 0;
    if (node.has("flags")) VMM_TRY(read_index(node, "flags"));
    if (!has_subleaves(word.index) && word.subleaf != 0) {
      edit_->note(node.place(), fmt::format("leaf {:X} has no subleaf {:X}, so this is left out",
                                            word.index, word.subleaf));
      return {};
    }
    for (const JsonNode& item : VMM_TRY(items_of(node, "modifiers"))) {
      VMM_TRY(item.only({"register", "bitmap"}));
      word.reg = VMM_TRY(read_register(item));
      const JsonNode bits = VMM_TRY(item.member("bitmap"));
      apply_cpuid(word, VMM_TRY(read_bitmap(bits, 32)), bits.place());
    }
    return {};
  }

  void apply_cpuid(const FeatureWord& word, const Bitmap& bitmap, const std::string& place) {
    if (bitmap.changed == 0) return;
    if (is_shape_leaf(word.index)) {
      edit_->note(place, fmt::format("leaf {:X} is left out: it follows from --smp and the caches",
                                     word.index));
      return;
    }
    if (word.index == 0xd && word.subleaf != 1) {
      edit_->note(place, "leaf D is left out: it follows from the features");
      return;
    }
    std::vector<FeaturePlace> nameless;
    const std::uint32_t identity = identity_bits(word);
    const std::uint64_t same = words_.cpuid.get(word.index, word.subleaf)[word.reg];
    for (unsigned i = 0; i < 32; ++i) {
      if (!bit(bitmap.changed, i)) continue;
      const FeaturePlace at{word, i};
      const bool on = bit(bitmap.value, i);
      if (bit(identity, i)) {
        std::uint32_t& value = words_.cpuid.at(word.index, word.subleaf)[word.reg];
        value = on ? value | 1U << i : value & ~(1U << i);
        identity_ = true;
      } else if (const auto id = FeatureCatalog::at(at)) {
        edit_->set(*id, on, place);
      } else if (on && !bit(same, i) && !bit(repeated_bits(word, is_amd(words_.cpuid)), i)) {
        nameless.push_back(at);
      }
    }
    if (!nameless.empty())
      edit_->note(place, fmt::format("set, and left out, since these bits have no name here: {}",
                                     places_text(nameless)));
  }

  Result<void> read_msr(const JsonNode& node) {
    VMM_TRY(node.only({"addr", "bitmap"}));
    const std::uint32_t index = VMM_TRY(read_index(node, "addr"));
    const JsonNode bits = VMM_TRY(node.member("bitmap"));
    const Bitmap bitmap = VMM_TRY(read_bitmap(bits, 64));
    const FeatureWord word{true, index};
    const std::vector<FeatureId> ids = FeatureCatalog::in_word(word);
    if (ids.empty()) {
      edit_->note(node.place(),
                  fmt::format("MSR {:X} is left out: {}", index,
                              is_vmx_word(word) ? "KVM derives it from the other VMX MSRs"
                                                : "a model says nothing about it"));
      return {};
    }
    std::uint64_t& value = words_.msrs[index];
    const std::uint64_t before = value;
    value = bitmap.over(before);
    std::vector<FeaturePlace> nameless;
    const std::uint64_t features = words_.word(word);
    const std::uint64_t fixed = vmx_controls_fixed(index, value);
    // Both halves of a control speak of one feature.
    const std::uint64_t changed =
        is_vmx_control_msr(index) ? bitmap.changed | bitmap.changed >> 32 : bitmap.changed;
    for (const FeatureId id : ids) {
      const unsigned at = FeatureCatalog::get(id).place.bit;
      if (!bit(changed, at)) continue;
      edit_->set(id, bit(features, at), bits.place());
      if (bit(features, at) && bit(fixed, at)) insert_feature(edit_->model().vmx_fixed, id);
    }
    if (!is_vmx_word(word))
      for (unsigned i = 0; i < 64; ++i)
        if (bit(value & ~before, i) && !FeatureCatalog::at({word, i}))
          nameless.push_back({word, i});
    if (!nameless.empty())
      edit_->note(bits.place(), fmt::format("set, and left out, since these bits have no name "
                                            "here: {}",
                                            places_text(nameless)));
    return {};
  }

  const ImportInput& input_;
  std::optional<ModelEdit> edit_;
  CpuWords words_;     // the base's, then with what is no feature changed
  CpuidTable before_;  // the base's
  bool identity_ = false;
};

}  // namespace

Result<ImportedModel> import_firecracker(const ImportInput& input) { return Reader(input).read(); }

}  // namespace vmm
