// For tests: small images, made field by field, and ways to damage them.
#pragma once

#include <elf.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loader/boot.h"
#include "vmm/base/bytes.h"

namespace vmm::testing_images {

using ByteVector = std::vector<std::uint8_t>;

struct Class32 {
  using Ehdr = Elf32_Ehdr;
  using Phdr = Elf32_Phdr;
  using Shdr = Elf32_Shdr;
  using Sym = Elf32_Sym;
  using Dyn = Elf32_Dyn;
  static constexpr unsigned char kClass = ELFCLASS32;
  static constexpr std::uint16_t kMachine = EM_386;
};

struct Class64 {
  using Ehdr = Elf64_Ehdr;
  using Phdr = Elf64_Phdr;
  using Shdr = Elf64_Shdr;
  using Sym = Elf64_Sym;
  using Dyn = Elf64_Dyn;
  static constexpr unsigned char kClass = ELFCLASS64;
  static constexpr std::uint16_t kMachine = EM_X86_64;
};

// Appends the bytes of `value`; returns the offset at which they start.
template <typename T>
std::size_t append(ByteVector& bytes, const T& value) {
  const std::size_t offset = bytes.size();
  bytes.resize(offset + sizeof value);
  store(bytes, offset, value);
  return offset;
}

// Changes the T at `offset` in place.
template <typename T, typename Change>
void edit(ByteVector& bytes, std::size_t offset, Change&& change) {
  T value = load<T>(bytes, offset);
  change(value);
  store(bytes, offset, value);
}

// An ELF file: header, program headers, contents in their order, then symbols if there are any.
template <typename Class>
class ElfBuilder {
 public:
  using Ehdr = typename Class::Ehdr;
  using Phdr = typename Class::Phdr;
  using Shdr = typename Class::Shdr;
  using Sym = typename Class::Sym;

  ElfBuilder& entry(std::uint64_t address) {
    entry_ = address;
    return *this;
  }
  ElfBuilder& load_segment(std::uint64_t paddr, std::uint64_t vaddr, ByteVector data,
                           std::uint64_t memory_size) {
    parts_.push_back({PT_LOAD, paddr, vaddr, std::move(data), memory_size});
    return *this;
  }
  ElfBuilder& part(std::uint32_t type, ByteVector data) {
    const std::uint64_t size = data.size();
    parts_.push_back({type, 0, 0, std::move(data), size});
    return *this;
  }
  ElfBuilder& symbol(std::string name, std::uint64_t value, std::uint64_t size, unsigned type,
                     std::uint16_t section = 1) {
    symbols_.push_back({std::move(name), value, size, type, section});
    return *this;
  }

  ByteVector build() const {
    ByteVector bytes(sizeof(Ehdr) + parts_.size() * sizeof(Phdr));
    Ehdr header{};
    std::copy_n(ELFMAG, SELFMAG, header.e_ident);
    header.e_ident[EI_CLASS] = Class::kClass;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = Class::kMachine;
    header.e_version = EV_CURRENT;
    header.e_ehsize = sizeof(Ehdr);
    header.e_phoff = sizeof(Ehdr);
    header.e_phentsize = sizeof(Phdr);
    header.e_phnum = static_cast<std::uint16_t>(parts_.size());
    set(header.e_entry, entry_);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const Part& part = parts_[i];
      bytes.resize(align_up(bytes.size(), 16));
      Phdr phdr{};
      phdr.p_type = part.type;
      set(phdr.p_offset, bytes.size());
      set(phdr.p_vaddr, part.vaddr);
      set(phdr.p_paddr, part.paddr);
      set(phdr.p_filesz, part.data.size());
      set(phdr.p_memsz, part.memory_size);
      store(bytes, program_header(i), phdr);
      bytes.insert(bytes.end(), part.data.begin(), part.data.end());
    }
    if (!symbols_.empty()) add_symbols(bytes, header);
    store(bytes, 0, header);
    return bytes;
  }

  // Offset of program header `i` in a file that build() made.
  static std::size_t program_header(std::size_t i) { return sizeof(Ehdr) + i * sizeof(Phdr); }

 private:
  struct Part {
    std::uint32_t type;
    std::uint64_t paddr, vaddr;
    ByteVector data;
    std::uint64_t memory_size;
  };
  struct NamedSymbol {
    std::string name;
    std::uint64_t value, size;
    unsigned type;
    std::uint16_t section;
  };

  template <typename Field>
  static void set(Field& field, std::uint64_t value) {
    field = static_cast<Field>(value);
  }

  // Sections: null, .symtab, .strtab.
  void add_symbols(ByteVector& bytes, Ehdr& header) const {
    ByteVector strings(1);
    bytes.resize(align_up(bytes.size(), 8));
    Shdr symtab{};
    symtab.sh_type = SHT_SYMTAB;
    symtab.sh_link = 2;
    symtab.sh_entsize = sizeof(Sym);
    set(symtab.sh_offset, bytes.size());
    for (const NamedSymbol& named : symbols_) {
      Sym symbol{};
      symbol.st_name = static_cast<std::uint32_t>(strings.size());
      symbol.st_info = static_cast<unsigned char>(named.type);
      symbol.st_shndx = named.section;
      set(symbol.st_value, named.value);
      set(symbol.st_size, named.size);
      append(bytes, symbol);
      strings.insert(strings.end(), named.name.begin(), named.name.end());
      strings.push_back(0);
    }
    set(symtab.sh_size, symbols_.size() * sizeof(Sym));
    Shdr strtab{};
    strtab.sh_type = SHT_STRTAB;
    set(strtab.sh_offset, bytes.size());
    set(strtab.sh_size, strings.size());
    bytes.insert(bytes.end(), strings.begin(), strings.end());
    bytes.resize(align_up(bytes.size(), 8));
    set(header.e_shoff, bytes.size());
    header.e_shnum = 3;
    header.e_shentsize = sizeof(Shdr);
    append(bytes, Shdr{});
    append(bytes, symtab);
    append(bytes, strtab);
  }

  std::uint64_t entry_ = 0;
  std::vector<Part> parts_;
  std::vector<NamedSymbol> symbols_;
};

using Elf32Builder = ElfBuilder<Class32>;
using Elf64Builder = ElfBuilder<Class64>;

// `size` bytes that differ from their neighbours and from zero.
inline ByteVector pattern(std::size_t size) {
  ByteVector bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>(1 + i % 251);
  return bytes;
}

// Two segments of code and data with bss, one symbol of each kind; linked where it is loaded.
template <typename Class>
ByteVector minimal_elf() {
  return ElfBuilder<Class>()
      .entry(0x100010)
      .load_segment(0x100000, 0x100000, pattern(64), 64)
      .load_segment(0x101000, 0x101000, pattern(24), 5000)
      .symbol("_start", 0x100010, 0, STT_NOTYPE)
      .symbol("_ZN6kernel4mainEv", 0x100020, 16, STT_FUNC)
      .symbol("counter", 0x101000, 8, STT_OBJECT)
      .build();
}

struct Multiboot1Fields {
  std::uint32_t flags = 0;
  std::uint32_t header_addr = 0, load_addr = 0, load_end_addr = 0, bss_end_addr = 0, entry_addr = 0;
};

// The 48 bytes of a Multiboot 1 header with a correct checksum.
inline ByteVector multiboot1_header(const Multiboot1Fields& fields) {
  constexpr std::uint32_t kMagic = 0x1badb002;
  ByteVector bytes;
  append(bytes, kMagic);
  append(bytes, fields.flags);
  append(bytes, static_cast<std::uint32_t>(0U - kMagic - fields.flags));
  append(bytes, fields.header_addr);
  append(bytes, fields.load_addr);
  append(bytes, fields.load_end_addr);
  append(bytes, fields.bss_end_addr);
  append(bytes, fields.entry_addr);
  bytes.resize(48);
  return bytes;
}

// An ELF image whose first segment starts with a header.
template <typename Class>
ByteVector minimal_multiboot1(std::uint32_t flags = 3) {
  ByteVector text = multiboot1_header({.flags = flags});
  text.resize(80, 0x90);
  return ElfBuilder<Class>()
      .entry(0x100030)
      .load_segment(0x100000, 0x100000, text, text.size())
      .load_segment(0x102000, 0x102000, {}, 0x1000)
      .build();
}

// A Multiboot 2 header around `tags`, which are padded and get their end.
inline ByteVector multiboot2_header(const ByteVector& tags, std::uint32_t architecture = 0) {
  constexpr std::uint32_t kMagic = 0xe852'50d6;
  ByteVector bytes(16);
  bytes.insert(bytes.end(), tags.begin(), tags.end());
  append(bytes, std::uint32_t{0});
  append(bytes, std::uint32_t{8});
  const auto length = static_cast<std::uint32_t>(bytes.size());
  store(bytes, 0, kMagic);
  store(bytes, 4, architecture);
  store(bytes, 8, length);
  store(bytes, 12, static_cast<std::uint32_t>(0U - kMagic - architecture - length));
  return bytes;
}

// One tag of such a header.
inline ByteVector multiboot2_tag(std::uint16_t type, const std::vector<std::uint32_t>& words,
                                 bool optional = false) {
  ByteVector bytes;
  append(bytes, type);
  append(bytes, static_cast<std::uint16_t>(optional ? 1 : 0));
  append(bytes, static_cast<std::uint32_t>(8 + 4 * words.size()));
  for (const std::uint32_t word : words) append(bytes, word);
  bytes.resize(align_up(bytes.size(), 8));
  return bytes;
}

// An ELF image whose first segment starts with a header that has these tags.
template <typename Class>
ByteVector minimal_multiboot2(const ByteVector& tags = {}) {
  ByteVector text = multiboot2_header(tags);
  const std::size_t entry = text.size();
  text.resize(entry + 32, 0x90);
  return ElfBuilder<Class>()
      .entry(0x200000 + entry)
      .load_segment(0x200000, 0x200000, text, text.size())
      .load_segment(0x202000, 0x202000, {}, 0x1000)
      .symbol("kernel_main", 0x200040, 16, STT_FUNC)
      .build();
}

// An ELF note.
inline ByteVector elf_note(std::string_view name, std::uint32_t type, const ByteVector& content) {
  ByteVector bytes;
  append(bytes, static_cast<std::uint32_t>(name.size() + 1));
  append(bytes, static_cast<std::uint32_t>(content.size()));
  append(bytes, type);
  bytes.insert(bytes.end(), name.begin(), name.end());
  bytes.push_back(0);
  bytes.resize(align_up(bytes.size(), 4));
  bytes.insert(bytes.end(), content.begin(), content.end());
  bytes.resize(align_up(bytes.size(), 4));
  return bytes;
}

// Entered at 100008h by PVH, at 100010h as plain ELF.
template <typename Class>
ByteVector minimal_pvh() {
  ByteVector notes = elf_note("GNU", 3, {1, 2, 3});
  const ByteVector entry = elf_note("Xen", 18, {0x08, 0x00, 0x10, 0x00});
  notes.insert(notes.end(), entry.begin(), entry.end());
  return ElfBuilder<Class>()
      .entry(0x100010)
      .load_segment(0x100000, 0x100000, pattern(64), 64)
      .part(PT_NOTE, notes)
      .build();
}

// A file that is no ELF: `before` bytes, the header with address fields, 16 bytes of code.
inline ByteVector minimal_kludge(Multiboot1Fields fields, std::size_t before = 32) {
  ByteVector bytes = pattern(before);
  const ByteVector header = multiboot1_header(fields);
  bytes.insert(bytes.end(), header.begin(), header.begin() + 32);
  bytes.resize(bytes.size() + 16, 0x90);
  return bytes;
}

// Loaded at 100000h as a whole, header at 100020h, bss up to 101000h.
inline constexpr Multiboot1Fields kKludge = {.flags = 1U << 16,
                                             .header_addr = 0x100020,
                                             .load_addr = 0x100000,
                                             .load_end_addr = 0,
                                             .bss_end_addr = 0x101000,
                                             .entry_addr = 0x100040};

// The text of the error, or "" when there is none.
template <typename T>
std::string error_text(const Result<T>& result) {
  return result.has_value() ? std::string() : result.error().text();
}
template <typename T>
std::string hint_text(const Result<T>& result) {
  return result.has_value() ? std::string() : result.error().hint_text();
}

inline Result<LoadedImage> parse(ByteVector bytes, const BootOptions& options = {}) {
  return parse_image("kernel", std::move(bytes), options);
}

inline BootOptions with_protocol(std::string word) {
  BootOptions options;
  options.protocol = std::move(word);
  return options;
}

}  // namespace vmm::testing_images
