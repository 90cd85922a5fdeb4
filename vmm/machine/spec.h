// Everything about a run that can vary, as a plain struct: what the command line is turned into,
// and what the outcome records.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "loader/boot.h"
#include "vmm/core/irqchip.h"
#include "vmm/core/outcome.h"
#include "vmm/core/trace_filter.h"
#include "vmm/cpu/resolve.h"
#include "vmm/disk/disk.h"
#include "vmm/gdb/registers.h"
#include "vmm/machine/catch_spec.h"
#include "vmm/machine/debug_socket.h"
#include "vmm/machine/flash_file.h"

namespace vmm {

enum class SerialKind { Stdio, Null, File, Pty };
enum class VgaKind { None, Text, Png };

struct SerialTarget {
  SerialKind kind = SerialKind::Stdio;
  std::string path;  // of File
};

struct VgaTarget {
  VgaKind kind = VgaKind::None;
  std::string path;   // of Png
  bool trap = false;  // A0000h-BFFFFh is MMIO: each access exits and is traced
};

// The files that a guest is started from, as they were named.
struct ImageFiles {
  std::string firmware;                       // --firmware; empty: none
  std::string kernel;                         // may be empty with firmware
  std::vector<std::string> modules;           // "FILE args" each
  std::vector<std::string> initrds;           // one after the other
  std::vector<std::string> initrd_additions;  // "HOSTPATH=GUESTPATH" each
  std::string symbols;                        // an ELF file whose symbols are added
};

// What becomes of a guest whose processor cannot go on.
enum class OnCrash : std::uint8_t { End, Gdb };

// And of one that asks for a reset.
enum class OnReset : std::uint8_t { End, Reboot };

struct MachineSpec {
  ImageFiles images;
  BootOptions boot;  // protocol, flat address, command line; the images' content once read
  std::vector<DiskSpec> disks;   // in the order of their slots
  std::optional<VarsSpec> vars;  // --vars, with firmware only

  std::string cpu_model = "host";
  CpuPolicy cpu_policy = CpuPolicy::Strict;
  Topology topology;
  std::uint64_t memory = 256_MiB;
  std::optional<IrqChipKind> irqchip;  // nothing: auto
  std::uint8_t ioapic_version = 0x20;  // of our own IOAPIC: 20h, or 11h without an EOI register

  std::optional<std::uint32_t> tsc_khz;  // nothing: the host's

  bool testdev = false;                // --testdev
  bool compat_kvm_unit_tests = false;  // --compat kvm-unit-tests

  SerialTarget serial;
  VgaTarget vga;
  std::string trace;  // the timeline goes here; Chrome's form if it ends in .json
  TraceFilter trace_filter;
  bool kvm_trace = false;  // --kvm-trace

  std::optional<DebugAddress> ctl;    // --ctl
  std::optional<DebugAddress> gdb;    // --gdb
  bool gdb_nowait = false;            // --gdb-nowait
  OnCrash on_crash = OnCrash::End;    // --on-crash
  OnReset on_reset = OnReset::End;    // --on-reset
  std::vector<CatchSpec> catches;     // --catch
  std::optional<gdb::Arch> gdb_arch;  // --gdb-arch; by the image otherwise

  double timeout = 0;        // seconds, 0: none
  double stall_timeout = 0;  // seconds, 0: none
  ExitProtocol exit_protocol = ExitProtocol::Plain;
  std::string core;  // --core: a path, or nothing
  std::string outcome_json;
  bool lint_paging = false;
  bool quiet = false;

  std::vector<std::string> command_line;  // argv, to repeat the run
};

// "stdio", "null", "file:P", "pty".
Result<SerialTarget> parse_serial(std::string_view text);
// "none", "text" or "png:P", each with ",trap".
Result<VgaTarget> parse_vga(std::string_view text);
// "auto" (nothing), "user", "split" or "kernel".
Result<std::optional<IrqChipKind>> parse_irqchip(std::string_view text);
// "11" or "20".
Result<std::uint8_t> parse_ioapic_version(std::string_view text);
// "exit" or "gdb".
Result<OnCrash> parse_on_crash(std::string_view text);
// "exit" or "reboot".
Result<OnReset> parse_on_reset(std::string_view text);
// "x86-64", "i386" or "i8086".
Result<gdb::Arch> parse_gdb_arch(std::string_view text);
// A rate in kHz, 1 MHz to 10 GHz.
Result<std::uint32_t> parse_tsc_khz(std::string_view text);
// "strict", "mask" or "force".
Result<CpuPolicy> parse_policy(std::string_view text);
// The command as one shell line.
std::string shell_line(const std::vector<std::string>& arguments);

}  // namespace vmm
