// The packets about memory and registers.
#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/core/vcpu_memory.h"
#include "vmm/gdb/stub.h"
#include "vmm/gdb/stub_answers.h"

namespace vmm::gdb {
namespace {

constexpr std::uint64_t kPage = 4_KiB;
// More is asked for in pieces.
constexpr std::uint64_t kMostRead = kPacketSize / 2 - 16;

}  // namespace

// How a packet's addresses lead to bytes of the machine's memory: by the tables of the vCPU that is
// looked at, in L2 its hypervisor's as well. Its registers are read once for all pages of the
// packet.
std::function<std::optional<Gpa>(std::uint64_t)> Stub::translation(unsigned vcpu) const {
  if (physical_) return [](std::uint64_t address) { return std::optional<Gpa>(address); };
  auto memory = VcpuMemory::of(target_, vcpu, options_.paging);
  if (!memory) return [](std::uint64_t) { return std::optional<Gpa>(); };
  return [memory = std::move(*memory)](std::uint64_t address) { return memory.place(address); };
}

std::vector<std::uint8_t> Stub::read(unsigned vcpu, std::uint64_t address, std::size_t size) const {
  const auto translate = translation(vcpu);
  std::vector<std::uint8_t> bytes(size);
  std::size_t done = 0;
  while (done < size) {
    const std::uint64_t at = address + done;
    const std::size_t part = std::min<std::uint64_t>(size - done, kPage - at % kPage);
    const auto place = translate(at);
    if (!place || !target_.memory().read(*place, std::span(bytes).subspan(done, part))) break;
    done += part;
  }
  bytes.resize(done);
  return bytes;
}

// All of it or nothing.
bool Stub::write(std::uint64_t address, std::span<const std::uint8_t> bytes) {
  const auto translate = translation(general_);
  std::vector<std::pair<Gpa, std::span<const std::uint8_t>>> parts;
  for (std::size_t done = 0; done < bytes.size();) {
    const std::uint64_t at = address + done;
    const std::size_t part = std::min<std::uint64_t>(bytes.size() - done, kPage - at % kPage);
    const auto place = translate(at);
    std::vector<std::uint8_t> there(part);
    if (!place || !target_.memory().read(*place, there)) return false;
    parts.emplace_back(*place, bytes.subspan(done, part));
    done += part;
  }
  return std::ranges::all_of(
      parts, [&](const auto& part) { return target_.write_memory(part.first, part.second); });
}

Stub::Answer Stub::on_read_memory(Arguments a) {
  const std::uint64_t address = a.number();
  a.expect(',');
  const std::uint64_t size = a.number();
  if (!a.good() || !a.at_end()) return kBadArguments;
  const auto bytes = read(address, std::min(size, kMostRead));
  if (bytes.empty() && size != 0) return kNoMemory;
  return to_hex(bytes);
}

Stub::Answer Stub::on_read_binary(Arguments a) {
  const std::uint64_t address = a.number();
  a.expect(',');
  const std::uint64_t size = a.number();
  if (!a.good() || !a.at_end()) return kBadArguments;
  if (size == 0) return "OK";  // the question whether this packet is known
  const auto bytes = read(address, std::min(size, kMostRead));
  if (bytes.empty()) return kNoMemory;
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Stub::Answer Stub::on_write_memory(Arguments a) {
  const std::uint64_t address = a.number();
  a.expect(',');
  const std::uint64_t size = a.number();
  a.expect(':');
  const auto bytes = from_hex(a.rest());
  if (!a.good() || !bytes || bytes->size() != size) return kBadArguments;
  return write(address, *bytes) ? "OK" : kNoMemory;
}

Stub::Answer Stub::on_write_binary(Arguments a) {
  const std::uint64_t address = a.number();
  a.expect(',');
  const std::uint64_t size = a.number();
  a.expect(':');
  const std::string_view rest = a.rest();
  if (!a.good() || rest.size() != size) return kBadArguments;
  return write(address, {reinterpret_cast<const std::uint8_t*>(rest.data()), rest.size()})
             ? "OK"
             : kNoMemory;
}

// qSearch:memory:ADDRESS;LENGTH;PATTERN -> 0, or 1,ADDRESS
Stub::Answer Stub::on_search(Arguments a) {
  constexpr std::uint64_t kMostSearched = 1_GiB;
  const std::uint64_t address = a.number();
  a.expect(';');
  const std::uint64_t length = std::min(a.number(), kMostSearched);
  a.expect(';');
  const std::string_view pattern = a.rest();
  if (!a.good() || pattern.empty()) return kBadArguments;
  constexpr std::size_t kChunk = 64_KiB;
  std::string window;
  std::uint64_t at = address;  // of window's first byte
  for (std::uint64_t done = 0; done < length;) {
    const auto bytes = read(address + done, std::min<std::uint64_t>(kChunk, length - done));
    if (bytes.empty()) return kNoMemory;
    window.append(bytes.begin(), bytes.end());
    done += bytes.size();
    if (const std::size_t found = window.find(pattern); found != std::string::npos)
      return fmt::format("1,{:x}", at + found);
    const std::size_t keep = std::min(window.size(), pattern.size() - 1);
    at += window.size() - keep;
    window.erase(0, window.size() - keep);
  }
  return "0";
}

// The CRC of GDB's compare-sections: polynomial 04c11db7h, not reflected, from all ones.
Stub::Answer Stub::on_checksum(Arguments a) {
  constexpr std::uint32_t kPolynomial = 0x04c1'1db7;
  std::uint64_t address = a.number();
  a.expect(',');
  std::uint64_t size = a.number();
  if (!a.good() || !a.at_end() || size > 1_GiB) return kBadArguments;
  std::uint32_t crc = 0xffff'ffff;
  while (size != 0) {
    const auto bytes = read(address, std::min<std::uint64_t>(size, 64_KiB));
    if (bytes.empty()) return kNoMemory;
    for (const std::uint8_t byte : bytes) {
      crc ^= std::uint32_t{byte} << 24;
      for (int i = 0; i < 8; ++i) crc = crc << 1 ^ (crc >> 31 != 0 ? kPolynomial : 0);
    }
    address += bytes.size();
    size -= bytes.size();
  }
  return fmt::format("C{:x}", crc);
}

// --- registers
// ------------------------------------------------------------------------------------

Stub::Answer Stub::on_read_all(Arguments) {
  const auto registers = target_.registers(general_);
  if (!registers) return refusal(registers.error());
  return registers_.read_all(*registers);
}

Stub::Answer Stub::on_write_all(Arguments a) {
  const auto bytes = from_hex(a.rest());
  if (!bytes) return kBadArguments;
  return change_registers(
      [&](DebugRegisters& registers) { return registers_.write_all(registers, *bytes); });
}

Stub::Answer Stub::change_registers(
    const std::function<Result<void>(DebugRegisters& registers)>& change) {
  auto registers = target_.registers(general_);
  if (!registers) return refusal(registers.error());
  if (const auto changed = change(*registers); !changed) return refusal(changed.error());
  return done_or_refusal(target_.set_registers(general_, *registers));
}

Stub::Answer Stub::on_read_register(Arguments a) {
  const std::uint64_t number = a.number();
  if (!a.good() || !a.at_end() || number >= registers_.registers().size()) return kBadArguments;
  if (const auto index = registers_.msr(static_cast<unsigned>(number))) {
    const auto value = target_.msr(general_, *index);
    // What this processor has not is shown as unavailable.
    if (!value) return std::string(16, 'x');
    std::array<std::uint8_t, 8> bytes{};
    store(std::span(bytes), 0, *value);
    return to_hex(bytes);
  }
  if (const auto which = registers_.nested(static_cast<unsigned>(number))) {
    std::array<std::uint8_t, 8> bytes{};
    store(std::span(bytes), 0, nested_value(*which, target_.nested_position(general_)));
    return to_hex(bytes);
  }
  const auto registers = target_.registers(general_);
  if (!registers) return refusal(registers.error());
  const auto bytes = registers_.read(static_cast<unsigned>(number), *registers);
  return bytes ? to_hex(*bytes) : std::string(2 * registers_.registers()[number].size(), 'x');
}

Stub::Answer Stub::on_write_register(Arguments a) {
  const std::uint64_t number = a.number();
  a.expect('=');
  const auto bytes = from_hex(a.rest());
  if (!a.good() || !bytes || number >= registers_.registers().size()) return kBadArguments;
  return write_register(static_cast<unsigned>(number), *bytes);
}

Stub::Answer Stub::write_register(unsigned number, std::span<const std::uint8_t> bytes) {
  if (const auto index = registers_.msr(number)) {
    if (bytes.size() != 8) return kBadArguments;
    return done_or_refusal(target_.set_msr(general_, *index, load<std::uint64_t>(bytes)));
  }
  if (const auto which = registers_.nested(number)) {
    if (bytes.size() != 8) return kBadArguments;
    // gdb writes every register back after a call in the guest.
    if (load<std::uint64_t>(bytes) == nested_value(*which, target_.nested_position(general_)))
      return "OK";
    return refusal(Error::usage(registers_.registers()[number].name +
                                " tells where the vCPU is, and is only read"));
  }
  return change_registers(
      [&](DebugRegisters& registers) { return registers_.write(number, registers, bytes); });
}

}  // namespace vmm::gdb
