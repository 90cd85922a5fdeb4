#include "loader/firmware_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <optional>

#include "loader/detect.h"
#include "loader/firmware_volume.h"
#include "vmm/base/bytes.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

using Bytes = std::span<const std::uint8_t>;

namespace spec {

// FFF12B8D-7696-4C8B-A985-2747075B4F50: a volume of variables.
constexpr Guid kNvData = {0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c,
                          0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50};
// The store in it: AAF32C78-947B-439A-A180-2E144EC37792 and DDCF3616-3275-4164-98B6-FE85707FFE7D.
constexpr Guid kAuthenticatedStore = {0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43,
                                      0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92};
constexpr Guid kPlainStore = {0x16, 0x36, 0xcf, 0xdd, 0x75, 0x32, 0x64, 0x41,
                              0x98, 0xb6, 0xfe, 0x85, 0x70, 0x7f, 0xfe, 0x7d};
// VARIABLE_STORE_HEADER.
constexpr std::size_t StoreSize = 16;
constexpr std::size_t StoreFormat = 20;
constexpr std::size_t kStoreHeader = 28;
constexpr std::uint8_t VARIABLE_STORE_FORMATTED = 0x5a;

// 9E58292B-7C68-497D-A0CE-6500FD9F1B95: the block that says which block is being rewritten. OVMF
// has it in the last 4 KiB of the first half; the other half is the spare.
constexpr Guid kWorkingBlock = {0x2b, 0x29, 0x58, 0x9e, 0x68, 0x7c, 0x7d, 0x49,
                                0xa0, 0xce, 0x65, 0x00, 0xfd, 0x9f, 0x1b, 0x95};
constexpr std::size_t kWorkingBlockSize = 0x1000;

}  // namespace spec

constexpr const char* kWhichFile = "Debian's package ovmf has /usr/share/OVMF/OVMF_CODE_4M.fd";
constexpr const char* kWhichVars =
    "begin with a copy of /usr/share/OVMF/OVMF_VARS_4M.fd, which belongs to OVMF_CODE_4M.fd";

bool contains(Bytes bytes, std::string_view text) {
  const auto at =
      std::search(bytes.begin(), bytes.end(), text.begin(), text.end(),
                  [](std::uint8_t a, char b) { return a == static_cast<std::uint8_t>(b); });
  return at != bytes.end();
}

Result<void> check_size(Bytes bytes) {
  if (bytes.empty()) return fail(Error::image("the file is empty").hint(kWhichFile));
  if (bytes.size() > kMaxFirmwareSize)
    return fail(Error::image(fmt::format("the file has {}; firmware here has {} at most, which end "
                                         "at 4 GiB",
                                         format_size(bytes.size()), format_size(kMaxFirmwareSize)))
                    .hint(kWhichFile));
  if (bytes.size() % 4_KiB != 0)
    return fail(Error::image(fmt::format("the file has {} bytes ({:x}h), no multiple of 4 KiB: it "
                                         "is cut off or no firmware; {}",
                                         bytes.size(), bytes.size(), describe_content(bytes)))
                    .hint(kWhichFile));
  return {};
}

struct Store {
  std::uint64_t size = 0;
  bool authenticated = false;
};

std::optional<Store> find_store(Bytes volume, std::size_t offset) {
  if (offset > volume.size() || volume.size() - offset < spec::kStoreHeader) return std::nullopt;
  const Bytes header = volume.subspan(offset);
  const Guid format = load<Guid>(header);
  const std::uint64_t size = load<std::uint32_t>(header, spec::StoreSize);
  if ((format != spec::kAuthenticatedStore && format != spec::kPlainStore) ||
      size < spec::kStoreHeader || size > header.size() ||
      header[spec::StoreFormat] != spec::VARIABLE_STORE_FORMATTED)
    return std::nullopt;
  return Store{size, format == spec::kAuthenticatedStore};
}

// A volume of variables at the start of `bytes`, which it does not pass. Nothing where there is
// none; Image errors where it is damaged.
Result<std::optional<FirmwareImage>> variables_at_start(Bytes bytes) {
  const auto volume = find_volume(bytes);
  if (!volume || volume->format != spec::kNvData) return std::nullopt;
  if (volume->size > bytes.size() || volume->size % 4_KiB != 0)
    return fail(Error::image(fmt::format("the variable store says that it has {:x}h bytes, and the "
                                         "file has {:x}h",
                                         volume->size, bytes.size()))
                    .hint(kWhichVars));
  if (!volume->checksum_is_right)
    return fail(Error::image("the header of the variable store's volume has a bad checksum")
                    .hint(kWhichVars));
  const Bytes whole = bytes.first(volume->size);
  const auto store = find_store(whole, volume->header_size);
  if (!store)
    return fail(Error::image(fmt::format("the volume for variables has no variable store behind "
                                         "its header, at {:x}h: neither the authenticated nor the "
                                         "plain one, or it is not formatted",
                                         volume->header_size))
                    .hint(kWhichVars));
  return FirmwareImage{.kind = FirmwareKind::OvmfVars,
                       .size = bytes.size(),
                       .vars_size = volume->size,
                       .store_size = store->size,
                       .authenticated = store->authenticated};
}

// The layouts that OVMF is built with, as the sizes of their stores; the smaller one is of the
// builds of 1 MiB and 2 MiB.
constexpr std::uint64_t kSmallStore = 0x20000;
constexpr std::uint64_t kLargeStore = 0x84000;

// A store whose first block was erased when the power failed: the spare block has its content, and
// the working block says so.
bool is_interrupted_store(Bytes bytes) {
  if (bytes.size() != kSmallStore && bytes.size() != kLargeStore) return false;
  return load<Guid>(bytes, bytes.size() / 2 - spec::kWorkingBlockSize) == spec::kWorkingBlock;
}

// What a processor fetches first: erased flash and zeroes are no instructions that lead anywhere.
bool has_reset_vector(Bytes bytes) {
  const Bytes vector = bytes.last(16);
  return std::ranges::any_of(vector, [](std::uint8_t b) { return b != 0 && b != 0xff; }) &&
         vector[0] != 0 && vector[0] != 0xff;
}

// A far jump to F000:E05B and the date behind it, as IBM's BIOS had them.
bool is_seabios(Bytes bytes) {
  constexpr std::uint8_t kFarJump = 0xea;
  return bytes.size() >= 64_KiB && bytes.size() <= 256_KiB && std::has_single_bit(bytes.size()) &&
         bytes[bytes.size() - 16] == kFarJump &&
         load<std::uint16_t>(bytes, bytes.size() - 13) == 0xf000 && contains(bytes, "SeaBIOS");
}

// The volumes of the code, which fill it to its last byte.
Result<void> check_code(Bytes bytes, std::size_t start) {
  std::size_t at = start;
  while (at < bytes.size()) {
    const Bytes rest = bytes.subspan(at);
    const auto volume = find_volume(rest);
    if (!volume)
      return fail(Error::image(fmt::format("at {:x}h, where a firmware volume has to begin, there "
                                           "is none (\"_FVH\" at {:x}h)",
                                           at, at + 0x28))
                      .hint(kWhichFile));
    if (volume->size > rest.size())
      return fail(Error::image(fmt::format("the firmware volume at {:x}h has {:x}h bytes, and the "
                                           "file ends after {:x}h: it is cut off",
                                           at, volume->size, rest.size()))
                      .hint(kWhichFile));
    if (!volume->checksum_is_right)
      return fail(Error::image(
          fmt::format("the header of the firmware volume at {:x}h has a bad checksum", at)));
    if (has_files(*volume) && needs_smm(rest.first(volume->size)))
      return fail(
          Error::image("this build keeps its variables in system management mode (SMM), as "
                       "the ones for secure boot do (*.secboot.fd, *.ms.fd); there is no "
                       "SMM here, and it would stop before its first line")
              .hint("OVMF_CODE_4M.fd is the build without SMM, OVMF_CODE.fd the one of 2 MiB"));
    at += volume->size;
  }
  if (!has_reset_vector(bytes))
    return fail(Error::image("its last 16 bytes, where the processor starts, hold no code: it is "
                             "only a part of a firmware, or one for another machine")
                    .hint(kWhichFile));
  return {};
}

Result<FirmwareImage> recognise(Bytes bytes) {
  VMM_TRY(check_size(bytes));
  if (is_seabios(bytes)) return FirmwareImage{.kind = FirmwareKind::SeaBios, .size = bytes.size()};
  const auto variables = VMM_TRY(variables_at_start(bytes));
  if (variables && variables->vars_size == bytes.size())
    return fail(Error::image("this is a variable store, which has no code")
                    .hint("give it as --vars, and as --firmware the code that it belongs to: "
                          "OVMF_CODE_4M.fd for OVMF_VARS_4M.fd"));
  if (!variables && !find_volume(bytes))
    return fail(Error::image(fmt::format("this is neither UEFI firmware (a volume with \"_FVH\" at "
                                         "28h) nor SeaBIOS; {}",
                                         describe_content(bytes)))
                    .hint(kWhichFile));
  FirmwareImage image = variables.value_or(FirmwareImage{.size = bytes.size()});
  image.kind = variables ? FirmwareKind::OvmfWhole : FirmwareKind::OvmfCode;
  VMM_TRY(check_code(bytes, image.vars_size));
  return image;
}

Result<FirmwareImage> recognise_variables(Bytes bytes) {
  VMM_TRY(check_size(bytes));
  if (const auto image = VMM_TRY(variables_at_start(bytes))) {
    if (image->vars_size == bytes.size()) return *image;
    return fail(Error::image(fmt::format("behind the variable store of {:x}h bytes there are {:x}h "
                                         "more: this is a whole firmware",
                                         image->vars_size, bytes.size() - image->vars_size))
                    .hint("give it as --firmware; --vars takes a store alone, such as "
                          "OVMF_VARS_4M.fd"));
  }
  if (is_interrupted_store(bytes))
    return FirmwareImage{
        .kind = FirmwareKind::OvmfVars, .size = bytes.size(), .vars_size = bytes.size()};
  if (find_volume(bytes))
    return fail(Error::image("this is firmware code, no variable store").hint(kWhichVars));
  return fail(Error::image(fmt::format("this is no variable store; {}", describe_content(bytes)))
                  .hint(kWhichVars));
}

Result<FirmwareImage> at_path(Result<FirmwareImage> result, const std::string& path) {
  if (result) return result;
  return fail(std::move(result).error().at(printable(path)));
}

}  // namespace

std::string_view firmware_kind_name(FirmwareKind kind) {
  switch (kind) {
    case FirmwareKind::OvmfCode:
      return "OVMF code";
    case FirmwareKind::OvmfWhole:
      return "OVMF with its variable store";
    case FirmwareKind::OvmfVars:
      return "OVMF variable store";
    case FirmwareKind::SeaBios:
      return "SeaBIOS";
  }
  return "unknown";
}

Result<FirmwareImage> parse_firmware(const std::string& path, Bytes bytes) {
  return at_path(recognise(bytes), path);
}

Result<FirmwareImage> parse_variables(const std::string& path, Bytes bytes) {
  return at_path(recognise_variables(bytes), path);
}

Result<Gpa> variables_base(const FirmwareImage& code, const FirmwareImage& variables,
                           const std::string& path) {
  const auto bad = [&](std::string text) {
    return Error::image(std::move(text)).at(printable(path)).context("--vars");
  };
  if (code.kind != FirmwareKind::OvmfCode)
    return fail(
        bad(fmt::format("the firmware is {}, which has no place for a store of its own file",
                        firmware_kind_name(code.kind)))
            .hint("OVMF_CODE_4M.fd with OVMF_VARS_4M.fd keep code and variables apart"));
  if (!std::has_single_bit(code.size + variables.size)) {
    const std::uint64_t fits = std::bit_ceil(code.size) - code.size;
    if (fits == 0)
      return fail(bad(fmt::format("the store of {:x}h bytes and the firmware's code of {:x}h bytes "
                                  "are not built for each other: together they are no power of two",
                                  variables.size, code.size))
                      .hint("code and store come from one build"));
    return fail(bad(fmt::format("the store has {:x}h bytes, and the firmware's code of {:x}h bytes "
                                "is built for one of {:x}h",
                                variables.size, code.size, fits))
                    .hint(fits == kSmallStore   ? "OVMF_VARS.fd belongs to OVMF_CODE.fd"
                          : fits == kLargeStore ? "OVMF_VARS_4M.fd belongs to OVMF_CODE_4M.fd"
                                                : "code and store come from one build"));
  }
  return code.base() - variables.size;
}

}  // namespace vmm
