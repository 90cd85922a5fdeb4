#include "vmm/lab/kernel_modules.h"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "loader/decompress.h"
#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/text.h"
#include "vmm/base/units.h"

namespace vmm {
namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr std::size_t kMaxModule = 128_MiB;  // a module with debugging information
constexpr std::size_t kMaxFiles = 100'000;   // a distribution's kernel has some 4000
constexpr std::size_t kMaxDepends = 256;
constexpr std::size_t kMaxParameters = 1000;
constexpr std::size_t kMaxName = 56;  // MODULE_NAME_LEN on 64-bit kernels
constexpr std::size_t kMaxDepth = 64;

tl::unexpected<Error> bad(std::string text) { return fail(Error::usage(std::move(text))); }

bool in_file(Bytes bytes, std::uint64_t offset, std::uint64_t size) {
  return offset <= bytes.size() && size <= bytes.size() - offset;
}

// The NUL-terminated text at `offset`; what runs over the end is nothing.
std::optional<std::string_view> text_at(Bytes bytes, std::uint64_t offset) {
  if (offset >= bytes.size()) return std::nullopt;
  const Bytes rest = bytes.subspan(static_cast<std::size_t>(offset));
  const auto end = std::find(rest.begin(), rest.end(), std::uint8_t{0});
  if (end == rest.end()) return std::nullopt;
  return std::string_view(reinterpret_cast<const char*>(rest.data()),
                          static_cast<std::size_t>(end - rest.begin()));
}

Result<Bytes> find_modinfo(Bytes bytes) {
  if (bytes.size() < sizeof(Elf64_Ehdr) || std::memcmp(bytes.data(), ELFMAG, SELFMAG) != 0)
    return bad("no ELF file");
  const auto header = load<Elf64_Ehdr>(bytes);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
      header.e_machine != EM_X86_64 || header.e_type != ET_REL)
    return bad("no x86-64 relocatable ELF object");
  if (header.e_shentsize != sizeof(Elf64_Shdr) ||
      !in_file(bytes, header.e_shoff, std::uint64_t{header.e_shnum} * sizeof(Elf64_Shdr)))
    return bad("the section headers run over the end of the file");
  if (header.e_shstrndx >= header.e_shnum)
    return bad("the section names lie in a section that does not exist");
  const auto section = [&](unsigned index) {
    return load<Elf64_Shdr>(bytes,
                            static_cast<std::size_t>(header.e_shoff) + index * sizeof(Elf64_Shdr));
  };
  const auto content = [&](const Elf64_Shdr& found) -> std::optional<Bytes> {
    if (found.sh_type == SHT_NOBITS || !in_file(bytes, found.sh_offset, found.sh_size))
      return std::nullopt;
    return bytes.subspan(static_cast<std::size_t>(found.sh_offset),
                         static_cast<std::size_t>(found.sh_size));
  };
  const auto names = content(section(header.e_shstrndx));
  if (!names) return bad("the section names run over the end of the file");
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    const Elf64_Shdr found = section(i);
    if (text_at(*names, found.sh_name) != ".modinfo") continue;
    const auto info = content(found);
    if (!info) return bad("the .modinfo section runs over the end of the file");
    return *info;
  }
  return bad("it has no .modinfo section");
}

// What remains of a file's name without .ko, .ko.xz or .ko.zst; nothing for other files.
std::optional<std::string> name_of_file(std::string_view file) {
  for (const std::string_view ending : {".ko", ".ko.xz", ".ko.zst"})
    if (file.ends_with(ending)) return module_name(file.substr(0, file.size() - ending.size()));
  return std::nullopt;
}

}  // namespace

std::string module_name(std::string_view name) {
  std::string canonical(name);
  std::replace(canonical.begin(), canonical.end(), '-', '_');
  return canonical;
}

Result<ModuleInfo> read_module_info(Bytes bytes) {
  const Bytes section = VMM_TRY(find_modinfo(bytes));
  ModuleInfo info;
  std::size_t at = 0;
  while (at < section.size()) {
    const auto entry = text_at(section, at);
    if (!entry) return bad("the last entry of .modinfo has no end");
    at += entry->size() + 1;
    constexpr std::string_view kDepends = "depends=";
    constexpr std::string_view kVermagic = "vermagic=";
    constexpr std::string_view kParameter = "parmtype=";
    if (entry->starts_with(kVermagic)) info.vermagic = entry->substr(kVermagic.size(), 256);
    // "parmtype=npt:bool"
    if (entry->starts_with(kParameter) && info.parameters.size() < kMaxParameters) {
      const std::string_view name = entry->substr(kParameter.size());
      info.parameters.emplace_back(name.substr(0, std::min(name.find(':'), kMaxName)));
    }
    if (!entry->starts_with(kDepends)) continue;
    for (const std::string_view name : split(entry->substr(kDepends.size()), ',')) {
      if (name.empty()) continue;
      if (name.size() > kMaxName || info.depends.size() >= kMaxDepends)
        return bad("its depends= names more, or longer, modules than there can be");
      info.depends.push_back(module_name(name));
    }
  }
  return info;
}

std::span<const std::uint8_t> without_signature(Bytes bytes) {
  // From the end: the mark, struct module_signature (12 bytes, the last four of them the size of
  // the signature, big-endian), the signature.
  constexpr std::string_view kMark = "~Module signature appended~\n";
  constexpr std::size_t kStructure = 12;
  if (bytes.size() < kMark.size() + kStructure ||
      std::memcmp(bytes.data() + bytes.size() - kMark.size(), kMark.data(), kMark.size()) != 0)
    return bytes;
  const std::size_t rest = bytes.size() - kMark.size() - kStructure;
  const auto raw = load<std::uint32_t>(bytes, rest + kStructure - sizeof(std::uint32_t));
  const std::uint32_t size = __builtin_bswap32(raw);
  if (size > rest) return bytes;
  return bytes.first(rest - size);
}

Result<ModuleTree> ModuleTree::scan(const std::string& directory) {
  namespace fs = std::filesystem;
  ModuleTree tree;
  tree.directory_ = directory;
  std::error_code error;
  fs::recursive_directory_iterator entry(directory, fs::directory_options::skip_permission_denied,
                                         error);
  std::size_t count = 0;
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    if (++count > kMaxFiles)
      return bad(
          fmt::format("{} holds more than {} files; it is not the modules directory of a "
                      "kernel",
                      printable(directory), kMaxFiles));
    std::error_code ignored;
    if (const auto name = name_of_file(entry->path().filename().string());
        name && entry->is_regular_file(ignored))
      tree.files_.emplace(*name, entry->path().string());
  }
  if (error)
    return fail(Error::system(ErrorKind::Usage, fmt::format("read {}", printable(directory)),
                              error.value()));
  const std::string builtin = fmt::format("{}/modules.builtin", directory);
  if (fs::exists(builtin, error)) {
    const auto bytes = VMM_TRY(read_file(builtin, 16_MiB, ErrorKind::Usage));
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    for (const std::string_view line : split(text, '\n'))
      if (const auto name = name_of_file(trim(line.substr(line.rfind('/') + 1))))
        tree.builtin_.insert(*name);
  }
  return tree;
}

bool ModuleTree::contains(std::string_view name) const {
  return files_.contains(module_name(name));
}

bool ModuleTree::is_builtin(std::string_view name) const {
  return builtin_.contains(module_name(name));
}

Result<KernelModule> ModuleTree::read(std::string_view name) const {
  KernelModule module;
  module.name = module_name(name);
  const auto file = files_.find(module.name);
  if (file == files_.end())
    return bad(fmt::format("no module {} in {}", printable(name), printable(directory_)));
  const std::string& path = file->second;
  const auto read = [&]() -> Result<KernelModule> {
    module.bytes = VMM_TRY(read_file(path, kMaxModule, ErrorKind::Usage));
    const auto unpack = [&](Compression compression) -> Result<void> {
      module.bytes = VMM_TRY(decompress(compression, module.bytes, kMaxModule));
      return {};
    };
    if (path.ends_with(".xz"))
      VMM_TRY(unpack(Compression::Xz));
    else if (path.ends_with(".zst"))
      VMM_TRY(unpack(Compression::Zstd));
    module.info = VMM_TRY(read_module_info(module.bytes));
    return std::move(module);
  };
  auto result = read();
  if (!result) return fail(std::move(result).error().context(printable(path)));
  return result;
}

struct ModuleTree::Visit {
  std::vector<KernelModule> order;
  std::set<std::string, std::less<>> done;
  std::vector<std::string> open;  // the chain of dependencies that is being followed
};

Result<void> ModuleTree::visit(const std::string& name, std::string_view needed_by,
                               Visit& state) const {
  if (state.done.contains(name)) return {};
  if (std::find(state.open.begin(), state.open.end(), name) != state.open.end())
    return bad(fmt::format("the modules {} and {} in {} depend on each other", printable(needed_by),
                           printable(name), printable(directory_)));
  if (!files_.contains(name)) {
    if (is_builtin(name)) return {};
    return bad(fmt::format(
        "{} holds no module {}{}, and modules.builtin does not name it either",
        printable(directory_), printable(name),
        needed_by.empty() ? std::string() : fmt::format(", which {} needs", printable(needed_by))));
  }
  if (state.open.size() >= kMaxDepth)
    return bad(
        fmt::format("the dependencies of {} are more than {} deep", state.open.front(), kMaxDepth));
  KernelModule module = VMM_TRY(read(name));
  state.open.push_back(name);
  for (const std::string& dependency : module.info.depends) VMM_TRY(visit(dependency, name, state));
  state.open.pop_back();
  state.done.insert(name);
  state.order.push_back(std::move(module));
  return {};
}

Result<std::vector<KernelModule>> ModuleTree::load_order(
    std::span<const std::string> wanted) const {
  Visit state;
  for (const std::string& name : wanted) VMM_TRY(visit(module_name(name), {}, state));
  return std::move(state.order);
}

}  // namespace vmm
