#include "loader/pe_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

using Bytes = std::span<const std::uint8_t>;

namespace spec_pe {
constexpr std::size_t e_lfanew = 0x3c;
constexpr std::size_t kCoffSize = 24;  // "PE\0\0" and the file header
constexpr std::uint16_t kPe32 = 0x10b;
constexpr std::uint16_t kPe32Plus = 0x20b;
constexpr std::size_t kSectionSize = 40;
// Offsets in the optional header.
constexpr std::size_t AddressOfEntryPoint = 16;
constexpr std::size_t ImageBasePlus = 24;
constexpr std::size_t ImageBase = 28;
constexpr std::size_t SizeOfImage = 56;
constexpr std::size_t SizeOfHeaders = 60;
constexpr std::size_t Subsystem = 68;
constexpr std::size_t kLeastOptional = 70;
}  // namespace spec_pe

struct Word {
  std::uint16_t value;
  std::string_view text;
};

constexpr std::array<Word, 9> kMachines = {{
    {spec::IMAGE_FILE_MACHINE_AMD64, "x86-64"},
    {spec::IMAGE_FILE_MACHINE_I386, "32-bit x86"},
    {0xaa64, "ARM64"},
    {0x01c2, "ARM (Thumb)"},
    {0x0200, "Itanium"},
    {0x0ebc, "EFI byte code"},
    {0x5064, "RISC-V 64"},
    {0x6264, "LoongArch 64"},
    {0x5032, "RISC-V 32"},
}};

constexpr std::array<Word, 6> kSubsystems = {{
    {1, "Windows native image"},
    {2, "Windows program with windows"},
    {3, "Windows console program"},
    {spec::IMAGE_SUBSYSTEM_EFI_APPLICATION, "UEFI application"},
    {spec::IMAGE_SUBSYSTEM_EFI_BOOT_SERVICE_DRIVER, "UEFI boot service driver"},
    {spec::IMAGE_SUBSYSTEM_EFI_RUNTIME_DRIVER, "UEFI runtime driver"},
}};

template <std::size_t N>
const Word* find(const std::array<Word, N>& words, std::uint16_t value) {
  const auto at = std::ranges::find(words, value, &Word::value);
  return at == words.end() ? nullptr : &*at;
}

Result<void> check_sections(Bytes bytes, const PeHeaders& headers) {
  for (unsigned i = 0; i < headers.sections; ++i) {
    const std::size_t at = headers.section_table + i * spec_pe::kSectionSize;
    if (at + spec_pe::kSectionSize > bytes.size())
      return fail(
          Error::image(fmt::format("the section table has {} entries and the file ends "
                                   "inside of entry {}",
                                   headers.sections, i)));
    const std::uint64_t address = load<std::uint32_t>(bytes, at + 12);
    const std::uint64_t size = load<std::uint32_t>(bytes, at + 16);
    const std::uint64_t offset = load<std::uint32_t>(bytes, at + 20);
    if (size != 0 && offset != 0 && offset + size > bytes.size())
      return fail(
          Error::image(fmt::format("section {} has bytes {} of the file, which has {:x}h: "
                                   "it is cut off",
                                   i, range_text(offset, size), bytes.size())));
    if (address > headers.image_size)
      return fail(Error::image(fmt::format("section {} stands at {:x}h of an image of {:x}h bytes",
                                           i, address, headers.image_size)));
  }
  return {};
}

}  // namespace

std::optional<PeHeaders> find_pe_headers(Bytes bytes) {
  if (bytes.size() < spec_pe::e_lfanew + 4 || bytes[0] != 'M' || bytes[1] != 'Z')
    return std::nullopt;
  const std::size_t at = load<std::uint32_t>(bytes, spec_pe::e_lfanew);
  constexpr std::uint32_t kPe = 0x4550;
  if (at > bytes.size() || bytes.size() - at < spec_pe::kCoffSize + spec_pe::kLeastOptional ||
      load<std::uint32_t>(bytes, at) != kPe)
    return std::nullopt;
  const Bytes optional = bytes.subspan(at + spec_pe::kCoffSize);
  const auto magic = load<std::uint16_t>(optional);
  const auto optional_size = load<std::uint16_t>(bytes, at + 20);
  if ((magic != spec_pe::kPe32 && magic != spec_pe::kPe32Plus) ||
      optional_size < spec_pe::kLeastOptional)
    return std::nullopt;
  PeHeaders headers;
  headers.machine = load<std::uint16_t>(bytes, at + 4);
  headers.sections = load<std::uint16_t>(bytes, at + 6);
  headers.plus = magic == spec_pe::kPe32Plus;
  headers.subsystem = load<std::uint16_t>(optional, spec_pe::Subsystem);
  headers.entry = load<std::uint32_t>(optional, spec_pe::AddressOfEntryPoint);
  headers.image_base = headers.plus ? load<std::uint64_t>(optional, spec_pe::ImageBasePlus)
                                    : load<std::uint32_t>(optional, spec_pe::ImageBase);
  headers.image_size = load<std::uint32_t>(optional, spec_pe::SizeOfImage);
  headers.headers_size = load<std::uint32_t>(optional, spec_pe::SizeOfHeaders);
  headers.section_table = at + spec_pe::kCoffSize + optional_size;
  return headers;
}

bool is_efi(const PeHeaders& headers) {
  return headers.subsystem >= spec::IMAGE_SUBSYSTEM_EFI_APPLICATION &&
         headers.subsystem <= spec::IMAGE_SUBSYSTEM_EFI_RUNTIME_DRIVER;
}

std::string machine_text(std::uint16_t machine) {
  const Word* word = find(kMachines, machine);
  return word != nullptr ? std::string(word->text) : fmt::format("machine {:x}h", machine);
}

std::string subsystem_text(std::uint16_t subsystem) {
  const Word* word = find(kSubsystems, subsystem);
  return word != nullptr ? std::string(word->text) : fmt::format("subsystem {}", subsystem);
}

Result<void> parse_efi(LoadedImage& image) {
  const auto headers = find_pe_headers(image.bytes);
  if (!headers)
    return fail(Error::image("this is no PE image: no \"MZ\" with a \"PE\" header behind it"));
  if (!is_efi(*headers))
    return fail(Error::image(fmt::format("this is a PE image, but no UEFI one: its subsystem is {} "
                                         "({}), not 10, 11 or 12",
                                         headers->subsystem, subsystem_text(headers->subsystem)))
                    .hint("link it with /subsystem:efi_application, or --subsystem 10 of GNU ld"));
  if (headers->machine != spec::IMAGE_FILE_MACHINE_AMD64)
    return fail(
        Error::image(fmt::format("this is a {} for {} ({:x}h); the guest's firmware is x86-64 and "
                                 "starts images for x86-64 (8664h)",
                                 subsystem_text(headers->subsystem), machine_text(headers->machine),
                                 headers->machine))
            .hint("build it for x86_64, such as --target=x86_64-unknown-uefi"));
  if (!headers->plus)
    return fail(
        Error::image("this UEFI image is for x86-64, but its optional header is that of a "
                     "32-bit PE32 (10Bh), not of PE32+ (20Bh)"));
  if (headers->entry >= headers->image_size)
    return fail(
        Error::image(fmt::format("the entry point {:x}h lies outside of the image, which "
                                 "has {:x}h bytes in memory",
                                 headers->entry, headers->image_size)));
  VMM_TRY(check_sections(image.bytes, *headers));
  image.protocol = BootProtocol::Efi;
  image.entry = headers->entry;
  return {};
}

}  // namespace vmm
