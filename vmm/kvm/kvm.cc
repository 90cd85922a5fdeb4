#include "vmm/kvm/kvm.h"

#include <cpuid.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <cstring>

#include "vmm/kvm/ioctls.h"
#include "vmm/kvm/varsized.h"

namespace vmm {

Result<Kvm> Kvm::open() {
  Kvm kvm;
  auto fd = Fd::open("/dev/kvm", O_RDWR, ErrorKind::Host);
  if (!fd) {
    Error error = std::move(fd).error();
    if (error.errno_value() == EACCES || error.errno_value() == EPERM)
      return fail(
          std::move(error).hint("join the group that owns /dev/kvm (usermod -aG kvm $USER), "
                                "or run as root"));
    return fail(
        std::move(error).hint("load a KVM module (modprobe kvm_intel or kvm_amd), and check that "
                              "virtualization is enabled "
                              "in the firmware or offered by the hypervisor this machine runs in"));
  }
  kvm.fd_ = std::move(*fd);
  const int version = VMM_TRY(kvm.fd_.ioctl(request::GET_API_VERSION));
  if (version != KVM_API_VERSION)
    return fail(Error::host(
        fmt::format("/dev/kvm speaks API version {}, not {}", version, KVM_API_VERSION)));
  const int size = VMM_TRY(kvm.fd_.ioctl(request::GET_VCPU_MMAP_SIZE));
  if (static_cast<std::size_t>(size) < sizeof(kvm_run))
    return fail(Error::host(fmt::format("KVM_GET_VCPU_MMAP_SIZE: {} bytes are too few", size)));
  kvm.run_size_ = static_cast<std::size_t>(size);
  return kvm;
}

Result<int> Kvm::capability(const Capability& capability) const {
  return fd_.ioctl(request::CHECK_EXTENSION, capability.number,
                   fmt::format("KVM_CAP_{}", capability.name));
}

Result<CpuidTable> Kvm::supported_cpuid() const {
  for (std::size_t count = 128; count <= 1024; count *= 2) {
    VarSized<kvm_cpuid2, kvm_cpuid_entry2> cpuid(count);
    cpuid->nent = static_cast<std::uint32_t>(count);
    auto result =
        fd_.ioctl(request::GET_SUPPORTED_CPUID, cpuid.get(), fmt::format("nent={}", count));
    if (result) return CpuidTable::from_kvm({cpuid->entries, cpuid->nent});
    if (result.error().errno_value() != E2BIG) return fail(std::move(result).error());
  }
  return fail(Error::host("KVM_GET_SUPPORTED_CPUID: more than 1024 entries"));
}

Result<std::map<std::uint32_t, std::uint64_t>> Kvm::feature_msrs() const {
  std::map<std::uint32_t, std::uint64_t> values;
  if (VMM_TRY(capability(capability::GET_MSR_FEATURES)) == 0) return values;
  constexpr std::size_t kMost = 512;
  VarSized<kvm_msr_list, std::uint32_t> list(kMost);
  list->nmsrs = kMost;
  VMM_TRY(fd_.ioctl(request::GET_MSR_FEATURE_INDEX_LIST, list.get()));
  for (std::uint32_t i = 0; i < list->nmsrs; ++i) {
    VarSized<kvm_msrs, kvm_msr_entry> msrs(1);
    msrs->nmsrs = 1;
    msrs->entries[0].index = list->indices[i];
    // Some listed MSRs cannot be read on some hosts (kvm_pvm: 10Ah); they are then not offered.
    if (fd_.ioctl_raw(request::GET_MSRS, reinterpret_cast<unsigned long>(msrs.get())) == 1)
      values[list->indices[i]] = msrs->entries[0].data;
  }
  return values;
}

Result<std::vector<std::uint32_t>> Kvm::state_msrs() const {
  constexpr std::size_t kMost = 2048;
  VarSized<kvm_msr_list, std::uint32_t> list(kMost);
  list->nmsrs = kMost;
  VMM_TRY(fd_.ioctl(request::GET_MSR_INDEX_LIST, list.get(), fmt::format("nmsrs={}", kMost)));
  return std::vector<std::uint32_t>(list->indices, list->indices + list->nmsrs);
}

CpuidTable native_cpuid(const CpuidTable& like) {
  CpuidTable table;
  const auto read = [&table](std::uint32_t leaf, std::uint32_t subleaf) {
    CpuidRegs regs;
    __cpuid_count(leaf, subleaf, regs.eax, regs.ebx, regs.ecx, regs.edx);
    table.at(leaf, subleaf) = regs;
    return regs;
  };
  const std::uint32_t max_basic = read(0, 0).eax;
  const std::uint32_t max_extended = read(0x80000000, 0).eax;
  for (const std::uint32_t leaf :
       {1u, 6u, 7u, 0x80000001u, 0x80000007u, 0x80000008u, 0x8000000au, 0x80000021u})
    if (leaf <= ((leaf & 0x80000000u) != 0 ? max_extended : max_basic)) read(leaf, 0);
  if (max_basic >= 0xd) {
    read(0xd, 0);
    read(0xd, 1);
  }
  if (max_basic >= 7 && table.get(7).eax >= 1) read(7, 1);
  if (max_basic >= 7 && table.get(7).eax >= 2) read(7, 2);
  for (const auto& [key, unused] : like.entries())
    if ((key.leaf >> 28) != 4 &&
        key.leaf <= ((key.leaf & 0x80000000u) != 0 ? max_extended : max_basic))
      read(key.leaf, key.subleaf);
  return table;
}

}  // namespace vmm
