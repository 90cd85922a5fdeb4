#include "loader/multiboot1.h"

#include <fmt/format.h>

#include <algorithm>

#include "loader/e820.h"
#include "loader/elf.h"
#include "vmm/base/bytes.h"

namespace vmm {
namespace {

// Section 3.1.1: the header's fields, by offset.
constexpr std::size_t kHeaderSize = 12;
constexpr std::size_t kHeaderSizeWithAddresses = 32;
constexpr unsigned kAddressFields = 16;        // flags bit: the a.out kludge
constexpr std::uint32_t kRequired = 0xffff;    // flags that must be understood
constexpr std::uint32_t kUnderstood = 0x0007;  // page alignment, memory information, video mode

struct AddressFields {
  std::uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
};

tl::unexpected<Error> bad(std::string text) {
  return fail(Error::image("multiboot1 header: " + std::move(text)));
}

// Section 3.1.3. All arithmetic is in 64 bits on fields of 32, so nothing wraps.
Result<void> parse_address_fields(LoadedImage& image, std::size_t header) {
  const std::span<const std::uint8_t> bytes = image.bytes;
  if (header + kHeaderSizeWithAddresses > std::min(bytes.size(), kMultiboot1Window))
    return bad(
        fmt::format("flags bit 16 promises address fields up to offset {:x}h, which is "
                    "beyond the file or its first {} bytes",
                    header + kHeaderSizeWithAddresses, kMultiboot1Window));
  const auto fields = load<AddressFields>(bytes, header + kHeaderSize);
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
  if (fields.entry_addr < load_addr || fields.entry_addr >= end)
    return bad(fmt::format("entry_addr {:x}h lies outside of what is loaded, {}", fields.entry_addr,
                           range_text(load_addr, end - load_addr)));
  image.entry = fields.entry_addr;
  image.segments = {{.gpa = load_addr,
                     .file_offset = file_offset,
                     .file_size = file_size,
                     .memory_size = end - load_addr,
                     .vaddr = load_addr}};
  image.symbols = read_elf_symbols(bytes);
  return {};
}

Result<void> parse_elf_below_4g(LoadedImage& image) {
  if (!is_elf(image.bytes))
    return fail(Error::image("multiboot1 header: flags bit 16 is clear, so the file must be ELF, "
                             "and it does not start with 7f 45 4c 46")
                    .hint("set flags bit 16 and give the address fields, or link to ELF"));
  VMM_TRY_CONTEXT(parse_elf(image), "multiboot1 image");
  const Segment& last = image.segments.back();
  if (last.end() > 4_GiB)
    return fail(Error::image(fmt::format("multiboot1 image: segment {} at {} reaches beyond 4 GiB, "
                                         "where 32-bit code cannot go",
                                         last.number, range_text(last.gpa, last.memory_size)))
                    .hint("give the segments low physical addresses (AT() in the linker script)"));
  return {};
}

// Appends to `info` and gives the guest address of what was appended.
class Appender {
 public:
  Appender(std::vector<std::uint8_t>& info, Gpa base) : info_(info), base_(base) {}

  std::uint32_t here() const { return static_cast<std::uint32_t>(base_ + info_.size()); }
  std::uint32_t string(const std::string& text) {
    const std::uint32_t address = here();
    info_.insert(info_.end(), text.begin(), text.end());
    info_.push_back(0);
    return address;
  }
  template <typename T>
  void value(const T& v) {
    const std::size_t offset = info_.size();
    info_.resize(offset + sizeof v);
    store(info_, offset, v);
  }
  void align(std::size_t alignment) { info_.resize(align_up(info_.size(), alignment)); }

 private:
  std::vector<std::uint8_t>& info_;
  Gpa base_;
};

}  // namespace

Multiboot1Search find_multiboot1(std::span<const std::uint8_t> bytes) {
  Multiboot1Search found;
  const std::size_t window = std::min(bytes.size(), kMultiboot1Window);
  for (std::size_t at = 0; at + kHeaderSize <= window; at += 4) {
    if (load<std::uint32_t>(bytes, at) != spec::MULTIBOOT_HEADER_MAGIC) continue;
    const auto flags = load<std::uint32_t>(bytes, at + 4);
    const std::uint32_t sum =
        spec::MULTIBOOT_HEADER_MAGIC + flags + load<std::uint32_t>(bytes, at + 8);
    if (sum == 0) {
      found.header = at;
      found.flags = flags;
      return found;
    }
    if (!found.bad_checksum) {
      found.bad_checksum = at;
      found.bad_sum = sum;
    }
  }
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
    VMM_TRY(parse_elf_below_4g(image));
  image.protocol = BootProtocol::Multiboot1;
  return {};
}

std::vector<std::uint8_t> make_multiboot1_info(Gpa base, const std::string& command_line,
                                               std::span<const PlacedModule> modules,
                                               std::span<const E820Entry> map, Gpa low_end) {
  // Section 3.3. Bit 1 (boot device), 4 and 5 (symbols), 7 (drives), 8 (configuration table), 10
  // (APM) and 11 (VBE) stay clear.
  constexpr std::uint32_t kFlags = 1U << 0 |  // mem_lower, mem_upper
                                   1U << 2 |  // cmdline
                                   1U << 3 |  // mods_count, mods_addr
                                   1U << 6 |  // mmap_length, mmap_addr
                                   1U << 9 |  // boot_loader_name
                                   1U << 12;  // framebuffer
  constexpr std::size_t kInfoSize = 116;
  std::vector<std::uint8_t> info(kInfoSize);
  Appender append(info, base);

  const std::uint32_t command_line_at = append.string(command_line);
  const std::uint32_t name_at = append.string("vmm");
  std::vector<std::uint32_t> texts;
  for (const PlacedModule& module : modules) texts.push_back(append.string(module.text));
  append.align(8);
  const std::uint32_t modules_at = append.here();
  for (std::size_t i = 0; i < modules.size(); ++i) {
    append.value(static_cast<std::uint32_t>(modules[i].start));
    append.value(static_cast<std::uint32_t>(modules[i].end));
    append.value(texts[i]);
    append.value(std::uint32_t{0});
  }
  const std::uint32_t map_at = append.here();
  for (const E820Entry& entry : map) {
    append.value(std::uint32_t{20});  // of what follows
    append.value(entry.base);
    append.value(entry.size);
    append.value(entry.type);
  }
  const std::uint32_t map_size = append.here() - map_at;

  const auto put = [&info](std::size_t offset, std::uint32_t value) { store(info, offset, value); };
  put(0, kFlags);
  put(4, static_cast<std::uint32_t>(kLowRamEnd / 1_KiB));
  const Gpa upper = low_end > kExtendedRam ? low_end - kExtendedRam : 0;
  put(8, static_cast<std::uint32_t>(upper / 1_KiB));
  put(16, command_line_at);
  put(20, static_cast<std::uint32_t>(modules.size()));
  put(24, modules_at);
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
