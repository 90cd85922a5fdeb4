#include "loader/multiboot1.h"

#include <fmt/format.h>

#include <algorithm>

#include "loader/e820.h"
#include "loader/multiboot.h"
#include "vmm/base/bytes.h"

namespace vmm {
namespace {

// Section 3.1.1: the header's fields, by offset.
constexpr std::size_t kHeaderSize = 12;
constexpr std::size_t kHeaderSizeWithAddresses = 32;
constexpr unsigned kAddressFields = 16;        // flags bit: the a.out kludge
constexpr std::uint32_t kRequired = 0xffff;    // flags that must be understood
constexpr std::uint32_t kUnderstood = 0x0007;  // page alignment, memory information, video mode

tl::unexpected<Error> bad(std::string text) {
  return fail(Error::image("multiboot1 header: " + std::move(text)));
}

// Section 3.1.3.
Result<void> parse_address_fields(LoadedImage& image, std::size_t header) {
  const std::span<const std::uint8_t> bytes = image.bytes;
  if (header + kHeaderSizeWithAddresses > std::min(bytes.size(), kMultiboot1Window))
    return bad(
        fmt::format("flags bit 16 promises address fields up to offset {:x}h, which is "
                    "beyond the file or its first {} bytes",
                    header + kHeaderSizeWithAddresses, kMultiboot1Window));
  const auto fields = load<MultibootAddresses>(bytes, header + kHeaderSize);
  const auto entry = load<std::uint32_t>(bytes, header + kHeaderSize + sizeof fields);
  return load_by_addresses(image, header, fields, entry, "multiboot1");
}

}  // namespace

Multiboot1Search find_multiboot1(std::span<const std::uint8_t> bytes) {
  Multiboot1Search found{find_multiboot_header(bytes, {.magic = spec::MULTIBOOT_HEADER_MAGIC,
                                                       .words = kHeaderSize / 4,
                                                       .alignment = 4,
                                                       .window = kMultiboot1Window})};
  if (found.header) found.flags = load<std::uint32_t>(bytes, *found.header + 4);
  return found;
}

Result<void> parse_multiboot1(LoadedImage& image, std::size_t header) {
  image.multiboot_flags = load<std::uint32_t>(image.bytes, header + 4);
  const std::uint32_t unknown = image.multiboot_flags & kRequired & ~kUnderstood;
  if (unknown != 0) {
    std::string numbers;
    for (unsigned i = 0; i < 16; ++i)
      if (bit(unknown, i)) numbers += fmt::format("{}{}", numbers.empty() ? "" : ", ", i);
    return bad(
        fmt::format("flags {:x}h require bit {}, which nothing here understands (known are "
                    "0, 1, 2 and 16)",
                    image.multiboot_flags, numbers));
  }
  if (bit(image.multiboot_flags, kAddressFields))
    VMM_TRY(parse_address_fields(image, header));
  else
    VMM_TRY(load_elf_below_4g(image, "multiboot1"));
  image.protocol = BootProtocol::Multiboot1;
  return {};
}

std::vector<std::uint8_t> make_multiboot1_info(const BootFacts& facts, Gpa base) {
  // Section 3.3. Bit 1 (boot device), 4 (a.out symbols), 7 (drives), 8 (configuration table), 10
  // (APM) and 11 (VBE) stay clear.
  constexpr std::uint32_t kFlags = 1U << 0 |  // mem_lower, mem_upper
                                   1U << 2 |  // cmdline
                                   1U << 3 |  // mods_count, mods_addr
                                   1U << 6 |  // mmap_length, mmap_addr
                                   1U << 9 |  // boot_loader_name
                                   1U << 12;  // framebuffer
  constexpr std::uint32_t kElfSections = 1U << 5;
  constexpr std::size_t kInfoSize = 116;
  std::vector<std::uint8_t> info(kInfoSize);
  InfoAppender append(info, base);

  const std::uint32_t command_line_at = append.string(facts.command_line);
  const std::uint32_t name_at = append.string("vmm");
  std::vector<std::uint32_t> texts;
  for (const PlacedModule& module : facts.modules) texts.push_back(append.string(module.text));
  append.align(8);
  const std::uint32_t modules_at = append.here();
  for (std::size_t i = 0; i < facts.modules.size(); ++i) {
    append.value(static_cast<std::uint32_t>(facts.modules[i].start));
    append.value(static_cast<std::uint32_t>(facts.modules[i].end));
    append.value(texts[i]);
    append.value(std::uint32_t{0});
  }
  const std::uint32_t map_at = append.here();
  for (const E820Entry& entry : facts.map) {
    append.value(std::uint32_t{20});  // of what follows
    append.value(entry.base);
    append.value(entry.size);
    append.value(entry.type);
  }
  const std::uint32_t map_size = append.here() - map_at;

  append.align(8);
  const std::uint32_t sections_at = append.here();
  const GuestSections& sections = facts.sections;
  info.insert(info.end(), sections.headers.begin(), sections.headers.end());

  const auto put = [&info](std::size_t offset, std::uint32_t value) { store(info, offset, value); };
  put(0, kFlags | (sections.count == 0 ? 0 : kElfSections));
  put(4, static_cast<std::uint32_t>(kLowRamEnd / 1_KiB));
  put(8, facts.upper_kib());
  put(16, command_line_at);
  put(20, static_cast<std::uint32_t>(facts.modules.size()));
  put(24, modules_at);
  if (sections.count != 0) {
    put(28, sections.count);
    put(32, sections.entry_size);
    put(36, sections_at);
    put(40, sections.names);
  }
  put(44, map_size);
  put(48, map_at);
  put(64, name_at);
  // The screen that there is: EGA text (type 2), 80x25 characters of 16 bits.
  store(info, 88, std::uint64_t{0xb8000});
  put(96, 160);
  put(100, 80);
  put(104, 25);
  store(info, 108, std::uint8_t{16});
  store(info, 109, std::uint8_t{2});
  return info;
}

}  // namespace vmm
