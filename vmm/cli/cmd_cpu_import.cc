// vmm cpu import: a CPU that another program has written down, as a model file.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <nlohmann/json.hpp>

#include "vmm/base/fd.h"
#include "vmm/base/text.h"
#include "vmm/cli/cmd_cpu.h"
#include "vmm/cli/lab_paths.h"
#include "vmm/cpu/import.h"
#include "vmm/cpu/resolve.h"

namespace vmm {
namespace {

using nlohmann::json;

struct ImportOptions {
  std::string format;
  std::string file;
  std::string name = "imported";
  std::string base;
  bool as_json = false;
};

// All of it, or one byte more than the limit.
Result<std::string> read_stdin(std::size_t limit) {
  std::string text;
  char buffer[4096];
  while (text.size() <= limit) {
    const ssize_t count =
        ::read(STDIN_FILENO, buffer, std::min(sizeof buffer, limit + 1 - text.size()));
    if (count == 0) break;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail(Error::system(ErrorKind::Usage, "read of stdin", errno));
    text.append(buffer, static_cast<std::size_t>(count));
  }
  return text;
}

Result<std::string> read_text(const std::string& file, std::size_t limit) {
  if (file == "-") return read_stdin(limit);
  const auto bytes = VMM_TRY(read_file(file, limit, ErrorKind::Usage));
  return std::string(bytes.begin(), bytes.end());
}

Result<int> run_import(const ImportOptions& options) {
  const ImportFormat format = VMM_TRY(parse_import_format(options.format));
  const std::string text = VMM_TRY(read_text(options.file, import_size_limit(format)));
  const std::string file = options.file == "-" ? "stdin" : options.file;
  const ImportedModel imported =
      VMM_TRY(import_cpu_model(format, {text, file, options.name, options.base}));
  if (options.as_json) {
    json notes = json::array();
    for (const ImportNote& note : imported.notes)
      notes.push_back(
          {{"place", note.place.empty() ? json(nullptr) : json(note.place)}, {"text", note.text}});
    json out = document("vmm-cpu-import");
    out.update({{"format", import_format_name(format)},
                {"name", imported.model.name},
                {"inherits", imported.base ? json(imported.base->full_name()) : json(nullptr)},
                {"notes", notes},
                {"toml", imported_text(imported)}});
    print_json(out);
    return 0;
  }
  for (const ImportNote& note : imported.notes)
    fmt::print(stderr, "{}", wrap_text("vmm: ", note.line(), 100));
  fmt::print("{}", imported_text(imported));
  return 0;
}

}  // namespace

void add_cpu_import(CLI::App& cpu, Command& chosen) {
  auto options = std::make_shared<ImportOptions>();
  CLI::App* command = cpu.add_subcommand(
      "import", "a CPU of QEMU's, libvirt's, Firecracker's or of a dump, as a model file");
  command
      ->add_option("FORMAT", options->format,
                   "qemu: the text behind -cpu; libvirt: <cpu> XML, of a domain or alone; "
                   "firecracker: a CPU template; cpuid: what cpuid -r writes")
      ->required();
  command->add_option("FILE", options->file, "- reads stdin")->required();
  command->add_option("--name", options->name, "what the model is called")->capture_default_str();
  command->add_option("--base", options->base,
                      "firecracker: the model, NAME@VERSION, that the template is laid over");
  command->add_flag("--json", options->as_json, "print JSON, with the notes");
  command->callback([options, &chosen] {
    chosen.run = [options] { return run_import(*options); };
    chosen.paths = [options]() -> Result<std::vector<PathUse>> {
      if (options->file == "-") return std::vector<PathUse>();
      return input_path(options->file, ErrorKind::Usage);
    };
  });
}

}  // namespace vmm
