// Each rule of the system call filter is needed: without it one of these runs comes to a bad end.
#include "vmm/machine/seccomp.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>

#include "guest-tests/rsp_client.h"
#include "guest-tests/run_vmm.h"
#include "guest-tests/tracefs.h"
#include "guest-tests/variable_store.h"

namespace vmm {
namespace {

using Environment = std::vector<std::pair<std::string, std::string>>;

// Without reserves, and with what the start freed given back, the heap has to grow on the thread
// that needs a little more.
const std::pair<std::string, std::string> kNoReserves{
    "GLIBC_TUNABLES",
    "glibc.malloc.top_pad=0:glibc.malloc.trim_threshold=4096:glibc.malloc.tcache_count=0"};

// What virtio-disk.elf wants to find: each word its sector and its place.
std::string disk_bytes() {
  std::string bytes;
  for (std::uint32_t at = 0; at < 64 * 128; ++at) {
    const std::uint32_t word = at / 128 << 16 | at % 128;
    bytes.append(reinterpret_cast<const char*>(&word), sizeof word);
  }
  return bytes;
}

RunSetup guest_setup(const std::string& guest, std::vector<std::string> options,
                     const Environment& environment) {
  RunSetup setup{.arguments = {"run", guest_path(guest)}, .environment = environment};
  setup.arguments.insert(setup.arguments.end(), options.begin(), options.end());
  return setup;
}

// A run that ends with `code` (128+n: of signal n) as long as nothing is missing.
struct Scenario {
  const char* name;
  int code;
  std::function<RunResult(const Environment&)> run;
};

Scenario plain(const char* name, int code, const std::string& guest,
               const std::vector<std::string>& options, const std::string& input = {}) {
  return {name, code, [=](const Environment& environment) {
            RunSetup setup = guest_setup(guest, options, environment);
            setup.input = input;
            return run_vmm(setup);
          }};
}

RunResult signalled(RunSetup setup, std::initializer_list<int> signals) {
  VmmProcess vmm(std::move(setup));
  if (vmm.wait_until_running())
    for (const int signal : signals) vmm.kill(signal);
  return vmm.finish();
}

// A signal that ends processes hits the thread of that number (0: main) while a terminal is raw.
RunResult crashed(const Environment& environment, std::ptrdiff_t thread,
                  const std::vector<std::string>& options = {}) {
  RunSetup setup = guest_setup("spin.elf", options, environment);
  setup.in = ChildStdin::Terminal;
  setup.out = ChildStdout::Terminal;
  VmmProcess vmm(setup);
  if (vmm.wait_until_running()) {
    std::vector<pid_t> threads;
    for (const auto& task :
         std::filesystem::directory_iterator(fmt::format("/proc/{}/task", vmm.pid()))) {
      const std::string status = read_text_file(task.path() / "status");
      // A thread of KVM's own has no filter and takes no signals.
      if (status.find("Seccomp:\t2") != std::string::npos)
        threads.push_back(std::stoi(task.path().filename()));
    }
    std::ranges::sort(threads);
    if (thread < std::ssize(threads))
      tgkill(vmm.pid(), threads[static_cast<std::size_t>(thread)], SIGABRT);
  }
  return vmm.finish();
}

std::vector<Scenario> scenarios(const TempFolder& folder) {
  const std::string outcome = folder.file("outcome.json"), picture = folder.file("screen.png");
  const std::string disk = "raw:" + folder.write("disk.img", disk_bytes());
  return {
      plain("minimal", 0, "minimal.elf", {}),
      plain("console input", 0, "serial-irq.elf", {}, "a line\n"),
      plain("four processors", 0, "smp.elf", {"--smp", "4"}),
      plain("time limit", 124, "spin.elf", {"--timeout", "0.2"}),
      plain("halted", 82, "cli-hlt.elf", {}),
      plain("a card with every file", 81, "execute-in-vga.elf",
            {"--outcome-json", outcome, "--vga", "png:" + picture + ",trap", "--trace",
             folder.file("trace")}),
      plain("a long trace", 0, "vga.elf",
            {"--vga", "png:" + picture + ",trap", "--trace", folder.file("trace"), "--smp", "2"}),
      plain("64 processors and an outcome", 82, "cli-hlt.elf",
            {"--smp", "64", "--outcome-json", outcome}),
      plain("KVM fails", 70, "hello.elf", {"--irqchip", "kernel"}),
      {"stop signal", 128 + SIGTERM,
       [](const Environment& environment) {
         return signalled(guest_setup("spin.elf", {}, environment), {SIGTERM});
       }},
      {"Ctrl-A x", 0,
       [](const Environment& environment) {
         RunSetup setup = guest_setup("serial-echo.elf", {}, environment);
         setup.in = ChildStdin::Terminal;
         setup.out = ChildStdout::Terminal;
         VmmProcess vmm(setup);
         if (vmm.wait_for_output("type a line: ")) vmm.send("\x01x");
         return vmm.finish();
       }},
      {"a debugger that ends the run", 0,
       [&folder](const Environment& environment) {
         const std::string path = folder.file("gdb.sock");
         VmmProcess vmm(guest_setup("spin.elf", {"--gdb", "unix:" + path}, environment));
         RspClient client;
         if (vmm.wait_until([&] { return client.connect(path); })) client.send("k");
         return vmm.finish();
       }},
      {"a control socket", 0,
       [&folder](const Environment& environment) {
         const std::string path = folder.file("ctl.sock");
         VmmProcess vmm(guest_setup("spin.elf", {"--ctl", "unix:" + path, "--irqchip", "kernel"},
                                    environment));
         if (vmm.wait_until([&] { return std::filesystem::exists(path); }))
           for (const char* word : {"regs", "lapic", "ioapic", "explain", "reset", "quit"})
             run_vmm({.arguments = {"ctl", path, word}});
         return vmm.finish();
       }},
      {"a disk", 0,
       [&folder](Environment environment) {
         // Its thread must get along with the memory that it has.
         environment.push_back(kNoReserves);
         const std::string fresh = folder.write("disk.img", disk_bytes());
         return run_vmm(guest_setup(
             "virtio-disk.elf", {"--append", "modern pic", "--disk", "raw:" + fresh}, environment));
       }},
      plain("a disk with KVM's interrupt chips", 0, "virtio-disk.elf",
            {"--append", "modern msix flood", "--irqchip", "kernel", "--disk", disk}),
      plain("a disk that only interrupts, traced", 0, "virtio-disk.elf",
            {"--append", "modern msix flood", "--disk", disk, "--trace", folder.file("trace"),
             "--trace-filter", "kind=message"}),
      {"a shared directory with more files than stay open", 0,
       [](const Environment& environment) {
         const TempFolder shared;
         for (char name = 'a'; name < 'a' + 12; ++name) shared.write(std::string(1, name), "text");
         return run_vmm(guest_setup("share.elf", {"--share", shared.file(".")}, environment));
       }},
      {"a shared directory that the guest writes to", 0,
       [](const Environment& environment) {
         const TempFolder shared;
         shared.write("CHANGED.TXT", std::string(2000, 'b'));
         shared.write("GONE.TXT", "gone");
         shared.write("OLD.TXT", "moves");
         return run_vmm(
             guest_setup("share.elf", {"--share", shared.file(".") + ",rw"}, environment));
       }},
      {"variables in a file", 0,
       [&folder](const Environment& environment) {
         const std::string vars = folder.write("vars.fd", empty_variable_store());
         RunSetup setup{.arguments = {"run", "--firmware", guest_path("flash-firmware.bin"),
                                      "--vars", vars, "--cpu-policy", "mask"}};
         setup.environment = environment;
         return run_vmm(setup);
       }},
      {"a crash of the disks' thread", 128 + SIGABRT,
       [=](const Environment& environment) {
         // Mostly the process has ended before that thread is back from the handler.
         RunResult result;
         for (int i = 0; i < 20; ++i) {
           result = crashed(environment, 2, {"--disk", disk});
           if (result.signal != SIGABRT) break;
         }
         return result;
       }},
      plain("a card and nothing else", 80, "triple-fault.elf", {"-q"}),
      {"a crash of the main thread", 128 + SIGABRT,
       [](const Environment& environment) { return crashed(environment, 0); }},
      {"a crash of a vCPU thread", 128 + SIGABRT,
       [](const Environment& environment) { return crashed(environment, 1); }},
      plain("a trace without end", 124, "vga-busy.elf",
            {"--vga", "none,trap", "--trace", folder.file("trace"), "--timeout", "1"}),
      plain("KVM's events", 0, "minimal.elf", {"--kvm-trace"}),
      {"many addresses with nothing there", 0,
       [](Environment environment) {
         environment.push_back(kNoReserves);
         return run_vmm(guest_setup("unmapped-many.elf", {}, environment));
       }},
      {"a live screen", 0,
       [&folder](const Environment& environment) {
         RunSetup setup =
             guest_setup("vga.elf", {"--vga", "text", "--serial", "file:" + folder.file("serial")},
                         environment);
         setup.in = ChildStdin::Terminal;
         setup.out = ChildStdout::Terminal;
         return run_vmm(setup);
       }},
      {"SIGSTOP in a long poll", 128 + SIGTERM,
       [](const Environment& environment) {
         VmmProcess vmm(guest_setup("idle.elf", {}, environment));
         // Nearly all of the time the main thread is in poll(); one of these finds it there.
         if (vmm.wait_for_output("idle: waiting") && vmm.wait_until_running())
           for (int i = 0; i < 8; ++i) {
             vmm.stop_and_continue();
             vmm.wait_until([n = 0]() mutable { return ++n > 3; });
           }
         vmm.kill(SIGTERM);
         return vmm.finish();
       }},
  };
}

Environment faults_of(const Scenario& scenario) {
  if (std::string_view(scenario.name) == "KVM fails") return {{"VMM_FAULT", "KVM_RUN:EFAULT:2"}};
  return {};
}

class Seccomp : public KvmTest {};

TEST_F(Seccomp, stops_none_of_the_scenarios) {
  const TempFolder folder;
  for (const Scenario& scenario : scenarios(folder)) {
    const RunResult r = scenario.run(faults_of(scenario));
    EXPECT_EQ(r.signal != 0 ? 128 + r.signal : r.code, scenario.code) << scenario.name << "\n"
                                                                      << r.text();
  }
}

// As on a host whose TSC is unstable.
TEST_F(Seccomp, lets_every_thread_read_a_clock_that_the_vdso_cannot) {
  for (const SeccompThread thread : {SeccompThread::Main, SeccompThread::Vcpu, SeccompThread::Disk,
                                     SeccompThread::Share, SeccompThread::Sockets}) {
    const auto read_the_clock = [thread] {
      if (!enter_seccomp(thread)) _exit(1);
      timespec now{};
      syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
      syscall(SYS_exit_group, now.tv_sec > 0 ? 0 : 2);
    };
    EXPECT_EXIT(read_the_clock(), testing::ExitedWithCode(0), "") << static_cast<int>(thread);
  }
}

class SeccompRules : public KvmTest, public testing::WithParamInterface<std::size_t> {};

std::string rule_name(const SeccompRule& rule, const char* between) {
  constexpr const char* kThreads[] = {"main",      "vcpu",  "disk",    "share", "sockets",
                                      "writeback", "flash", "tracing", "reset"};
  return std::string(kThreads[static_cast<std::size_t>(rule.thread)]) + between + rule.syscall;
}

TEST_P(SeccompRules, is_needed) {
#if defined(VMM_ASAN) || defined(VMM_TSAN)
  GTEST_SKIP() << "the sanitizers' own list of calls makes the rules unnecessary";
#endif
  if (seccomp_rules()[GetParam()].thread == SeccompThread::Tracing && !see_tracefs())
    GTEST_SKIP() << "no tracefs can be mounted here";
  std::string rule = rule_name(seccomp_rules()[GetParam()], ":");
  // Only the handler of a forbidden call needs this one, so there has to be such a call.
  if (rule == "vcpu:exit_group") rule += ",vcpu:ioctl";
  if (rule == "disk:exit_group") rule += ",disk:pread64";
  const std::string_view syscall = seccomp_rules()[GetParam()].syscall;
  const std::string message =
      fmt::format("seccomp stopped system call {},", seccomp_syscall_resolve_name(syscall.data()));
  const TempFolder folder;
  // Some calls are made only when threads meet in a certain order, so a scenario may have to be
  // seen more than once.
  for (int round = 0; round < 5; ++round) {
    for (const Scenario& scenario : scenarios(folder)) {
      Environment environment = faults_of(scenario);
      environment.emplace_back("VMM_SECCOMP_OMIT", rule);
      const RunResult r = scenario.run(environment);
      if (r.code == 70 && r.err.find(message) != std::string::npos) return;
      // Where signals are blocked (glibc does so around some calls) or the handler itself cannot go
      // on, the kernel ends the process.
      if (r.signal == SIGSYS) return;
      ASSERT_FALSE(r.hung) << scenario.name << "\n" << r.text();
    }
  }
  FAIL() << "no scenario needs " << rule << ": " << seccomp_rules()[GetParam()].reason;
}

std::string case_name(const testing::TestParamInfo<std::size_t>& info) {
  return rule_name(seccomp_rules()[info.param], "_");
}

INSTANTIATE_TEST_SUITE_P(Each, SeccompRules, testing::Range(std::size_t{0}, seccomp_rules().size()),
                         case_name);

}  // namespace
}  // namespace vmm
