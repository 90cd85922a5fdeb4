#include "vmm/core/symbols.h"

#include <fmt/format.h>

#include "vmm/base/text.h"
#include "vmm/core/mangled_name.h"

namespace vmm {

void SymbolTable::add(std::string_view name, Gva address, std::uint64_t size) {
  if (name.empty() || symbols_.size() >= kMaxSymbols) return;
  symbols_.try_emplace(address, Symbol{printable(name, kMaxName), size});
}

void SymbolTable::merge(const SymbolTable& other) {
  for (const auto& [address, symbol] : other.symbols_) {
    if (symbols_.size() >= kMaxSymbols) return;
    symbols_.try_emplace(address, symbol);
  }
}

std::optional<std::string> SymbolTable::name_of(Gva address) const {
  if (address >= kMovable) {
    address -= slide();
    if (address < kMovable) return std::nullopt;
  }
  auto after = symbols_.upper_bound(address);
  if (after == symbols_.begin()) return std::nullopt;
  const auto& [start, symbol] = *std::prev(after);
  const std::uint64_t offset = address - start;
  if (offset == 0) return readable_name(symbol.name);
  if (offset >= (symbol.size != 0 ? symbol.size : 64_KiB)) return std::nullopt;
  return fmt::format("{}+{:x}h", readable_name(symbol.name), offset);
}

std::optional<Gva> SymbolTable::address_of(std::string_view name) const {
  for (const auto& [address, symbol] : symbols_)
    if (symbol.name == name) return address >= kMovable ? address + slide() : address;
  return std::nullopt;
}

}  // namespace vmm
