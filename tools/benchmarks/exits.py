"""What an exit costs: guest-tests/guests/bench_exits.cc under vmm and QEMU, with each interrupt chip.

The guest measures by its TSC, in batches; of each run the median batch counts, of all runs the
median. Beside it stands the least batch of all runs, which a busy host disturbs least, and the CPU
time that the monitor's threads took, by the host's books, between the guest's "begin" and "done".
"""
import glob
import os
import select
import statistics
import subprocess
import sys
import time

from benchmarks import common

GUEST = common.guest("bench-exits")
PAIRS = [("user", "off"), ("split", "split"), ("kernel", "on")]
LIMIT = 45  # seconds for one run
OPERATIONS = ["pio-in-unclaimed", "pio-in-port92", "pio-out-80", "mmio-unclaimed", "mmio-ioapic",
              "mmio-lapic", "ipi-self", "timer-tick", "ipi-awake", "ipi-asleep"]


def cpu_seconds(pid):
    """CPU time of all threads so far."""
    total = 0
    for path in glob.glob("/proc/%d/task/*/schedstat" % pid):
        try:
            with open(path) as stat:
                total += int(stat.read().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total / 1e9


class Run:
    """One run's numbers, by operation: nanoseconds of the median and least batch, CPU nanoseconds."""

    def __init__(self):
        self.khz = 0
        self.median, self.least, self.cpu = {}, {}, {}
        self.ticks = None
        self.began = 0.0

    def take(self, pid, words):
        kind, name, numbers = words[0], words[1], [int(word) for word in words[2:]]
        if kind == "tsc-khz":
            self.khz = int(name)
        elif kind == "begin":
            self.began = cpu_seconds(pid)
        elif kind == "done":
            self.cpu[name] = (cpu_seconds(pid) - self.began) * 1e9 / numbers[0]
        elif kind == "ticks":
            self.median[name], self.least[name] = (n * 1e6 / self.khz for n in numbers)
        elif kind == "late-ns":
            self.median[name], self.least[name] = numbers
        elif kind == "came":
            self.ticks = numbers[0]


def run_once(command, limit):
    """The numbers of one run; nothing when it does not end in time."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
    run, pending, deadline = Run(), b"", time.monotonic() + limit
    known = {"tsc-khz", "begin", "done", "ticks", "came", "late-ns"}
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            process.kill()
            process.wait()
            return None
        chunk = os.read(process.stdout.fileno(), 4096)
        if not chunk:
            break
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            words = line.decode(errors="replace").split()
            if words and words[0] in known:
                run.take(process.pid, words)
    if process.wait() not in (0, 1):
        sys.exit("tools/bench: ended with %d: %s" % (process.returncode, " ".join(command)))
    return run


def vmm_command(chip, processors):
    return common.vmm(GUEST, "--smp", str(processors), "--irqchip", chip)


def qemu_command(chip, processors):
    return common.qemu(GUEST, "pc,kernel-irqchip=" + chip, "-smp", str(processors), "-serial",
                       "stdio")


def subjects():
    """Commands by name. Where QEMU does not come up with two processors it gets one, and the reader
    is told."""
    commands = {}
    for ours, theirs in PAIRS:
        commands["vmm " + ours] = vmm_command(ours, 2)
        commands["qemu " + theirs] = qemu_command(theirs, 2)
        for name in ("vmm " + ours, "qemu " + theirs):
            if run_once(commands[name], LIMIT) is not None:
                continue
            if name.startswith("vmm"):
                sys.exit("tools/bench: no end after %d s: %s" % (LIMIT, " ".join(commands[name])))
            print("%s does not end with two processors on this host: one, and no IPIs between two"
                  % name)
            commands[name] = qemu_command(theirs, 1)
    return commands


def main(runs):
    runs = runs or 5
    common.need(common.VMM, GUEST)
    commands = subjects()
    results = {name: [] for name in commands}
    for name in common.there_and_back(commands, runs):
        run = run_once(commands[name], LIMIT)
        if run is None:
            print("a run of %s did not end" % name)
        else:
            results[name].append(run)

    print("%d interleaved runs; microseconds: median batch, least batch, CPU of all threads" % runs)
    print("(timer-tick: how late the handler is; CPU in a millisecond with one tick)")
    for ours, theirs in PAIRS:
        names = ("vmm " + ours, "qemu " + theirs)
        print("\n%-17s %27s %27s   %s" % ("", *names, "ratios"))
        for operation in OPERATIONS:
            columns = [summary(results[name], operation) for name in names]
            print_row(operation, columns)
        for name in names:
            ticks = [run.ticks for run in results[name] if run.ticks is not None]
            if ticks:
                print("%-17s %d of 2000 ticks came" % (name, statistics.median(ticks)))


def summary(rows, operation):
    rows = [row for row in rows if operation in row.median]
    if not rows:
        return None
    return (statistics.median(row.median[operation] for row in rows) / 1e3,
            min(row.least[operation] for row in rows) / 1e3,
            statistics.median(row.cpu[operation] for row in rows) / 1e3)


def print_row(operation, columns):
    cells = ["%9.2f%9.2f%9.2f" % column if column else "%27s" % "-" for column in columns]
    ratios = ""
    if all(columns):
        ratios = "%.2f  %.2f  %.2f" % tuple(a / b if b else 0 for a, b in zip(*columns))
    print("%-17s %s %s   %s" % (operation, *cells, ratios))
