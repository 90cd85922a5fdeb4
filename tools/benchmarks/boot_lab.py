"""The lab of tools/bench-boot and bench-uefi: QEMU's software SVM with Linux and kvm_amd in it, and the monitors to be
compared in its initramfs. (`vmm lab` runs nothing but vmm.)"""
import os
import re
import shlex
import stat
import subprocess
import sys
import threading
import time

from benchmarks import common

LINUX = common.ROOT + "/build/linux"
QEMU = "/usr/bin/qemu-system-x86_64"
# As vmm's own lab has it (vmm/lab/qemu_lock).
QEMU_LOCK = common.ROOT + "/build/bin/vmm-qemu-lock.so"
# The words with which vmm/lab/qemu.cc boots its lab quickly.
APPEND = ("console=ttyS0 panic=-1 quiet cryptomgr.notests nokaslr mitigations=off tsc=reliable "
          "no_timer_check 8250.nr_uarts=1")
FIRMWARE = {
    "/usr/share/seabios": ("bios-256k.bin", "bios-microvm.bin"),
    "/usr/share/qemu": ("linuxboot.bin", "linuxboot_dma.bin", "multiboot_dma.bin", "pvh.bin", "kvmvapic.bin"),
}


def kernel_name():
    """The release, which a bzImage's header leads to (kernel_version at 20Eh)."""
    with open(LINUX + "/vmlinuz", "rb") as image:
        start = image.read(0x8000)
    at = 0x200 + int.from_bytes(start[0x20e:0x210], "little")
    return start[at:at + 64].split(b" ")[0].decode(errors="replace")


class Cpio:
    """An initramfs in the making (newc)."""

    def __init__(self):
        self.data, self.seen = bytearray(), set()

    def entry(self, path, mode, content=b"", device=(0, 0)):
        name = path.strip("/")
        if name in self.seen:
            return
        if os.path.dirname(name):
            self.entry(os.path.dirname(name), stat.S_IFDIR | 0o755)
        self.seen.add(name)
        self._append(name, mode, content, device)

    def _append(self, name, mode, content, device):
        fields = (len(self.seen), mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0)
        self.data += b"070701" + b"".join(b"%08x" % field for field in fields)
        for part in (name.encode() + b"\0", content):
            self.data += part
            self.data += bytes(-len(self.data) % 4)

    def file(self, path, source):
        with open(source, "rb") as content:
            self.entry(path, stat.S_IFREG | 0o755, content.read())

    def program(self, path, source):
        """A program and the libraries that it names, where the loader looks for them."""
        self.file(path, source)
        libraries = subprocess.run(["ldd", source], capture_output=True, text=True).stdout
        for library in re.findall(r"(/\S+) \(0x", libraries):
            self.file(library, library)

    def write(self, path):
        self._append("TRAILER!!!", 0, b"", (0, 0))
        with open(path, "wb") as out:
            out.write(self.data)


def compiled(folder, name):
    """A static program of tools/benchmarks."""
    out = os.path.join(folder, name)
    subprocess.check_call(["gcc", "-O2", "-static", "-o", out,
                           "%s/tools/benchmarks/%s.c" % (common.ROOT, name)])
    return out


def guest_initramfs(folder):
    archive = Cpio()
    archive.entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.file("init", compiled(folder, "boot_init"))
    archive.write(folder + "/guest.cpio")
    return folder + "/guest.cpio"


def init_script(commands, limit, marker):
    lines = ["#!/bin/busybox sh", "/bin/busybox --install -s /bin", "export PATH=/bin HOME=/root",
             "mount -t proc proc /proc", "mount -t sysfs sysfs /sys", "mount -t devtmpfs devtmpfs /dev",
             "mkdir -p /dev/shm /tmp", "mount -t tmpfs tmpfs /dev/shm", "mount -t tmpfs tmpfs /tmp",
             "insmod /irqbypass.ko", "insmod /kvm.ko", "insmod /kvm-amd.ko nested=1",
             "[ -e /dev/kvm ] || echo 'bench: no /dev/kvm'"]
    for command in commands:
        lines += ["echo bench: start",
                  "boot_timer %d /tmp/log '%s' %s >/tmp/sample" % (limit, marker, shlex.join(command)),
                  'echo "bench: end $(cat /tmp/sample)"', "cat /tmp/log", "echo", "echo bench: log"]
    return "\n".join(lines + ["echo bench: done", "reboot -f", ""])


def lab_initramfs(folder, commands, limit, kvmtool, marker, files):
    archive = Cpio()
    archive.entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    for name in ("proc", "sys", "root", "tmp"):
        archive.entry(name, stat.S_IFDIR | 0o755)
    archive.file("bin/busybox", LINUX + "/root/bin/busybox")
    for module in ("irqbypass", "kvm", "kvm-amd"):
        archive.file(module + ".ko", "%s/modules/%s.ko" % (LINUX, module))
    archive.file("bin/boot_timer", compiled(folder, "boot_timer"))
    archive.program("vmm", common.VMM)
    archive.program(QEMU, QEMU)
    for directory, names in FIRMWARE.items():
        for name in names:
            archive.file(os.path.join(directory, name), os.path.join(directory, name))
    if kvmtool:
        archive.program("lkvm", kvmtool)
    archive.file("vmlinuz", LINUX + "/vmlinuz")
    archive.file("guest.cpio", guest_initramfs(folder))
    for path, source in files.items():
        archive.file(path, source)
    archive.entry("init", stat.S_IFREG | 0o755, init_script(commands, limit, marker).encode())
    archive.write(folder + "/lab.cpio")
    return folder + "/lab.cpio"


class Lab:
    """Boots the lab; it runs the commands and goes. Each counts as there once it has printed `marker` (the
    guest's console ends lines with CR LF; a kernel's message may stand before it). `files` are further
    ones in the lab: path there, path here."""

    def __init__(self, folder, commands, limit, kvmtool=None, marker="userspace\r", files=None):
        initramfs = lab_initramfs(folder, commands, limit, kvmtool, marker, files or {})
        self.process = subprocess.Popen(
            [QEMU, "-no-user-config", "-nodefaults", "-no-reboot", "-display", "none",
             "-accel", "tcg,thread=multi", "-machine", "q35,hpet=off,smbus=off,sata=off,usb=off",
             "-cpu", "max,+svm,+npt", "-smp", "2", "-m", "2048M", "-kernel", LINUX + "/vmlinuz",
             "-initrd", initramfs, "-append", APPEND, "-serial", "stdio"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace",
            env=dict(os.environ, LD_PRELOAD=QEMU_LOCK))
        # The lab's own kernel may stop for good.
        self.silence = 2 * limit

    def cpu_seconds(self):
        with open("/proc/%d/stat" % self.process.pid) as status:
            fields = status.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def watchdog(self):
        """Ends a lab that says nothing for too long."""
        timer = threading.Timer(self.silence, self.process.kill)
        timer.daemon = True
        timer.start()
        return timer

    def samples(self):
        """Each boot: seconds to the marker and to the exit by the lab's clock, processor time that the lab
        took for it by the host's, exit code, and what the monitor printed."""
        sample, log, before, begin = None, [], 0.0, 0.0
        watchdog = self.watchdog()
        for line in self.process.stdout:
            watchdog.cancel()
            watchdog = self.watchdog()
            line = line.rstrip("\r\n")
            if line == "bench: start":
                before, begin = self.cpu_seconds(), time.monotonic()
            elif line.startswith("bench: end "):
                cpu, wall = self.cpu_seconds() - before, time.monotonic() - begin
                values = dict(word.split("=") for word in line.split()[2:])
                sample, log = {"marker": float(values["marker"]), "exit": float(values["exit"])}, []
                sample = {key: value / 1e3 if value > 0 else value for key, value in sample.items()}
                sample.update(code=int(values["code"]), lab_cpu=cpu, outside=wall)
            elif line == "bench: log":
                sample["log"] = "\n".join(log)
                yield sample
            elif line == "bench: done":
                return
            else:
                log.append(line.rstrip("\r"))
        print(sys.argv[0] + ": the lab ended or fell silent too early; its console ended with:\n" +
              "\n".join(log[-15:]), file=sys.stderr)

    def end(self):
        """The lab has switched itself off after the last sample; one that has not is killed."""
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
