// What the probe tries, one line each: a name for the source, the feature that it shows, another
// feature that brings the same (or ""), and the ring that it begins in. The guest has a function
// exercise_NAME() for each.
//
// User exercises are one or two instructions: ring 3 runs them natively even where ring 0 is
// emulated. Kernel exercises switch something in a control register or an MSR and look whether it
// does what it is for.
#pragma once

#include <cstdint>

// clang-format off
#define VMM_PROBE_USER_EXERCISES(X)                         \
  X(fpu, "fpu", "")                                         \
  X(tsc, "tsc", "")                                         \
  X(cx8, "cx8", "")                                         \
  X(cmov, "cmov", "")                                       \
  X(clflush, "clflush", "")                                 \
  X(mmx, "mmx", "")                                         \
  X(fxsr, "fxsr", "")                                       \
  X(sse, "sse", "")                                         \
  X(sse2, "sse2", "")                                       \
  X(pni, "pni", "")                                         \
  X(ssse3, "ssse3", "")                                     \
  X(sse4_1, "sse4.1", "")                                   \
  X(sse4_2, "sse4.2", "")                                   \
  X(pclmulqdq, "pclmulqdq", "")                             \
  X(aes, "aes", "")                                         \
  X(sha_ni, "sha-ni", "")                                   \
  X(gfni, "gfni", "")                                       \
  X(popcnt, "popcnt", "")                                   \
  X(movbe, "movbe", "")                                     \
  X(cx16, "cx16", "")                                       \
  X(lahf_lm, "lahf-lm", "")                                 \
  X(rdrand, "rdrand", "")                                   \
  X(rdseed, "rdseed", "")                                   \
  X(rdtscp, "rdtscp", "")                                   \
  X(rdpid, "rdpid", "")                                     \
  X(bmi1, "bmi1", "")                                       \
  X(bmi2, "bmi2", "")                                       \
  X(abm, "abm", "")                                         \
  X(adx, "adx", "")                                         \
  X(clflushopt, "clflushopt", "")                           \
  X(clwb, "clwb", "")                                       \
  X(clzero, "clzero", "")                                   \
  X(rtm, "rtm", "")                                         \
  X(tsx_ldtrk, "tsx-ldtrk", "")                             \
  X(serialize, "serialize", "")                             \
  X(waitpkg, "waitpkg", "")                                 \
  X(movdiri, "movdiri", "")                                 \
  X(movdir64b, "movdir64b", "")                             \
  X(cmpccxadd, "cmpccxadd", "")                             \
  X(xsaveopt, "xsaveopt", "")                               \
  X(xsavec, "xsavec", "")                                   \
  X(xgetbv1, "xgetbv1", "")                                 \
  X(avx, "avx", "")                                         \
  X(f16c, "f16c", "")                                       \
  X(fma, "fma", "")                                         \
  X(avx2, "avx2", "")                                       \
  X(vaes, "vaes", "")                                       \
  X(vpclmulqdq, "vpclmulqdq", "")                           \
  X(avx_vnni, "avx-vnni", "")                               \
  X(avx_ifma, "avx-ifma", "")                               \
  X(avx_vnni_int8, "avx-vnni-int8", "")                     \
  X(avx_vnni_int16, "avx-vnni-int16", "")                   \
  X(avx_ne_convert, "avx-ne-convert", "")                   \
  X(sha512, "sha512", "")                                   \
  X(sm3, "sm3", "")                                         \
  X(sm4, "sm4", "")                                         \
  X(avx512f, "avx512f", "")                                 \
  X(avx512dq, "avx512dq", "")                               \
  X(avx512ifma, "avx512ifma", "")                           \
  X(avx512pf, "avx512pf", "")                               \
  X(avx512er, "avx512er", "")                               \
  X(avx512cd, "avx512cd", "")                               \
  X(avx512bw, "avx512bw", "")                               \
  X(avx512vl, "avx512vl", "")                               \
  X(avx512vbmi, "avx512vbmi", "")                           \
  X(avx512vbmi2, "avx512vbmi2", "")                         \
  X(avx512vnni, "avx512vnni", "")                           \
  X(avx512bitalg, "avx512bitalg", "")                       \
  X(avx512_vpopcntdq, "avx512-vpopcntdq", "")               \
  X(avx512_vp2intersect, "avx512-vp2intersect", "")         \
  X(avx512_bf16, "avx512-bf16", "")                         \
  X(avx512_fp16, "avx512-fp16", "")                         \
  X(amx_tile, "amx-tile", "")                               \
  X(sse4a, "sse4a", "")                                     \
  X(misalignsse, "misalignsse", "")                         \
  X(mmxext, "mmxext", "sse")                                \
  X(threednow, "3dnow", "")                                 \
  X(threednowext, "3dnowext", "")                           \
  X(xop, "xop", "")                                         \
  X(fma4, "fma4", "")                                       \
  X(tbm, "tbm", "")                                         \
  X(lwp, "lwp", "")

#define VMM_PROBE_KERNEL_EXERCISES(X)                       \
  X(lm, "lm", "")                                           \
  X(pae, "pae", "")                                         \
  X(msr, "msr", "")                                         \
  X(vme, "vme", "")                                         \
  X(de, "de", "")                                           \
  X(pse, "pse", "")                                         \
  X(mce, "mce", "")                                         \
  X(mca, "mca", "")                                         \
  X(pge, "pge", "")                                         \
  X(mtrr, "mtrr", "")                                       \
  X(pat, "pat", "")                                         \
  X(sep, "sep", "")                                         \
  X(apic, "apic", "")                                       \
  X(x2apic, "x2apic", "")                                   \
  X(tsc_deadline, "tsc-deadline", "")                       \
  X(tsc_adjust, "tsc-adjust", "")                           \
  X(syscall, "syscall", "")                                 \
  X(nx, "nx", "")                                           \
  X(pdpe1gb, "pdpe1gb", "")                                 \
  X(pcid, "pcid", "")                                       \
  X(invpcid, "invpcid", "")                                 \
  X(smep, "smep", "")                                       \
  X(smap, "smap", "")                                       \
  X(umip, "umip", "")                                       \
  X(pku, "pku", "")                                         \
  X(pks, "pks", "")                                         \
  X(fsgsbase, "fsgsbase", "")                               \
  X(monitor, "monitor", "")                                 \
  X(smx, "smx", "")                                         \
  X(xsave, "xsave", "")                                     \
  X(xsaves, "xsaves", "")                                   \
  X(xfd, "xfd", "")                                         \
  X(lam, "lam", "")                                         \
  X(fred, "fred", "")                                       \
  X(lkgs, "lkgs", "")                                       \
  X(wrmsrns, "wrmsrns", "")                                 \
  X(bus_lock_detect, "bus-lock-detect", "")                 \
  X(spec_ctrl, "spec-ctrl", "ibrs")                         \
  X(ibrs, "ibrs", "spec-ctrl")                              \
  X(ibpb, "ibpb", "spec-ctrl")                              \
  X(stibp, "stibp", "amd-stibp")                            \
  X(amd_stibp, "amd-stibp", "stibp")                        \
  X(ssbd, "ssbd", "amd-ssbd")                               \
  X(amd_ssbd, "amd-ssbd", "ssbd")                           \
  X(virt_ssbd, "virt-ssbd", "")                             \
  X(flush_l1d, "flush-l1d", "")                             \
  X(arch_capabilities, "arch-capabilities", "")             \
  X(core_capability, "core-capability", "")                 \
  X(pdcm, "pdcm", "")                                       \
  X(tsx_ctrl, "tsx-ctrl", "")                               \
  X(arch_lbr, "arch-lbr", "")                               \
  X(osvw, "osvw", "")                                       \
  X(fxsr_opt, "fxsr-opt", "")                               \
  X(tce, "tce", "")                                         \
  X(auto_ibrs, "auto-ibrs", "")                             \
  X(perfctr_core, "perfctr-core", "")                       \
  X(perfmon_v2, "perfmon-v2", "")                           \
  X(kvmclock, "kvmclock", "")                               \
  X(kvm_asyncpf, "kvm-asyncpf", "")                         \
  X(kvm_steal_time, "kvm-steal-time", "")                   \
  X(kvm_pv_eoi, "kvm-pv-eoi", "")                           \
  X(kvm_poll_control, "kvm-poll-control", "")               \
  X(kvm_asyncpf_int, "kvm-asyncpf-int", "")                 \
  X(vmx, "vmx", "")                                         \
  X(vmx_ept_execonly, "vmx-ept-execonly", "")               \
  X(vmx_page_walk_4, "vmx-page-walk-4", "")                 \
  X(vmx_ept_uc, "vmx-ept-uc", "")                           \
  X(vmx_ept_wb, "vmx-ept-wb", "")                           \
  X(vmx_ept_2mb, "vmx-ept-2mb", "")                         \
  X(vmx_ept_1gb, "vmx-ept-1gb", "")                         \
  X(vmx_eptad, "vmx-eptad", "")                             \
  X(vmx_invept, "vmx-invept", "")                           \
  X(vmx_invept_single, "vmx-invept-single", "")             \
  X(vmx_invept_all_context, "vmx-invept-all-context", "")   \
  X(vmx_invvpid, "vmx-invvpid", "")                         \
  X(vmx_invvpid_single_addr, "vmx-invvpid-single-addr", "") \
  X(vmx_invept_single_context, "vmx-invept-single-context", "") \
  X(vmx_invvpid_all_context, "vmx-invvpid-all-context", "") \
  X(vmx_invept_single_context_noglobals, "vmx-invept-single-context-noglobals", "") \
  X(vmx_activity_hlt, "vmx-activity-hlt", "")               \
  X(vmx_activity_shutdown, "vmx-activity-shutdown", "")     \
  X(vmx_activity_wait_sipi, "vmx-activity-wait-sipi", "")   \
  X(vmx_vmwrite_vmexit_fields, "vmx-vmwrite-vmexit-fields", "") \
  X(vmx_zero_len_inject, "vmx-zero-len-inject", "")         \
  X(vmx_any_errcode, "vmx-any-errcode", "")                 \
  X(vmx_eptp_switching, "vmx-eptp-switching", "")           \
  X(svm, "svm", "")                                         \
  X(npt, "npt", "")                                         \
  X(nrip_save, "nrip-save", "")                             \
  X(lbrv, "lbrv", "")                                       \
  X(tsc_scale, "tsc-scale", "")                             \
  X(pause_filter, "pause-filter", "")                       \
  X(vgif, "vgif", "")                                       \
  X(flushbyasid, "flushbyasid", "")
// clang-format on

#define VMM_PROBE_EXERCISES(X) VMM_PROBE_USER_EXERCISES(X) VMM_PROBE_KERNEL_EXERCISES(X)

namespace vmm::probe {

enum class Exercise : std::uint32_t {
#define VMM_PROBE_ENUMERATOR(name, feature, also) name,
  VMM_PROBE_EXERCISES(VMM_PROBE_ENUMERATOR)
#undef VMM_PROBE_ENUMERATOR
};

struct ExerciseInfo {
  const char* feature;
  const char* also;  // a feature that brings the same, or ""
  bool user;
};

constexpr ExerciseInfo kExercises[] = {
#define VMM_PROBE_USER(name, feature, also) {feature, also, true},
#define VMM_PROBE_KERNEL(name, feature, also) {feature, also, false},
    VMM_PROBE_USER_EXERCISES(VMM_PROBE_USER) VMM_PROBE_KERNEL_EXERCISES(VMM_PROBE_KERNEL)
#undef VMM_PROBE_USER
#undef VMM_PROBE_KERNEL
};

constexpr std::uint32_t kExerciseCount = sizeof(kExercises) / sizeof(kExercises[0]);

}  // namespace vmm::probe
