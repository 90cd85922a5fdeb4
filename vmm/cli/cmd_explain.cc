// vmm explain: a pasted crash dump, trace or kernel log, and what it means.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <nlohmann/json.hpp>

#include "vmm/base/fd.h"
#include "vmm/base/text.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/lab_paths.h"
#include "vmm/machine/explain_dump.h"

namespace vmm {
namespace {

struct Options {
  std::string file = "-";
  bool json = false;
};

// All of `fd`, at most kMaxDumpSize bytes; what follows is left unread.
Result<std::string> read_text(int fd, const std::string& name) {
  std::string text;
  std::array<char, 65536> buffer{};
  while (text.size() < kMaxDumpSize) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count == 0) break;
    if (count < 0) {
      if (errno == EINTR) continue;
      return fail(Error::system(ErrorKind::Image, fmt::format("{}", name), errno));
    }
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
  return text;
}

Result<std::string> read_input(const std::string& file) {
  if (file != "-") {
    const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return fail(Error::system(ErrorKind::Image, printable(file), errno));
    return read_text(fd.get(), printable(file));
  }
  if (::isatty(STDIN_FILENO) == 1)
    fmt::print(stderr,
               "vmm: paste a QEMU register dump, a KVM trace or a kernel log; Ctrl-D on a line of "
               "its own ends it\n");
  return read_text(STDIN_FILENO, "standard input");
}

Result<int> run_explain(const Options& options) {
  const std::string text = VMM_TRY(read_input(options.file));
  const std::vector<CrashCard> cards = VMM_TRY(explain_dump(text));
  if (options.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const CrashCard& card : cards)
      list.push_back({{"rule", card.rule},
                      {"cause", card.cause},
                      {"layer", card.layer},
                      {"lines", card.lines}});
    fmt::print("{}\n", list.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    return 0;
  }
  bool first = true;
  for (const CrashCard& card : cards) {
    fmt::print("{}{}", first ? "" : "\n", card.text());
    first = false;
  }
  return 0;
}

}  // namespace

void add_explain_command(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("explain", "explain a pasted crash dump, KVM trace or kernel log");
  command->add_option("FILE", options->file, "the text; - or nothing: standard input")
      ->type_name("");
  command->add_flag("--json", options->json, "print a JSON list of cards");
  command->callback([options, &chosen] {
    chosen.run = [options] { return run_explain(*options); };
    chosen.paths = [options] {
      return options->file.empty() || options->file == "-" ? std::vector<PathUse>()
                                                           : input_path(options->file);
    };
  });
}

}  // namespace vmm
