// For tests: a driver that keeps variables in a flash chip in the steps in which edk2's does
// (MdeModulePkg/Universal/Variable and FaultTolerantWriteDxe), and a reader that takes the store as
// it was left at any moment. The records of the fault-tolerant write are simpler than edk2's, their
// order is the same.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/pflash.h"
#include "vmm/base/bytes.h"

namespace vmm::testing_variables {

using Bytes = std::span<const std::uint8_t>;
using Values = std::map<std::string, std::string>;

constexpr std::size_t kHalf = 0x10000;            // the store, then the spare
constexpr std::size_t kWorking = kHalf - 0x1000;  // the block of the fault-tolerant write
constexpr std::size_t kFirst = 0x64;              // of the variables, behind two headers
constexpr std::size_t kEnd = kHalf - 0x2000;

// VARIABLE_HEADER: StartId, State, Reserved, then here NameSize and DataSize.
constexpr std::size_t kHeader = 12;
constexpr std::uint16_t kStartId = 0x55aa;
constexpr std::uint8_t kHeaderValid = 0x7f;
constexpr std::uint8_t kAdded = 0x3f;
constexpr std::uint8_t kInDeletedTransition = 0xfe;  // masks
constexpr std::uint8_t kDeleted = 0xfd;

constexpr std::size_t kRecord = kWorking + 0x20;
constexpr std::uint8_t kAllocated = 0xfe;  // masks of the record's byte
constexpr std::uint8_t kSpareComplete = 0xfd;
constexpr std::uint8_t kTargetComplete = 0xfb;

struct Variable {
  std::size_t at = 0;
  std::uint8_t state = 0xff;
  std::string name;
  std::string value;
  std::size_t end = 0;
};

// The headers in their order. Nothing when one contradicts itself.
inline std::optional<std::vector<Variable>> list(Bytes store) {
  std::vector<Variable> all;
  std::size_t at = kFirst;
  while (at + kHeader <= kEnd && load<std::uint16_t>(store, at) == kStartId) {
    const std::uint8_t state = store[at + 2];
    // A header that was not finished: the driver goes on behind it, and knows no size yet.
    if (state == 0xff) break;
    const std::size_t names = load<std::uint32_t>(store, at + 4);
    const std::size_t values = load<std::uint32_t>(store, at + 8);
    if (names > kEnd || values > kEnd || at + kHeader + names + values > kEnd) return std::nullopt;
    const auto text = [&](std::size_t from, std::size_t size) {
      const Bytes part = store.subspan(from, size);
      return std::string(part.begin(), part.end());
    };
    Variable one{at, state, text(at + kHeader, names), text(at + kHeader + names, values),
                 align_up(at + kHeader + names + values, 4)};
    at = one.end;
    all.push_back(std::move(one));
  }
  return all;
}

// What a start of the firmware makes of `flash`: the spare where a rewrite was under way. Nothing
// when that is no valid store.
inline std::optional<Values> read_store(Bytes flash, Bytes headers) {
  const std::uint8_t record = flash[kRecord];
  const bool rewriting = (record & ~kAllocated) == 0 && (record & ~kSpareComplete) == 0 &&
                         (record & ~kTargetComplete & 0xff) != 0;
  const Bytes store = rewriting ? flash.subspan(kHalf, kHalf) : flash.first(kHalf);
  if (!std::ranges::equal(store.first(kFirst), headers)) return std::nullopt;
  const auto all = list(store);
  if (!all) return std::nullopt;
  Values values;
  for (const std::uint8_t wanted : {std::uint8_t(kAdded & kInDeletedTransition), kAdded})
    for (const Variable& one : *all)
      if (one.state == wanted) values[one.name] = one.value;
  return values;
}

class VariableDriver {
 public:
  explicit VariableDriver(PFlash& flash, Bytes flash_bytes) : flash_(flash), bytes_(flash_bytes) {}

  void set(const std::string& name, const std::string& value) {
    const std::size_t size = kHeader + name.size() + value.size();
    if (free_ + size > kEnd) reclaim();
    const auto old = find(name);
    if (old) change_state(*old, kInDeletedTransition);
    const std::size_t at = free_;
    std::vector<std::uint8_t> header(kHeader, 0xff);
    vmm::store(header, 0, kStartId);
    vmm::store(header, 4, static_cast<std::uint32_t>(name.size()));
    vmm::store(header, 8, static_cast<std::uint32_t>(value.size()));
    program(at, header);
    program(at + 2, std::vector{kHeaderValid});
    std::vector<std::uint8_t> data(name.begin(), name.end());
    data.insert(data.end(), value.begin(), value.end());
    program(at + kHeader, data);
    program(at + 2, std::vector{kAdded});
    if (old) change_state(*old, kDeleted);
    free_ = align_up(at + size, 4);
  }

  unsigned reclaims = 0;

 private:
  std::optional<std::size_t> find(const std::string& name) const {
    const auto all = list(bytes_.first(kHalf));
    for (const Variable& one : all.value())
      if (one.state == kAdded && one.name == name) return one.at;
    return std::nullopt;
  }
  void change_state(std::size_t at, std::uint8_t mask) {
    program(at + 2, std::vector{static_cast<std::uint8_t>(bytes_[at + 2] & mask)});
  }
  void write(std::uint64_t offset, std::uint8_t value) {
    EXPECT_EQ(flash_.write(offset, std::vector{value}), Access::Ok);
  }
  void program(std::size_t at, const std::vector<std::uint8_t>& data) {
    for (std::size_t i = 0; i < data.size(); ++i) {
      write(at + i, 0x10);
      write(at + i, data[i]);
    }
    write(at, 0xff);
  }
  void erase(std::size_t first, std::size_t size) {
    for (std::size_t at = first; at < first + size; at += PFlash::kBlockSize) {
      write(at, 0x20);
      write(at, 0xd0);
    }
    write(first, 0xff);
  }

  // The live variables move together: into the spare, then over the store.
  void reclaim() {
    ++reclaims;
    std::vector<std::uint8_t> wanted(kWorking, 0xff);
    std::copy_n(bytes_.begin(), kFirst, wanted.begin());
    std::size_t at = kFirst;
    const auto live = list(bytes_.first(kHalf));
    for (const Variable& one : *live) {
      if (one.state != kAdded) continue;
      std::copy(bytes_.begin() + static_cast<std::ptrdiff_t>(one.at),
                bytes_.begin() + static_cast<std::ptrdiff_t>(one.end),
                wanted.begin() + static_cast<std::ptrdiff_t>(at));
      at += one.end - one.at;
    }
    program(kRecord, {kAllocated});
    erase(kHalf, kHalf);
    program(kHalf, wanted);
    program(kRecord, {kAllocated & kSpareComplete});
    erase(0, kWorking);
    program(0, wanted);
    program(kRecord, {kAllocated & kSpareComplete & kTargetComplete});
    // Room for the next record: the working block begins anew.
    erase(kWorking, PFlash::kBlockSize);
    free_ = at;
  }

  PFlash& flash_;
  Bytes bytes_;
  std::size_t free_ = kFirst;
};

}  // namespace vmm::testing_variables
