"""Start to exit of the smallest guest: vmm against QEMU's microvm and pc. Prints, for each, the median of
wall time, CPU time and peak resident memory, and vmm's share of QEMU's."""
import os
import subprocess
import sys
import time

from benchmarks import common

GUEST = common.guest("minimal")
SUBJECTS = {
    "vmm": (common.vmm(GUEST), 0),
    "qemu microvm": (common.qemu(GUEST, "microvm"), 1),
    "qemu pc": (common.qemu(GUEST, "pc"), 1),
}


def peak_resident(pid, before):
    """Peak resident KiB of a process so far; `before` once it is gone. What wait4 gives would count
    this script as well, from which the process was forked."""
    try:
        with open("/proc/%d/status" % pid) as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return before


def run_once(command, expected):
    """Wall seconds, CPU seconds and peak resident KiB of one run."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    deadline = start + 60
    resident = 0
    while True:
        resident = peak_resident(process.pid, resident)
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > deadline:
            process.kill()
            sys.exit("tools/bench: no end after 60 s: " + " ".join(command))
        time.sleep(0.0002)
    wall = time.monotonic() - start
    code = os.waitstatus_to_exitcode(status)
    if code != expected:
        sys.exit("tools/bench: ended with %d, not %d: %s" % (code, expected, " ".join(command)))
    return wall, usage.ru_utime + usage.ru_stime, resident


def main(runs):
    runs = runs or 10
    common.need(common.VMM, GUEST)
    for command, expected in SUBJECTS.values():
        run_once(command, expected)  # once for the page cache
    results = {name: [] for name in SUBJECTS}
    for name in common.there_and_back(SUBJECTS, runs):
        results[name].append(run_once(*SUBJECTS[name]))
    medians = {name: common.medians(rows) for name, rows in results.items()}
    print("%d interleaved runs, medians; the smallest guest, %s of RAM" % (runs, common.MEMORY))
    print("%-14s %10s %10s %12s" % ("", "wall ms", "CPU ms", "peak RSS MiB"))
    for name, (wall, cpu, rss) in medians.items():
        print("%-14s %10.1f %10.1f %12.1f" % (name, wall * 1e3, cpu * 1e3, rss / 1024))
    for name in list(SUBJECTS)[1:]:
        shares = [mine / theirs for mine, theirs in zip(medians["vmm"], medians[name])]
        print("vmm / %-14s wall %.3f   CPU %.3f   RSS %.3f" % (name, *shares))
