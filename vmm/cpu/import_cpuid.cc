// The registers of CPUID in hex, as `cpuid -r` and KVM's tools write them:
//
//   CPU 0:
//      0x00000001 0x00: eax=0x000306c1 ebx=0x00010800 ecx=0xf7fa3203 edx=0x078bfbff
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/cpu/flatten.h"
#include "vmm/cpu/import_words.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxEntries = 1024;

class Reader {
 public:
  explicit Reader(const ImportInput& input) : input_(input) {}

  Result<ImportedModel> read() {
    VMM_TRY(read_table());
    if (table_.find(0) == nullptr || table_.find(1) == nullptr)
      return fail(Error::usage("leaves 0 and 1 are not both there")
                      .at(input_.file)
                      .hint("cpuid -1 -r writes what is read here"));
    if (const std::string vendor = table_.vendor();
        vendor.size() != 12 || printable(vendor) != vendor)
      return fail(Error::usage(fmt::format("leaf 0 names the vendor '{}'", printable(vendor)))
                      .at(leaf_0_place_));
    take_features();
    note_leaves();
    if (others_ > 0)
      imported_.notes.push_back({"", fmt::format("the first CPU is taken, {} other{} left out",
                                                 others_, others_ == 1 ? " is" : "s are")});
    imported_.source = fmt::format("a dump of cpuid, {:08x}h", table_.get(1).eax);
    CpuModel& model = imported_.model;
    model.name = input_.name;
    model.version = 1;
    model.title = "imported from " + imported_.source;
    return std::move(imported_);
  }

 private:
  Result<void> read_table() {
    bool headed = false;
    std::size_t offset = 0;
    for (const std::string_view line : split(input_.text, '\n')) {
      const std::size_t begin = offset;
      offset += line.size() + 1;
      const std::string_view words = trim(line);
      if (words.empty()) continue;
      if (words.starts_with("CPU") && words.ends_with(':')) {
        const std::string_view number = trim(words.substr(3, words.size() - 4));
        if (!number.empty() && !parse_number(number)) return fail(bad_line(begin));
        if (headed || !table_.entries().empty()) ++others_;
        headed = true;
        continue;
      }
      VMM_TRY(read_line(line, begin));
    }
    return {};
  }

  Error bad_line(std::size_t offset) const {
    return Error::usage("no line of cpuid -r")
        .at(text_place(input_.file, input_.text, offset))
        .hint(
            "such a line is: 0x00000001 0x00: eax=0x000306c1 ebx=... ecx=... edx=...; cpuid -1 -r "
            "writes them");
  }

  // A number in hex with 0x before it, at most 8 digits.
  static std::optional<std::uint32_t> hex(std::string_view text) {
    if (!text.starts_with("0x") || text.size() > 10) return std::nullopt;
    const auto number = parse_number(text);
    if (!number) return std::nullopt;
    return static_cast<std::uint32_t>(*number);
  }

  Result<void> read_line(std::string_view line, std::size_t offset) {
    std::size_t at = 0;
    std::size_t word_at = 0;
    const auto next = [&]() -> std::string_view {
      at = std::min(line.find_first_not_of(" \t\r", at), line.size());
      word_at = at;
      at = std::min(line.find_first_of(" \t\r", at), line.size());
      return line.substr(word_at, at - word_at);
    };
    const auto wrong = [&] { return fail(bad_line(offset + word_at)); };
    std::string_view word = next();
    // Without a subleaf in the dumps of old versions.
    const bool alone = word.ends_with(':');
    const auto leaf = hex(alone ? word.substr(0, word.size() - 1) : word);
    if (!leaf) return wrong();
    std::uint32_t subleaf = 0;
    if (!alone) {
      word = next();
      const auto number = hex(word.substr(0, word.size() - (word.ends_with(':') ? 1 : 0)));
      if (!number || !word.ends_with(':')) return wrong();
      subleaf = *number;
    }
    CpuidRegs regs;
    constexpr std::string_view kNames[] = {"eax=", "ebx=", "ecx=", "edx="};
    for (std::size_t i = 0; i < std::size(kNames); ++i) {
      word = next();
      const auto value = word.starts_with(kNames[i]) ? hex(word.substr(4)) : std::nullopt;
      if (!value) return wrong();
      regs[static_cast<CpuidReg>(i)] = *value;
    }
    if (!next().empty()) return wrong();
    if (others_ > 0) return {};
    const std::string place = text_place(input_.file, input_.text, offset + line.find("0x"));
    if (table_.find(*leaf, subleaf) != nullptr)
      return fail(
          Error::usage(fmt::format("leaf {:X}.{:X} is there twice", *leaf, subleaf)).at(place));
    if (table_.entries().size() >= kMaxEntries)
      return fail(
          Error::usage(fmt::format("more than {} lines for one CPU", kMaxEntries)).at(place));
    if (*leaf == 0) leaf_0_place_ = place;
    table_.at(*leaf, subleaf) = regs;
    return {};
  }

  void take_features() {
    CpuModel& model = imported_.model;
    model.brand = "unnamed CPU";
    take_identity(table_, model, imported_.notes);
    const bool amd = is_amd(table_);
    const CpuWords words{table_, {}};
    std::vector<FeaturePlace> nameless;
    for (const FeatureWord& word : FeatureCatalog::words()) {
      if (word.is_msr) continue;
      const std::uint64_t value = words.word(word) & ~repeated_bits(word, amd) & ~run_time(word);
      for (unsigned i = 0; i < 32; ++i) {
        if (!bit(value, i)) continue;
        const auto id = FeatureCatalog::at({word, i});
        if (!id)
          nameless.push_back({word, i});
        else if (belongs_in_model(FeatureCatalog::get(*id), amd))
          list_of(model, word).push_back(*id);
      }
    }
    const auto has = [&](std::string_view name) { return words.has(name); };
    model.virt_bits = has("la57") ? 57 : 48;
    if (!nameless.empty())
      note(fmt::format("set, and left out, since these bits have no name here: {}",
                       places_text(nameless)));
    for (const std::string_view name : {"vmx", "svm"})
      if (has(name))
        note(fmt::format("{0} is no part of a model: give --cpu-model FILE,+{0}", name));
    if (has("vmx"))
      note("a dump of cpuid has no MSRs, so no VMX control is in the model: name them");
    for (const std::string_view name : {"arch-capabilities", "core-capability"})
      if (has(name))
        note(
            fmt::format("{} is on, and what its MSR says is not in a dump of cpuid: it is 0 unless "
                        "features of it are named",
                        name));
  }

  // OSXSAVE and OSPKE follow CR4.
  static std::uint64_t run_time(const FeatureWord& word) {
    if (word == FeatureWord{false, 1, 0, CpuidReg::Ecx}) return std::uint64_t{1} << 27;
    if (word == FeatureWord{false, 7, 0, CpuidReg::Ecx}) return std::uint64_t{1} << 4;
    return 0;
  }

  // Leaves that hold something, and of which a model says nothing.
  void note_leaves() {
    std::set<std::uint32_t> known = {0,          1,          2,          0xd,        0x1d,
                                     0x1e,       0x40000000, 0x80000000, 0x80000002, 0x80000003,
                                     0x80000004, 0x80000005, 0x80000006, 0x80000008};
    for (const FeatureWord& word : FeatureCatalog::words())
      if (!word.is_msr) known.insert(word.index);
    std::vector<std::string> left;
    for (const auto& [key, regs] : table_.entries())
      if (key.subleaf == 0 && regs != CpuidRegs{} && !known.contains(key.leaf) &&
          !is_shape_leaf(key.leaf))
        left.push_back(fmt::format("{:X}", key.leaf));
    if (!left.empty())
      note(fmt::format("leaves of which a model says nothing are left out: {}",
                       fmt::join(left, ", ")));
  }

  void note(std::string text) { imported_.notes.push_back({"", std::move(text)}); }

  const ImportInput& input_;
  CpuidTable table_;
  std::string leaf_0_place_;
  std::size_t others_ = 0;
  ImportedModel imported_;
};

}  // namespace

Result<ImportedModel> import_cpuid(const ImportInput& input) { return Reader(input).read(); }

}  // namespace vmm
