// Linux's boot_params, the "zero page" (Documentation/x86/zero-page.rst of the kernel,
// arch/x86/include/uapi/asm/bootparam.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "loader/boot_info.h"
#include "loader/image.h"

namespace vmm {

// Is this Linux, whatever its protocol? A vmlinux is known by its banner.
bool is_linux(const LoadedImage& image);

// The command line with the consoles that this machine has, put in front of `given` unless that
// names one itself (or asks for none with "console="): ttyS0, and tty0 where there is a screen. The
// last one is /dev/console: the screen if `screen_last`.
std::string with_console(const std::string& given, bool screen, bool screen_last);

// The highest address that an initrd may end at, and the longest command line, as the setup header
// says.
Gpa initrd_limit(const LoadedImage& image);
std::size_t command_line_limit(const LoadedImage& image);

// The 4096 bytes and the command line behind them, made to stand at `base`.
std::vector<std::uint8_t> make_boot_params(const LoadedImage& image, const BootFacts& facts,
                                           Gpa base);

}  // namespace vmm
