#include "vmm/cli/run_images.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loader/boot_params.h"
#include "loader/bzimage.h"
#include "loader/decompress.h"
#include "loader/detect.h"
#include "loader/elf.h"
#include "loader/initrd.h"
#include "loader/pe_image.h"
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

// A Linux kernel writes to where the user looks, unless its command line says otherwise.
void give_console(MachineSpec& spec, std::vector<std::string>& notes) {
  BootOptions& boot = spec.boot;
  const std::string line =
      with_console(boot.command_line, boot.screen, spec.vga.kind == VgaKind::Text);
  if (line != boot.command_line) {
    const std::size_t added = line.size() - boot.command_line.size();
    notes.push_back(fmt::format("Linux is given {} (console= in --append chooses another)",
                                line.substr(0, boot.command_line.empty() ? added : added - 1)));
  }
  boot.command_line = line;
}

// An image that x86-64 firmware can start: an application, or a Linux with an EFI stub.
Result<void> check_efi_kernel(LoadedImage& kernel) {
  const auto headers = find_pe_headers(kernel.bytes);
  if (headers && is_efi(*headers)) return parse_efi(kernel);
  return fail(Error::image("no UEFI image: " + describe_content(kernel.bytes))
                  .at(printable(kernel.path))
                  .hint("firmware starts UEFI applications and Linux kernels with an EFI stub; "
                        "without --firmware other kernels are entered by their own protocols"));
}

// The firmware of this run: the one that is named, or Debian's where KERNEL is a UEFI image and
// nothing else; empty: none. A Host error when it is needed and not installed.
Result<std::string> firmware_of(const ImageFiles& files) {
  constexpr std::uint64_t kHeaders = 64_KiB;
  if (!files.firmware.empty() || files.kernel.empty()) return files.firmware;
  const Fd fd = VMM_TRY(Fd::open(files.kernel, O_RDONLY | O_NONBLOCK, ErrorKind::Image));
  std::vector<std::uint8_t> head(kHeaders);
  const ssize_t size = ::pread(fd.get(), head.data(), head.size(), 0);
  head.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  const auto headers = find_pe_headers(head);
  if (!headers || !is_efi(*headers) || is_bzimage(head) ||
      headers->machine != spec::IMAGE_FILE_MACHINE_AMD64)
    return std::string();
  if (::access(kDefaultFirmware, R_OK) == 0) return std::string(kDefaultFirmware);
  return fail(Error::host(fmt::format("{} is a UEFI image, which firmware starts, and there is no "
                                      "{} here",
                                      printable(files.kernel), kDefaultFirmware))
                  .hint("apt-get install ovmf, or name another with --firmware"));
}

// The firmware is what is started; KERNEL is what it is to start.
Result<LoadedImage> load_firmware_run(MachineSpec& spec, std::vector<std::string>& notes) {
  const ImageFiles& files = spec.images;
  BootOptions& boot = spec.boot;
  const auto refuse = [](std::string_view option, std::string_view why) {
    return fail(Error::usage(fmt::format("{}: {}", option, why)));
  };
  if (boot.protocol)
    return refuse("--boot", "with --firmware the firmware decides how KERNEL is entered");
  if (!boot.modules.empty())
    return refuse("--module", "firmware starts EFI images, which have none");
  if (files.kernel.empty() && !boot.initrd.empty())
    return refuse("--initrd", "without KERNEL there is nothing that the firmware could give it to");
  if (files.kernel.empty() && !boot.command_line.empty())
    return refuse("--append", "without KERNEL there is nothing that the firmware could give it to");
  LoadedImage image = VMM_TRY(load_firmware(files.firmware));
  if (!files.kernel.empty()) {
    if (image.firmware->kind == FirmwareKind::SeaBios)
      return refuse("KERNEL", "SeaBIOS starts disks only: name one with --disk");
    LoadedImage kernel;
    kernel.path = files.kernel;
    kernel.bytes = VMM_TRY(read_file(files.kernel, kMaxImageSize, ErrorKind::Image));
    VMM_TRY(check_efi_kernel(kernel));
    boot.efi_kernel = std::move(kernel.bytes);
    if (is_bzimage(boot.efi_kernel)) give_console(spec, notes);
  }
  if (!files.symbols.empty()) image.symbols = VMM_TRY(read_symbols(files.symbols));
  return image;
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

  const std::string firmware = VMM_TRY(firmware_of(files));
  if (!firmware.empty()) {
    if (files.firmware.empty())
      notes.push_back(fmt::format("{} is started by {} (--firmware chooses another)",
                                  printable(files.kernel), firmware));
    spec.images.firmware = firmware;
    return load_firmware_run(spec, notes);
  }
  if (spec.vars)
    return fail(Error::usage("--vars needs --firmware: they are its variables")
                    .hint(fmt::format("such as --firmware {}", kDefaultFirmware)));
  LoadedImage image = VMM_TRY(load_image(files.kernel, boot));
  if (is_linux(image)) give_console(spec, notes);
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
  std::vector<PathUse> paths;
  if (!images.kernel.empty()) add_paths(paths, VMM_TRY(input_path(images.kernel)));
  const auto add = [&](const std::string& path, const char* option) -> Result<void> {
    add_paths(paths, VMM_TRY_CONTEXT(input_path(path), option));
    return {};
  };
  const std::string firmware = VMM_TRY(firmware_of(images));
  if (!firmware.empty()) VMM_TRY(add(firmware, "--firmware"));
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
