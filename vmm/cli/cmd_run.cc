// vmm run: boots a guest and reports how it ended.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "devices/vga_png.h"
#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/lab_options.h"
#include "vmm/cli/lab_paths.h"
#include "vmm/cli/run_images.h"
#include "vmm/lab/backends.h"
#include "vmm/machine/core_writer.h"
#include "vmm/machine/host_probe.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/report.h"
#include "vmm/machine/screen.h"
#include "vmm/machine/terminal.h"

namespace vmm {
namespace {

constexpr double kMaxSeconds = 1e6;
// How long the report at the end waits for someone to read it.
constexpr double kReportSeconds = 5;

// The words of the command line, before they are understood.
struct RunOptions {
  ImageFiles images;
  std::vector<std::string> guest_arguments;
  std::string cpu_model = "host";
  std::string cpu_policy = "strict";
  std::string smp = "1";
  std::string memory = "256M";
  std::string irqchip = "auto";
  std::string ioapic_version = "20";
  std::string tsc_khz;
  bool testdev = false;
  std::string compat;
  std::string boot;
  std::string flat;
  std::string append;
  std::vector<std::string> disks;
  std::vector<std::string> shares;
  std::string vars;
  std::string serial;
  std::string vga = "none";
  std::string trace;
  std::vector<std::string> trace_filter;
  bool kvm_trace = false;
  std::string ctl;
  std::string gdb;
  bool gdb_nowait = false;
  bool gdb_allow_remote = false;
  std::string gdb_arch;
  std::vector<std::string> catches;
  std::string on_crash;
  std::string on_reset = "exit";
  std::string core;
  std::string outcome_json;
  std::string exit_protocol = "plain";
  double timeout = 0;
  double stall_timeout = 0;
  bool lint_paging = false;
  bool dry_run = false;
  bool quiet = false;
  std::vector<std::string> command_line;
  std::string on = "host";
  LabOptions lab;
};

void add_options(CLI::App& run, RunOptions& o) {
  run.add_option(
      "KERNEL", o.images.kernel,
      "the image to boot: Multiboot 2 or 1, PVH, Linux bzImage, ELF64 or ELF32, also "
      "packed by gzip, xz, zstd or lz4; or --boot flat; with --firmware an EFI image, or "
      "nothing");
  run.add_option("GUEST-ARGS", o.guest_arguments, "after --: appended to the guest's command line");

  const char* cpu = "CPU";
  run.add_option("--cpu-model", o.cpu_model,
                 "NAME[@VERSION][,+feat,-feat,phys-bits=N] or a model file (default host)")
      ->group(cpu);
  run.add_option(
         "--cpu-policy", o.cpu_policy,
         "bits the host cannot give: strict refuses, mask removes, force sets (default strict)")
      ->group(cpu);
  run.add_option("--smp", o.smp, "N[,sockets=,cores=,threads=] (default 1)")->group(cpu);

  run.add_option("--tsc-khz", o.tsc_khz,
                 "rate of the guest's TSC, where the host can scale it (default the host's)")
      ->group(cpu);

  const char* machine = "Machine";
  run.add_option("--mem", o.memory, "guest RAM, such as 512M or 8G (default 256M)")->group(machine);
  run.add_option("--irqchip", o.irqchip,
                 "user: our LAPIC, IOAPIC, PIC and PIT; split: with KVM's LAPIC; kernel: all "
                 "KVM's; auto: user, or split where the CPU model needs KVM's LAPIC (default auto)")
      ->group(machine);
  run.add_option("--ioapic-version", o.ioapic_version,
                 "20, or 11 without an EOI register: of our own IOAPIC (default 20)")
      ->group(machine);

  run.add_flag("--testdev", o.testdev,
               "a device for tests of hypervisors: ports E0h, E8h, 2000h, memory at FF000000h")
      ->group(machine);
  run.add_option(
         "--compat", o.compat,
         "kvm-unit-tests: --testdev and the environment that its runner gives to its images")
      ->group(machine);
  run.add_option("--on", o.on,
                 "host: this machine's KVM; svm, vmx: a lab that is booted for this run (default "
                 "host)")
      ->group(machine);
  add_lab_options(run, o.lab);

  const char* images = "Images";
  run.add_option("--boot", o.boot,
                 fmt::format("{} (default by content)", fmt::join(boot_protocol_words(), ", ")))
      ->group(images);
  run.add_option("--flat", o.flat, "load address of a flat binary, entered in real mode")
      ->group(images);
  const auto repeatable = [&](const char* name, std::vector<std::string>& values,
                              const char* help) {
    run.add_option(name, values, help)->group(images)->type_size(1)->allow_extra_args(false);
  };
  repeatable("--initrd", o.images.initrds, "an initramfs for Linux; repeatable, in this order");
  repeatable("--initrd-add", o.images.initrd_additions,
             "HOSTPATH=GUESTPATH: a file or directory that is added to the initramfs; repeatable");
  repeatable("--module", o.images.modules, "'FILE args' for a Multiboot or PVH kernel; repeatable");
  run.add_option("--append", o.append, "the guest's command line")->group(images);
  run.add_option("--symbols", o.images.symbols, "an ELF file whose symbols name addresses")
      ->group(images);

  run.add_option("--firmware", o.images.firmware,
                 "UEFI firmware, started at the reset vector, such as "
                 "/usr/share/OVMF/OVMF_CODE_4M.fd")
      ->group(images);

  run.add_option("--vars", o.vars,
                 "FILE[,copy|ro]: the firmware's variables, such as a copy of OVMF_VARS_4M.fd: "
                 "written to the file, to a private copy, or not at all")
      ->group(images);

  repeatable("--disk", o.disks,
             "raw:FILE[,ro]: a virtio disk of these bytes; repeatable, at most 16");
  repeatable("--share", o.shares,
             "DIR[,overlay|rw]: a virtio disk with a FAT32 partition made from this directory: "
             "read-only, written in memory alone, or brought back at the end; repeatable");

  const char* console = "Console";
  run.add_option("--serial", o.serial, "stdio, null, file:P or pty (default stdio; Ctrl-A x quits)")
      ->group(console);
  run.add_option("--vga", o.vga, "none, text or png:P, each with ,trap (default none)")
      ->group(console);

  const char* debugging = "Debugging";
  run.add_option("--trace", o.trace,
                 "write every event to this file: Chrome trace JSON if it ends in .json, else one "
                 "JSON object a line")
      ->group(debugging);
  run.add_option("--trace-filter", o.trace_filter,
                 "events that go into the trace, such as 'kind=sipi|init,vcpu=0-1' or "
                 "'!device=serial0'; repeatable, any may fit")
      ->group(debugging)
      ->type_size(1)
      ->allow_extra_args(false);
  run.add_flag("--kvm-trace", o.kvm_trace,
               "count exits to KVM by reason and level (L1, L2), from KVM's own events in tracefs; "
               "with --trace they go into the trace too")
      ->group(debugging);
  run.add_option("--ctl", o.ctl, "listen there for vmm ctl: unix:PATH")->group(debugging);
  run.add_option("--gdb", o.gdb,
                 "wait for a debugger there: unix:PATH, tcp:127.0.0.1:PORT or stdio")
      ->group(debugging);
  run.add_flag("--gdb-nowait", o.gdb_nowait, "let the guest run until the debugger connects")
      ->group(debugging);
  run.add_flag("--gdb-allow-remote", o.gdb_allow_remote,
               "let --gdb listen where other machines reach it")
      ->group(debugging);
  run.add_option("--on-crash", o.on_crash,
                 "exit, or gdb: keep a guest that died for the debugger (exit)")
      ->group(debugging);
  run.add_option("--catch", o.catches,
                 "vmentry, vmentry-fail or vmexit[:REASON], each with @ADDRESS or @SYMBOL: a guest "
                 "hypervisor's VM entries, those that will fail, its VM exits; repeatable")
      ->group(debugging)
      ->type_size(1)
      ->allow_extra_args(false);
  run.add_option("--gdb-arch", o.gdb_arch,
                 "x86-64, i386 or i8086: how registers are shown (default by the image)")
      ->group(debugging);
  run.add_flag("--lint-paging", o.lint_paging,
               "at the end, name page-table features that the CPU model lacks")
      ->group(debugging);

  const char* ending = "Run";
  run.add_option("--timeout", o.timeout, "end the run after this many seconds (exit 124)")
      ->group(ending)
      ->check(CLI::Range(0.0, kMaxSeconds));
  run.add_option("--stall-timeout", o.stall_timeout,
                 "end the run after this many seconds without an exit to vmm (exit 82)")
      ->group(ending)
      ->check(CLI::Range(0.0, kMaxSeconds));
  run.add_option("--on-reset", o.on_reset,
                 "a guest that asks for a reset: exit (83), or reboot: it starts again from its "
                 "images (default exit)")
      ->group(ending);
  run.add_option("--core", o.core,
                 "when the run is over, write the guest as it stands as a core file for gdb")
      ->group(ending);
  run.add_option("--outcome-json", o.outcome_json, "write the outcome to this file")->group(ending);
  run.add_option("--exit-protocol", o.exit_protocol,
                 "plain: the value written to port f4h; qemu: (value << 1) | 1 (default plain)")
      ->group(ending);
  run.add_flag("--dry-run", o.dry_run, "check everything up to the first instruction, then stop")
      ->group(ending);
  run.add_flag("-q,--quiet", o.quiet, "no lines of our own when the guest ends by itself")
      ->group(ending);
}

// Standard input and output are the debugger's alone.
Result<void> check_gdb_on_stdio(const MachineSpec& spec) {
  if (spec.serial.kind == SerialKind::Stdio)
    return fail(Error::usage("--gdb stdio and --serial stdio both want standard output")
                    .hint("use --serial file:P, --serial pty or --serial null"));
  if (spec.gdb_nowait)
    return fail(Error::usage("--gdb-nowait: with --gdb stdio the debugger is there from the start")
                    .hint("--gdb unix:PATH lets it come later"));
  if (::isatty(STDIN_FILENO) == 1 || ::isatty(STDOUT_FILENO) == 1)
    return fail(Error::usage("--gdb stdio: a terminal is no debugger")
                    .hint("type at gdb: target remote | vmm run --gdb stdio --serial file:P ..."));
  return {};
}

Result<MachineSpec> make_spec(const RunOptions& o) {
  MachineSpec spec;
  spec.images = o.images;
  if (spec.images.kernel.empty() && spec.images.firmware.empty())
    return fail(Error::usage("no KERNEL was given")
                    .hint("name an image to boot, or a firmware with --firmware"));
  spec.cpu_model = o.cpu_model;
  spec.cpu_policy = VMM_TRY(parse_policy(o.cpu_policy));
  spec.topology = VMM_TRY_CONTEXT(parse_topology(o.smp), "--smp");
  spec.memory = VMM_TRY_CONTEXT(parse_size(o.memory), "--mem");
  VMM_TRY(GuestMemory::check_size(spec.memory));
  spec.irqchip = VMM_TRY(parse_irqchip(o.irqchip));
  spec.ioapic_version = VMM_TRY(parse_ioapic_version(o.ioapic_version));
  if (!o.tsc_khz.empty()) spec.tsc_khz = VMM_TRY(parse_tsc_khz(o.tsc_khz));
  if (!o.compat.empty() && lower(o.compat) != "kvm-unit-tests")
    return fail(Error::usage(fmt::format("--compat '{}' is unknown", printable(o.compat)))
                    .hint("write kvm-unit-tests"));
  spec.compat_kvm_unit_tests = !o.compat.empty();
  spec.testdev = o.testdev || spec.compat_kvm_unit_tests;
  if (!o.boot.empty()) spec.boot.protocol = lower(o.boot);
  if (!o.flat.empty()) {
    const auto address = parse_number(o.flat);
    if (!address)
      return fail(Error::usage(fmt::format("--flat: '{}' is not an address", printable(o.flat)))
                      .hint("write for instance 0x7c00"));
    spec.boot.flat_address = *address;
  }
  spec.boot.command_line = o.append;
  for (const std::string& word : o.guest_arguments)
    spec.boot.command_line += (spec.boot.command_line.empty() ? "" : " ") + word;
  spec.disks = VMM_TRY(parse_disks(o.disks, o.shares));
  if (!o.vars.empty()) spec.vars = VMM_TRY(parse_vars(o.vars));
  spec.vga = VMM_TRY(parse_vga(o.vga));
  const bool screen_on_terminal = spec.vga.kind == VgaKind::Text && LiveScreen::possible();
  // The screen takes the terminal, so the serial console moves unless it was told where to go.
  const std::string serial = !o.serial.empty()    ? o.serial
                             : screen_on_terminal ? "file:vmm-serial.log"
                                                  : "stdio";
  if (o.serial.empty() && screen_on_terminal)
    fmt::print(stderr,
               "vmm: the screen is on this terminal, the serial console in vmm-serial.log\n");
  spec.serial = VMM_TRY(parse_serial(serial));
  if (screen_on_terminal && spec.serial.kind == SerialKind::Stdio)
    return fail(Error::usage("--vga text and --serial stdio both want this terminal")
                    .hint("use --serial file:P, --serial pty or --vga png:P"));
  spec.trace = o.trace;
  if (!o.trace_filter.empty() && o.trace.empty())
    return fail(Error::usage("--trace-filter needs --trace")
                    .hint("name the file, such as --trace events.json"));
  spec.trace_filter = VMM_TRY(TraceFilter::parse(o.trace_filter));
  spec.kvm_trace = o.kvm_trace;
  if (const auto names = spec.trace_filter.asked_of(trace_group::kKvm);
      !names.empty() && !o.kvm_trace)
    return fail(Error::usage(fmt::format("--trace-filter asks for {}: KVM tells of that alone",
                                         fmt::join(names, ", ")))
                    .hint("--kvm-trace reads KVM's events"));
  if (!o.ctl.empty()) spec.ctl = VMM_TRY(parse_control_address(o.ctl));
  if (!o.gdb.empty())
    spec.gdb = VMM_TRY(parse_debug_address(o.gdb, o.gdb_allow_remote));
  else if (o.gdb_nowait || o.gdb_allow_remote || (!o.gdb_arch.empty() && o.core.empty()))
    return fail(Error::usage("--gdb-nowait, --gdb-allow-remote and --gdb-arch need --gdb")
                    .hint("such as --gdb unix:gdb.sock"));
  spec.gdb_nowait = o.gdb_nowait;
  if (spec.gdb && spec.gdb->kind == DebugAddress::Kind::Stdio) VMM_TRY(check_gdb_on_stdio(spec));
  for (const std::string& text : o.catches) spec.catches.push_back(VMM_TRY(parse_catch(text)));
  if (!o.on_crash.empty()) spec.on_crash = VMM_TRY(parse_on_crash(o.on_crash));
  if (spec.on_crash == OnCrash::Gdb && !spec.gdb)
    return fail(Error::usage("--on-crash gdb needs --gdb")
                    .hint("such as --gdb unix:gdb.sock, with --gdb-nowait to connect only then"));
  spec.on_reset = VMM_TRY(parse_on_reset(o.on_reset));
  if (spec.on_reset == OnReset::Reboot && spec.kvm_trace)
    return fail(Error::usage("--kvm-trace tells of one life of a machine, and --on-reset reboot "
                             "gives it several")
                    .hint("leave one of them out"));
  if (!o.gdb_arch.empty()) spec.gdb_arch = VMM_TRY(parse_gdb_arch(o.gdb_arch));
  spec.timeout = o.timeout;
  spec.stall_timeout = o.stall_timeout;
  if (lower(o.exit_protocol) == "qemu")
    spec.exit_protocol = ExitProtocol::Qemu;
  else if (lower(o.exit_protocol) != "plain")
    return fail(
        Error::usage(fmt::format("--exit-protocol '{}' is unknown", printable(o.exit_protocol)))
            .hint("write plain or qemu"));
  spec.core = o.core;
  spec.outcome_json = o.outcome_json;
  spec.lint_paging = o.lint_paging;
  spec.quiet = o.quiet;
  spec.command_line = o.command_line;
  return spec;
}

// Files for results are opened before the guest runs: a bad path is told at once, and afterwards no
// file can be opened any more.
struct OutputFile {
  std::string path;
  Fd fd;
};

Result<OutputFile> open_output(const std::string& path, std::string_view option) {
  if (path.empty()) return OutputFile{};
  return OutputFile{path, VMM_TRY_CONTEXT(Fd::open(path, O_WRONLY | O_CREAT), option)};
}

Result<void> write_output(const OutputFile& file, std::string_view text) {
  if (!file.fd) return {};
  return replace_contents(
      file.fd, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}, file.path);
}

std::string start_line(const MachineSpec& spec, const LoadedImage& image, const ResolvedCpu& cpu,
                       const HostGrant& host, const Machine& machine) {
  const std::string why = machine.irqchip_reason().empty()
                              ? std::string()
                              : fmt::format(" ({})", machine.irqchip_reason());
  const std::string tsc =
      spec.tsc_khz ? fmt::format(", TSC {} kHz", machine.tsc_khz()) : std::string();
  return fmt::format(
      "vmm: {} ({}) on {} ({}), {} vCPU{}, {}, irqchip {}{}{}, kvm {} {}\n", printable(image.path),
      protocol_name(image.protocol), cpu.text, policy_name(cpu.policy), spec.topology.vcpus,
      spec.topology.vcpus == 1 ? "" : "s", format_size(spec.memory),
      irqchip_name(machine.irqchip()), why, tsc, backend_name(host.backend), host.kernel);
}

std::string lost_tsc_line(const Machine& machine) {
  if (!machine.tsc_lost()) return {};
  return "vmm: this KVM takes the guest's TSC for another than RDTSC gives it: TSC-deadline timers "
         "will be late, kvmclock wrong (--cpu-model ...,-tsc-deadline,-kvmclock does without)\n";
}

// What a filter asks for and this interrupt chip keeps to itself.
std::string invisible_line(const MachineSpec& spec, IrqChipKind irqchip) {
  const auto names = spec.trace_filter.invisible_under(irqchip);
  if (names.empty()) return {};
  return fmt::format(
      "vmm: --trace-filter asks for {}: with --irqchip {} that happens inside KVM and is not seen "
      "(--irqchip user shows it)\n",
      fmt::join(names, ", "), irqchip_name(irqchip));
}

std::string kept_line(const std::string& debugger) {
  if (debugger.empty()) return "vmm: kept for the debugger (detach or kill ends it)\n";
  return fmt::format(
      "vmm: kept for the debugger: gdb -ex 'target remote {}' (detach, kill or Ctrl-C ends it)\n",
      printable(debugger));
}

// The lines of the screen down to the last one that is not empty.
std::vector<std::string> screen_lines(const VgaSnapshot& screen) {
  const std::string text = render_text(screen);
  std::vector<std::string> lines;
  if (text.empty()) return lines;
  for (const std::string_view line : split(std::string_view(text).substr(0, text.size() - 1), '\n'))
    lines.emplace_back(line);
  return lines;
}

// Writes the core file; what to type, unless that should be quiet.
Result<std::string> write_core(const CoreWriter& core, Machine& machine, const RunReport& report,
                               const MachineSpec& spec, const LoadedImage& image) {
  const auto description = VMM_TRY(describe_core(machine, report, spec, image));
  const CoreWriter::Written written = VMM_TRY(core.write(description, machine.guest_memory()));
  if (spec.quiet) return std::string();
  std::string line =
      fmt::format("vmm: --core: {} of {} in {}: gdb {} {}\n",
                  format_size(align_up(written.bytes, 1_KiB)), format_size(spec.memory),
                  printable(core.path()), printable(image.path), printable(core.path()));
  if (!written.complete)
    line +=
        "vmm: --core: the guest's tables map more than a core file has room for; the rest is not "
        "there\n";
  return line;
}

// The run itself; what is known so far stays in `cpu` and `host` for a refusal's document.
Result<int> run_guest(MachineSpec& spec, bool dry_run, const OutputFile& outcome_file,
                      const OutputFile& picture_file, const std::optional<CoreWriter>& core,
                      std::optional<ResolvedCpu>& cpu, std::optional<HostGrant>& host) {
  std::vector<std::string> notes;
  const LoadedImage image = VMM_TRY(load_images(spec, notes));
  const Kvm kvm = VMM_TRY(Kvm::open());
  host = VMM_TRY(read_host_grant(kvm));
  cpu = VMM_TRY(resolve_cpu(spec.cpu_model, spec.cpu_policy, spec.topology, *host));
  const auto irqchip = choose_irqchip(spec.irqchip, *cpu);
  if (!cpu->missing.empty() && (spec.cpu_policy == CpuPolicy::Strict || !spec.quiet))
    fmt::print(stderr, "{}", missing_text(*cpu));
  if (spec.cpu_policy == CpuPolicy::Strict && !cpu->missing.empty())
    return fail(Error::host(fmt::format("this host cannot give {} of the bits of {}",
                                        cpu->missing.size(), cpu->text))
                    .hint("--cpu-policy mask runs without them, force sets them all the same; vmm "
                          "cpu list shows models this host can give"));
  if (!irqchip) return fail(irqchip.error());
  const auto machine = VMM_TRY(Machine::create(kvm, spec, *cpu, *host, *irqchip, image));
  // Only now is it sure that the guest will start.
  if (!spec.quiet) {
    notes.insert(notes.begin(), cpu->notes.begin(), cpu->notes.end());
    for (const std::string& note : notes) fmt::print(stderr, "vmm: {}\n", note);
    fmt::print(stderr, "{}", start_line(spec, image, *cpu, *host, *machine));
    fmt::print(stderr, "{}", differences_text(machine->cpuid_differences()));
    fmt::print(stderr, "{}", lost_tsc_line(*machine));
    fmt::print(stderr, "{}", invisible_line(spec, machine->irqchip()));
    if (const std::string& problem = machine->kvm_trace_problem(); !problem.empty())
      fmt::print(stderr, "vmm: --kvm-trace: {}\n", printable(problem, problem.size()));
  }
  if (dry_run) {
    for (const std::string& line : image.detection) fmt::print(stderr, "vmm: {}\n", line);
    for (const std::string& line : quirk_lines(*cpu, *host)) fmt::print(stderr, "vmm: {}\n", line);
    const CpuState start = VMM_TRY(machine->cpu_state(0));
    fmt::print(stderr, "vmm: --dry-run: everything is ready for the first instruction at {:x}h\n",
               start.sregs.cs.base + start.regs.rip);
    return 0;
  }
  if (const std::string name = machine->debugger_name(); !name.empty())
    fmt::print(stderr, "vmm: {}: gdb -ex 'target remote {}'\n",
               spec.gdb_nowait ? "the debugger may connect" : "waiting for the debugger",
               printable(name));
  const RunOutcome outcome = VMM_TRY(machine->run());
  const RunReport report = VMM_TRY(gather(*machine, outcome, spec, *cpu, *host));
  const VgaSnapshot screen = machine->screen();
  if (picture_file.fd) {
    const auto png = VMM_TRY(render_png(screen));
    VMM_TRY(replace_contents(picture_file.fd, png, picture_file.path));
  }
  if (outcome_file.fd) {
    nlohmann::json document = outcome_json(report, spec, *cpu, *host, image);
    if (const auto lines = screen_lines(screen); !lines.empty()) document["screen"] = lines;
    VMM_TRY(write_output(outcome_file, document.dump(2) + "\n"));
  }
  std::string core_line;
  if (core) core_line = VMM_TRY(write_core(*core, *machine, report, spec, image));
  // The files first: a terminal whose output is held must keep neither them nor the end.
  const int code = exit_code(outcome, spec.exit_protocol);
  const bool kept = spec.on_crash == OnCrash::Gdb && is_death(outcome);
  if (takes_output(STDERR_FILENO, kReportSeconds)) {
    if (spec.vga.kind == VgaKind::Text)
      fmt::print(stderr, "vmm: the final screen:\n{}", render_text(screen));
    fmt::print(stderr, "{}{}", core_line, summary_text(report, spec));
    if (kept) fmt::print(stderr, "{}", kept_line(machine->debugger_name()));
  }
  if (kept)
    VMM_TRY(
        machine->keep_for_debugger(report.vcpu, report.vcpus[report.vcpu], code,
                                   report.card ? report.card->text() : headline(outcome) + "\n"));
  return code;
}

Result<int> run_command(const RunOptions& options) {
  MachineSpec spec = VMM_TRY(make_spec(options));
  const OutputFile outcome_file = VMM_TRY(open_output(spec.outcome_json, "--outcome-json"));
  const OutputFile picture_file = VMM_TRY(
      open_output(spec.vga.kind == VgaKind::Png ? spec.vga.path : std::string(), "--vga png"));
  std::optional<CoreWriter> core;
  if (!spec.core.empty()) core = VMM_TRY(CoreWriter::open(spec.core));
  std::optional<ResolvedCpu> cpu;
  std::optional<HostGrant> host;
  Result<int> result =
      run_guest(spec, options.dry_run, outcome_file, picture_file, core, cpu, host);
  if (!result && outcome_file.fd) {
    const auto document =
        refusal_json(result.error(), spec, cpu ? &*cpu : nullptr, host ? &*host : nullptr);
    // The first failure is the one to tell; this one could only repeat it.
    if (const auto written = write_output(outcome_file, document.dump(2) + "\n"); !written)
      log_warn("{}", written.error().text());
  }
  return result;
}

// The files that a run names, for a lab.
Result<std::vector<PathUse>> run_paths(const RunOptions& o) {
  std::vector<PathUse> paths = VMM_TRY(image_paths(o.images));
  for (const DiskSpec& disk : VMM_TRY(parse_disks(o.disks, o.shares))) {
    add_paths(paths, VMM_TRY_CONTEXT(input_path(disk.path), disk_option(disk)));
    if (disk.write_back)
      return fail(Error::usage("--share DIR,rw: a lab does not bring a directory back")
                      .hint("with ,overlay the guest may write, and what it wrote ends with it; "
                            "--disk raw:FILE comes back"));
    // What the guest writes in the lab comes back.
    if (!disk.read_only && disk.kind == DiskSpec::Kind::Raw)
      paths.push_back({.kind = PathUse::Kind::Output, .path = disk.path});
  }
  if (!o.vars.empty()) {
    const VarsSpec vars = VMM_TRY(parse_vars(o.vars));
    add_paths(paths, VMM_TRY_CONTEXT(input_path(vars.path), "--vars"));
    if (vars.mode == VarsSpec::Mode::Write)
      paths.push_back({.kind = PathUse::Kind::Output, .path = vars.path});
  }
  add_paths(paths, VMM_TRY(model_paths(o.cpu_model)));
  const SerialTarget serial = VMM_TRY(parse_serial(o.serial.empty() ? "stdio" : o.serial));
  if (!o.ctl.empty())
    paths.push_back(
        {.kind = PathUse::Kind::Socket, .path = VMM_TRY(parse_control_address(o.ctl)).path});
  if (!o.gdb.empty()) {
    const DebugAddress address = VMM_TRY(parse_debug_address(o.gdb, o.gdb_allow_remote));
    if (address.kind != DebugAddress::Kind::Unix)
      return fail(Error::usage(address.kind == DebugAddress::Kind::Stdio
                                   ? "--gdb stdio: a lab does not carry a debugger's packets there"
                                   : "--gdb tcp: the port would be inside the lab, out of reach")
                      .hint("--gdb unix:PATH is relayed out of a lab"));
    paths.push_back({.kind = PathUse::Kind::Socket, .path = address.path});
  }
  if (serial.kind == SerialKind::Pty)
    return fail(Error::usage("--serial pty: the pty would be inside the lab, out of reach")
                    .hint("use --serial stdio or file:P"));
  const VgaTarget vga = VMM_TRY(parse_vga(o.vga));
  for (const std::string& path : {serial.path, vga.path, o.trace, o.core, o.outcome_json})
    if (!path.empty()) paths.push_back({.kind = PathUse::Kind::Output, .path = path});
  return paths;
}

// A run that did not come to its own outcome because the lab failed leaves this one.
void record_lab_failure(const RunOptions& options, const Error& error) {
  if (options.outcome_json.empty()) return;
  const auto spec = make_spec(options);
  const auto file = open_output(options.outcome_json, "--outcome-json");
  if (!spec || !file) return;
  const auto document = refusal_json(error, *spec, nullptr, nullptr);
  if (const auto written = write_output(*file, document.dump(2) + "\n"); !written)
    log_warn("{}", written.error().text());
}

// --on svm|vmx: the same command line without that in a lab of its own.
Result<int> run_on(const RunOptions& options, const Command& command) {
  const LabBackend backend = VMM_TRY_CONTEXT(parse_backend(options.on), "--on");
  const LabSpec spec = VMM_TRY(make_lab_spec(options.lab, backend));
  std::vector<std::string> words = without_lab_options(options.command_line);
  words.erase(words.begin());
  LabCommand inner = VMM_TRY(make_lab_command(command, words, options.command_line));
  return run_in_new_lab(spec, watchdog_of(options.lab), std::move(inner), options.quiet);
}

// In a lab: the command line outside, which is the one to repeat.
std::vector<std::string> outer_command_line(std::vector<std::string> own) {
  const char* text = std::getenv("VMM_COMMAND_LINE");
  if (text == nullptr) return own;
  const auto words = nlohmann::json::parse(text, nullptr, false);
  std::vector<std::string> outer;
  if (words.is_array())
    for (const auto& word : words)
      if (word.is_string()) outer.push_back(word.get<std::string>());
  return outer.empty() ? own : outer;
}

}  // namespace

void add_run_command(CLI::App& app, Command& chosen, std::vector<std::string> command_line) {
  CLI::App* run = app.add_subcommand("run", "boot a guest and report how it ended");
  auto options = std::make_shared<RunOptions>();
  options->command_line = outer_command_line(std::move(command_line));
  add_options(*run, *options);
  run->callback([options, &chosen] {
    chosen.paths = [options] { return run_paths(*options); };
    chosen.record_failure = [options](const Error& error) { record_lab_failure(*options, error); };
    chosen.run = [options, inner = chosen]() -> Result<int> {
      if (lower(options->on) == "host") return run_command(*options);
      Result<int> result = run_on(*options, inner);
      if (!result) inner.record_failure(result.error());
      return result;
    };
  });
}

}  // namespace vmm
