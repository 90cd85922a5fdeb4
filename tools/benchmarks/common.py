"""What the benchmarks share: where things are, how QEMU is started, who the host is."""
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VMM = ROOT + "/build/vmm"
MEMORY = "128M"


def guest(name):
    return "%s/build/guests/%s.elf" % (ROOT, name)


def need(*paths):
    for path in paths:
        if not os.path.exists(path):
            sys.exit("tools/bench: no %s: build first (tools/demo or cmake --build build)"
                     % os.path.relpath(path, ROOT))


def vmm(image, *options):
    return [VMM, "run", "-q", "--mem", MEMORY, *options, image]


def qemu(image, machine, *options):
    return ["qemu-system-x86_64", "-accel", "kvm", "-m", MEMORY, "-nodefaults", "-display", "none",
            "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-M", machine, *options,
            "-kernel", image]


def medians(rows):
    """The median of each column."""
    return [statistics.median(column) for column in zip(*rows)]


def there_and_back(subjects, runs):
    """Each subject `runs` times, in turn, every second round backwards: a host that gets slower
    over time treats the first and the last alike."""
    for run in range(runs):
        yield from subjects if run % 2 == 0 else list(subjects)[::-1]


def host_line():
    backend = [name for name in ("kvm_intel", "kvm_amd", "kvm_pvm")
               if os.path.exists("/sys/module/" + name)]
    version = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True)
    emulator = version.stdout.split("\n")[0].replace("QEMU emulator version", "QEMU")
    with open("/proc/cpuinfo") as cpuinfo:
        model = next((line.split(": ")[1].strip() for line in cpuinfo if "model name" in line), "?")
    return "Linux %s, %s, %d x %s, %s" % (os.uname().release, " ".join(backend) or "KVM",
                                          os.cpu_count(), model, emulator)
