// What both versions of the Multiboot Specification share.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loader/boot_info.h"
#include "loader/image.h"
#include "loader/table_bytes.h"
#include "vmm/base/bytes.h"

namespace vmm {

// What the search for a header found.
struct MultibootSearch {
  std::optional<std::size_t> header;  // offset in the file of the first one with a good checksum
  // The first aligned magic number whose checksum is wrong, and what its words sum up to.
  std::optional<std::size_t> bad_checksum;
  std::uint32_t bad_sum = 0;
};

// How a version's header begins: `words` of 32 bits, the magic number first, that sum up to 0, at a
// multiple of `alignment` and wholly in the first `window` bytes.
struct MultibootMark {
  std::uint32_t magic;
  std::size_t words;
  std::size_t alignment;
  std::size_t window;
};
MultibootSearch find_multiboot_header(std::span<const std::uint8_t> bytes,
                                      const MultibootMark& mark);

// What to load where, for files that are no ELF or want to be loaded in another way (the "a.out
// kludge").
struct MultibootAddresses {
  std::uint32_t header_addr = 0;    // of the header itself
  std::uint32_t load_addr = 0;      // of the first byte to load
  std::uint32_t load_end_addr = 0;  // 0: the rest of the file
  std::uint32_t bss_end_addr = 0;   // 0: no bss
};

// Sets segments, entry and symbols of `image`, whose header is at the offset `header`. Image errors
// name the field and its value; `protocol` is "multiboot1" or "multiboot2".
Result<void> load_by_addresses(LoadedImage& image, std::size_t header,
                               const MultibootAddresses& fields, std::uint32_t entry,
                               std::string_view protocol);
// The same by ELF program headers, which must keep below 4 GiB.
Result<void> load_elf_below_4g(LoadedImage& image, std::string_view protocol);

// Appends to `info`, which will stand at `base` (below 4 GiB), and gives the guest address of what
// was appended.
class InfoAppender {
 public:
  InfoAppender(std::vector<std::uint8_t>& info, Gpa base) : info_(info), base_(base) {}

  std::uint32_t here() const { return static_cast<std::uint32_t>(base_ + info_.size()); }
  std::uint32_t string(const std::string& text) {
    const std::uint32_t address = here();
    info_.insert(info_.end(), text.begin(), text.end());
    info_.push_back(0);
    return address;
  }
  template <typename T>
  void value(const T& v) {
    append_number(info_, v);
  }
  void align(std::size_t alignment) { info_.resize(align_up(info_.size(), alignment)); }

 private:
  std::vector<std::uint8_t>& info_;
  Gpa base_;
};

}  // namespace vmm
