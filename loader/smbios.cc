#include "loader/smbios.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "loader/table_bytes.h"

namespace vmm {
namespace spec {
namespace {

constexpr std::size_t ENTRY_POINT_SIZE = 24;  // 5.2.2
constexpr std::uint8_t MAJOR = 3;
constexpr std::uint8_t MINOR = 4;

// Structure types (chapter 7).
constexpr std::uint8_t SYSTEM = 1;
constexpr std::uint8_t ENCLOSURE = 3;
constexpr std::uint8_t PROCESSOR = 4;
constexpr std::uint8_t MEMORY_ARRAY = 16;
constexpr std::uint8_t MEMORY_DEVICE = 17;
constexpr std::uint8_t MAPPED_ADDRESS = 19;
constexpr std::uint8_t BOOT_STATUS = 32;
constexpr std::uint8_t END_OF_TABLE = 127;

constexpr std::uint8_t UNKNOWN = 2;
constexpr std::uint8_t OTHER = 1;
constexpr std::uint8_t SAFE = 3;
constexpr std::uint16_t NO_HANDLE = 0xffff;
constexpr std::uint16_t NOT_PROVIDED = 0xfffe;  // no error information structure

// Handles: the type in the upper byte, the number of the structure in the lower.
constexpr std::uint16_t handle(std::uint8_t type, unsigned number = 0) {
  return static_cast<std::uint16_t>(std::uint32_t{type} << 8 | number);
}

}  // namespace
}  // namespace spec

namespace {

using Bytes = std::vector<std::uint8_t>;

// One structure after the other; strings follow each.
class Structures {
 public:
  void begin(std::uint8_t type, unsigned number = 0) {
    start_ = bytes_.size();
    strings_.clear();
    append_bytes(bytes_, {type, 0});
    append_number(bytes_, spec::handle(type, number));
  }
  template <typename T>
  Structures& put(T value) {
    append_number(bytes_, value);
    return *this;
  }
  Structures& zeroes(std::size_t count) {
    bytes_.resize(bytes_.size() + count);
    return *this;
  }
  // The number of that string in this structure, from 1 on.
  Structures& text(std::string_view words) {
    strings_.emplace_back(words);
    return put(static_cast<std::uint8_t>(strings_.size()));
  }
  void end() {
    bytes_[start_ + 1] = static_cast<std::uint8_t>(bytes_.size() - start_);
    for (const std::string& words : strings_) {
      bytes_.insert(bytes_.end(), words.begin(), words.end());
      bytes_.push_back(0);
    }
    bytes_.push_back(0);
    if (strings_.empty()) bytes_.push_back(0);
  }
  Bytes take() { return std::move(bytes_); }

 private:
  Bytes bytes_;
  std::vector<std::string> strings_;
  std::size_t start_ = 0;
};

void add_processor(Structures& s, const SmbiosFacts& facts, unsigned socket) {
  constexpr std::uint8_t kCentralProcessor = 3;
  constexpr std::uint8_t kEnabledPopulated = 0x41;
  constexpr std::uint16_t k64Bit = 1U << 2;
  constexpr std::uint16_t kMultiCore = 1U << 3;
  const auto count8 = [](unsigned count) {
    return static_cast<std::uint8_t>(std::min(count, 0xffU));
  };
  s.begin(spec::PROCESSOR, socket);
  s.text(fmt::format("CPU {}", socket)).put(kCentralProcessor).put(spec::OTHER).text("vmm");
  s.put(facts.cpu_signature).put(facts.cpu_features);                // processor id
  s.text("as --cpu-model says").put(std::uint8_t{0});                // version, voltage
  s.zeroes(6);                                                       // clocks: unknown
  s.put(kEnabledPopulated).put(spec::OTHER);                         // status, upgrade
  s.put(spec::NO_HANDLE).put(spec::NO_HANDLE).put(spec::NO_HANDLE);  // caches
  s.zeroes(3);                                                       // numbers
  s.put(count8(facts.cores_per_socket)).put(count8(facts.cores_per_socket));
  s.put(count8(facts.threads_per_socket));
  s.put(static_cast<std::uint16_t>(k64Bit | (facts.cores_per_socket > 1 ? kMultiCore : 0)));
  s.put(std::uint16_t{1});  // family: other
  for (const unsigned count :
       {facts.cores_per_socket, facts.cores_per_socket, facts.threads_per_socket})
    s.put(static_cast<std::uint16_t>(count));
  s.end();
}

void add_memory(Structures& s, const SmbiosFacts& facts) {
  constexpr std::uint8_t kSystemBoard = 3;
  constexpr std::uint8_t kSystemMemory = 3;
  constexpr std::uint32_t kExtendedKib = 0x8000'0000;
  constexpr std::uint16_t kExtendedMib = 0x7fff;
  constexpr std::uint16_t kRamType = 1U << 1;  // other
  const std::uint64_t size = facts.memory_below_4g + facts.memory_above_4g;
  s.begin(spec::MEMORY_ARRAY);
  s.put(kSystemBoard).put(kSystemMemory).put(spec::SAFE).put(kExtendedKib);
  s.put(spec::NOT_PROVIDED).put(std::uint16_t{1}).put(size);
  s.end();

  const std::uint64_t mib = size / 1_MiB;
  s.begin(spec::MEMORY_DEVICE);
  s.put(spec::handle(spec::MEMORY_ARRAY)).put(spec::NOT_PROVIDED).zeroes(4);  // widths: unknown
  s.put(static_cast<std::uint16_t>(std::min<std::uint64_t>(mib, kExtendedMib)));
  s.put(std::uint8_t{9}).put(std::uint8_t{0});     // form factor DIMM, no set
  s.text("DIMM 0").put(std::uint8_t{0});           // locators
  s.put(std::uint8_t{7}).put(kRamType).zeroes(2);  // RAM, speed unknown
  s.text("vmm").zeroes(4);                         // serial number, asset tag, part, attributes
  s.put(mib >= kExtendedMib ? static_cast<std::uint32_t>(mib) : 0U).zeroes(8);
  s.end();

  unsigned number = 0;
  const auto add_range = [&](std::uint64_t base, std::uint64_t bytes) {
    if (bytes == 0) return;
    s.begin(spec::MAPPED_ADDRESS, number++);
    s.put(std::uint32_t{0xffff'ffff}).put(std::uint32_t{0xffff'ffff});  // see the extended fields
    s.put(spec::handle(spec::MEMORY_ARRAY)).put(std::uint8_t{1});
    s.put(base).put(base + bytes - 1);
    s.end();
  };
  add_range(0, facts.memory_below_4g);
  add_range(4_GiB, facts.memory_above_4g);
}

}  // namespace

SmbiosTables make_smbios(const SmbiosFacts& facts) {
  Structures s;
  s.begin(spec::SYSTEM);
  s.text("vmm").text("vmm PC").text("1").put(std::uint8_t{0}).zeroes(16);  // serial number, UUID
  s.put(std::uint8_t{6}).zeroes(2);  // woken by the power switch
  s.end();
  s.begin(spec::ENCLOSURE);
  s.text("vmm").put(spec::OTHER).zeroes(3);
  s.put(spec::SAFE).put(spec::SAFE).put(spec::SAFE).put(spec::UNKNOWN);
  s.zeroes(9);
  s.end();
  for (unsigned socket = 0; socket < facts.sockets && socket < 0xff; ++socket)
    add_processor(s, facts, socket);
  add_memory(s, facts);
  s.begin(spec::BOOT_STATUS);
  s.zeroes(7);  // reserved, no errors
  s.end();
  s.begin(spec::END_OF_TABLE);
  s.end();

  SmbiosTables made;
  made.tables = s.take();
  Bytes& anchor = made.anchor;
  anchor.resize(spec::ENTRY_POINT_SIZE);
  put_text(anchor, 0, "_SM3_");
  anchor[6] = static_cast<std::uint8_t>(anchor.size());
  anchor[7] = spec::MAJOR;
  anchor[8] = spec::MINOR;
  anchor[10] = 1;  // entry point revision
  store(anchor, 12, static_cast<std::uint32_t>(made.tables.size()));
  anchor[5] = checksum(anchor);
  return made;
}

}  // namespace vmm
