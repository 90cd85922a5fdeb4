// Any bytes as a file of `vmm vmcs`, and as a VMCS with all that its rules look at.
#include <algorithm>
#include <cstdint>

#include "vmm/base/check.h"
#include "vmm/core/cpuid_table.h"
#include "vmm/core/memory_fake.h"
#include "vmm/nested/blob.h"
#include "vmm/nested/ept_memory.h"
#include "vmm/nested/vmcs_text.h"
#include "vmm/nested/vmx_entry.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vmm;
  const std::span<const std::uint8_t> bytes(data, size);
  (void)nested::read_blob(bytes);

  // The fields' own bytes, then memory: the input over and over.
  nested::Vmcs vmcs = nested::empty_vmcs();
  std::size_t at = 0;
  for (const nested::VmcsFieldInfo& field : nested::vmcs_fields()) {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < field.bytes && at < size; ++i)
      value |= static_cast<std::uint64_t>(bytes[at++]) << (8 * i);
    vmcs.set(field.field, value);
  }
  FakeRam ram{64_KiB};
  for (std::size_t i = 0; size != 0 && i < ram.bytes().size(); ++i)
    ram.bytes()[i] = bytes[i % size];
  VMM_CHECK(!nested::vmcs_text(vmcs, true).empty(), "each field has its line");

  CpuidTable cpuid;
  cpuid.at(0x80000008).eax = size != 0 ? bytes[size - 1] : 39;
  const nested::VmxEntry entry{
      .vmcs = vmcs,
      .vmcs_address = 0x1000,
      .vmxon_address = 0x2000,
      .capabilities = nested::VmxCapabilities(
          {{0x480, 1ull << 55}, {0x485, 0x401e0}, {0x48c, 0xf0106334141}, {0x48d, 0x7f00000016}}),
      .cpuid = &cpuid,
      .memory = &ram};
  const nested::CheckReport report = nested::check_vm_entry(entry);
  VMM_CHECK(report.checked + report.unchecked.size() == 219,
            "each rule is checked or said not to be");
  VMM_CHECK(report.violations.size() < 5000, "a hostile VMCS does not fill the terminal for ever");

  const nested::EptMemory l2(ram, vmcs.get(nested::VmcsField::EptPointer),
                             nested::EptFeatures::from(0xf0106334141, 39, false));
  std::uint8_t some[5000];
  (void)l2.read(vmcs.get(nested::VmcsField::GuestPhysicalAddress), some);
  return 0;
}
