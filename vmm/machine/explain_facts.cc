#include "vmm/machine/explain_facts.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

// Stands in for memory that nobody has.
class NoMemory final : public MemoryReader {
 public:
  bool read(Gpa, std::span<std::uint8_t>) const override { return false; }
};
const NoMemory kNoMemory;

PagingFeatures features_of(const CrashScene& scene) {
  if (scene.paging_features) return *scene.paging_features;
  if (!scene.cpuid.entries().empty()) return PagingFeatures::from(scene.cpuid);
  return PagingFeatures::all_allowed();
}

const CpuState* cpu_of(const CrashScene& scene) {
  return scene.vcpu < scene.vcpus.size() ? &scene.vcpus[scene.vcpu] : nullptr;
}

}  // namespace

Gva linear_rip(const CpuState& cpu) {
  if (cpu_mode(cpu.sregs) == CpuMode::Long64) return cpu.regs.rip;
  return (cpu.sregs.cs.base + cpu.regs.rip) & 0xffffffff;
}

std::string hole_name(Gpa gpa) {
  if (gpa >= kVgaWindow && gpa < kVgaWindow + kVgaWindowSize)
    return "the VGA window (A0000h-BFFFFh)";
  if (gpa >= 0xc0000 && gpa < 0x100000) return "the BIOS area (C0000h-FFFFFh)";
  if (gpa >> 12 == 0xfee00) return "the local APIC's page";
  if (gpa >> 12 == 0xfec00) return "the IOAPIC's page";
  if (gpa >= 0xff000000 && gpa < kHoleEnd) return "the firmware flash below 4 GiB";
  if (gpa >= kHoleStart && gpa < kHoleEnd) return "the MMIO hole below 4 GiB";
  return "no RAM (beyond its end)";
}

std::string FirstFault::name() const {
  std::string result = vector_name(vector);
  if (!error_code) return result;
  if (vector == 14 && *error_code == 0) return result + " (error code 0h: not present, a read)";
  if (vector == 14)
    return fmt::format("{} (error code {:x}h: {})", result, *error_code,
                       page_fault_code_name(*error_code));
  return fmt::format("{} (error code {:x}h)", result, *error_code);
}

Facts::Facts(const CrashScene& s, std::vector<NestedFinding> findings)
    : scene(s), cpu(cpu_of(s)), nested(std::move(findings)) {
  cpuid_known = !scene.cpuid.entries().empty();
  model = scene.model.empty() ? "this CPU model" : printable(scene.model, 60);
  if (const auto* failure = std::get_if<ending::InternalFailure>(&scene.outcome))
    error = decode_error(failure->error, scene.kvm_backend);
  if (cpu == nullptr) return;
  paging = PagingContext::from(*cpu, features_of(scene));
  mode = cpu_mode(cpu->sregs);
  cpl = mode == CpuMode::Real ? 0 : cpu->sregs.ss.dpl & 3u;
  rip = linear_rip(*cpu);
  rip_place = place_of(rip, {.fetch = true, .user = cpl == 3});
  code = !scene.code.empty()   ? scene.code
         : !error.insn.empty() ? error.insn
                               : read_linear(rip, 15, {.fetch = true, .user = cpl == 3});
  if (code.size() > 15) code.resize(15);
  insn = decode_instruction(code, mode, cpu->regs.rip, cpu, scene.symbols);
  if (insn && at_fault()) {
    for (const MemoryUse& use : insn->memory) {
      const PageAccess access{.write = use.write, .user = cpl == 3};
      Operand operand{use, place_of(use.linear, access)};
      // An operand that crosses a page can fail in its second half.
      const Gva last = use.linear + use.size - 1;
      if (use.size > 1 && last >> 12 != use.linear >> 12 && !operand.place.failed()) {
        Place second = place_of(last, access);
        if (second.failed()) operand.place = second;
      }
      operands.push_back(std::move(operand));
    }
  }
  if (!at_fault()) return;  // RIP is not that of the crash
  if (cpu->sregs.cr2 != 0) cr2 = place_of(cpu->sregs.cr2, {.user = cpl == 3});
  fault = infer_fault(*this);
}

std::vector<std::uint8_t> Facts::shown_code() const {
  if (!code.empty() || scene.memory == nullptr || cpu == nullptr) return code;
  std::vector<std::uint8_t> bytes(15);
  if (!scene.memory->read(rip, bytes)) bytes.clear();
  return bytes;
}

std::vector<Gva> Facts::return_addresses(std::size_t count) const {
  std::vector<Gva> found;
  if (cpu == nullptr || mode == CpuMode::Real) return found;
  const unsigned slot = mode == CpuMode::Long64 ? 8 : 4;
  const Gva base = mode == CpuMode::Long64 ? 0 : cpu->sregs.ss.base;
  constexpr std::size_t kSlots = 64;
  const auto stack = read_linear(base + cpu->regs.rsp, kSlots * slot, {});
  for (std::size_t at = 0; at + slot <= stack.size() && found.size() < count; at += slot) {
    const Gva value = load_uint(std::span<const std::uint8_t>(stack).subspan(at, slot));
    if (value < 8 || (!found.empty() && found.back() == value)) continue;
    // A return address stands behind a CALL.
    const auto before = read_linear(value - 7, 7, {.fetch = true});
    if (before.size() != 7) continue;
    bool behind_call = before[2] == 0xe8;
    for (const std::size_t length : {2u, 3u, 4u, 6u, 7u}) {
      const std::size_t start = 7 - length;
      const auto call = decode_instruction(std::span(before).subspan(start), mode, value - length);
      behind_call |= call && call->mnemonic == "call" && call->length == length;
    }
    if (behind_call) found.push_back(value);
  }
  return found;
}

bool Facts::is_reset_state() const {
  return cpu == nullptr || (cpu->regs.rip == 0xfff0 && cpu->sregs.cs.selector == 0xf000);
}

bool Facts::holds_internal_error() const {
  return std::holds_alternative<ending::InternalFailure>(scene.outcome);
}

Backing Facts::backing_of(Gpa gpa) const {
  std::uint8_t byte[1];
  if (scene.memory != nullptr && scene.memory->read(gpa, byte)) return Backing::Ram;
  return scene.memory == nullptr || scene.memory_is_partial ? Backing::Unknown : Backing::Hole;
}

Place Facts::place_of(Gva linear, const PageAccess& access) const {
  Place place;
  place.linear = linear;
  place.access = access;
  const bool partial = scene.memory == nullptr || scene.memory_is_partial;
  place.walk =
      walk_page(scene.memory != nullptr ? *scene.memory : kNoMemory, paging, linear, access);
  place.known = !(partial && place.walk.failure && place.walk.failure->rule == "table-not-ram");
  if (const auto gpa = place.gpa()) place.backing = backing_of(*gpa);
  return place;
}

std::vector<std::uint8_t> Facts::read_linear(Gva linear, std::size_t size,
                                             const PageAccess& access) const {
  std::vector<std::uint8_t> bytes;
  if (scene.memory == nullptr) return bytes;
  while (bytes.size() < size) {
    const Gva at = linear + bytes.size();
    const std::size_t part =
        std::min<std::size_t>(size - bytes.size(), 4096 - static_cast<std::size_t>(at & 0xfff));
    const Walk walk = walk_page(*scene.memory, paging, at, access);
    if (!walk.gpa) break;
    std::vector<std::uint8_t> piece(part);
    if (!scene.memory->read(*walk.gpa, piece)) break;
    bytes.insert(bytes.end(), piece.begin(), piece.end());
  }
  return bytes;
}

std::string Facts::address(Gva linear) const {
  if (scene.symbols != nullptr)
    if (const auto name = scene.symbols->name_of(linear))
      return fmt::format("{:x}h ({})", linear, printable(*name, 48));
  return fmt::format("{:x}h", linear);
}

std::vector<const Place*> Facts::places() const {
  std::vector<const Place*> list;
  if (cpu == nullptr) return list;
  list.push_back(&rip_place);
  for (const Operand& operand : operands) list.push_back(&operand.place);
  if (cr2) list.push_back(&*cr2);
  if (fault && fault->place) list.push_back(&*fault->place);
  return list;
}

Place Facts::stack_place() const {
  const unsigned width = mode == CpuMode::Long64 ? 64 : cpu->sregs.ss.db != 0 ? 32 : 16;
  const unsigned slot = mode == CpuMode::Long64 ? 8 : mode == CpuMode::Real ? 2 : 4;
  std::uint64_t top = cpu->regs.rsp;
  // An interrupt in 64-bit mode aligns the stack first (SDM 6.14.2).
  if (mode == CpuMode::Long64) top = align_down(top, 16);
  const Gva base = mode == CpuMode::Long64 ? 0 : cpu->sregs.ss.base;
  Gva linear = base + ((top - slot) & low_mask(width));
  if (mode != CpuMode::Long64) linear &= 0xffffffff;
  return place_of(linear, {.write = true, .user = cpl == 3});
}

}  // namespace vmm
