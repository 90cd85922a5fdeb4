#include "vmm/machine/kernel_slide.h"

#include "vmm/base/bytes.h"
#include "vmm/machine/explain_facts.h"

namespace vmm {
namespace {

// START_KERNEL_map: the link address is 16 MiB above.
constexpr Gva kKernelMap = 0xffff'ffff'8000'0000;

}  // namespace

std::uint64_t kernel_slide(const CrashScene& scene) {
  if (scene.symbols == nullptr || scene.vcpus.empty()) return 0;
  // Since Linux 5.8, and before.
  auto linked = scene.symbols->address_of("asm_exc_divide_error");
  if (!linked) linked = scene.symbols->address_of("divide_error");
  const Facts facts(scene, {});
  if (!linked || *linked < kKernelMap || facts.mode != CpuMode::Long64) return 0;
  const kvm_dtable& idt = facts.cpu->sregs.idt;
  constexpr std::size_t kGate = 16;
  if (idt.limit < kGate - 1) return 0;
  const std::vector<std::uint8_t> gate = facts.read_linear(idt.base, kGate, {});
  if (gate.size() != kGate) return 0;
  const auto low = load<std::uint64_t>(gate);
  const Gva handler = bits(low, 15, 0) | bits(low, 63, 48) << 16 |
                      std::uint64_t{load<std::uint32_t>(gate, 8)} << 32;
  const std::uint64_t slide = handler - *linked;
  const bool fits = handler >= kKernelMap && slide % 2_MiB == 0 && slide < 1_GiB;
  return fits ? slide : 0;
}

SymbolTable moved_symbols(const SymbolTable& symbols, std::uint64_t slide) {
  SymbolTable moved;
  symbols.for_each([&](const std::string& name, Gva address, std::uint64_t size) {
    moved.add(name, address >= kKernelMap ? address + slide : address, size);
  });
  return moved;
}

}  // namespace vmm
