// Pausing, saving, loading and resetting whole machines on the real /dev/kvm, under each interrupt
// chip. Machines run in a child process: behind their seccomp filter a test could not go on.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <functional>
#include <mutex>
#include <thread>

#include "vmm/base/fault.h"
#include "vmm/machine/host_probe.h"
#include "vmm/machine/machine.h"

namespace vmm {
namespace {

using clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// A guest must come this far, however slow the host: a limit against hanging.
constexpr std::chrono::seconds kPatience{100};
constexpr std::uint64_t kStopped = 0;

[[noreturn]] void give_up(const std::string& why) {
  fmt::print(stderr, "{}\n", why);
  _exit(1);
}

// Before anything is destroyed that a thread still uses.
[[noreturn]] void pass() { _exit(0); }

void want(bool condition, const std::string& what) {
  if (!condition) give_up(what);
}

template <typename T>
T take(Result<T> result) {
  if (!result) give_up(result.error().text());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

struct Subject {
  MachineSpec spec;
  LoadedImage image;

  std::unique_ptr<Machine> make(const Kvm& kvm) const {
    const HostGrant host = take(read_host_grant(kvm));
    ResolvedCpu cpu = take(resolve_cpu(spec.cpu_model, spec.cpu_policy, spec.topology, host));
    const IrqChipChoice irqchip = take(choose_irqchip(spec.irqchip, cpu));
    return take(Machine::create(kvm, spec, cpu, host, irqchip, image));
  }
};

// A machine whose event loop has a thread of its own, which never ends: it may not.
class Running {
 public:
  explicit Running(Machine& machine) : machine_(machine) {
    std::thread([this] {
      const auto outcome = machine_.run();
      std::unique_lock lock(mutex_);
      outcome_ = outcome ? describe(*outcome) : outcome.error().text();
      done_ = true;
      changed_.notify_all();
      changed_.wait(lock, [] { return false; });
    }).detach();
  }
  // "exit N" for a guest that ended by itself.
  std::string outcome() {
    std::unique_lock lock(mutex_);
    want(changed_.wait_for(lock, kPatience, [this] { return done_; }), "the guest does not end");
    return outcome_;
  }
  std::uint32_t value(std::string_view symbol) const {
    return machine_.memory().read_value<std::uint32_t>(address(symbol)).value_or(0);
  }
  void wait_for(std::string_view symbol, std::uint32_t least) const {
    const auto until = clock::now() + kPatience;
    while (value(symbol) < least) {
      want(clock::now() < until, fmt::format("{} stays at {}", symbol, value(symbol)));
      std::this_thread::sleep_for(milliseconds(5));
    }
  }
  void let_end() {
    const std::array<std::uint8_t, 4> one = {1, 0, 0, 0};
    want(machine_.write_memory(address("tester_says_stop"), one), "the symbol is in RAM");
  }

 private:
  static std::string describe(const RunOutcome& outcome) {
    if (const auto* exit = std::get_if<ending::GuestExit>(&outcome))
      return fmt::format("exit {}", exit->value);
    return fmt::format("outcome {}", outcome.index());
  }
  Gpa address(std::string_view symbol) const {
    const auto found = machine_.symbols().address_of(symbol);
    want(found.has_value(), fmt::format("no symbol {}", symbol));
    return *found;
  }

  Machine& machine_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::string outcome_;
};

void wait_for_clocks(const Running& running, std::uint32_t more = 5) {
  for (const char* count : {"pit_ticks", "lapic_ticks", "other_ticks"})
    running.wait_for(count, running.value(count) + more);
}

// A machine whose guest has all its clocks going.
struct Busy {
  explicit Busy(const Subject& subject)
      : kvm(take(Kvm::open())), machine(subject.make(kvm)), running(*machine) {
    wait_for_clocks(running);
  }
  Kvm kvm;
  std::unique_ptr<Machine> machine;
  Running running;
};

// Of KVM's LAPIC pages (none with our own chip) the PPR follows from TPR and ISR, and KVM asks
// those anew for each interrupt. What it shows may be older: under kvm_amd 6.1 a page that was
// written with ISR and PPR 0 has been read back with the PPR of before.
MachineState without_ppr(MachineState state) {
  constexpr std::size_t kPpr = 0xa0;
  for (auto& [block, fields] : state.blocks)
    for (auto& [name, value] : fields.fields)
      if (block.starts_with("vcpu") && name == "lapic" && !value.empty())
        value.replace(kPpr * 2, 8, "00000000");
  return state;
}

void want_equal(const MachineState& before, const MachineState& after) {
  const auto lines = diff(without_ppr(before), without_ppr(after));
  want(lines.empty(), fmt::format("{}", fmt::join(lines, "\n")));
}

void copy_memory(const Machine& from, Machine& to, std::uint64_t size) {
  std::vector<std::uint8_t> page(4096);
  for (Gpa gpa = 0; gpa < size; gpa += page.size())
    if (from.memory().read(gpa, page)) (void)to.write_memory(gpa, page);
}

std::uint64_t number(const MachineState& state, std::string_view block, std::string_view field) {
  const StateBlock* found = state.find(block);
  want(found != nullptr, fmt::format("no block {}", block));
  for (const auto& [name, value] : found->fields)
    if (name == field) return std::stoull(value, nullptr, 16);
  give_up(fmt::format("no field {}.{}", block, field));
}

// A register of KVM's LAPIC page.
std::uint32_t lapic_register(const MachineState& state, unsigned vcpu, std::size_t offset) {
  for (const auto& [name, value] : state.find(fmt::format("vcpu{}", vcpu))->fields) {
    if (name != "lapic") continue;
    std::uint32_t result = 0;
    for (std::size_t i = 4; i-- > 0;)
      result = result << 8 | static_cast<std::uint32_t>(
                                 std::stoul(value.substr((offset + i) * 2, 2), nullptr, 16));
    return result;
  }
  give_up("no LAPIC page");
}

class MachineAtRest : public testing::TestWithParam<IrqChipKind> {
 protected:
  void SetUp() override {
    if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "no access to /dev/kvm";
    subject_ = load("clocks.elf", 3);
  }
  void TearDown() override { set_faults({}); }
  static Subject load(const std::string& guest, unsigned vcpus) {
    Subject subject;
    subject.spec.serial.kind = SerialKind::Null;
    subject.spec.memory = 8_MiB;
    subject.spec.topology = *parse_topology(std::to_string(vcpus));
    subject.spec.irqchip = GetParam();
    subject.spec.cpu_policy = CpuPolicy::Mask;
    // Elsewhere than it was built, in a Linux in a lab for one, its guests are elsewhere too.
    const char* folder = std::getenv("VMM_GUESTS");
    subject.image = *load_image(std::string(folder != nullptr ? folder : GUEST_DIR) + "/" + guest,
                                subject.spec.boot);
    return subject;
  }
  // `body` in a child; it ends with pass().
  template <typename Body>
  static void in_child(Body body) {
    EXPECT_EXIT(body(), testing::ExitedWithCode(0), "");
  }

  Subject subject_;
};

TEST_P(MachineAtRest, goes_on_after_it_was_loaded_into_the_same_machine) {
  in_child([this] {
    Busy busy(subject_);
    auto& [kvm, machine, running] = busy;
    for (int round = 0; round < 3; ++round) {
      take(machine->pause());
      const MachineState saved = take(machine->save_state());
      take(machine->load_state(saved));
      want_equal(saved, take(machine->save_state()));
      take(machine->resume());
      wait_for_clocks(running);
    }
    running.let_end();
    want(running.outcome() == "exit 0", running.outcome());
    pass();
  });
}

TEST_P(MachineAtRest, goes_on_in_a_fresh_machine_with_the_same_memory) {
  in_child([this] {
    const Kvm kvm = take(Kvm::open());
    const auto first = subject_.make(kvm);
    Running running(*first);
    wait_for_clocks(running);
    take(first->pause());
    const MachineState saved = take(first->save_state());

    const auto second = subject_.make(kvm);
    take(second->pause());
    copy_memory(*first, *second, subject_.spec.memory);
    take(second->load_state(saved));
    want_equal(saved, take(second->save_state()));
    Running again(*second);
    wait_for_clocks(again);
    again.let_end();
    want(again.outcome() == "exit 0", again.outcome());
    pass();
  });
}

// Pauses fall anywhere: before a request, while a part of it is out, before its interrupt.
TEST_P(MachineAtRest, a_disk_goes_on_in_a_fresh_machine) {
  for (const char* how : {"modern msix read-only busy", "legacy pic read-only busy"}) {
    in_child([how] {
      const std::string path = fmt::format("/tmp/vmm-state-{}.img", getpid());
      {
        std::ofstream image(path, std::ios::binary);
        for (std::uint32_t at = 0; at < 64 * 128; ++at) {
          const std::uint32_t word = at / 128 << 16 | at % 128;
          image.write(reinterpret_cast<const char*>(&word), sizeof word);
        }
      }
      Subject subject = load("virtio-disk.elf", 1);
      subject.spec.boot.command_line = how;
      subject.spec.disks = {{.path = path, .read_only = true}};
      const Kvm kvm = take(Kvm::open());
      std::vector<std::unique_ptr<Machine>> machines;
      std::vector<std::unique_ptr<Running>> runs;
      const auto start = [&](std::unique_ptr<Machine> machine) {
        machines.push_back(std::move(machine));
        runs.push_back(std::make_unique<Running>(*machines.back()));
        runs.back()->wait_for("disk_reads", runs.back()->value("disk_reads") + 5);
      };
      start(subject.make(kvm));
      for (int generation = 0; generation < 5; ++generation) {
        for (int i = 0; i < 10; ++i) {
          take(machines.back()->pause());
          const MachineState same = take(machines.back()->save_state());
          take(machines.back()->load_state(same));
          want_equal(same, take(machines.back()->save_state()));
          take(machines.back()->resume());
        }
        take(machines.back()->pause());
        const MachineState saved = take(machines.back()->save_state());
        auto next = subject.make(kvm);
        take(next->pause());
        copy_memory(*machines.back(), *next, subject.spec.memory);
        take(next->load_state(saved));
        want_equal(saved, take(next->save_state()));
        start(std::move(next));
      }
      unlink(path.c_str());
      runs.back()->let_end();
      want(runs.back()->outcome() == "exit 0", runs.back()->outcome());
      pass();
    });
  }
}

TEST_P(MachineAtRest, the_guests_clocks_stand_still_while_it_is_paused) {
  in_child([this] {
    Busy busy(subject_);
    auto& [kvm, machine, running] = busy;
    take(machine->pause());
    const MachineState before = take(machine->save_state());
    const std::uint32_t pit_before = running.value("pit_ticks");
    std::this_thread::sleep_for(milliseconds(3000));
    // What the guest may see is the time between these two, and no more than that.
    const auto from = clock::now();
    take(machine->resume());
    running.wait_for("pit_ticks", pit_before + 1);
    take(machine->pause());
    const auto ran = clock::now() - from + milliseconds(500);
    const MachineState after = take(machine->save_state());
    const std::uint32_t pit_after = running.value("pit_ticks");

    const auto ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(ran).count());
    const auto within = [&](std::string_view what, std::uint64_t nanoseconds) {
      want(nanoseconds <= ns,
           fmt::format("{} saw {} ns, the guest ran {} ns", what, nanoseconds, ns));
    };
    within("the PIT", std::uint64_t{pit_after - pit_before} * 10'000'000);
    within("the board", number(after, "machine", "time") - number(before, "machine", "time"));
    if (GetParam() == IrqChipKind::User) {
      want(number(after, "lapic2", "expiry") == number(before, "lapic2", "expiry"),
           "the third processor's timer was set anew");
    } else {
      constexpr std::size_t kCurrentCount = 0x390;
      within("the LAPIC timer", std::uint64_t{lapic_register(before, 2, kCurrentCount) -
                                              lapic_register(after, 2, kCurrentCount)} *
                                    16);
    }
    within("kvmclock", number(after, "kvm", "clock") - number(before, "kvm", "clock"));
    const bool tsc_moves = !machine->what_cannot_stand_still().empty();
    for (unsigned i = 0; i < 3; ++i) {
      const std::string vcpu = fmt::format("vcpu{}", i);
      const std::uint64_t ticks = number(after, vcpu, "tsc") - number(before, vcpu, "tsc");
      const std::uint64_t saw = ticks / machine->tsc_khz() * 1'000'000;
      if (tsc_moves)
        want(saw > ns, "a TSC that is said to go on stood still");
      else
        within("the TSC", saw);
    }
    take(machine->resume());
    wait_for_clocks(running);
    running.let_end();
    want(running.outcome() == "exit 0", running.outcome());
    pass();
  });
}

TEST_P(MachineAtRest, a_vcpu_that_is_reset_waits_for_a_sipi_and_the_others_go_on) {
  in_child([this] {
    Busy busy(subject_);
    auto& [kvm, machine, running] = busy;
    take(machine->pause());
    take(machine->reset_vcpu(1));
    const CpuState cpu = take(machine->cpu_state(1));
    want(cpu.mp_state == KVM_MP_STATE_UNINITIALIZED, "it does not wait for a SIPI");
    want(cpu.regs.rip == 0xfff0 && cpu.sregs.cs.base == 0xffff0000,
         "it is not at its reset vector");
    want((cpu.sregs.cr0 & spec::CR0_PE) == 0 && cpu.sregs.efer == 0, "it is not in real mode");
    take(machine->resume());
    const std::uint32_t stood = running.value("other_ticks");
    running.wait_for("lapic_ticks", running.value("lapic_ticks") + 20);
    want(running.value("other_ticks") == stood, "its timer goes on");
    running.let_end();
    want(running.outcome() == "exit 0", running.outcome());
    pass();
  });
}

TEST_P(MachineAtRest, a_reset_takes_everything_back_to_power_on) {
  in_child([this] {
    const Kvm kvm = take(Kvm::open());
    const auto machine = subject_.make(kvm);
    const auto fresh = subject_.make(kvm);
    take(fresh->pause());
    for (unsigned i = 0; i < 3; ++i) take(fresh->reset_vcpu(i));
    const MachineState wanted = take(fresh->save_state());
    Running running(*machine);
    wait_for_clocks(running);
    take(machine->pause());
    for (unsigned i = 0; i < 3; ++i) take(machine->reset_vcpu(i));
    const MachineState reset = take(machine->save_state());
    want(number(reset, "vcpu0", "msr.175") == 0, "SYSENTER_ESP stays");
    want(take(machine->cpu_state(0)).mp_state == KVM_MP_STATE_RUNNABLE, "vCPU 0 does not run");
    std::string wrong;
    for (const std::string& line : diff(without_ppr(wanted), without_ppr(reset))) {
      if (!line.starts_with("vcpu") && !line.starts_with("lapic") && !line.starts_with("irqchip"))
        continue;
      // Time goes on, and the 8259A holds its line to the LAPICs as it did.
      if (line.find(".tsc:") != std::string::npos || line.find(".now:") != std::string::npos ||
          line.find(".lint0:") != std::string::npos)
        continue;
      wrong += line + "\n";
    }
    want(wrong.empty(), wrong);
    pass();
  });
}

TEST_P(MachineAtRest, after_s3_the_processor_and_kvms_chips_are_as_after_power_on) {
  const Subject subject = load("suspend.elf", 2);
  in_child([&subject] {
    const Kvm kvm = take(Kvm::open());
    const auto machine = subject.make(kvm);
    Running running(*machine);
    want(running.outcome() == fmt::format("exit {}", kStopped), running.outcome());
    take(machine->pause());
    const MachineState state = take(machine->save_state());
    if (GetParam() == IrqChipKind::User) {
      want(number(state, "lapic0", "svr") == 0xff, "the LAPIC is still enabled");
    } else {
      want(lapic_register(state, 0, 0xf0) == 0xff, "KVM's LAPIC is still enabled");
      want(lapic_register(state, 0, 0x380) == 0, "its timer still runs");
    }
    if (GetParam() == IrqChipKind::Kernel)
      want(number(state, "kvm", "pic_master.imr") == 0, "KVM's PIC keeps its mask");
    pass();
  });
}

// Nothing half-done is taken for a success.
TEST_P(MachineAtRest, each_ioctl_that_fails_is_named) {
  subject_ = load("clocks.elf", 1);
  in_child([this] {
    const Kvm kvm = take(Kvm::open());
    const auto machine = subject_.make(kvm);
    const auto expect_named = [&](const std::vector<std::string>& ioctls,
                                  const std::function<Result<void>()>& action) {
      for (const std::string& name : ioctls) {
        set_faults({{name, EIO, 1}});
        const Result<void> result = action();
        set_faults({});
        want(!result, name + " failed and nobody noticed");
        want(result.error().text().find(name) != std::string::npos, result.error().text());
      }
    };
    const bool kernel = GetParam() == IrqChipKind::Kernel;
    const bool lapic = GetParam() != IrqChipKind::User;
    std::vector<std::string> reads = {"KVM_GET_MSRS", "KVM_GET_CLOCK"};
    if (lapic) reads.emplace_back("KVM_GET_LAPIC");
    if (kernel) reads.insert(reads.end(), {"KVM_GET_IRQCHIP", "KVM_GET_PIT2", "KVM_SET_PIT2"});
    expect_named(reads, [&] { return machine->pause(); });
    take(machine->pause());
    const MachineState saved = take(machine->save_state());
    std::vector<std::string> saves = {"KVM_GET_REGS", "KVM_GET_DEBUGREGS", "KVM_GET_VCPU_EVENTS",
                                      "KVM_GET_MP_STATE", "KVM_GET_MSRS"};
    // A processor without XSAVE has none.
    const bool xcrs = take(kvm.capability(capability::XCRS)) != 0;
    if (xcrs) saves.emplace_back("KVM_GET_XCRS");
    expect_named(saves, [&]() -> Result<void> {
      VMM_TRY(machine->save_state());
      return {};
    });
    std::vector<std::string> loads = {"KVM_SET_REGS", "KVM_SET_VCPU_EVENTS", "KVM_SET_XSAVE",
                                      "KVM_SET_MP_STATE", "KVM_SET_DEBUGREGS"};
    if (xcrs) loads.emplace_back("KVM_SET_XCRS");
    if (lapic) loads.emplace_back("KVM_SET_LAPIC");
    if (kernel) loads.insert(loads.end(), {"KVM_SET_IRQCHIP", "KVM_SET_PIT2", "KVM_IRQ_LINE"});
    expect_named(loads, [&] { return machine->load_state(saved); });
    expect_named({"KVM_SET_CLOCK"}, [&] {
      VMM_CHECK(machine->load_state(saved), "it loads");
      return machine->resume();
    });
    pass();
  });
}

TEST_P(MachineAtRest, a_state_that_does_not_fit_is_refused_by_name) {
  in_child([this] {
    const Kvm kvm = take(Kvm::open());
    const auto machine = subject_.make(kvm);
    want(!machine->save_state(), "a machine that is not paused gives no state");
    take(machine->pause());
    MachineState state = take(machine->save_state());
    const auto expect = [&](const MachineState& wrong, std::string_view text) {
      const auto result = machine->load_state(wrong);
      want(!result && result.error().text().find(text) != std::string::npos,
           result ? "it was taken" : result.error().text());
    };
    MachineState shorter = state;
    shorter.blocks.pop_back();
    expect(shorter, "no 'vcpu2'");
    MachineState longer = state;
    longer.blocks.emplace_back("vcpu3", state.blocks.back().second);
    expect(longer, "'vcpu3'");
    MachineState other_field = state;
    other_field.blocks.back().second.fields[3].first = "rxx";
    expect(other_field, "load the state of 'vcpu2': field 'rdx' is missing");
    MachineState other_rate = state;
    for (auto& [name, value] : other_rate.blocks[0].second.fields)
      if (name == "tsc_khz") value = "0x1000";
    expect(other_rate, "4096 kHz");
    for (auto& [name, value] : state.blocks.back().second.fields)
      if (name == "xsave") value = "00";
    expect(state, "another shape");
    pass();
  });
}

INSTANTIATE_TEST_SUITE_P(Each, MachineAtRest,
                         testing::Values(IrqChipKind::User, IrqChipKind::Split,
                                         IrqChipKind::Kernel),
                         [](const auto& chosen) {
                           return std::string(irqchip_name(chosen.param));
                         });

}  // namespace
}  // namespace vmm
