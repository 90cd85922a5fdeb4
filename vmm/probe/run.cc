#include "vmm/probe/run.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "loader/boot.h"
#include "vmm/kvm/kvm.h"
#include "vmm/machine/machine.h"
#include "vmm/probe/guest_image.h"

namespace vmm {
namespace {

constexpr std::uint64_t kMemory = 16_MiB;
constexpr double kSeconds = 60;
// Each question may end a guest once; more than this is no probe of this host.
constexpr unsigned kMaxStarts = 100;

// What a start leaves, in memory that both processes share.
struct Report {
  enum class Kind { Nothing, Error, Ended };
  Kind kind;
  ErrorKind error_kind;
  char text[1024];  // of the error, or how the guest ended
  char hint[512];
  bool well;   // the guest ended by itself, with 0
  int signal;  // to us, that ended it; or 0
  std::uint32_t differences;
  CpuidDifference difference[256];
  std::uint8_t mailbox[sizeof(probe::Mailbox)];
};

template <std::size_t N>
void copy_text(char (&target)[N], std::string_view text) {
  const std::size_t size = std::min(text.size(), N - 1);
  std::memcpy(target, text.data(), size);
  target[size] = '\0';
}

struct Start {
  const ResolvedCpu& cpu;
  const Topology& topology;
  const HostGrant& host;
  const IrqChipChoice& irqchip;
};

Result<void> boot(const Start& start, std::span<const std::uint8_t> mailbox, Report& report) {
  MachineSpec spec;
  spec.images.kernel = "the probe";
  spec.cpu_model = start.cpu.text;
  spec.cpu_policy = start.cpu.policy;
  spec.topology = start.topology;
  spec.memory = kMemory;
  spec.serial = {.kind = SerialKind::Null, .path = {}};
  spec.timeout = kSeconds;
  spec.quiet = true;
  const auto guest = probe_guest();
  const LoadedImage image =
      VMM_TRY(parse_image(spec.images.kernel, {guest.begin(), guest.end()}, spec.boot));
  const Kvm kvm = VMM_TRY(Kvm::open());
  const auto machine =
      VMM_TRY(Machine::create(kvm, spec, start.cpu, start.host, start.irqchip, image));
  if (!machine->write_memory(probe::kMailboxAddress, mailbox))
    return fail(Error::internal("the probe's mailbox does not fit into its memory"));
  const RunOutcome outcome = VMM_TRY(machine->run());
  if (!machine->memory().read(probe::kMailboxAddress, report.mailbox))
    return fail(Error::internal("the probe's mailbox cannot be read back"));
  const auto& differences = machine->cpuid_differences();
  report.differences =
      static_cast<std::uint32_t>(std::min(differences.size(), std::size(report.difference)));
  std::copy_n(differences.begin(), report.differences, report.difference);
  const auto* exit = std::get_if<ending::GuestExit>(&outcome);
  report.well = exit != nullptr && exit->value == 0;
  if (const auto* stopped = std::get_if<ending::Stopped>(&outcome)) report.signal = stopped->signal;
  copy_text(report.text, headline(outcome));
  report.kind = Report::Kind::Ended;
  return {};
}

[[noreturn]] void child(const Start& start, std::span<const std::uint8_t> mailbox, Report& report) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (const Result<void> result = boot(start, mailbox, report); !result) {
    report.error_kind = result.error().kind();
    copy_text(report.text, result.error().text());
    copy_text(report.hint, result.error().hint_text());
    report.kind = Report::Kind::Error;
  }
  _exit(0);
}

// One start in a process of its own; `report` is shared with it.
Result<void> start_once(const Start& start, std::span<const std::uint8_t> mailbox, Report& report) {
  report = {};
  const pid_t pid = fork();
  if (pid < 0) return fail(Error::system(ErrorKind::Internal, "fork", errno));
  if (pid == 0) child(start, mailbox, report);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return fail(Error::system(ErrorKind::Internal, "waitpid", errno));
  if (report.kind == Report::Kind::Error)
    return fail(Error(report.error_kind, report.text).hint(report.hint));
  if (report.kind != Report::Kind::Ended)
    return fail(Error::internal(
        fmt::format("the probe's process ended without a report (wait status {:x}h)", status)));
  return {};
}

}  // namespace

const ProbeAnswer* ProbeReading::find(probe::Kind kind, std::uint32_t index,
                                      std::uint32_t detail) const {
  const auto it = std::ranges::find_if(answers, [&](const ProbeAnswer& answer) {
    return answer.question.kind == kind && answer.question.index == index &&
           answer.question.detail == detail;
  });
  return it != answers.end() ? &*it : nullptr;
}

CpuidTable ProbeReading::cpuid() const {
  CpuidTable table;
  for (const ProbeAnswer& one : answers) {
    if (one.question.kind != probe::Kind::Cpuid || !one.answer) continue;
    const std::uint32_t* v = one.answer->value;
    const CpuidRegs regs{v[0], v[1], v[2], v[3]};
    if (regs != CpuidRegs{}) table.at(one.question.index, one.question.detail) = regs;
  }
  return table;
}

std::optional<std::uint64_t> ProbeReading::msr(std::uint32_t index) const {
  const ProbeAnswer* one = find(probe::Kind::Msr, index);
  if (one == nullptr || !one->answer || one->answer->vector != probe::kNoVector)
    return std::nullopt;
  return std::uint64_t{one->answer->value[1]} << 32 | one->answer->value[0];
}

Result<ProbeReading> run_probe(const ResolvedCpu& cpu, const Topology& topology,
                               const HostGrant& host, const IrqChipChoice& irqchip) {
  void* shared =
      mmap(nullptr, sizeof(Report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED)
    return fail(Error::system(ErrorKind::Internal, "mmap of the probe's report", errno));
  const auto unmap = [](Report* report) { munmap(report, sizeof(Report)); };
  const std::unique_ptr<Report, decltype(unmap)> report(static_cast<Report*>(shared), unmap);

  ProbeReading reading{.answers = probe_questions(cpu), .starts = 0, .overridden = {}};
  const Start start{cpu, topology, host, irqchip};
  while (reading.starts < kMaxStarts) {
    std::vector<std::size_t> asked;
    const std::vector<std::uint8_t> mailbox = make_mailbox(reading.answers, asked);
    VMM_TRY(start_once(start, mailbox, *report));
    ++reading.starts;
    reading.overridden.assign(report->difference, report->difference + report->differences);
    const auto under_way = VMM_TRY(take_answers(report->mailbox, asked, reading.answers));
    if (report->well) return reading;
    if (report->signal != 0) {
      signal(report->signal, SIG_DFL);
      raise(report->signal);
    }
    if (!under_way)
      return fail(Error::internal(
          fmt::format("the probe ended before it had tried anything: {}", report->text)));
    reading.answers[*under_way].answer.reset();
    reading.answers[*under_way].ending = report->text;
  }
  return fail(Error::internal(fmt::format("the probe's guest died {} times", kMaxStarts)));
}

}  // namespace vmm
