#include "loader/elf.h"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "loader/elf_headers.h"
#include "vmm/base/bytes.h"

namespace vmm {
namespace {

using namespace elf_file;

tl::unexpected<Error> bad(std::string text) { return fail(Error::image(std::move(text))); }

Result<Segment> parse_load(const ProgramHeader& header, unsigned number, bool is64, Bytes bytes) {
  const auto wrong = [number](std::string text) {
    return bad(fmt::format("program header {}: {}", number, text));
  };
  if (header.memsz < header.filesz)
    return wrong(
        fmt::format("p_memsz {:x}h is less than p_filesz {:x}h", header.memsz, header.filesz));
  if (header.filesz != 0 && !in_file(bytes, header.offset, header.filesz))
    return wrong(fmt::format("{:x}h bytes from offset {:x}h run over the end of the file at {:x}h",
                             header.filesz, header.offset, bytes.size()));
  // The last byte must be reachable, and the end of a physical range must be a number.
  const std::uint64_t top = is64 ? ~std::uint64_t{0} : 0xffff'ffff;
  const std::uint64_t last = header.memsz - 1;
  if (header.paddr > top || last > top - header.paddr || header.paddr + header.memsz == 0)
    return wrong(
        fmt::format("{:x}h bytes at p_paddr {:x}h wrap around the end of the address space",
                    header.memsz, header.paddr));
  if (header.vaddr > top || last > top - header.vaddr)
    return wrong(
        fmt::format("{:x}h bytes at p_vaddr {:x}h wrap around the end of the address space",
                    header.memsz, header.vaddr));
  return Segment{.gpa = header.paddr,
                 .file_offset = header.filesz != 0 ? header.offset : 0,
                 .file_size = header.filesz,
                 .memory_size = header.memsz,
                 .vaddr = header.vaddr,
                 .number = number,
                 .executable = (header.flags & PF_X) != 0};
}

// A position-independent image is loaded where its program headers say, so it needs no relocation
// by a bias. What does need work before its first instruction is refused, because it would run with
// pointers that were never filled in.
Result<void> check_dynamic(const ProgramHeader& header, unsigned number, bool is64, Bytes bytes) {
  if (header.filesz == 0) return {};
  if (!in_file(bytes, header.offset, header.filesz))
    return bad(
        fmt::format("program header {}: the dynamic section ({:x}h bytes from offset {:x}h) "
                    "runs over the end of the file at {:x}h",
                    number, header.filesz, header.offset, bytes.size()));
  const std::size_t size = is64 ? sizeof(Elf64_Dyn) : sizeof(Elf32_Dyn);
  for (std::uint64_t at = 0; header.filesz - at >= size; at += size) {
    const auto offset = static_cast<std::size_t>(header.offset + at);
    std::uint64_t tag = 0;
    std::uint64_t value = 0;
    if (is64) {
      const auto entry = load<Elf64_Dyn>(bytes, offset);
      tag = static_cast<std::uint64_t>(entry.d_tag);
      value = entry.d_un.d_val;
    } else {
      const auto entry = load<Elf32_Dyn>(bytes, offset);
      tag = static_cast<std::uint32_t>(entry.d_tag);
      value = entry.d_un.d_val;
    }
    if (tag == DT_NULL) break;
    if (tag == DT_NEEDED)
      return fail(Error::image(fmt::format("program header {}: the image needs shared libraries "
                                           "(DT_NEEDED at offset {:x}h)",
                                           number, offset))
                      .hint("link the kernel with -static"));
    constexpr std::uint64_t kRelrSize = 35;  // DT_RELRSZ, newer than this <elf.h> may be
    const bool is_relocation =
        tag == DT_RELASZ || tag == DT_RELSZ || tag == DT_PLTRELSZ || tag == kRelrSize;
    if (is_relocation && value != 0)
      return fail(
          Error::image(fmt::format("program header {}: {:x}h bytes of dynamic relocations "
                                   "(tag {} at offset {:x}h); images are loaded as they are",
                                   number, value, tag, offset))
              .hint("link the kernel with -static -no-pie"));
  }
  return {};
}

Result<std::uint64_t> physical_entry(std::uint64_t entry, std::span<const Segment> segments) {
  for (const Segment& segment : segments)
    if (entry >= segment.vaddr && entry - segment.vaddr < segment.memory_size)
      return entry - segment.vaddr + segment.gpa;
  // Some kernels (Linux's vmlinux) give the physical address itself.
  for (const Segment& segment : segments)
    if (entry >= segment.gpa && entry - segment.gpa < segment.memory_size) return entry;
  return bad(fmt::format("the entry point {:x}h (e_entry) lies in no segment", entry));
}

Result<void> check_overlap(std::span<const Segment> sorted) {
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    const Segment& a = sorted[i - 1];
    const Segment& b = sorted[i];
    if (b.gpa < a.end())
      return bad(fmt::format("program headers {} and {} overlap in physical memory: {} and {}",
                             a.number, b.number, range_text(a.gpa, a.memory_size),
                             range_text(b.gpa, b.memory_size)));
  }
  return {};
}

}  // namespace

bool is_elf(Bytes bytes) {
  return bytes.size() >= SELFMAG && std::memcmp(bytes.data(), ELFMAG, SELFMAG) == 0;
}

Result<void> parse_elf(LoadedImage& image) {
  const Bytes bytes = image.bytes;
  const FileHeader header = VMM_TRY(parse_file_header(bytes));
  VMM_TRY(check_file_header(header, bytes));
  const std::vector<ProgramHeader> headers = read_program_headers(header, bytes);

  std::vector<Segment> segments;
  bool seen_dynamic = false;
  for (unsigned i = 0; i < headers.size(); ++i) {
    switch (headers[i].type) {
      case PT_INTERP:
        return fail(Error::image(fmt::format("program header {}: the image wants a dynamic linker "
                                             "(PT_INTERP), like a program of an operating system",
                                             i))
                        .hint("link the kernel with -static -nostdlib"));
      case PT_DYNAMIC:
        // One dynamic section is all that the gABI knows.
        if (!seen_dynamic) VMM_TRY(check_dynamic(headers[i], i, header.is64, bytes));
        seen_dynamic = true;
        break;
      case PT_LOAD:
        if (headers[i].memsz == 0 && headers[i].filesz == 0) break;
        segments.push_back(VMM_TRY(parse_load(headers[i], i, header.is64, bytes)));
        break;
      default:
        break;
    }
  }
  if (segments.empty())
    return bad(
        fmt::format("none of the {} program headers loads anything (PT_LOAD)", headers.size()));
  image.entry = VMM_TRY(physical_entry(header.entry, segments));
  std::stable_sort(segments.begin(), segments.end(),
                   [](const Segment& a, const Segment& b) { return a.gpa < b.gpa; });
  VMM_TRY(check_overlap(segments));
  image.segments = std::move(segments);
  image.protocol = header.is64 ? BootProtocol::Elf64 : BootProtocol::Elf32;
  image.symbols = read_elf_symbols(bytes);
  return {};
}

}  // namespace vmm
