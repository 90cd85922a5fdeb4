// KVM's "header and flexible array" structs, with room for `count` elements, zeroed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vmm {

template <typename Header, typename Element>
class VarSized {
 public:
  explicit VarSized(std::size_t count)
      : words_((sizeof(Header) + count * sizeof(Element) + 7) / 8) {}
  Header* get() { return reinterpret_cast<Header*>(words_.data()); }
  Header* operator->() { return get(); }

 private:
  std::vector<std::uint64_t> words_;
};

}  // namespace vmm
