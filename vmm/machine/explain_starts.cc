#include "vmm/machine/explain_starts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/core/uapi.h"
#include "vmm/machine/explain_rule_parts.h"

namespace vmm {
namespace {

using Content = StartPlace::Content;

constexpr std::size_t kPage = 4096;
// So many bytes of the same at the start are no code, whatever follows.
constexpr std::size_t kEnough = 16;
constexpr std::size_t kListed = 8;

std::string time_text(VmTime time) {
  return fmt::format("{:.3f} ms", std::chrono::duration<double, std::milli>(time).count());
}

std::string sender_text(const Facts& f, const TraceEvent& e) {
  std::string text;
  if (e.other != kNoVcpu) text += fmt::format(" from vCPU {}", e.other);
  text += fmt::format(" at {}", time_text(e.time));
  if (e.rip != 0) {
    // The name alone where there is one, so that the first line of a card stays one line.
    const auto name = f.scene.symbols != nullptr ? f.scene.symbols->name_of(e.rip) : std::nullopt;
    text += fmt::format(", RIP {}", name ? *name : fmt::format("{:x}h", e.rip));
  }
  return text;
}

const ProcessorStart* start_of(const Facts& f, unsigned vcpu) {
  return vcpu < f.scene.starts.size() ? &f.scene.starts[vcpu] : nullptr;
}

bool waits(const CpuState& cpu) {
  return cpu.mp_state == KVM_MP_STATE_UNINITIALIZED || cpu.mp_state == KVM_MP_STATE_INIT_RECEIVED;
}

bool in_real_mode(const CpuState& cpu) { return (cpu.sregs.cr0 & spec::CR0_PE) == 0; }

// A segment that a SIPI makes: a page below 1 MiB. F000h is the firmware's, 0 the vectors'.
bool looks_started(std::uint16_t selector, std::uint64_t base) {
  return base == std::uint64_t{selector} << 4 && (selector & 0xff) == 0 && selector != 0 &&
         selector != 0xf000;
}

// Where no one saw the SIPI: CS as it left it, or as an exception in that page pushed it.
std::optional<Gpa> page_by_registers(const Facts& f, const CpuState& cpu) {
  if (!in_real_mode(cpu) || waits(cpu)) return std::nullopt;
  const kvm_sregs& s = cpu.sregs;
  if (looks_started(s.cs.selector, s.cs.base)) return s.cs.base;
  if (s.cs.selector != 0xf000 || f.scene.memory == nullptr) return std::nullopt;
  const auto pushed =
      f.scene.memory->read_value<std::uint16_t>(s.ss.base + ((cpu.regs.rsp + 2) & 0xffff));
  if (!pushed || !looks_started(*pushed, std::uint64_t{*pushed} << 4)) return std::nullopt;
  return std::uint64_t{*pushed} << 4;
}

std::string code_text(const Facts& f, std::span<const std::uint8_t> bytes) {
  std::string text;
  std::size_t at = 0;
  for (unsigned i = 0; i < 3 && at < bytes.size(); ++i) {
    const auto insn =
        decode_instruction(bytes.subspan(at, std::min<std::size_t>(15, bytes.size() - at)),
                           CpuMode::Real, at, nullptr, f.scene.symbols);
    if (!insn) {
      if (i == 0) return fmt::format("no instruction ({:02x} {:02x} ...)", bytes[0], bytes[1]);
      break;
    }
    text += fmt::format("{}{}", i == 0 ? "" : "; ", printable(insn->text, 40));
    at += insn->length;
  }
  return "code: " + text;
}

void look_at_page(const Facts& f, StartPlace& place) {
  if (f.scene.memory == nullptr) return;
  std::array<std::uint8_t, kPage> bytes{};
  if (!f.scene.memory->read(place.page, bytes)) {
    if (f.scene.memory_is_partial) return;
    place.content = Content::Hole;
    // Without its bounds, for a first line that stays one line.
    const std::string name = hole_name(place.page);
    place.content_text = fmt::format("{}, not RAM", name.substr(0, name.find(" (")));
    return;
  }
  const std::uint8_t first = bytes[0];
  const auto other = std::ranges::find_if(bytes, [first](std::uint8_t b) { return b != first; });
  const auto same = static_cast<std::size_t>(other - bytes.begin());
  if ((first != 0 && first != 0xff) || same < kEnough) {
    place.content = Content::Code;
    place.content_text = code_text(f, std::span(bytes).first(48));
    return;
  }
  place.content = first == 0 ? Content::Zeroes : Content::Ones;
  const std::string_view what = first == 0 ? "zeroes" : "ffs";
  place.content_text = same == kPage ? fmt::format("only {}", what)
                                     : fmt::format("{} (up to {:x}h)", what, place.page + same);
}

// Those whose start can have to do with this ending.
std::vector<unsigned> concerned(const Facts& f) {
  const auto& outcome = f.scene.outcome;
  std::vector<unsigned> vcpus;
  if (std::holds_alternative<ending::TripleFault>(outcome) ||
      std::holds_alternative<ending::InternalFailure>(outcome)) {
    if (f.scene.vcpu_known && f.scene.vcpu != 0 && f.scene.vcpu < f.scene.vcpus.size())
      vcpus.push_back(f.scene.vcpu);
    return vcpus;
  }
  if (!std::holds_alternative<ending::TimedOut>(outcome) &&
      !std::holds_alternative<ending::Stalled>(outcome) &&
      !std::holds_alternative<ending::HaltedForever>(outcome))
    return vcpus;
  for (unsigned i = 1; i < f.scene.vcpus.size(); ++i)
    if (in_real_mode(f.scene.vcpus[i]) && !waits(f.scene.vcpus[i])) vcpus.push_back(i);
  return vcpus;
}

// "vCPU 1", "vCPUs 1 and 3", "vCPUs 1-7".
std::string vcpu_names(const std::vector<unsigned>& vcpus) {
  if (vcpus.size() == 1) return fmt::format("vCPU {}", vcpus[0]);
  if (vcpus.size() == 2) return fmt::format("vCPUs {} and {}", vcpus[0], vcpus[1]);
  if (vcpus.back() - vcpus.front() == vcpus.size() - 1)
    return fmt::format("vCPUs {}-{}", vcpus.front(), vcpus.back());
  return fmt::format("vCPUs {}", fmt::join(vcpus, ", "));
}

}  // namespace

std::optional<StartPlace> start_place(const Facts& f, unsigned vcpu) {
  if (vcpu == 0 || vcpu >= f.scene.vcpus.size()) return std::nullopt;
  StartPlace place;
  if (const ProcessorStart* start = start_of(f, vcpu)) {
    if (!start->sipi) return std::nullopt;
    place.sipi = &*start->sipi;
    place.page = (start->sipi->value & 0xff) << 12;
  } else if (const auto page = page_by_registers(f, f.scene.vcpus[vcpu])) {
    place.page = *page;
  } else {
    return std::nullopt;
  }
  look_at_page(f, place);
  return place;
}

std::string sipi_text(const Facts& f, const TraceEvent& sipi) {
  return fmt::format("SIPI {:x}h{}", sipi.value, sender_text(f, sipi));
}

std::string waiting_text(const Facts& f, unsigned vcpu) {
  const ProcessorStart* start = start_of(f, vcpu);
  if (start == nullptr) return {};
  if (start->init) return fmt::format("INIT{}, none since", sender_text(f, *start->init));
  return "none came";
}

std::vector<std::string> start_lines(const Facts& f) {
  std::vector<std::string> lines;
  for (const unsigned vcpu : concerned(f)) {
    if (lines.size() == kListed) break;
    const auto place = start_place(f, vcpu);
    if (!place) continue;
    lines.push_back(fmt::format(
        "vCPU {}: {}; at {:x}h: {}", vcpu,
        place->sipi != nullptr ? sipi_text(f, *place->sipi) : "started by KVM's LAPIC, unseen",
        place->page, place->content_text));
  }
  return lines;
}

std::optional<Verdict> started_in_nothing(const Facts& f) {
  std::vector<unsigned> lost;
  std::optional<StartPlace> where;
  for (const unsigned vcpu : concerned(f)) {
    // One that left real mode has found code.
    if (!in_real_mode(f.scene.vcpus[vcpu])) continue;
    const auto place = start_place(f, vcpu);
    if (!place || place->content == Content::Code || place->content == Content::Unknown) continue;
    if (where &&
        (where->page != place->page || (where->sipi == nullptr) != (place->sipi == nullptr)))
      continue;
    lost.push_back(vcpu);
    if (!where) where = place;
  }
  if (!where) return std::nullopt;

  Verdict v;
  const bool zeroes = where->content == Content::Zeroes;
  v.rule = where->content == Content::Hole ? "processor-started-in-hole"
           : zeroes                        ? "processor-started-in-zeroes"
                                           : "processor-started-in-ffs";
  const std::string lies = where->content == Content::Hole
                               ? fmt::format("which is {}", where->content_text)
                               : fmt::format("where {} lie", where->content_text);
  v.cause = fmt::format(
      "{} started at {:x}h, {}: {}", vcpu_names(lost), where->page, lies,
      where->sipi != nullptr ? sipi_text(f, *where->sipi) : "KVM's LAPIC took the SIPI, unseen");
  if (zeroes)
    v.notes.push_back(
        "bytes 00 00 run as ADD [BX+SI], AL: it goes on like this to the end of the "
        "segment");
  if (where->content == Content::Ones)
    v.notes.push_back(
        "bytes ff ff are no instruction: #UD, again and again when its handler returns");
  if (const auto now = vcpu_lines(f, kListed);
      !std::holds_alternative<ending::TripleFault>(f.scene.outcome) &&
      !std::holds_alternative<ending::InternalFailure>(f.scene.outcome))
    v.notes.insert(v.notes.end(), now.begin(), now.end());
  v.tries.push_back(fmt::format(
      "was the trampoline copied to {:x}h before the SIPI? Its vector is the page number, {:x}h "
      "here",
      where->page, where->page >> 12));
  v.tries.push_back(
      where->sipi != nullptr
          ? "--trace t.json --trace-filter kind=start shows every INIT and SIPI that arrived"
          : "--irqchip user, which shows who sent the SIPI and when");
  return v;
}

}  // namespace vmm
