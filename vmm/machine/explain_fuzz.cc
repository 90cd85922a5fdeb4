// Two inputs in one, by the first byte: a pasted text, or a machine made of the bytes.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "vmm/machine/explain.h"
#include "vmm/machine/explain_dump.h"

namespace vmm {
namespace {

// The rest of the input, again and again, as 1 MiB of RAM.
class TiledRam final : public MemoryReader {
 public:
  explicit TiledRam(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  bool read(Gpa gpa, std::span<std::uint8_t> data) const override {
    constexpr std::uint64_t kSize = 1_MiB;
    if (gpa > kSize || data.size() > kSize - gpa || bytes_.empty()) return false;
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = bytes_[(gpa + i) % bytes_.size()];
    return true;
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

// Takes a T off the front, zeroes where there is less.
template <typename T>
T take(std::span<const std::uint8_t>& bytes) {
  T value{};
  const std::size_t size = std::min(sizeof(T), bytes.size());
  if (size != 0) std::memcpy(&value, bytes.data(), size);
  bytes = bytes.subspan(size);
  return value;
}

void check(const CrashCard& card) {
  if (card.lines.empty() || card.lines.size() > kMaxCardLines || card.rule.empty()) std::abort();
  for (const std::string& line : card.lines)
    if (line.size() > 120) std::abort();
}

void fuzz_machine(std::span<const std::uint8_t> bytes) {
  CrashScene scene;
  const auto kind = take<std::uint8_t>(bytes);
  CpuState cpu;
  cpu.regs = take<kvm_regs>(bytes);
  cpu.sregs = take<kvm_sregs>(bytes);
  cpu.mp_state = kind >> 6;
  scene.vcpus = {cpu};
  InternalError error;
  error.suberror = kind & 7u;
  error.ndata = take<std::uint8_t>(bytes);
  error.data = take<std::array<std::uint64_t, 16>>(bytes);
  switch (kind >> 3 & 3) {
    case 0:
      scene.outcome = ending::TripleFault{};
      break;
    case 1:
      scene.outcome = ending::EntryFailure{0, error.data[0], 0};
      break;
    case 2:
      scene.outcome = ending::HaltedForever{};
      break;
    default:
      scene.outcome = ending::InternalFailure{0, error};
  }
  scene.cpuid.at(0x80000008).eax = take<std::uint8_t>(bytes);
  scene.host_has_pdpe1gb = (kind & 1) != 0;
  scene.registers_trusted = kind >> 7 == 0;
  const TiledRam ram(bytes);
  scene.memory = &ram;
  check(explain(scene));
}

}  // namespace
}  // namespace vmm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::uint8_t> bytes(data, size);
  if (size == 0) return 0;
  if ((bytes[0] & 1) != 0) {
    vmm::fuzz_machine(bytes.subspan(1));
    return 0;
  }
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (const auto cards = vmm::explain_dump(text))
    for (const vmm::CrashCard& card : *cards) vmm::check(card);
  return 0;
}
