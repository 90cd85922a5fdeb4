#include "vmm/matrix/cell_command.h"

#include <fmt/format.h>

#include <filesystem>

#include "vmm/base/text.h"
#include "vmm/disk/disk.h"
#include "vmm/machine/flash_file.h"
#include "vmm/machine/spec.h"

namespace vmm {
namespace {

// A path in the matrix starts from the matrix's folder.
std::string path_from_here(const MatrixSpec& spec, const std::string& path) {
  const std::filesystem::path given(path);
  if (given.is_absolute() || spec.directory.empty()) return path;
  return (std::filesystem::path(spec.directory) / given).lexically_normal().string();
}

// "FILE args" of --module.
std::string module_from_here(const MatrixSpec& spec, const std::string& module) {
  const std::size_t end = std::min(module.find(' '), module.size());
  return path_from_here(spec, module.substr(0, end)) + module.substr(end);
}

std::vector<std::string> list_of(const std::optional<std::vector<std::string>>& list) {
  return list.value_or(std::vector<std::string>{});
}

// The values of `vars`, `disk` and `share`, which the matrix's reader has checked.
VarsSpec vars_from_here(const MatrixSpec& spec, const std::string& text) {
  VarsSpec vars = parse_vars(text).value_or(VarsSpec{});
  vars.path = path_from_here(spec, vars.path);
  return vars;
}

DiskSpec disk_from_here(const MatrixSpec& spec, const Result<DiskSpec>& parsed) {
  DiskSpec disk = parsed.value_or(DiskSpec{});
  disk.path = path_from_here(spec, disk.path);
  return disk;
}

// A model with a slash is a file.
std::string model_from_here(const MatrixSpec& spec, std::string_view model) {
  const std::size_t end = std::min(model.find(','), model.size());
  const std::string_view name = model.substr(0, end);
  if (name.find('/') == name.npos) return std::string(model);
  std::string path = path_from_here(spec, std::string(name));
  if (path.find('/') == path.npos) path = "./" + path;
  return path + std::string(model.substr(end));
}

void add_axis(std::vector<std::string>& words, std::string_view axis, std::string_view value) {
  if (value.empty() || (axis == "boot" && value == "auto")) return;
  words.push_back(fmt::format("--{}", axis));
  words.emplace_back(value);
}

std::vector<std::string> lab_options(std::string_view parameters) {
  std::vector<std::string> words;
  if (parameters.empty()) return words;
  for (const std::string_view parameter : split(parameters, ',')) {
    words.emplace_back("--kvm-param");
    words.emplace_back(parameter);
  }
  return words;
}

}  // namespace

std::string cell_arguments(const MatrixSpec& spec, const Cell& cell, const Settings& settings) {
  std::string text = settings.append.value_or("");
  std::string more;
  for (const Axis& axis : spec.guests[cell.guest].axes) {
    if (!axis.of_user) continue;
    const std::string_view value = cell_value(spec, cell, axis.name);
    const std::string hole = fmt::format("{{{}}}", axis.name);
    bool named = false;
    for (std::size_t at = text.find(hole); at != text.npos;
         at = text.find(hole, at + value.size())) {
      text.replace(at, hole.size(), value);
      named = true;
    }
    if (!named) more += fmt::format(" {}={}", axis.name, value);
  }
  text += more;
  return std::string(trim(text));
}

std::vector<std::string> cell_images(const MatrixSpec& spec, const Settings& settings) {
  std::vector<std::string> paths;
  for (const auto& file : {settings.kernel, settings.firmware})
    if (file) paths.push_back(path_from_here(spec, *file));
  for (const std::string& initrd : list_of(settings.initrd))
    paths.push_back(path_from_here(spec, initrd));
  for (const std::string& module : list_of(settings.module))
    paths.push_back(path_from_here(spec, module.substr(0, module.find(' '))));
  if (settings.vars) paths.push_back(vars_from_here(spec, *settings.vars).path);
  for (const std::string& disk : list_of(settings.disk))
    paths.push_back(disk_from_here(spec, parse_disk(disk)).path);
  for (const std::string& share : list_of(settings.share))
    paths.push_back(disk_from_here(spec, parse_share(share)).path);
  return paths;
}

std::vector<std::string> cell_words(const MatrixSpec& spec, const Cell& cell,
                                    const Settings& settings, const CellFiles& files) {
  std::vector<std::string> words = {"run"};
  for (const std::string_view axis : kAxisNames) {
    if (axis == "on" || axis == "kvm-param") continue;
    const std::string_view value = cell_value(spec, cell, axis);
    if (axis == "cpu-model")
      add_axis(words, axis, model_from_here(spec, value));
    else
      add_axis(words, axis, value);
  }
  words.emplace_back("--timeout");
  words.push_back(fmt::format("{:g}", settings.whole_limit()));
  const auto add_file = [&](const char* option, const std::string& path, const char* prefix = "") {
    if (path.empty()) return;
    words.emplace_back(option);
    words.push_back(prefix + path);
  };
  if (settings.firmware) add_file("--firmware", path_from_here(spec, *settings.firmware));
  if (settings.vars) add_file("--vars", vars_text(vars_from_here(spec, *settings.vars)));
  for (const std::string& disk : list_of(settings.disk))
    add_file("--disk", disk_value(disk_from_here(spec, parse_disk(disk))));
  for (const std::string& share : list_of(settings.share))
    add_file("--share", disk_value(disk_from_here(spec, parse_share(share))));
  for (const std::string& initrd : list_of(settings.initrd))
    add_file("--initrd", path_from_here(spec, initrd));
  for (const std::string& module : list_of(settings.module))
    add_file("--module", module_from_here(spec, module));
  for (std::string& word : list_of(settings.options)) words.push_back(std::move(word));
  add_file("--outcome-json", files.outcome);
  add_file("--vga", files.screen, "png:");
  add_file("--core", files.core);
  add_file("--trace", files.trace);
  if (const std::string arguments = cell_arguments(spec, cell, settings); !arguments.empty()) {
    words.emplace_back("--append");
    words.push_back(arguments);
  }
  if (settings.kernel) words.push_back(path_from_here(spec, *settings.kernel));
  return words;
}

std::string cell_command_line(const MatrixSpec& spec, const Cell& cell, const Settings& settings) {
  std::vector<std::string> words = cell_words(spec, cell, settings, {});
  std::vector<std::string> place;
  if (const std::string_view on = cell_value(spec, cell, "on"); !on.empty() && on != "host") {
    place = {"--on", std::string(on)};
    const auto options = lab_options(cell_value(spec, cell, "kvm-param"));
    place.insert(place.end(), options.begin(), options.end());
  }
  words.insert(words.begin() + 1, place.begin(), place.end());
  words.insert(words.begin(), "vmm");
  return shell_line(words);
}

}  // namespace vmm
