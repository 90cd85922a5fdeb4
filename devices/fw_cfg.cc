#include "devices/fw_cfg.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>
#include <utility>

#include "vmm/base/bytes.h"
#include "vmm/base/check.h"

namespace vmm {
namespace spec {
namespace {

constexpr std::uint64_t SELECTOR = 0;
constexpr std::uint64_t DATA = 1;
constexpr std::uint64_t DMA_HIGH = 4;
constexpr std::uint64_t DMA_LOW = 8;
constexpr std::uint64_t DMA_END = 12;

constexpr std::uint16_t KEY_SIGNATURE = 0x00;
constexpr std::uint16_t KEY_ID = 0x01;
constexpr std::uint16_t KEY_RAM_SIZE = 0x03;
constexpr std::uint16_t KEY_NOGRAPHIC = 0x04;
constexpr std::uint16_t KEY_NB_CPUS = 0x05;
constexpr std::uint16_t KEY_NUMA = 0x0d;
constexpr std::uint16_t KEY_BOOT_MENU = 0x0e;
constexpr std::uint16_t KEY_MAX_CPUS = 0x0f;
constexpr std::uint16_t KEY_FILE_DIR = 0x19;
constexpr std::uint16_t KEY_FILE_FIRST = 0x20;
constexpr std::uint16_t KEY_FILE_END = 0x4000;
constexpr std::uint16_t KEY_WRITE_CHANNEL = 0x4000;

constexpr std::uint32_t ID_TRADITIONAL = 0x01;
constexpr std::uint32_t ID_DMA = 0x02;

// The descriptor: control, length and address, all big-endian.
constexpr std::size_t DESCRIPTOR_SIZE = 16;
constexpr std::uint32_t CONTROL_ERROR = 0x01;
constexpr std::uint32_t CONTROL_READ = 0x02;
constexpr std::uint32_t CONTROL_SKIP = 0x04;
constexpr std::uint32_t CONTROL_SELECT = 0x08;  // the key is in bits 31:16
constexpr std::uint32_t CONTROL_WRITE = 0x10;

constexpr std::string_view SIGNATURE = "QEMU";
constexpr std::string_view DMA_SIGNATURE = "QEMU CFG";
constexpr std::size_t DIR_ENTRY_SIZE = 64;

}  // namespace
}  // namespace spec

namespace {

template <typename T>
T load_big(std::span<const std::uint8_t> bytes, std::size_t offset) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i)
    value = static_cast<T>(value << 8 | bytes[offset + i]);
  return value;
}

template <typename T>
void store_big(std::span<std::uint8_t> bytes, std::size_t offset, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i)
    bytes[offset + i] = static_cast<std::uint8_t>(value >> (8 * (sizeof(T) - 1 - i)));
}

template <typename T>
std::vector<std::uint8_t> little(T value) {
  std::vector<std::uint8_t> bytes(sizeof value);
  store(bytes, 0, value);
  return bytes;
}

}  // namespace

FwCfg::FwCfg(std::string name, GuestMemory* memory) : name_(std::move(name)), memory_(memory) {
  add(spec::KEY_SIGNATURE, {spec::SIGNATURE.begin(), spec::SIGNATURE.end()});
  add(spec::KEY_ID, little(spec::ID_TRADITIONAL | (memory_ != nullptr ? spec::ID_DMA : 0U)));
  add(spec::KEY_FILE_DIR, std::vector<std::uint8_t>(4));
}

void FwCfg::add(std::uint16_t key, std::vector<std::uint8_t> bytes) {
  VMM_CHECK((key & spec::KEY_WRITE_CHANNEL) == 0, "a fw_cfg key has bit 14 clear");
  VMM_CHECK(bytes.size() <= std::numeric_limits<std::uint32_t>::max(), "a fw_cfg item is too long");
  VMM_CHECK(items_.emplace(key, std::move(bytes)).second, "a fw_cfg key was added twice");
}

void FwCfg::add_file(const std::string& name, std::vector<std::uint8_t> bytes) {
  VMM_CHECK(!name.empty() && name.size() <= kMaxFileName, "a fw_cfg file has 1 to 55 letters");
  std::uint16_t key = spec::KEY_FILE_FIRST;
  while (items_.contains(key)) ++key;
  VMM_CHECK(key < spec::KEY_FILE_END, "there are no fw_cfg keys left for files");
  VMM_CHECK(files_.emplace(name, key).second, "a fw_cfg file was added twice");
  add(key, std::move(bytes));

  std::vector<std::uint8_t>& directory = items_.at(spec::KEY_FILE_DIR);
  directory.assign(4 + files_.size() * spec::DIR_ENTRY_SIZE, 0);
  store_big(directory, 0, static_cast<std::uint32_t>(files_.size()));
  std::size_t at = 4;
  for (const auto& [file, file_key] : files_) {
    store_big(directory, at, static_cast<std::uint32_t>(items_.at(file_key).size()));
    store_big(directory, at + 4, file_key);
    std::copy(file.begin(), file.end(), directory.begin() + static_cast<std::ptrdiff_t>(at + 8));
    at += spec::DIR_ENTRY_SIZE;
  }
}

void FwCfg::replace_file(std::string_view name, std::vector<std::uint8_t> bytes) {
  const auto file = files_.find(name);
  VMM_CHECK(file != files_.end(), "a fw_cfg file that is not there was to be replaced");
  std::vector<std::uint8_t>& item = items_.at(file->second);
  VMM_CHECK(item.size() == bytes.size(), "a fw_cfg file keeps its size");
  item = std::move(bytes);
}

std::span<const std::uint8_t> FwCfg::rest() const {
  const auto item =
      items_.find(static_cast<std::uint16_t>(state_.selector & ~spec::KEY_WRITE_CHANNEL));
  if (item == items_.end()) return {};
  const std::span<const std::uint8_t> bytes(item->second);
  return bytes.subspan(std::min<std::size_t>(state_.offset, bytes.size()));
}

void FwCfg::select(std::uint16_t key) {
  state_.selector = key;
  state_.offset = 0;
}

// Behind the end, and of items that are not there, zeroes.
std::uint8_t FwCfg::next_byte() {
  const std::span<const std::uint8_t> left = rest();
  if (left.empty()) return 0;
  ++state_.offset;
  return left[0];
}

Access FwCfg::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset == spec::DATA) {
    if (data.size() != 1) return Access::BadWidth;
    data[0] = next_byte();
    return Access::Ok;
  }
  if (memory_ == nullptr || offset < spec::DMA_HIGH || offset >= spec::DMA_END)
    return Access::NoRegister;
  if (data.size() > spec::DMA_END - offset) return Access::BadWidth;
  const std::string_view text = spec::DMA_SIGNATURE.substr(offset - spec::DMA_HIGH, data.size());
  std::copy(text.begin(), text.end(), data.begin());
  return Access::Ok;
}

Access FwCfg::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset == spec::SELECTOR) {
    if (data.size() != 2) return Access::BadWidth;
    select(load<std::uint16_t>(data));
    return Access::Ok;
  }
  if (offset == spec::DATA) return data.size() == 1 ? Access::Ok : Access::BadWidth;  // read-only
  if (memory_ == nullptr || offset < spec::DMA_HIGH || offset >= spec::DMA_END)
    return Access::NoRegister;
  if (offset == spec::DMA_HIGH && data.size() == 4) {
    state_.dma_high = load_big<std::uint32_t>(data, 0);
  } else if (offset == spec::DMA_HIGH && data.size() == 8) {
    state_.dma_high = 0;
    transfer(load_big<std::uint64_t>(data, 0));
  } else if (offset == spec::DMA_LOW && data.size() == 4) {
    const std::uint64_t high = std::exchange(state_.dma_high, 0);
    transfer(high << 32 | load_big<std::uint32_t>(data, 0));
  } else {
    return Access::BadWidth;
  }
  return Access::Ok;
}

// Runs the descriptor there and reports in its control field. What cannot be reported, because the
// field is no RAM, is lost.
void FwCfg::transfer(Gpa descriptor) {
  std::array<std::uint8_t, spec::DESCRIPTOR_SIZE> copy{};
  const bool done = memory_->read(descriptor, copy) && run_descriptor(copy);
  std::array<std::uint8_t, 4> control{};
  store_big(control, 0, done ? 0U : spec::CONTROL_ERROR);
  (void)memory_->write(descriptor, control);
}

// False for an error. Of several commands in one descriptor the first in this order counts: select
// (beside any other), read, write, skip.
bool FwCfg::run_descriptor(std::span<const std::uint8_t> descriptor) {
  const auto control = load_big<std::uint32_t>(descriptor, 0);
  const std::uint64_t length = load_big<std::uint32_t>(descriptor, 4);
  const auto address = load_big<std::uint64_t>(descriptor, 8);
  if ((control & spec::CONTROL_SELECT) != 0) select(static_cast<std::uint16_t>(control >> 16));
  const std::span<const std::uint8_t> left = rest();
  const std::uint64_t count = std::min<std::uint64_t>(length, left.size());
  if ((control & spec::CONTROL_READ) != 0) {
    if (length == 0) return true;
    if (count > kMaxCopy || length - count > kMaxPadding) return false;
    const auto target = memory_->span(address, length);
    if (!target) return false;
    const auto padding = std::copy_n(left.begin(), count, target->begin());
    std::fill(padding, target->end(), std::uint8_t{0});
  } else if ((control & spec::CONTROL_WRITE) != 0) {
    return length == 0;
  } else if ((control & spec::CONTROL_SKIP) == 0) {
    return true;
  }
  state_.offset += static_cast<std::uint32_t>(count);
  return true;
}

void FwCfg::visit(Archive& archive) {
  archive.block("fw_cfg", 1);
  archive("selector", state_.selector)("offset", state_.offset)("dma_high", state_.dma_high);
  // No further than its item's end, so that counting on cannot wrap.
  const std::uint32_t loaded = std::exchange(state_.offset, 0);
  state_.offset = static_cast<std::uint32_t>(std::min<std::size_t>(loaded, rest().size()));
}

void add_machine_items(FwCfg& fw_cfg, unsigned cpus, unsigned max_cpus, std::uint64_t ram_bytes) {
  VMM_CHECK(cpus <= max_cpus && max_cpus <= 0xffff, "fw_cfg counts CPUs in 16 bits");
  fw_cfg.add(spec::KEY_RAM_SIZE, little(ram_bytes));
  fw_cfg.add(spec::KEY_NOGRAPHIC, little(std::uint16_t{1}));
  fw_cfg.add(spec::KEY_NB_CPUS, little(static_cast<std::uint16_t>(cpus)));
  // The number of nodes, then the node of each CPU.
  fw_cfg.add(spec::KEY_NUMA, std::vector<std::uint8_t>(8 * (1 + std::size_t{max_cpus})));
  fw_cfg.add(spec::KEY_BOOT_MENU, little(std::uint16_t{0}));
  fw_cfg.add(spec::KEY_MAX_CPUS, little(static_cast<std::uint16_t>(max_cpus)));
}

}  // namespace vmm
