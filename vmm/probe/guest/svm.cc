// SVM: a VMCB, written anew for each entry, whose guest has the state of its host and runs a piece
// of svm_entry.S; and the exercises on it.

#include "vmm/probe/guest/vmx.h"

extern "C" {
void svm_enter(std::uint64_t vmcb);
void svm_l2_vmmcall();
void svm_l2_after();
void svm_l2_pause();
void svm_l2_clgi();
void svm_l2_debugctl();
}

namespace probe {
namespace {

// APM Vol. 2, appendices B and C.
constexpr uint32_t kVmHsavePa = 0xc0010117;
constexpr uint64_t kInvalid = ~uint64_t{0}, kExitVmmcall = 0x81;
constexpr uint64_t kInterceptPause = 1 << 23, kInterceptShutdown = uint64_t{1} << 31;
constexpr uint64_t kInterceptVmrun = 1, kInterceptVmmcall = 2;
constexpr uint64_t kVgif = 1 << 9, kVgifEnable = 1 << 25;

struct alignas(4096) Page {
  uint8_t bytes[4096];
  template <typename T>
  volatile T& at(unsigned offset) {
    return *reinterpret_cast<volatile T*>(bytes + offset);
  }
};
Page vmcb, host_save;
struct alignas(4096) Table {
  uint64_t entry[512];
};
Table nested_root, nested_pointers, nested_directory;

void write_segment(unsigned offset, uint16_t selector, uint16_t attributes) {
  vmcb.at<uint16_t>(offset) = selector;
  vmcb.at<uint16_t>(offset + 2) = attributes;
  vmcb.at<uint32_t>(offset + 4) = 0xffffffff;
}

struct [[gnu::packed]] TableRegister {
  uint16_t limit;
  uint64_t base;
};

// A guest that runs `code`; every exception exits, as a shutdown at the latest.
void prepare(void (*code)()) {
  wrmsr(spec::EFER, rdmsr(spec::EFER) | spec::EFER_SVME);
  wrmsr(kVmHsavePa, reinterpret_cast<uint64_t>(&host_save));
  vmcb = {};
  vmcb.at<uint32_t>(0x008) = 0xffffffff;
  vmcb.at<uint32_t>(0x00c) = static_cast<uint32_t>(kInterceptShutdown);
  vmcb.at<uint32_t>(0x010) = static_cast<uint32_t>(kInterceptVmrun | kInterceptVmmcall);
  vmcb.at<uint32_t>(0x058) = 1;  // ASID
  write_segment(0x400, 0x10, 0xc93);
  write_segment(0x410, 0x08, 0xa9b);
  write_segment(0x420, 0x10, 0xc93);
  write_segment(0x430, 0x10, 0xc93);
  TableRegister gdtr;
  asm volatile("sgdt %0" : "=m"(gdtr));
  vmcb.at<uint32_t>(0x464) = gdtr.limit;
  vmcb.at<uint64_t>(0x468) = gdtr.base;
  vmcb.at<uint64_t>(0x4d0) = rdmsr(spec::EFER);
  vmcb.at<uint64_t>(0x548) = read_cr4();
  vmcb.at<uint64_t>(0x550) = read_cr3();
  vmcb.at<uint64_t>(0x558) = read_cr0();
  vmcb.at<uint64_t>(0x560) = 0x400;       // DR7
  vmcb.at<uint64_t>(0x568) = 0xffff0ff0;  // DR6
  vmcb.at<uint64_t>(0x570) = 2;
  vmcb.at<uint64_t>(0x578) = reinterpret_cast<uint64_t>(code);
  vmcb.at<uint64_t>(0x5d8) = reinterpret_cast<uint64_t>(l2_stack_top);
  vmcb.at<uint64_t>(0x668) = rdmsr(0x277);  // PAT
}

uint64_t enter() {
  svm_enter(reinterpret_cast<uint64_t>(&vmcb));
  return vmcb.at<uint64_t>(0x070);
}

uint64_t verdict_of(uint64_t exit, bool condition = true) {
  if (exit == kInvalid) return kRefused;
  return with_detail(works_if(exit == kExitVmmcall && condition), static_cast<uint32_t>(exit));
}

}  // namespace

uint64_t exercise_svm() {
  prepare(svm_l2_vmmcall);
  return verdict_of(enter());
}

uint64_t exercise_npt() {
  prepare(svm_l2_vmmcall);
  constexpr uint64_t kAll = 7, kLeaf = 0x80;
  nested_root.entry[0] = reinterpret_cast<uint64_t>(&nested_pointers) | kAll;
  nested_pointers.entry[0] = reinterpret_cast<uint64_t>(&nested_directory) | kAll;
  for (uint64_t i = 0; i < 512; ++i) nested_directory.entry[i] = i << 21 | kAll | kLeaf;
  vmcb.at<uint64_t>(0x090) = 1;
  vmcb.at<uint64_t>(0x0b0) = reinterpret_cast<uint64_t>(&nested_root);
  return verdict_of(enter());
}

uint64_t exercise_nrip_save() {
  prepare(svm_l2_vmmcall);
  const uint64_t exit = enter();
  return verdict_of(exit, vmcb.at<uint64_t>(0x0c8) == reinterpret_cast<uint64_t>(svm_l2_after));
}

// The guest reads the VMCB's DEBUGCTL and not the host's.
uint64_t exercise_lbrv() {
  prepare(svm_l2_debugctl);
  vmcb.at<uint64_t>(0x0b8) = 1;
  vmcb.at<uint64_t>(0x670) = 1;
  const uint64_t exit = enter();
  return verdict_of(exit, (vmcb.at<uint64_t>(0x5f8) & 1) == 1);
}

// A ratio of 2.
uint64_t exercise_tsc_scale() {
  constexpr uint32_t kTscRatio = 0xc0000104;
  const uint64_t old = rdmsr(kTscRatio);
  wrmsr(kTscRatio, uint64_t{2} << 32);
  const bool kept = rdmsr(kTscRatio) == uint64_t{2} << 32;
  wrmsr(kTscRatio, old);
  return works_if(kept);
}

// The guest's first PAUSE is counted down and no exit.
uint64_t exercise_pause_filter() {
  prepare(svm_l2_pause);
  vmcb.at<uint32_t>(0x00c) = static_cast<uint32_t>(kInterceptShutdown | kInterceptPause);
  vmcb.at<uint16_t>(0x03e) = 100;
  return verdict_of(enter());
}

// CLGI of the guest clears V_GIF.
uint64_t exercise_vgif() {
  prepare(svm_l2_clgi);
  vmcb.at<uint64_t>(0x060) = kVgif | kVgifEnable;
  const uint64_t exit = enter();
  return verdict_of(exit, (vmcb.at<uint64_t>(0x060) & kVgif) == 0);
}

// TLB control 3: this ASID's entries.
uint64_t exercise_flushbyasid() {
  prepare(svm_l2_vmmcall);
  vmcb.at<uint32_t>(0x05c) = 3;
  return verdict_of(enter());
}

}  // namespace probe
