#include "vmm/gdb/target_xml.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <set>

namespace vmm::gdb {
namespace {

struct Field {
  std::string_view name;
  unsigned first = 0;
  unsigned last = 0;
  constexpr Field(std::string_view bit_name, unsigned at) : name(bit_name), first(at), last(at) {}
  constexpr Field(std::string_view field_name, unsigned low, unsigned high)
      : name(field_name), first(low), last(high) {}
};

// Names as in the SDM, AMD's own as in the APM.
constexpr std::array kEflags = {
    Field{"CF", 0},   Field{"PF", 2},  Field{"AF", 4},  Field{"ZF", 6},  Field{"SF", 7},
    Field{"TF", 8},   Field{"IF", 9},  Field{"DF", 10}, Field{"OF", 11}, Field{"IOPL", 12, 13},
    Field{"NT", 14},  Field{"RF", 16}, Field{"VM", 17}, Field{"AC", 18}, Field{"VIF", 19},
    Field{"VIP", 20}, Field{"ID", 21}};
constexpr std::array kMxcsr = {
    Field{"IE", 0},  Field{"DE", 1},  Field{"ZE", 2},  Field{"OE", 3},      Field{"UE", 4},
    Field{"PE", 5},  Field{"DAZ", 6}, Field{"IM", 7},  Field{"DM", 8},      Field{"ZM", 9},
    Field{"OM", 10}, Field{"UM", 11}, Field{"PM", 12}, Field{"RC", 13, 14}, Field{"FZ", 15}};
constexpr std::array kCr0 = {Field{"PE", 0},  Field{"MP", 1},  Field{"EM", 2},  Field{"TS", 3},
                             Field{"ET", 4},  Field{"NE", 5},  Field{"WP", 16}, Field{"AM", 18},
                             Field{"NW", 29}, Field{"CD", 30}, Field{"PG", 31}};
constexpr std::array kCr4 = {
    Field{"VME", 0},    Field{"PVI", 1},      Field{"TSD", 2},         Field{"DE", 3},
    Field{"PSE", 4},    Field{"PAE", 5},      Field{"MCE", 6},         Field{"PGE", 7},
    Field{"PCE", 8},    Field{"OSFXSR", 9},   Field{"OSXMMEXCPT", 10}, Field{"UMIP", 11},
    Field{"LA57", 12},  Field{"VMXE", 13},    Field{"SMXE", 14},       Field{"FSGSBASE", 16},
    Field{"PCIDE", 17}, Field{"OSXSAVE", 18}, Field{"KL", 19},         Field{"SMEP", 20},
    Field{"SMAP", 21},  Field{"PKE", 22},     Field{"CET", 23},        Field{"PKS", 24},
    Field{"UINTR", 25}, Field{"LASS", 27},    Field{"LAM_SUP", 28},    Field{"FRED", 32}};
constexpr std::array kEfer = {Field{"SCE", 0},    Field{"LME", 8},   Field{"LMA", 10},
                              Field{"NXE", 11},   Field{"SVME", 12}, Field{"LMSLE", 13},
                              Field{"FFXSR", 14}, Field{"TCE", 15},  Field{"MCOMMIT", 17},
                              Field{"INTWB", 18}, Field{"UAIE", 20}, Field{"AIBRSE", 21}};
constexpr std::array kXcr0 = {Field{"X87", 0},       Field{"SSE", 1},      Field{"AVX", 2},
                              Field{"BNDREGS", 3},   Field{"BNDCSR", 4},   Field{"OPMASK", 5},
                              Field{"ZMM_Hi256", 6}, Field{"Hi16_ZMM", 7}, Field{"PKRU", 9},
                              Field{"TILECFG", 17},  Field{"TILEDATA", 18}};
constexpr std::array kDr6 = {Field{"B0", 0},  Field{"B1", 1},   Field{"B2", 2},
                             Field{"B3", 3},  Field{"BLD", 11}, Field{"BD", 13},
                             Field{"BS", 14}, Field{"BT", 15},  Field{"RTM", 16}};
constexpr std::array kDr7 = {
    Field{"L0", 0},       Field{"G0", 1},        Field{"L1", 2},       Field{"G1", 3},
    Field{"L2", 4},       Field{"G2", 5},        Field{"L3", 6},       Field{"G3", 7},
    Field{"LE", 8},       Field{"GE", 9},        Field{"RTM", 11},     Field{"GD", 13},
    Field{"RW0", 16, 17}, Field{"LEN0", 18, 19}, Field{"RW1", 20, 21}, Field{"LEN1", 22, 23},
    Field{"RW2", 24, 25}, Field{"LEN2", 26, 27}, Field{"RW3", 28, 29}, Field{"LEN3", 30, 31}};
constexpr std::array kSegmentAttributes = {
    Field{"TYPE", 0, 3}, Field{"S", 4},    Field{"DPL", 5, 6},
    Field{"P", 7},       Field{"AVL", 12}, Field{"L", 13},
    Field{"DB", 14},     Field{"G", 15},   Field{"UNUSABLE", 16}};
constexpr std::array kApicBase = {Field{"BSP", 8}, Field{"EXTD", 10}, Field{"EN", 11}};
constexpr std::array kMtrrDefType = {Field{"TYPE", 0, 7}, Field{"FE", 10}, Field{"E", 11}};
constexpr std::array kFeatureControl = {Field{"LOCK", 0}, Field{"VMX_IN_SMX", 1},
                                        Field{"VMX", 2},  Field{"SGX_LC", 17},
                                        Field{"SGX", 18}, Field{"LMCE", 20}};
constexpr std::array kSpecCtrl = {Field{"IBRS", 0}, Field{"STIBP", 1}, Field{"SSBD", 2},
                                  Field{"PSFD", 7}};
constexpr std::array kVmCr = {Field{"DPD", 0}, Field{"R_INIT", 1}, Field{"DIS_A20M", 2},
                              Field{"LOCK", 3}, Field{"SVMDIS", 4}};

struct Flags {
  std::string_view id;
  unsigned size;
  std::span<const Field> fields;
};
constexpr std::array<Flags, 15> kFlags = {{{"i386_eflags", 4, kEflags},
                                           {"i386_mxcsr", 4, kMxcsr},
                                           {"x86_cr0", 8, kCr0},
                                           {"x86_cr4", 8, kCr4},
                                           {"x86_efer", 8, kEfer},
                                           {"x86_xcr0", 8, kXcr0},
                                           {"x86_dr6", 8, kDr6},
                                           {"x86_dr7", 8, kDr7},
                                           {"x86_segment_attr", 4, kSegmentAttributes},
                                           {"x86_rflags_mask", 8, kEflags},
                                           {"x86_apic_base", 8, kApicBase},
                                           {"x86_mtrr_def_type", 8, kMtrrDefType},
                                           {"x86_feature_control", 8, kFeatureControl},
                                           {"x86_spec_ctrl", 8, kSpecCtrl},
                                           {"x86_vm_cr", 8, kVmCr}}};

// How an XMM register may be looked at: $xmm0.v4_float and so on, the names that gdb's own
// description uses. Its half-precision views are not here: gdb before 11 does not know their types
// and would refuse the whole document.
struct Lanes {
  std::string_view view;
  std::string_view id;
  std::string_view element;
  unsigned count;
};
constexpr std::array<Lanes, 6> kLanes = {{{"v4_float", "v4f", "ieee_single", 4},
                                          {"v2_double", "v2d", "ieee_double", 2},
                                          {"v16_int8", "v16i8", "int8", 16},
                                          {"v8_int16", "v8i16", "int16", 8},
                                          {"v4_int32", "v4i32", "int32", 4},
                                          {"v2_int64", "v2i64", "int64", 2}}};

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string vector_type(std::string_view id, std::string_view element, unsigned count) {
  return fmt::format("<vector id=\"{}\" type=\"{}\" count=\"{}\"/>\n", id, element, count);
}

std::string flags_type(const Flags& flags) {
  std::string text = fmt::format("<flags id=\"{}\" size=\"{}\">\n", flags.id, flags.size);
  for (const Field& field : flags.fields)
    text += fmt::format("<field name=\"{}\" start=\"{}\" end=\"{}\"/>\n", field.name, field.first,
                        field.last);
  return text + "</flags>\n";
}

// Nothing for the types that gdb has itself.
std::string type_definition(std::string_view id) {
  if (id == "v2ui128") return vector_type(id, "uint128", 2);
  if (id == "vec128") {
    std::string text;
    for (const Lanes& lanes : kLanes) text += vector_type(lanes.id, lanes.element, lanes.count);
    text += "<union id=\"vec128\">\n";
    for (const Lanes& lanes : kLanes)
      text += fmt::format("<field name=\"{}\" type=\"{}\"/>\n", lanes.view, lanes.id);
    return text + "<field name=\"uint128\" type=\"uint128\"/>\n</union>\n";
  }
  const auto* const flags = std::ranges::find(kFlags, id, &Flags::id);
  return flags != kFlags.end() ? flags_type(*flags) : "";
}

std::string_view gdb_architecture(Arch arch) {
  switch (arch) {
    case Arch::X86_64:
      return "i386:x86-64";
    case Arch::I386:
      return "i386";
    case Arch::I8086:
      break;
  }
  return "i8086";
}

}  // namespace

std::string target_xml(const RegisterSet& registers) {
  // A guest has no OS ABI that gdb knows. Without the word gdb would take its own host's, of which
  // it has none for i8086.
  std::string xml = fmt::format(
      "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n"
      "<target version=\"1.0\">\n<architecture>{}</architecture>\n<osabi>none</osabi>\n",
      gdb_architecture(registers.arch()));
  std::string_view feature;
  std::set<std::string_view> defined;  // a type belongs to the feature that defines it
  std::string body;
  std::string types;
  const auto close_feature = [&] {
    if (!feature.empty())
      xml += fmt::format("<feature name=\"{}\">\n{}{}</feature>\n", feature, types, body);
    body.clear();
    types.clear();
    defined.clear();
  };
  for (const Register& r : registers.registers()) {
    if (r.feature != feature) close_feature();
    feature = r.feature;
    if (defined.insert(r.type).second) types += type_definition(r.type);
    // What a debugger saves around a function that its user calls in the guest: the program's
    // registers. For x86, gdb 13 looks neither at this nor, but for the list of names, at groups.
    const bool saved = feature.starts_with("org.gnu.gdb.");
    body += fmt::format(
        "<reg name=\"{}\" bitsize=\"{}\" type=\"{}\" regnum=\"{}\" group=\"{}\"{}/>\n",
        escaped(r.name), r.bits, r.type, r.number, r.group, saved ? "" : " save-restore=\"no\"");
  }
  close_feature();
  return xml + "</target>\n";
}

}  // namespace vmm::gdb
