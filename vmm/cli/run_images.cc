#include "vmm/cli/run_images.h"

#include <elf.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "loader/boot_params.h"
#include "loader/decompress.h"
#include "loader/detect.h"
#include "loader/elf.h"
#include "loader/initrd.h"
#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/text.h"
#include "vmm/cli/lab_paths.h"

namespace vmm {
namespace {

constexpr std::uint64_t kMaxModuleSize = 1_GiB;

// "FILE args": a file of that whole name, or the part before the first space.
struct ModuleWords {
  std::string path;
  std::string arguments;
};
ModuleWords split_module(const std::string& text) {
  struct stat status {};
  const std::size_t space = text.find(' ');
  if (space == std::string::npos || ::stat(text.c_str(), &status) == 0) return {text, {}};
  return {text.substr(0, space), text.substr(space + 1)};
}

// Packed modules are unpacked, as boot loaders do.
Result<BootModule> read_module(const std::string& text) {
  auto [path, arguments] = split_module(text);
  auto bytes = VMM_TRY_CONTEXT(read_file(path, kMaxModuleSize, ErrorKind::Image), "--module");
  if (const auto compression = compression_of(bytes)) {
    auto content = decompress(*compression, bytes, most_content(bytes.size()));
    if (!content) return fail(std::move(content).error().at(printable(path)).context("--module"));
    bytes = std::move(*content);
  }
  return BootModule{std::move(path), std::move(arguments), std::move(bytes)};
}

// No BOOTLOADER=1: it tells the image that its command line lacks the program's name.
BootModule kvm_unit_tests_environment(const MachineSpec& spec) {
  const std::string text = fmt::format("NR_CPUS={}\nMEMSIZE={}\nTEST_DEVICE=1\n",
                                       spec.topology.vcpus, spec.memory >> 20);
  return {"environment", {}, {text.begin(), text.end()}};
}

// A program, not an object file: there addresses are not those of any section.
bool is_linked_elf(std::span<const std::uint8_t> bytes) {
  if (!is_elf(bytes) || bytes.size() < EI_NIDENT + 2) return false;
  const auto type = load<std::uint16_t>(bytes, EI_NIDENT);
  return type == ET_EXEC || type == ET_DYN;
}

Result<SymbolTable> read_symbols(const std::string& path) {
  std::vector<std::uint8_t> bytes =
      VMM_TRY_CONTEXT(read_file(path, kMaxImageSize, ErrorKind::Image), "--symbols");
  if (const auto compression = compression_of(bytes))
    bytes = VMM_TRY_CONTEXT(decompress(*compression, bytes, most_content(bytes.size())),
                            "--symbols " + printable(path));
  SymbolTable symbols = read_elf_symbols(bytes);
  if (symbols.empty())
    return fail(Error::image(is_elf(bytes) ? "the ELF file has no symbol table"
                                           : "no ELF file: " + describe_content(bytes))
                    .at(printable(path))
                    .context("--symbols")
                    .hint("give the kernel as it was linked, before strip and objcopy"));
  return symbols;
}

}  // namespace

Result<LoadedImage> load_images(MachineSpec& spec, std::vector<std::string>& notes) {
  const ImageFiles& files = spec.images;
  BootOptions& boot = spec.boot;
  for (const std::string& module : files.modules)
    boot.modules.push_back(VMM_TRY(read_module(module)));
  // The runner of kvm-unit-tests gives each image this module.
  if (spec.compat_kvm_unit_tests && files.modules.empty())
    boot.modules.push_back(kvm_unit_tests_environment(spec));
  std::vector<InitrdAddition> additions;
  for (const std::string& text : files.initrd_additions)
    additions.push_back(VMM_TRY(parse_initrd_addition(text)));
  boot.initrd = VMM_TRY(make_initrd(files.initrds, additions));
  boot.screen = spec.vga.kind != VgaKind::None;

  LoadedImage image = VMM_TRY(load_image(files.kernel, boot));
  if (is_linux(image)) {
    const std::string line =
        with_console(boot.command_line, boot.screen, spec.vga.kind == VgaKind::Text);
    if (line != boot.command_line) {
      const std::size_t added = line.size() - boot.command_line.size();
      notes.push_back(fmt::format("Linux is given {} (console= in --append chooses another)",
                                  line.substr(0, boot.command_line.empty() ? added : added - 1)));
    }
    boot.command_line = line;
  }
  for (const BootModule& module : boot.modules)
    if (is_linked_elf(module.bytes)) image.symbols.merge(read_elf_symbols(module.bytes));
  // What the user names wins over what was found.
  if (!files.symbols.empty()) {
    SymbolTable symbols = VMM_TRY(read_symbols(files.symbols));
    symbols.merge(image.symbols);
    image.symbols = std::move(symbols);
  }
  return image;
}

Result<std::vector<PathUse>> image_paths(const ImageFiles& images) {
  std::vector<PathUse> paths = VMM_TRY(input_path(images.kernel));
  const auto add = [&](const std::string& path, const char* option) -> Result<void> {
    add_paths(paths, VMM_TRY_CONTEXT(input_path(path), option));
    return {};
  };
  for (const std::string& module : images.modules)
    VMM_TRY(add(split_module(module).path, "--module"));
  for (const std::string& initrd : images.initrds) VMM_TRY(add(initrd, "--initrd"));
  for (const std::string& text : images.initrd_additions) {
    const InitrdAddition addition = VMM_TRY(parse_initrd_addition(text));
    VMM_TRY(add(addition.host, "--initrd-add"));
  }
  if (!images.symbols.empty()) VMM_TRY(add(images.symbols, "--symbols"));
  return paths;
}

}  // namespace vmm
