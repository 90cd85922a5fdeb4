// Names for addresses, from the images that were loaded.
#pragma once

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

  // `size` 0: unknown, reaches to the next symbol but at most 64 KiB. The first name of an address
  // stays.
  void add(std::string_view name, Gva address, std::uint64_t size);
  // "name" or "name+1ah", as people write it (mangled_name.h); nothing when no symbol covers the
  // address.
  std::optional<std::string> name_of(Gva address) const;
  std::optional<Gva> address_of(std::string_view name) const;
  // The symbols of `other` at addresses that have none here.
  void merge(const SymbolTable& other);
  // Calls `visit` with name, address and size of each symbol, by rising address.
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
  std::map<Gva, Symbol> symbols_;
};

}  // namespace vmm
