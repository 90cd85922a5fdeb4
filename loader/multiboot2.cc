#include "loader/multiboot2.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "loader/multiboot.h"
#include "vmm/base/bytes.h"

namespace vmm {
namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr std::size_t kHeaderSize = 16;
constexpr std::size_t kTagHeader = 8;
constexpr std::size_t kAlignment = 8;

// Section 3.1.3 to 3.1.13: tags of the header.
enum HeaderTag : unsigned {
  kEnd = 0,
  kInformationRequest = 1,
  kAddress = 2,
  kEntryAddress = 3,
  kConsoleFlags = 4,
  kFramebuffer = 5,
  kModuleAlignment = 6,
  kEfiBootServices = 7,
  kEfi32Entry = 8,
  kEfi64Entry = 9,
  kRelocatable = 10,
};

// Section 3.6: tags of the information.
enum InfoTag : std::uint32_t {
  kInfoEnd = 0,
  kInfoCommandLine = 1,
  kInfoLoaderName = 2,
  kInfoModule = 3,
  kInfoMemory = 4,
  kInfoMap = 6,
  kInfoFramebuffer = 8,
  kInfoElfSections = 9,
  kInfoOldRsdp = 14,
  kInfoNewRsdp = 15,
  kInfoLoadBase = 21,
};
constexpr std::array<std::uint32_t, 11> kGiven = {
    kInfoEnd,         kInfoCommandLine, kInfoLoaderName, kInfoModule,  kInfoMemory,  kInfoMap,
    kInfoFramebuffer, kInfoElfSections, kInfoOldRsdp,    kInfoNewRsdp, kInfoLoadBase};

tl::unexpected<Error> bad(std::string text) {
  return fail(Error::image("multiboot2 header: " + std::move(text)));
}

// What the tags of one header say.
struct HeaderFacts {
  std::optional<MultibootAddresses> addresses;
  std::optional<std::uint32_t> entry;
  std::optional<Relocation> relocation;
};

Result<void> check_request(Bytes types) {
  for (std::size_t at = 0; at + 4 <= types.size(); at += 4) {
    const auto type = load<std::uint32_t>(types, at);
    if (std::ranges::find(kGiven, type) == kGiven.end())
      return fail(
          Error::image(fmt::format("multiboot2 header: it requires information of type {}, "
                                   "which a loader without a BIOS or EFI cannot give (there "
                                   "are {})",
                                   type, fmt::join(kGiven, ", ")))
              .hint("mark the request as optional (flags bit 0) where the kernel can do "
                    "without"));
  }
  return {};
}

Result<void> read_tag(unsigned type, bool optional, Bytes tag, HeaderFacts& facts) {
  const Bytes content = tag.subspan(kTagHeader);
  const auto needs = [&](std::size_t size, const char* name) -> Result<void> {
    if (content.size() >= size) return {};
    return bad(
        fmt::format("the {} tag has {} bytes; {} are needed", name, tag.size(), size + kTagHeader));
  };
  switch (type) {
    case kInformationRequest:
      if (!optional) VMM_TRY(check_request(content));
      return {};
    case kAddress:
      VMM_TRY(needs(sizeof(MultibootAddresses), "address"));
      facts.addresses = load<MultibootAddresses>(content);
      return {};
    case kEntryAddress:
      VMM_TRY(needs(4, "entry address"));
      facts.entry = load<std::uint32_t>(content);
      return {};
    case kConsoleFlags:
      // Bit 0: a console that the kernel knows must be there; bit 1: it knows EGA text, which is.
      VMM_TRY(needs(4, "console flags"));
      if (!optional && (load<std::uint32_t>(content) & 3) == 1)
        return bad("it requires a graphical console; here is EGA text only");
      return {};
    case kFramebuffer:      // a preference, not a condition (section 3.1.10)
    case kModuleAlignment:  // modules stand on pages anyway
    case kEfi32Entry:       // these two matter to EFI loaders only (sections 3.1.7 and 3.1.8)
    case kEfi64Entry:
      return {};
    case kRelocatable: {
      VMM_TRY(needs(16, "relocatable header"));
      Relocation relocation{.min = load<std::uint32_t>(content, 0),
                            .max = load<std::uint32_t>(content, 4),
                            .alignment = load<std::uint32_t>(content, 8)};
      const auto preference = load<std::uint32_t>(content, 12);
      if (relocation.min > relocation.max || relocation.alignment == 0)
        return bad(fmt::format("relocatable header tag: from {:x}h to {:x}h, aligned to {:x}h",
                               relocation.min, relocation.max, relocation.alignment));
      if (preference > 2)
        return bad(
            fmt::format("relocatable header tag: preference {}; there are 0 (none), 1 "
                        "(lowest) and 2 (highest)",
                        preference));
      relocation.preference = static_cast<Relocation::Preference>(preference);
      facts.relocation = relocation;
      return {};
    }
    case kEfiBootServices:
      if (optional) return {};
      return bad("it requires EFI boot services (tag 7); there is no firmware");
    default:
      if (optional) return {};
      return fail(Error::image(fmt::format("multiboot2 header: it requires tag {}, which nothing "
                                           "here understands (known are 1 to 10)",
                                           type))
                      .hint("mark the tag as optional (flags bit 0) where the kernel can do "
                            "without"));
  }
}

Result<HeaderFacts> read_tags(Bytes header) {
  HeaderFacts facts;
  std::size_t at = kHeaderSize;
  while (at + kTagHeader <= header.size()) {
    const unsigned type = load<std::uint16_t>(header, at);
    const bool optional = (load<std::uint16_t>(header, at + 2) & 1) != 0;
    const std::size_t size = load<std::uint32_t>(header, at + 4);
    if (size < kTagHeader || size > header.size() - at)
      return bad(
          fmt::format("the tag of type {} at offset {:x}h of the header has {} bytes; the "
                      "header has {}",
                      type, at, size, header.size()));
    if (type == kEnd) return facts;
    VMM_TRY(read_tag(type, optional, header.subspan(at, size), facts));
    at = align_up(at + size, kAlignment);
  }
  return bad("no tag of type 0 ends the tags");
}

}  // namespace

MultibootSearch find_multiboot2(Bytes bytes) {
  return find_multiboot_header(bytes, {.magic = spec::MULTIBOOT2_HEADER_MAGIC,
                                       .words = kHeaderSize / 4,
                                       .alignment = kAlignment,
                                       .window = kMultiboot2Window});
}

Result<void> parse_multiboot2(LoadedImage& image, std::size_t header) {
  const Bytes bytes = image.bytes;
  const auto architecture = load<std::uint32_t>(bytes, header + 4);
  if (architecture != 0)
    return bad(
        fmt::format("architecture {}; 0 (i386, also for 64-bit kernels) is needed", architecture));
  const std::size_t length = load<std::uint32_t>(bytes, header + 8);
  const std::size_t window = std::min(bytes.size(), kMultiboot2Window);
  if (length < kHeaderSize || length > window - header)
    return bad(
        fmt::format("it has {:x}h bytes from offset {:x}h, which is beyond the file or its "
                    "first {} bytes",
                    length, header, kMultiboot2Window));
  const HeaderFacts facts = VMM_TRY(read_tags(bytes.subspan(header, length)));
  if (facts.addresses) {
    if (!facts.entry) return bad("it has an address tag and no entry address tag");
    MultibootAddresses addresses = *facts.addresses;
    // "-1: the file is loaded from its beginning".
    if (addresses.load_addr == 0xffff'ffff) {
      if (addresses.header_addr < header)
        return bad(
            fmt::format("header_addr {:x}h leaves no room for the {:x}h bytes before the "
                        "header",
                        addresses.header_addr, header));
      addresses.load_addr = addresses.header_addr - static_cast<std::uint32_t>(header);
    }
    VMM_TRY(load_by_addresses(image, header, addresses, *facts.entry, "multiboot2"));
  } else {
    VMM_TRY(load_elf_below_4g(image, "multiboot2"));
    if (facts.entry) {
      if (!image.loads(*facts.entry))
        return bad(
            fmt::format("the entry address {:x}h lies outside of what is loaded", *facts.entry));
      image.entry = *facts.entry;
    }
  }
  image.relocation = facts.relocation;
  image.protocol = BootProtocol::Multiboot2;
  return {};
}

std::vector<std::uint8_t> make_multiboot2_info(const BootFacts& facts, Gpa base) {
  std::vector<std::uint8_t> info;
  InfoAppender append(info, base);
  append.value(std::uint32_t{0});  // the total size, filled in below
  append.value(std::uint32_t{0});
  // Each tag begins at a multiple of 8; its size does not count the padding.
  std::size_t begin = 0;
  const auto open = [&](std::uint32_t type) {
    append.align(kAlignment);
    begin = info.size();
    append.value(type);
    append.value(std::uint32_t{0});
  };
  const auto close = [&] {
    store(info, begin + 4, static_cast<std::uint32_t>(info.size() - begin));
  };

  open(kInfoCommandLine);
  append.string(facts.command_line);
  close();
  open(kInfoLoaderName);
  append.string("vmm");
  close();
  for (const PlacedModule& module : facts.modules) {
    open(kInfoModule);
    append.value(static_cast<std::uint32_t>(module.start));
    append.value(static_cast<std::uint32_t>(module.end));
    append.string(module.text);
    close();
  }
  open(kInfoMemory);
  append.value(static_cast<std::uint32_t>(kLowRamEnd / 1_KiB));
  append.value(facts.upper_kib());
  close();
  open(kInfoMap);
  append.value(std::uint32_t{24});  // of an entry
  append.value(std::uint32_t{0});
  for (const E820Entry& entry : facts.map) {
    append.value(entry.base);
    append.value(entry.size);
    append.value(entry.type);
    append.value(std::uint32_t{0});
  }
  close();
  // The screen that there is: EGA text (type 2), 80x25 characters of 16 bits.
  open(kInfoFramebuffer);
  append.value(std::uint64_t{0xb8000});
  append.value(std::uint32_t{160});
  append.value(std::uint32_t{80});
  append.value(std::uint32_t{25});
  append.value(std::uint8_t{16});
  append.value(std::uint8_t{2});
  append.value(std::uint16_t{0});
  close();
  if (facts.sections.count != 0) {
    open(kInfoElfSections);
    append.value(facts.sections.count);
    append.value(facts.sections.entry_size);
    append.value(facts.sections.names);
    info.insert(info.end(), facts.sections.headers.begin(), facts.sections.headers.end());
    close();
  }
  // The pointer of ACPI 1.0 is the first 20 bytes of the later one, with a checksum of its own.
  constexpr std::ptrdiff_t kOldRsdp = 20;
  if (facts.rsdp.size() > kOldRsdp) {
    open(kInfoOldRsdp);
    info.insert(info.end(), facts.rsdp.begin(), facts.rsdp.begin() + kOldRsdp);
    close();
    open(kInfoNewRsdp);
    info.insert(info.end(), facts.rsdp.begin(), facts.rsdp.end());
    close();
  }
  if (facts.load_base) {
    open(kInfoLoadBase);
    append.value(static_cast<std::uint32_t>(*facts.load_base));
    close();
  }
  open(kInfoEnd);
  close();
  store(info, 0, static_cast<std::uint32_t>(info.size()));
  return info;
}

}  // namespace vmm
