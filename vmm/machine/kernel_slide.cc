#include "vmm/machine/kernel_slide.h"

#include <algorithm>
#include <string_view>

#include "vmm/base/bytes.h"
#include "vmm/machine/explain_facts.h"

namespace vmm {
namespace {

// Since Linux 5.8, before, and of a kernel that is only starting (arch/x86/kernel/idt.c).
constexpr std::string_view kDivideError[] = {"asm_exc_divide_error", "divide_error",
                                             "early_idt_handler_array"};

std::optional<Gva> linked_at(const SymbolTable& symbols, std::string_view name) {
  const auto address = symbols.address_of(name);
  if (!address || *address < SymbolTable::kMovable) return std::nullopt;
  return *address - symbols.slide();
}

}  // namespace

bool has_linux_handlers(const SymbolTable& symbols) {
  return std::ranges::any_of(
      kDivideError, [&](std::string_view name) { return linked_at(symbols, name).has_value(); });
}

std::optional<std::uint64_t> kernel_slide(const CrashScene& scene) {
  if (scene.symbols == nullptr || scene.vcpus.empty()) return std::nullopt;
  const Facts facts(scene, {});
  if (facts.mode != CpuMode::Long64) return std::nullopt;
  const kvm_dtable& idt = facts.cpu->sregs.idt;
  constexpr std::size_t kGate = 16;
  if (idt.limit < kGate - 1) return std::nullopt;
  const std::vector<std::uint8_t> gate = facts.read_linear(idt.base, kGate, {});
  if (gate.size() != kGate) return std::nullopt;
  const auto low = load<std::uint64_t>(gate);
  const Gva handler = bits(low, 15, 0) | bits(low, 63, 48) << 16 |
                      std::uint64_t{load<std::uint32_t>(gate, 8)} << 32;
  if (handler < SymbolTable::kMovable) return std::nullopt;
  for (const std::string_view name : kDivideError) {
    const auto linked = linked_at(*scene.symbols, name);
    if (!linked) continue;
    const std::uint64_t slide = handler - *linked;
    if (slide % 2_MiB == 0 && slide < 1_GiB) return slide;
  }
  return std::nullopt;
}

}  // namespace vmm
