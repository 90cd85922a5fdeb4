#include "vmm/lab/bochs_screen.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <termios.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

#include "vmm/base/text.h"

namespace vmm {
namespace {

// fdinfo of a terminal's controlling side says which one it is (proc(5)).
std::optional<unsigned> terminal_index(pid_t pid, const std::string& descriptor) {
  std::ifstream info(fmt::format("/proc/{}/fdinfo/{}", pid, descriptor));
  for (std::string line; std::getline(info, line);) {
    constexpr std::string_view kLabel = "tty-index:";
    if (!line.starts_with(kLabel)) continue;
    const auto index = parse_number(trim(std::string_view(line).substr(kLabel.size())));
    if (index && *index <= 0xffff'ffff) return static_cast<unsigned>(*index);
  }
  return std::nullopt;
}

}  // namespace

std::optional<Fd> open_terminal_of(pid_t pid) {
  namespace fs = std::filesystem;
  std::error_code error;
  for (fs::directory_iterator entry(fmt::format("/proc/{}/fd", pid), error), end;
       !error && entry != end; entry.increment(error)) {
    std::error_code gone;
    if (fs::read_symlink(entry->path(), gone).filename() != "ptmx" || gone) continue;
    const auto index = terminal_index(pid, entry->path().filename());
    if (!index) continue;
    Fd terminal(::open(fmt::format("/dev/pts/{}", *index).c_str(),
                       O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
    termios settings{};
    if (!terminal || ::tcgetattr(terminal.get(), &settings) != 0) continue;
    ::cfmakeraw(&settings);
    if (::tcsetattr(terminal.get(), TCSANOW, &settings) != 0) continue;
    return terminal;
  }
  return std::nullopt;
}

}  // namespace vmm
