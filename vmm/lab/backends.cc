#include "vmm/lab/backends.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "vmm/base/process.h"
#include "vmm/base/text.h"
#include "vmm/lab/bochs.h"
#include "vmm/lab/kernel_package.h"
#include "vmm/lab/qemu.h"

namespace vmm {
namespace {

struct Need {
  const char* what;  // a path, or a program in PATH
  const char* package;
};

std::vector<Need> needs(LabBackend backend) {
  if (backend == LabBackend::Svm)
    return {{kQemuProgram, "qemu-system-x86"},
            {"/usr/share/qemu/linuxboot_dma.bin", "qemu-system-data"},
            {"/usr/share/seabios/bios-256k.bin", "seabios"}};
  return {{kBochsProgram, "bochs"},
          {"/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so", "bochs-term"},
          {"/usr/share/bochs/BIOS-bochs-latest", "bochsbios"},
          {"/usr/share/vgabios/vgabios.bin", "vgabios"}};
}

bool present(const Need& need) {
  return *need.what == '/' ? ::access(need.what, R_OK) == 0 : find_program(need.what).has_value();
}

std::string missing_text(const BackendState& state) {
  std::string text;
  for (const BackendState::Missing& missing : state.missing) {
    if (!text.empty()) text += ", ";
    text += missing.what;
  }
  return text;
}

}  // namespace

std::string backend_name(LabBackend backend) { return backend == LabBackend::Svm ? "svm" : "vmx"; }

Result<LabBackend> parse_backend(std::string_view name) {
  const std::string wanted = lower(name);
  if (wanted == "svm") return LabBackend::Svm;
  if (wanted == "vmx") return LabBackend::Vmx;
  return fail(Error::usage(
      fmt::format("no lab backend {}: svm (QEMU) and vmx (Bochs) exist", printable(name))));
}

std::string BackendState::apt_command() const {
  std::string text;
  for (const Missing& item : missing)
    if (text.find(" " + item.package) == text.npos) text += " " + item.package;
  return text.empty() ? text : "apt-get install" + text;
}

BackendState backend_state(LabBackend backend) {
  BackendState state;
  state.backend = backend;
  state.emulator = backend == LabBackend::Svm ? "QEMU's software SVM" : "Bochs' software VT-x";
  // A QEMU that was built by hand keeps its data elsewhere and finds it by itself.
  const auto program = find_program(needs(backend).front().what);
  const bool from_debian = !program || program->starts_with("/usr/bin/");
  for (const Need& need : needs(backend)) {
    const bool counts = from_debian || backend == LabBackend::Vmx || *need.what != '/';
    if (counts && !present(need)) state.missing.push_back({need.what, need.package});
  }
  return state;
}

Result<void> require_backend(LabBackend backend) {
  const BackendState state = backend_state(backend);
  if (state.usable()) return {};
  return fail(
      Error::no_lab(fmt::format("the {} lab needs {}, which {} not here: {}", backend_name(backend),
                                state.emulator, state.missing.size() == 1 ? "is" : "are",
                                missing_text(state)))
          .hint(state.apt_command()));
}

std::string backend_list() {
  std::string text;
  for (const LabBackend backend : {LabBackend::Svm, LabBackend::Vmx}) {
    const BackendState state = backend_state(backend);
    text += fmt::format("{}  {:<20}  ", backend_name(backend), state.emulator);
    if (state.usable())
      text += "usable\n";
    else
      text += fmt::format("missing: {}; {}\n", missing_text(state), state.apt_command());
  }
  const auto directory = lab_cache_directory();
  if (!directory) return text + fmt::format("kernel: {}\n", directory.error().text());
  const std::string kernels = *directory + "/kernels";
  if (const auto kernel = KernelCache(kernels).newest())
    return text + "kernel: " + kernel->image + "\n";
  return text + fmt::format("kernel: none yet in {}; the first lab fetches it with apt\n", kernels);
}

}  // namespace vmm
