#include "vmm/probe/guest/vmx.h"

#include <initializer_list>

namespace probe {
namespace vmx {
namespace {

constexpr uint32_t kBasic = 0x480;

struct alignas(4096) Page {
  uint8_t bytes[4096];
};
Page vmxon_region, vmcs_region, empty, ones[2], scratch;
struct alignas(4096) Table {
  uint64_t entry[512];
};
Table ept_root, ept_pointers, ept_directory, ept_pages;
bool on;

uint64_t at(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

uint64_t msr_or(uint32_t index, uint64_t otherwise) {
  uint64_t value = otherwise;
  return try_rdmsr(index, value) ? value : otherwise;
}

struct [[gnu::packed]] TableRegister {
  uint16_t limit;
  uint64_t base;
};

void write_host() {
  TableRegister gdtr, idtr;
  asm volatile("sgdt %0" : "=m"(gdtr));
  asm volatile("sidt %0" : "=m"(idtr));
  const auto* tss = reinterpret_cast<const uint16_t*>(gdtr.base + 0x28);
  const uint64_t tss_base =
      uint64_t{tss[1]} | (tss[2] & 0xffull) << 16 | (tss[3] & 0xff00ull) << 16;
  write(0x0c02, 0x08);  // CS
  for (const uint32_t field : {0x0c00u, 0x0c04u, 0x0c06u}) write(field, 0x10);
  for (const uint32_t field : {0x0c08u, 0x0c0au}) write(field, 0);
  write(0x0c0c, 0x28);
  write(0x6c00, read_cr0());
  write(0x6c02, read_cr3());
  write(0x6c04, read_cr4());
  write(0x6c0a, tss_base);
  write(0x6c0c, gdtr.base);
  write(0x6c0e, idtr.base);
  for (const uint32_t field : {0x4c00u, 0x6c06u, 0x6c08u, 0x6c10u, 0x6c12u, 0x2c04u, 0x2c06u})
    write(field, 0);
  write(0x2c00, rdmsr(0x277));
  write(0x2c02, rdmsr(spec::EFER));
  // The guest has the same tables and segments.
  write(0x6816, gdtr.base);
  write(0x4810, gdtr.limit);
  write(0x6818, idtr.base);
  write(0x4812, 0);  // and no handler of its own: every event is an exit
  write(0x6814, tss_base);
}

void write_guest(const Setting& s) {
  const uint32_t kSegments[] = {0x10, 0x08, 0x10, 0x10,
                                0,    0,    0,    0x28};  // ES CS SS DS FS GS LDTR TR
  const uint32_t kRights[] = {0xc093, 0xa09b, 0xc093, 0xc093, 0x10000, 0x10000, 0x10000, 0x8b};
  for (uint32_t i = 0; i < 8; ++i) {
    write(0x0800 + 2 * i, kSegments[i]);
    write(0x4800 + 2 * i, i == 7 ? 0x67 : 0xffffffff);
    write(0x4814 + 2 * i, kRights[i]);
    if (i != 7) write(0x6806 + 2 * i, 0);
  }
  write(0x6800, read_cr0());
  write(0x6802, read_cr3());
  write(0x6804, read_cr4());
  write(0x681a, 0x400);  // DR7
  write(0x681c, at(l2_stack_top));
  write(0x681e, reinterpret_cast<uint64_t>(s.code));
  write(0x6820, s.flags);
  write(0x2800, ~uint64_t{0});  // no shadow VMCS
  write(0x2804, rdmsr(0x277));
  write(0x2806, rdmsr(spec::EFER));
  write(0x4826, s.activity);
  for (const uint32_t field : {0x2802u, 0x2808u, 0x2812u, 0x2814u, 0x2818u, 0x4824u, 0x482au,
                               0x482eu, 0x6822u, 0x6824u, 0x6826u})
    write(field, 0);
}

void write_controls(const Setting& s) {
  write(0x4000, s.pin);
  write(0x4002, s.proc);
  write(0x401e, s.proc2);
  write(0x400c, s.exit);
  write(0x4012, s.entry);
  write(0x4004, 0xffffffff);  // every exception exits
  for (const uint32_t field : {0x4006u, 0x4008u, 0x400au, 0x400eu, 0x4010u, 0x4014u, 0x401au,
                               0x401cu, 0x2010u, 0x6000u, 0x6002u, 0x2018u})
    write(field, 0);
  write(0x4016, s.event);
  write(0x2018, s.functions);
  write(0x2000, at(&ones[0]));  // I/O bitmaps: every port exits
  write(0x2002, at(&ones[1]));
  write(0x2004, at(&empty));    // MSR bitmap: none does
  write(0x2012, at(&scratch));  // virtual APIC
  write(0x2014, 0xfee00000);    // APIC access
  write(0x2016, at(&scratch));  // posted interrupts
  write(0x0002, 0x40);
  write(0x200e, at(&scratch));  // page-modification log
  write(0x0812, 511);
  write(0x2026, at(&empty));  // VMREAD and VMWRITE bitmaps
  write(0x2028, at(&empty));
  write(0x202a, at(&scratch));       // #VE
  write(0x2032, uint64_t{1} << 48);  // TSC multiplier: 1
  write(0x2024, at(&scratch));       // EPTP list
  write(0x201a, s.eptp);
  write(0x0000, (s.proc2 & bit(5)) != 0 ? 1 : 0);
}

}  // namespace

bool write(uint32_t field, uint64_t value) {
  bool ok;
  asm volatile("vmwrite %1, %2" : "=@cca"(ok) : "r"(value), "r"(uint64_t{field}) : "memory");
  return ok;
}

uint64_t read(uint32_t field) {
  uint64_t value;
  asm volatile("vmread %1, %0" : "=r"(value) : "r"(uint64_t{field}) : "cc");
  return value;
}

bool is_on() { return on; }

uint32_t& Setting::word(uint32_t msr) {
  switch (msr) {
    case kPin:
      return pin;
    case kProc:
      return proc;
    case kProc2:
      return proc2;
    case kExit:
      return exit;
    default:
      return entry;
  }
}

Setting least() {
  Setting s = {};
  // Without the TRUE MSRs the plain ones tell (A.3 to A.5).
  const bool exact = (rdmsr(kBasic) >> 55 & 1) != 0;
  s.pin = static_cast<uint32_t>(rdmsr(exact ? kPin : 0x481));
  s.proc = static_cast<uint32_t>(rdmsr(exact ? kProc : 0x482));
  s.exit = static_cast<uint32_t>(rdmsr(exact ? kExit : 0x483)) | bit(9);
  s.entry = static_cast<uint32_t>(rdmsr(exact ? kEntry : 0x484)) | bit(9);
  s.proc2 = static_cast<uint32_t>(msr_or(kProc2, 0));
  s.flags = 2;
  s.code = l2_vmcall;
  return s;
}

Outcome run(const Setting& setting) {
  const uint64_t vmcs = at(&vmcs_region);
  asm volatile("vmclear %0\n\tvmptrld %0" : : "m"(vmcs) : "memory", "cc");
  write_host();
  write_guest(setting);
  write_controls(setting);
  Outcome outcome = {};
  outcome.failure = static_cast<uint32_t>(vmx_enter());
  if (outcome.failure == 2) outcome.error = static_cast<uint32_t>(read(0x4400));
  if (outcome.failure == 0) outcome.reason = static_cast<uint32_t>(read(0x4402));
  return outcome;
}

void use_ept(Setting& s, EptPages pages) {
  constexpr uint64_t kAll = 7, kExecute = 4, kWriteBack = 6 << 3, kLeaf = 0x80;
  s.proc |= bit(31);
  s.proc2 |= bit(1);
  ept_root.entry[0] = at(&ept_pointers) | kAll;
  ept_pointers.entry[0] =
      pages == EptPages::Big1G ? kAll | kWriteBack | kLeaf : at(&ept_directory) | kAll;
  for (uint64_t i = 0; i < 512; ++i) {
    ept_directory.entry[i] = i << 21 | kAll | kWriteBack | kLeaf;
    ept_pages.entry[i] = i << 12 | kAll | kWriteBack;
  }
  if (pages == EptPages::Small || pages == EptPages::ExecuteOnly)
    ept_directory.entry[0] = at(&ept_pages) | kAll;
  if (pages == EptPages::ExecuteOnly)
    ept_pages.entry[at(l2_page) >> 12] = at(l2_page) | kExecute | kWriteBack;
  s.eptp = at(&ept_root) | 3 << 3 | 6;  // four levels, write-back
}

}  // namespace vmx

// VMXON, as far as the processor lets it; what stands on it finds out by is_on().
void setup_vmx() {
  using namespace vmx;
  for (auto& page : ones)
    for (auto& byte : page.bytes) byte = 0xff;
  const Ending ending = guarded([](uint64_t) -> uint64_t {
    write_cr4(read_cr4() | spec::CR4_VMXE);
    const auto revision = static_cast<uint32_t>(rdmsr(0x480)) & 0x7fffffff;
    for (Page* page : {&vmxon_region, &vmcs_region})
      *reinterpret_cast<volatile uint32_t*>(page->bytes) = revision;
    const uint64_t region = at(&vmxon_region);
    bool ok;
    asm volatile("vmxon %1" : "=@cca"(ok) : "m"(region) : "memory");
    return ok ? 1 : 0;
  });
  on = !ending.faulted() && ending.result == 1;
}

}  // namespace probe
