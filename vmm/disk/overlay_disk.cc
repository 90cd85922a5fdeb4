#include "vmm/disk/overlay_disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "vmm/base/check.h"
#include "vmm/base/text.h"

namespace vmm {

Result<std::unique_ptr<OverlayDisk>> OverlayDisk::create(std::unique_ptr<BlockBackend> below,
                                                         std::uint64_t most) {
  VMM_CHECK(most != 0 && most % kChunk == 0, "an overlay has whole chunks");
  // At most half full, so that a search ends soon.
  const std::size_t entries = std::bit_ceil(static_cast<std::size_t>(most / kChunk) * 2);
  Mapping memory = VMM_TRY(Mapping::anonymous(most));
  Mapping table = VMM_TRY(Mapping::anonymous(entries * sizeof(Entry)));
  return std::unique_ptr<OverlayDisk>(
      new OverlayDisk(std::move(below), std::move(memory), std::move(table)));
}

OverlayDisk::OverlayDisk(std::unique_ptr<BlockBackend> below, Mapping memory, Mapping table)
    : below_(std::move(below)),
      geometry_(below_->geometry()),
      memory_(std::move(memory)),
      table_(std::move(table)) {
  geometry_.read_only = false;
}

std::span<OverlayDisk::Entry> OverlayDisk::table() const {
  return {reinterpret_cast<Entry*>(table_.bytes().data()), table_.bytes().size() / sizeof(Entry)};
}

// Where the chunk is, or would be: pages that nothing was written to are zeroes, which is empty.
OverlayDisk::Entry& OverlayDisk::entry_for(std::uint64_t chunk) const {
  const std::span<Entry> all = table();
  constexpr std::uint64_t kSpread = 0x9e37'79b9'7f4a'7c15;  // 2^64 by the golden ratio
  std::size_t at = static_cast<std::size_t>((chunk * kSpread) >> 32) & (all.size() - 1);
  while (all[at].key != 0 && all[at].key != chunk + 1) at = (at + 1) & (all.size() - 1);
  return all[at];
}

std::span<std::uint8_t> OverlayDisk::sector(std::uint64_t offset) const {
  const Entry& entry = entry_for(offset / kChunk);
  const unsigned number = static_cast<unsigned>(offset % kChunk / kSectorSize);
  if (entry.key == 0 || (entry.written >> number & 1) == 0) return {};
  return memory_.bytes().subspan(entry.slot * kChunk + number * kSectorSize, kSectorSize);
}

bool OverlayDisk::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  bool ok = true;
  std::size_t below = 0;  // sectors before this one that are below, in bytes
  const auto read_below = [&](std::size_t end) {
    if (below != 0) ok = below_->read(offset + end - below, data.subspan(end - below, below)) && ok;
    below = 0;
  };
  for (std::size_t at = 0; at < data.size(); at += kSectorSize) {
    const auto bytes = used_ == 0 ? std::span<std::uint8_t>() : sector(offset + at);
    if (bytes.empty()) {
      below += kSectorSize;
      continue;
    }
    read_below(at);
    std::ranges::copy(bytes, data.begin() + static_cast<std::ptrdiff_t>(at));
  }
  read_below(data.size());
  return ok;
}

bool OverlayDisk::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  for (std::size_t at = 0; at < data.size(); at += kSectorSize) {
    const std::uint64_t here = offset + at;
    Entry& entry = entry_for(here / kChunk);
    if (entry.key == 0) {
      if ((used_ + std::uint64_t{1}) * kChunk > memory_.bytes().size()) {
        ++refused_;
        return false;
      }
      entry = {.key = here / kChunk + 1, .slot = used_++};
    }
    const unsigned number = static_cast<unsigned>(here % kChunk / kSectorSize);
    entry.written |= 1U << number;
    std::ranges::copy(data.subspan(at, kSectorSize),
                      memory_.bytes().begin() +
                          static_cast<std::ptrdiff_t>(entry.slot * kChunk + number * kSectorSize));
  }
  return true;
}

bool OverlayDisk::is_written(std::uint64_t offset, std::uint64_t size) const {
  if (used_ == 0 || size == 0) return false;
  // Fewer chunks were written than a large file has.
  const std::uint64_t first = offset / kSectorSize, last = (offset + size - 1) / kSectorSize;
  if ((last - first) / kSectors > used_)
    return std::ranges::any_of(table(), [&](const Entry& entry) {
      if (entry.key == 0) return false;
      for (unsigned number = 0; number < kSectors; ++number) {
        const std::uint64_t here = (entry.key - 1) * kSectors + number;
        if ((entry.written >> number & 1) != 0 && here >= first && here <= last) return true;
      }
      return false;
    });
  for (std::uint64_t here = first; here <= last; ++here)
    if (!sector(here * kSectorSize).empty()) return true;
  return false;
}

std::vector<std::string> OverlayDisk::finish() {
  if (refused_ == 0) return {};
  return {fmt::format("{} writes failed: the memory for what the guest writes is full ({})",
                      refused_, format_size(memory_.bytes().size()))};
}

}  // namespace vmm
