#include "loader/multiboot.h"

#include <fmt/format.h>

#include <algorithm>

#include "loader/elf.h"

namespace vmm {

MultibootSearch find_multiboot_header(std::span<const std::uint8_t> bytes,
                                      const MultibootMark& mark) {
  MultibootSearch found;
  const std::size_t window = std::min(bytes.size(), mark.window);
  for (std::size_t at = 0; at + mark.words * 4 <= window; at += mark.alignment) {
    if (load<std::uint32_t>(bytes, at) != mark.magic) continue;
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < mark.words; ++i) sum += load<std::uint32_t>(bytes, at + i * 4);
    if (sum == 0) {
      found.header = at;
      return found;
    }
    if (!found.bad_checksum) {
      found.bad_checksum = at;
      found.bad_sum = sum;
    }
  }
  return found;
}

// All arithmetic is in 64 bits on fields of 32, so nothing wraps.
Result<void> load_by_addresses(LoadedImage& image, std::size_t header,
                               const MultibootAddresses& fields, std::uint32_t entry,
                               std::string_view protocol) {
  const std::span<const std::uint8_t> bytes = image.bytes;
  const auto bad = [protocol](std::string text) {
    return fail(Error::image(fmt::format("{} header: {}", protocol, text)));
  };
  const std::uint64_t load_addr = fields.load_addr;
  if (fields.header_addr < load_addr)
    return bad(
        fmt::format("header_addr {:x}h lies below load_addr {:x}h", fields.header_addr, load_addr));
  const std::uint64_t before_header = fields.header_addr - load_addr;
  if (before_header > header)
    return bad(
        fmt::format("header_addr {:x}h and load_addr {:x}h want {:x}h bytes before the "
                    "header, which is at offset {:x}h",
                    fields.header_addr, load_addr, before_header, header));
  const std::uint64_t file_offset = header - before_header;
  std::uint64_t file_size = bytes.size() - file_offset;
  if (fields.load_end_addr != 0) {
    if (fields.load_end_addr <= load_addr)
      return bad(fmt::format("load_end_addr {:x}h is not above load_addr {:x}h",
                             fields.load_end_addr, load_addr));
    const std::uint64_t wanted = fields.load_end_addr - load_addr;
    if (wanted > file_size)
      return bad(
          fmt::format("load_end_addr {:x}h wants {:x}h bytes from offset {:x}h; the file "
                      "ends at {:x}h",
                      fields.load_end_addr, wanted, file_offset, bytes.size()));
    file_size = wanted;
  }
  const std::uint64_t load_end = load_addr + file_size;
  if (load_end > 4_GiB)
    return bad(
        fmt::format("{:x}h bytes at load_addr {:x}h reach beyond 4 GiB", file_size, load_addr));
  std::uint64_t end = load_end;
  if (fields.bss_end_addr != 0) {
    if (fields.bss_end_addr < load_end)
      return bad(fmt::format("bss_end_addr {:x}h lies below the end of the data at {:x}h",
                             fields.bss_end_addr, load_end));
    end = fields.bss_end_addr;
  }
  if (entry < load_addr || entry >= end)
    return bad(fmt::format("entry_addr {:x}h lies outside of what is loaded, {}", entry,
                           range_text(load_addr, end - load_addr)));
  image.entry = entry;
  image.segments = {{.gpa = load_addr,
                     .file_offset = file_offset,
                     .file_size = file_size,
                     .memory_size = end - load_addr,
                     .vaddr = load_addr}};
  image.symbols = read_elf_symbols(bytes);
  return {};
}

Result<void> load_elf_below_4g(LoadedImage& image, std::string_view protocol) {
  if (!is_elf(image.bytes))
    return fail(Error::image(fmt::format("{} header: it has no address fields, so the file must be "
                                         "ELF, and it does not start with 7f 45 4c 46",
                                         protocol))
                    .hint("give the address fields, or link to ELF"));
  VMM_TRY_CONTEXT(parse_elf(image), fmt::format("{} image", protocol));
  const Segment& last = image.segments.back();
  if (last.end() > 4_GiB)
    return fail(
        Error::image(fmt::format("{} image: segment {} at {} reaches beyond 4 GiB, where "
                                 "32-bit code cannot go",
                                 protocol, last.number, range_text(last.gpa, last.memory_size)))
            .hint("give the segments low physical addresses (AT() in the linker script)"));
  return {};
}

}  // namespace vmm
