#include "vmm/machine/spec.h"

#include <fmt/format.h>

#include "vmm/base/text.h"

namespace vmm {
namespace {

template <typename T>
Result<T> choose(std::string_view option, std::string_view text,
                 std::initializer_list<std::pair<std::string_view, T>> choices) {
  const std::string wanted = lower(text);
  std::vector<std::string> names;
  for (const auto& [name, value] : choices) {
    if (name == wanted) return value;
    names.emplace_back(name);
  }
  Error error = Error::usage(fmt::format("{} '{}' is unknown", option, printable(text)));
  const auto nearest = nearest_name(wanted, names);
  return fail(std::move(error).hint(nearest
                                        ? fmt::format("did you mean {}?", *nearest)
                                        : fmt::format("write one of: {}", fmt::join(names, ", "))));
}

}  // namespace

Result<SerialTarget> parse_serial(std::string_view text) {
  if (text.starts_with("file:")) {
    if (text.size() == 5) return fail(Error::usage("--serial file: needs a path after the colon"));
    return SerialTarget{SerialKind::File, std::string(text.substr(5))};
  }
  const SerialKind kind = VMM_TRY(choose<SerialKind>(
      "--serial", text,
      {{"stdio", SerialKind::Stdio}, {"null", SerialKind::Null}, {"pty", SerialKind::Pty}}));
  return SerialTarget{kind, {}};
}

Result<OnCrash> parse_on_crash(std::string_view text) {
  return choose<OnCrash>("--on-crash", text, {{"exit", OnCrash::End}, {"gdb", OnCrash::Gdb}});
}

Result<OnReset> parse_on_reset(std::string_view text) {
  return choose<OnReset>("--on-reset", text, {{"exit", OnReset::End}, {"reboot", OnReset::Reboot}});
}

Result<gdb::Arch> parse_gdb_arch(std::string_view text) {
  using gdb::Arch;
  return choose<Arch>("--gdb-arch", text,
                      {{gdb::arch_name(Arch::X86_64), Arch::X86_64},
                       {gdb::arch_name(Arch::I386), Arch::I386},
                       {gdb::arch_name(Arch::I8086), Arch::I8086}});
}

Result<VgaTarget> parse_vga(std::string_view text) {
  VgaTarget target;
  if (text.ends_with(",trap")) {
    target.trap = true;
    text.remove_suffix(5);
  }
  if (text.starts_with("png:")) {
    if (text.size() == 4) return fail(Error::usage("--vga png: needs a path after the colon"));
    target.kind = VgaKind::Png;
    target.path = text.substr(4);
    return target;
  }
  target.kind =
      VMM_TRY(choose<VgaKind>("--vga", text, {{"none", VgaKind::None}, {"text", VgaKind::Text}}));
  return target;
}

Result<std::optional<IrqChipKind>> parse_irqchip(std::string_view text) {
  return choose<std::optional<IrqChipKind>>("--irqchip", text,
                                            {{"auto", std::nullopt},
                                             {"user", IrqChipKind::User},
                                             {"split", IrqChipKind::Split},
                                             {"kernel", IrqChipKind::Kernel}});
}

Result<std::uint8_t> parse_ioapic_version(std::string_view text) {
  return choose<std::uint8_t>("--ioapic-version", text, {{"11", 0x11}, {"20", 0x20}});
}

Result<std::uint32_t> parse_tsc_khz(std::string_view text) {
  constexpr std::uint64_t kLeast = 1'000;
  constexpr std::uint64_t kMost = 10'000'000;
  const auto khz = parse_number(text);
  if (!khz || *khz < kLeast || *khz > kMost)
    return fail(Error::usage(fmt::format("--tsc-khz '{}' is no rate from {} to {} kHz",
                                         printable(text), kLeast, kMost))
                    .hint("write for instance 2500000 for 2.5 GHz"));
  return static_cast<std::uint32_t>(*khz);
}

Result<CpuPolicy> parse_policy(std::string_view text) {
  return choose<CpuPolicy>(
      "--cpu-policy", text,
      {{"strict", CpuPolicy::Strict}, {"mask", CpuPolicy::Mask}, {"force", CpuPolicy::Force}});
}

std::string shell_line(const std::vector<std::string>& arguments) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:,=+@%";
  std::string line;
  for (const std::string& argument : arguments) {
    if (!line.empty()) line += ' ';
    if (!argument.empty() && argument.find_first_not_of(kPlain) == std::string::npos) {
      line += argument;
      continue;
    }
    line += '\'';
    for (const char c : argument) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

}  // namespace vmm
