#include "vmm/cpu/words_json.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "vmm/base/text.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxEntries = 1024;

std::string key_text(const CpuidKey& key) {
  return fmt::format("{:08x}.{:02x}", key.leaf, key.subleaf);
}

std::string regs_text(const CpuidRegs& r) {
  return fmt::format("{:08x} {:08x} {:08x} {:08x}", r.eax, r.ebx, r.ecx, r.edx);
}

std::optional<std::uint32_t> hex_number(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// What does not read back as it was written is refused: "7.0" and "00000007.00" would be one key.
std::optional<CpuidKey> parse_key(std::string_view text) {
  const auto parts = split(text, '.');
  if (parts.size() != 2) return std::nullopt;
  const auto leaf = hex_number(parts[0]);
  const auto subleaf = hex_number(parts[1]);
  if (!leaf || !subleaf || key_text({*leaf, *subleaf}) != text) return std::nullopt;
  return CpuidKey{*leaf, *subleaf};
}

std::optional<CpuidRegs> parse_regs(std::string_view text) {
  const auto parts = split(text, ' ');
  if (parts.size() != 4) return std::nullopt;
  CpuidRegs regs;
  for (const CpuidReg reg : {CpuidReg::Eax, CpuidReg::Ebx, CpuidReg::Ecx, CpuidReg::Edx}) {
    const auto value = hex_number(parts[static_cast<std::size_t>(reg)]);
    if (!value) return std::nullopt;
    regs[reg] = *value;
  }
  if (regs_text(regs) != text) return std::nullopt;
  return regs;
}

}  // namespace

nlohmann::ordered_json cpuid_json(const CpuidTable& table) {
  nlohmann::ordered_json result = nlohmann::ordered_json::object();
  for (const auto& [key, regs] : table.entries()) result[key_text(key)] = regs_text(regs);
  return result;
}

Result<CpuidTable> cpuid_of_json(const JsonNode& node) {
  CpuidTable table;
  for (const auto& [text, value] : VMM_TRY(node.members(kMaxEntries))) {
    const auto key = parse_key(text);
    if (!key)
      return fail(value.error("a key is LEAF.SUBLEAF in 8 and 2 hex digits, as \"0000000d.01\""));
    const std::string registers = VMM_TRY(value.string(0, 60));
    const auto regs = parse_regs(registers);
    if (!regs)
      return fail(
          value.error("EAX, EBX, ECX and EDX are meant: four times 8 hex digits in lower "
                      "case, with a space between"));
    table.at(key->leaf, key->subleaf) = *regs;
  }
  return table;
}

nlohmann::ordered_json msrs_json(const std::map<std::uint32_t, std::uint64_t>& msrs) {
  nlohmann::ordered_json result = nlohmann::ordered_json::object();
  for (const auto& [index, value] : msrs)
    result[fmt::format("{:08x}", index)] = fmt::format("{:016x}", value);
  return result;
}

Result<std::map<std::uint32_t, std::uint64_t>> msrs_of_json(const JsonNode& node) {
  std::map<std::uint32_t, std::uint64_t> msrs;
  for (const auto& [text, value] : VMM_TRY(node.members(kMaxEntries))) {
    const auto index = hex_number(text);
    if (!index || fmt::format("{:08x}", *index) != text)
      return fail(value.error("a key is the index of an MSR in 8 hex digits, as \"0000010a\""));
    msrs[*index] = VMM_TRY(value.hex(16));
  }
  return msrs;
}

}  // namespace vmm
