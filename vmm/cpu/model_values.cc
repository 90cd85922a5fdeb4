#include "vmm/cpu/model_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/cpu/vmx.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxWords = 256;
constexpr std::size_t kMaxMsrs = 64;
constexpr std::uint64_t kAll = 0xffffffff;
constexpr const char* kRegisters[] = {"eax", "ebx", "ecx", "edx"};

struct MsrName {
  std::uint32_t index;
  std::string_view name;
};

// What KVM_GET_MSR_FEATURE_INDEX_LIST has on some host, but for VMX.
constexpr MsrName kMsrs[] = {
    {0x8b, "microcode-revision"},  // the revision is in bits 63:32
    {0xce, "platform-info"},      {0xcf, "core-capabilities"}, {0x10a, "arch-capabilities"},
    {0x345, "perf-capabilities"}, {0xc0010015, "hwcr"},        {0xc0011029, "de-cfg"},
};

// Registers that other keys or --smp decide: a value beside them would be overwritten, or
// contradict them. Nothing for the others.
std::optional<std::string_view> master_of(const FeatureWord& word, std::uint32_t mask) {
  switch (word.index) {
    case 0:
    case 0x80000000:
      return "is made of 'vendor' and the leaf limits";
    case 1:
      if (word.reg == CpuidReg::Eax) return "is made of 'family', 'model' and 'stepping'";
      if (word.reg == CpuidReg::Ebx) return "comes from --smp";
      break;
    case 4:
    case 0xb:
    case 0x1f:
    case 0x80000005:
    case 0x80000006:
    case 0x8000001d:
    case 0x8000001e:
    case 0x80000026:
      return "comes from 'caches' and --smp";
    case 7:
      if (word.subleaf == 0 && word.reg == CpuidReg::Eax) return "follows from the features";
      break;
    case 0xd:
      return "follows from the features";
    case 0x80000001:
      if (word.reg == CpuidReg::Eax) return "is made of 'family', 'model' and 'stepping'";
      break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004:
      return "is made of 'brand'";
    case 0x80000008:
      if (word.reg == CpuidReg::Eax && (mask & 0xffff) != 0)
        return "is made of 'phys-bits' and 'virt-bits' in bits 15:0";
      if (word.reg == CpuidReg::Ecx) return "comes from --smp";
      break;
    case 0x8000000a:
      return "comes with +svm only, and is made of names";
    default:
      break;
  }
  return std::nullopt;
}

std::uint32_t named_bits(const FeatureWord& word) {
  std::uint32_t mask = 0;
  for (const FeatureId id : FeatureCatalog::in_word(word))
    mask |= std::uint32_t{1} << FeatureCatalog::get(id).place.bit;
  return mask;
}

Result<CpuRawWord> read_raw_word(const TomlTable& table) {
  VMM_TRY(table.only({"leaf", "subleaf", "register", "value", "mask"}));
  CpuRawWord raw;
  FeatureWord& word = raw.word;
  word.index = static_cast<std::uint32_t>(VMM_TRY(table.number("leaf", 0, 0x800000ff)));
  if (word.index > 0xff && word.index < 0x80000000)
    return fail(Error::usage(fmt::format("leaf {:X}h is no leaf of a model: 0 to FFh and 80000000h "
                                         "to 800000FFh are",
                                         word.index))
                    .at(table.place("leaf"))
                    .hint("KVM's own leaves come from [kvm] pv-features"));
  if (table.has("subleaf"))
    word.subleaf = static_cast<std::uint32_t>(VMM_TRY(table.number("subleaf", 0, 255)));
  if (word.subleaf != 0 && !has_subleaves(word.index))
    return fail(Error::usage(fmt::format("leaf {:X}h has no subleaves", word.index))
                    .at(table.place("subleaf")));
  word.reg = static_cast<CpuidReg>(VMM_TRY(table.choice("register", {"eax", "ebx", "ecx", "edx"})));
  raw.value = static_cast<std::uint32_t>(VMM_TRY(table.number("value", 0, kAll)));
  if (table.has("mask"))
    raw.mask = static_cast<std::uint32_t>(VMM_TRY(table.number("mask", 1, kAll)));
  if ((raw.value & ~raw.mask) != 0)
    return fail(
        Error::usage(fmt::format("value {:x}h has bits outside of mask {:x}h", raw.value, raw.mask))
            .at(table.place("value")));
  if (const auto master = master_of(word, raw.mask))
    return fail(Error::usage(fmt::format("{} {}", word.text(), *master)).at(table.place()));
  const std::uint32_t named = named_bits(word);
  if ((named & raw.mask) == 0) return raw;
  unsigned first = 0;
  while (!bit(named & raw.mask, first)) ++first;
  const FeaturePlace place{word, first};
  return fail(Error::usage(fmt::format("{} is {}: raw words hold bits without a name", place.text(),
                                       bit_name(place)))
                  .at(table.place())
                  .hint(fmt::format("name it in the lists, and leave it out here: mask = 0x{:X}",
                                    raw.mask & ~named)));
}

// "0x8b" or "139".
std::optional<std::uint32_t> index_of(std::string_view key) {
  for (const MsrName& msr : kMsrs)
    if (msr.name == key) return msr.index;
  const auto number = parse_number(key);
  if (!number || *number > kAll) return std::nullopt;
  return static_cast<std::uint32_t>(*number);
}

Error unknown_msr(const std::string& key) {
  std::vector<std::string> names;
  for (const MsrName& msr : kMsrs) names.emplace_back(msr.name);
  Error error = Error::usage(fmt::format("unknown MSR '{}'", printable(key, 60)));
  const auto near = nearest_name(key, names);
  return std::move(error).hint(
      near ? fmt::format("did you mean '{}'?", *near)
           : fmt::format("an index such as 0x8b, or one of {}", fmt::join(names, ", ")));
}

}  // namespace

std::string raw_word_name(const CpuRawWord& raw) {
  const std::string name = raw.word.text();
  return raw.mask == kAll ? name : fmt::format("{} & {:x}h", name, raw.mask);
}

std::string msr_name(std::uint32_t index) {
  for (const MsrName& msr : kMsrs)
    if (msr.index == index) return std::string(msr.name);
  return fmt::format("{:X}h", index);
}

Result<std::vector<CpuRawWord>> read_raw_words(const TomlTable& table) {
  std::vector<CpuRawWord> words;
  for (const TomlTable& item : VMM_TRY(table.tables("words", kMaxWords))) {
    const CpuRawWord raw = VMM_TRY(read_raw_word(item));
    for (const CpuRawWord& other : words)
      if (other.word == raw.word)
        return fail(Error::usage(fmt::format("{} is there twice", raw_word_name(other)))
                        .at(item.place())
                        .hint("one entry a register, its mask over all the bits that are meant"));
    words.push_back(raw);
  }
  std::ranges::sort(words, {}, &CpuRawWord::word);
  return words;
}

Result<std::map<std::uint32_t, std::uint64_t>> read_msrs(const TomlTable& root) {
  const TomlTable table = VMM_TRY(root.table("msr"));
  std::map<std::uint32_t, std::uint64_t> msrs;
  const std::vector<std::string> keys = table.keys();
  if (keys.size() > kMaxMsrs)
    return fail(Error::usage(fmt::format("[msr] has {} entries, at most {} are allowed",
                                         keys.size(), kMaxMsrs))
                    .at(table.place()));
  for (const std::string& key : keys) {
    const std::string place = table.place(key);
    const auto index = index_of(key);
    if (!index) return fail(unknown_msr(key).at(place));
    if (is_vmx_word({true, *index}) || (*index >= kVmxBasic && *index <= kVmxLast))
      return fail(
          Error::usage(fmt::format("MSR {:X}h is made of the names in 'vmx'", *index)).at(place));
    if (*index == kFeatureControl)
      return fail(Error::usage("IA32_FEATURE_CONTROL is 5 with +vmx, and comes last").at(place));
    const std::uint64_t value = VMM_TRY(table.number(key, 0, ~std::uint64_t{0} >> 1));
    for (const FeatureId id : FeatureCatalog::in_word({true, *index}))
      if (const Feature& feature = FeatureCatalog::get(id); bit(value, feature.place.bit))
        return fail(Error::usage(fmt::format("{} is {}: [msr] holds bits without a name",
                                             feature.place.text(), feature.name))
                        .at(place)
                        .hint(fmt::format("put \"{}\" into 'features' and clear the bit here",
                                          feature.name)));
    if (!msrs.emplace(*index, value).second)
      return fail(Error::usage(fmt::format("MSR {:X}h is there twice", *index)).at(place));
  }
  return msrs;
}

std::string raw_words_text(const std::vector<CpuRawWord>& words) {
  if (words.empty()) return "words = []\n";
  std::string text = "words = [\n";
  for (const CpuRawWord& raw : words) {
    text += fmt::format("  {{ leaf = 0x{:X}, ", raw.word.index);
    if (raw.word.subleaf != 0) text += fmt::format("subleaf = {}, ", raw.word.subleaf);
    text += fmt::format("register = \"{}\", value = 0x{:X}",
                        kRegisters[static_cast<std::size_t>(raw.word.reg)], raw.value);
    if (raw.mask != kAll) text += fmt::format(", mask = 0x{:X}", raw.mask);
    text += " },\n";
  }
  return text + "]\n";
}

std::string msrs_text(const std::map<std::uint32_t, std::uint64_t>& msrs) {
  std::string text = "\n[version.msr]\n";
  for (const auto& [index, value] : msrs) {
    const auto* const known = std::ranges::find(kMsrs, index, &MsrName::index);
    text += known != std::end(kMsrs) ? fmt::format("{} = 0x{:X}\n", known->name, value)
                                     : fmt::format("0x{:x} = 0x{:X}\n", index, value);
  }
  return text;
}

}  // namespace vmm
