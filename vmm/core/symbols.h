// Names for addresses, from the images that were loaded.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "vmm/base/units.h"

namespace vmm {

class SymbolTable {
 public:
  static constexpr std::size_t kMaxSymbols = 1'000'000;  // what is beyond is left out
  static constexpr std::size_t kMaxName = 512;           // longer names are cut
  // What is linked from here up may have moved (KASLR): Linux' START_KERNEL_map.
  static constexpr Gva kMovable = 0xffff'ffff'8000'0000;

  // `size` 0: unknown, reaches to the next symbol but at most 64 KiB. The first name of an address
  // stays.
  void add(std::string_view name, Gva address, std::uint64_t size);
  // "name" or "name+1ah", as people write it (mangled_name.h); nothing when no symbol covers the
  // address.
  std::optional<std::string> name_of(Gva address) const;
  std::optional<Gva> address_of(std::string_view name) const;
  // The symbols of `other`, as they were added, at addresses that have none here.
  void merge(const SymbolTable& other);
  // Symbols from kMovable up are `slide` above where they were added, modulo 2^64. May be called
  // while others read.
  void move_kernel(std::uint64_t slide) { slide_.set(slide); }
  std::uint64_t slide() const { return slide_.get(); }
  // Calls `visit` with name, address and size of each symbol, as they were added, by rising
  // address.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (const auto& [address, symbol] : symbols_) visit(symbol.name, address, symbol.size);
  }
  bool empty() const { return symbols_.empty(); }
  std::size_t size() const { return symbols_.size(); }

 private:
  struct Symbol {
    std::string name;
    std::uint64_t size;
  };
  class Slide {
   public:
    Slide() = default;
    Slide(const Slide& other) : value_(other.get()) {}
    Slide& operator=(const Slide& other) {
      set(other.get());
      return *this;
    }
    std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }
    void set(std::uint64_t value) { value_.store(value, std::memory_order_relaxed); }

   private:
    std::atomic<std::uint64_t> value_{0};
  };

  std::map<Gva, Symbol> symbols_;
  Slide slide_;
};

}  // namespace vmm
