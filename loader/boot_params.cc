#include "loader/boot_params.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "loader/bzimage_header.h"
#include "vmm/base/bytes.h"

namespace vmm {
namespace {

namespace header = bzimage_header;

// Offsets in boot_params.
constexpr std::size_t kSize = 4096;
constexpr std::size_t kVideoMode = 0x06;
constexpr std::size_t kVideoColumns = 0x07;
constexpr std::size_t kVideoLines = 0x0e;
constexpr std::size_t kVideoIsVga = 0x0f;
constexpr std::size_t kVideoPoints = 0x10;
constexpr std::size_t kAcpiRsdp = 0x70;
constexpr std::size_t kE820Count = 0x1e8;
constexpr std::size_t kE820Table = 0x2d0;
constexpr std::size_t kE820Max = 128;
constexpr std::size_t kE820Size = 20;

// A field of the setup header; 0 where the kernel's protocol is older.
template <typename T>
T header_field(const LoadedImage& image, std::size_t offset, unsigned since) {
  const std::size_t at = offset - header::kSetupSects;
  const std::size_t version_at = header::kVersion - header::kSetupSects;
  if (image.setup_header.size() < at + sizeof(T) ||
      image.setup_header.size() < version_at + sizeof(std::uint16_t) ||
      load<std::uint16_t>(image.setup_header, version_at) < since)
    return 0;
  return load<T>(image.setup_header, at);
}

// Is one of the words of a command line `name` or `name=...`?
bool has_word(std::string_view line, std::string_view name) {
  std::size_t at = 0;
  while ((at = line.find(name, at)) != line.npos) {
    const bool begins = at == 0 || line[at - 1] == ' ';
    at += name.size();
    if (begins && (at == line.size() || line[at] == '=' || line[at] == ' ')) return true;
  }
  return false;
}

}  // namespace

bool is_linux(const LoadedImage& image) {
  if (image.protocol == BootProtocol::Linux64 || image.protocol == BootProtocol::Linux32)
    return true;
  if (image.protocol != BootProtocol::Pvh) return false;
  constexpr std::string_view kBanner = "Linux version ";
  return ::memmem(image.bytes.data(), image.bytes.size(), kBanner.data(), kBanner.size()) !=
         nullptr;
}

std::string with_console(const std::string& given, bool screen, bool screen_last) {
  if (has_word(given, "console")) return given;
  std::string text = !screen       ? "console=ttyS0"
                     : screen_last ? "console=ttyS0 console=tty0"
                                   : "console=tty0 console=ttyS0";
  return given.empty() ? text : text + " " + given;
}

Gpa initrd_limit(const LoadedImage& image) {
  const auto last = header_field<std::uint32_t>(image, header::kInitrdAddrMax, 0x203);
  // Documentation/x86/boot.rst: what older kernels can reach.
  constexpr Gpa kOldLimit = 0x3800'0000;
  return last == 0 ? kOldLimit : Gpa{last} + 1;
}

std::size_t command_line_limit(const LoadedImage& image) {
  const auto size = header_field<std::uint32_t>(image, header::kCmdLineSize, 0x206);
  return size == 0 ? 255 : size;
}

std::vector<std::uint8_t> make_boot_params(const LoadedImage& image, const BootFacts& facts,
                                           Gpa base) {
  std::vector<std::uint8_t> block(kSize);
  // The header, and nothing of what stands in the file behind it.
  const std::size_t size = std::min(image.setup_header.size(), kE820Table - header::kSetupSects);
  std::copy_n(image.setup_header.begin(), size,
              block.begin() + static_cast<std::ptrdiff_t>(header::kSetupSects));
  store<std::uint16_t>(block, header::kVidMode, 0xffff);  // "normal": no mode is to be set
  store<std::uint8_t>(block, header::kTypeOfLoader, 0xff);
  store(block, header::kCode32Start, static_cast<std::uint32_t>(image.lowest()));
  if (facts.screen) {
    store<std::uint8_t>(block, kVideoMode, 3);
    store<std::uint8_t>(block, kVideoColumns, 80);
    store<std::uint8_t>(block, kVideoLines, 25);
    store<std::uint8_t>(block, kVideoIsVga, 1);
    store<std::uint16_t>(block, kVideoPoints, 16);
  }
  store<std::uint64_t>(block, kAcpiRsdp, facts.rsdp_at);
  if (!facts.modules.empty()) {
    store(block, header::kRamdiskImage, static_cast<std::uint32_t>(facts.modules[0].start));
    store(block, header::kRamdiskSize, static_cast<std::uint32_t>(facts.modules[0].size()));
  }
  const std::size_t entries = std::min(facts.map.size(), kE820Max);
  store(block, kE820Count, static_cast<std::uint8_t>(entries));
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t at = kE820Table + i * kE820Size;
    store(block, at, facts.map[i].base);
    store(block, at + 8, facts.map[i].size);
    store(block, at + 16, facts.map[i].type);
  }
  store(block, header::kCmdLinePtr, static_cast<std::uint32_t>(base + kSize));
  block.insert(block.end(), facts.command_line.begin(), facts.command_line.end());
  block.push_back(0);
  return block;
}

}  // namespace vmm
