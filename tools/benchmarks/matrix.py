"""Cells a second: `vmm matrix run` against a shell loop over QEMU that runs the same guests, its exit codes looked
at as a script would; and how long the plan of 100 000 cells takes. The cells are the smallest guest there is, so
what is measured is the runner and the monitor's start and end."""
import os
import shutil
import subprocess
import sys
import tempfile
import time

from benchmarks import common

GUEST = common.guest("minimal")
CELLS = 100
LOOP = 20  # cells of the shell loop: QEMU takes its time


def matrix(folder, cells):
    path = os.path.join(folder, "cells-%d.toml" % cells)
    with open(path, "w") as file:
        file.write("[guest.minimal]\nkernel = \"%s\"\naxes = { mem = \"%s\" }\n" % (GUEST, common.MEMORY))
        file.write("[guest.minimal.args]\n")
        # At most 1024 values an axis.
        while cells > 1000:
            file.write("n%d = [%s]\n" % (cells, ", ".join(str(n) for n in range(100))))
            cells //= 100
        file.write("n = [%s]\n" % ", ".join(str(n) for n in range(cells)))
    return path


def vmm(folder, jobs):
    out = os.path.join(folder, "run")
    start = time.monotonic()
    subprocess.check_call([common.VMM, "matrix", "run", matrix(folder, CELLS), "--out", out, "-q", "-j", str(jobs)],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.monotonic() - start
    shutil.rmtree(out)
    return CELLS / wall


def shell_loop(machine):
    command = " ".join(common.qemu(GUEST, machine, "-append", "n=$n"))
    script = "for n in $(seq %d); do %s >$T/serial-$n.log 2>&1; [ $? = 1 ] || exit 1; done" % (LOOP, command)
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        if subprocess.call(["bash", "-c", script], env=dict(os.environ, T=folder), stdin=subprocess.DEVNULL):
            sys.exit("tools/bench: QEMU did not end as it should: " + command)
        return LOOP / (time.monotonic() - start)


def plan(folder):
    path = matrix(folder, 100000)
    start = time.monotonic()
    subprocess.check_call([common.VMM, "matrix", "plan", path], stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def main(runs):
    runs = runs or 5
    common.need(common.VMM, GUEST)
    with tempfile.TemporaryDirectory() as folder:
        subjects = {
            "vmm -j 2": lambda: vmm(folder, 2),
            "vmm -j 1": lambda: vmm(folder, 1),
            "qemu microvm, loop": lambda: shell_loop("microvm"),
            "qemu pc, loop": lambda: shell_loop("pc"),
        }
        results = {name: [] for name in subjects}
        for name in common.there_and_back(subjects, runs):
            results[name].append((subjects[name](),))
        rates = {name: common.medians(rows)[0] for name, rows in results.items()}
        print("%d interleaved runs of %d cells (the loop: %d), medians" % (runs, CELLS, LOOP))
        for name, rate in rates.items():
            print("%-20s %8.1f cells/s   %6.2f of vmm -j 2" % (name, rate, rate / rates["vmm -j 2"]))
        for peer in ("qemu microvm, loop", "qemu pc, loop"):
            print("vmm -j 2 / %-20s %6.2f times" % (peer, rates["vmm -j 2"] / rates[peer]))
        print("plan of 100000 cells: %.2f s" % common.medians([(plan(folder),) for _ in range(runs)])[0])
