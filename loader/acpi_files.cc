#include "loader/acpi_files.h"

#include <array>
#include <span>

#include "loader/acpi_tables.h"
#include "loader/table_bytes.h"
#include "vmm/base/check.h"

namespace vmm {
namespace spec {
namespace {

// Commands of the table loader, 128 bytes each.
constexpr std::size_t LOADER_ENTRY_SIZE = 128;
constexpr std::size_t LOADER_NAME_SIZE = 56;
constexpr std::uint32_t ALLOCATE = 1;      // name, alignment (4), zone (1)
constexpr std::uint32_t ADD_POINTER = 2;   // name, name pointed to, offset (4), size (1)
constexpr std::uint32_t ADD_CHECKSUM = 3;  // name, offset (4), start (4), length (4)
constexpr std::uint8_t ZONE_HIGH = 1;
constexpr std::uint8_t ZONE_FSEG = 2;

constexpr std::size_t TABLE_LENGTH = 4;
constexpr std::size_t TABLE_CHECKSUM = 9;
constexpr std::uint32_t TABLE_HEADER_SIZE = 36;
constexpr std::uint32_t FADT_FIRMWARE_CTRL = 36;
constexpr std::uint32_t FADT_DSDT = 40;
constexpr std::uint32_t FADT_X_FIRMWARE_CTRL = 132;
constexpr std::uint32_t FADT_X_DSDT = 140;
constexpr std::uint32_t RSDP_CHECKSUM = 8;
constexpr std::uint32_t RSDP_CHECKED = 20;  // bytes of ACPI 1.0
constexpr std::uint32_t RSDP_RSDT = 16;
constexpr std::uint32_t RSDP_XSDT = 24;
constexpr std::uint32_t RSDP_EXTENDED_CHECKSUM = 32;

}  // namespace
}  // namespace spec

namespace {

using Bytes = std::vector<std::uint8_t>;

// The script, one command after the other.
class LoaderScript {
 public:
  void allocate(std::string_view file, std::uint32_t alignment, std::uint8_t zone) {
    Bytes& entry = begin(spec::ALLOCATE);
    name(entry, file);
    append_number(entry, alignment);
    append_number(entry, zone);
    end(entry);
  }
  // The `size` bytes at `offset` in `file` point into `target`.
  void add_pointer(std::string_view file, std::uint32_t offset, std::uint8_t size,
                   std::string_view target) {
    Bytes& entry = begin(spec::ADD_POINTER);
    name(entry, file);
    name(entry, target);
    append_number(entry, offset);
    append_number(entry, size);
    end(entry);
  }
  // The byte at `offset` makes `length` bytes from `start` sum up to 0.
  void add_checksum(std::string_view file, std::uint32_t offset, std::uint32_t start,
                    std::uint32_t length) {
    Bytes& entry = begin(spec::ADD_CHECKSUM);
    name(entry, file);
    append_number(entry, offset);
    append_number(entry, start);
    append_number(entry, length);
    end(entry);
  }
  Bytes take() { return std::move(script_); }

 private:
  Bytes& begin(std::uint32_t command) {
    append_number(script_, command);
    return script_;
  }
  static void name(Bytes& entry, std::string_view text) {
    VMM_CHECK(text.size() < spec::LOADER_NAME_SIZE, "a file name has at most 55 letters");
    entry.insert(entry.end(), text.begin(), text.end());
    entry.resize(entry.size() + spec::LOADER_NAME_SIZE - text.size());
  }
  static void end(Bytes& script) {
    script.resize((script.size() + spec::LOADER_ENTRY_SIZE - 1) / spec::LOADER_ENTRY_SIZE *
                  spec::LOADER_ENTRY_SIZE);
  }

  Bytes script_;
};

// The tables in one file.
class TableFile {
 public:
  // Where it stands.
  std::uint32_t add(Bytes table, std::size_t alignment, bool has_checksum) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
    const auto at = static_cast<std::uint32_t>(bytes_.size());
    if (has_checksum) {
      table[spec::TABLE_CHECKSUM] = 0;
      checked_.push_back(at);
    }
    append_bytes(bytes_, table);
    return at;
  }
  void add_checksums(LoaderScript& script) const {
    for (const std::uint32_t table : checked_)
      script.add_checksum(kAcpiTablesFile, table + spec::TABLE_CHECKSUM, table,
                          load<std::uint32_t>(bytes_, table + spec::TABLE_LENGTH));
  }
  Bytes take() { return std::move(bytes_); }

 private:
  Bytes bytes_;
  std::vector<std::uint32_t> checked_;
};

}  // namespace

std::vector<FirmwareFile> make_acpi_files(const BoardDescription& board) {
  TableFile tables;
  const std::uint32_t facs = tables.add(make_facs(), 64, false);
  const std::uint32_t dsdt = tables.add(make_dsdt(board), 8, true);
  const std::uint32_t fadt = tables.add(make_fadt(board, facs, dsdt), 8, true);
  const std::uint32_t madt = tables.add(make_madt(board), 8, true);
  const std::array<std::uint32_t, 2> listed = {fadt, madt};
  const std::uint32_t rsdt = tables.add(make_rsdt(listed), 8, true);
  const std::uint32_t xsdt = tables.add(make_xsdt(listed), 8, true);
  Bytes rsdp = make_rsdp(rsdt, xsdt);
  rsdp[spec::RSDP_CHECKSUM] = rsdp[spec::RSDP_EXTENDED_CHECKSUM] = 0;

  LoaderScript script;
  script.allocate(kAcpiRsdpFile, 16, spec::ZONE_FSEG);
  script.allocate(kAcpiTablesFile, 64, spec::ZONE_HIGH);
  const auto in_tables = [&script](std::uint32_t offset, std::uint8_t size) {
    script.add_pointer(kAcpiTablesFile, offset, size, kAcpiTablesFile);
  };
  in_tables(fadt + spec::FADT_FIRMWARE_CTRL, 4);
  in_tables(fadt + spec::FADT_DSDT, 4);
  in_tables(fadt + spec::FADT_X_FIRMWARE_CTRL, 8);
  in_tables(fadt + spec::FADT_X_DSDT, 8);
  for (std::uint32_t i = 0; i < listed.size(); ++i) {
    in_tables(rsdt + spec::TABLE_HEADER_SIZE + 4 * i, 4);
    in_tables(xsdt + spec::TABLE_HEADER_SIZE + 8 * i, 8);
  }
  script.add_pointer(kAcpiRsdpFile, spec::RSDP_RSDT, 4, kAcpiTablesFile);
  script.add_pointer(kAcpiRsdpFile, spec::RSDP_XSDT, 8, kAcpiTablesFile);
  tables.add_checksums(script);
  script.add_checksum(kAcpiRsdpFile, spec::RSDP_CHECKSUM, 0, spec::RSDP_CHECKED);
  script.add_checksum(kAcpiRsdpFile, spec::RSDP_EXTENDED_CHECKSUM, 0,
                      static_cast<std::uint32_t>(rsdp.size()));
  std::vector<FirmwareFile> files;
  files.push_back({std::string(kAcpiTablesFile), tables.take()});
  files.push_back({std::string(kAcpiRsdpFile), std::move(rsdp)});
  files.push_back({std::string(kTableLoaderFile), script.take()});
  return files;
}

}  // namespace vmm
