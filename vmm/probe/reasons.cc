#include "vmm/probe/reasons.h"

#include <algorithm>
#include <span>

namespace vmm {
namespace {

struct Reason {
  std::string_view why;
  std::span<const std::string_view> features;
};

// Nothing that a guest does goes another way.
constexpr std::string_view kTells[] = {"hypervisor",
                                       "ht",
                                       "ia64",
                                       "cmp-legacy",
                                       "topoext",
                                       "kvm-hint-dedicated",
                                       "kvmclock-stable-bit",
                                       "fdp-excptn-only",
                                       "zero-fcs-fds",
                                       "vmx-true-ctls",
                                       "xsaveerptr",
                                       "kvm-nopiodelay",
                                       "kvm-mmu",
                                       "avx10",
                                       "avx10-128",
                                       "avx10-256",
                                       "avx10-512",
                                       "intel-pt-lip",
                                       "pn",
                                       "ss",
                                       "cid",
                                       "no-smm-ctl-msr"};

constexpr std::string_view kSpeed[] = {"erms", "fsrm", "fzrm", "fsrs", "fsrc", "fs-gs-base-ns"};

constexpr std::string_view kHints[] = {"hle",       "cldemote",      "prefetchiti",
                                       "prefetchi", "3dnowprefetch", "wbnoinvd"};

constexpr std::string_view kSilicon[] = {"rdctl-no",
                                         "ibrs-all",
                                         "rsba",
                                         "skip-l1dfl-vmentry",
                                         "ssb-no",
                                         "mds-no",
                                         "taa-no",
                                         "pschange-mc-no",
                                         "sbdr-ssdp-no",
                                         "fbsdp-no",
                                         "psdp-no",
                                         "fb-clear",
                                         "bhi-no",
                                         "pbrsb-no",
                                         "gds-no",
                                         "rfds-no",
                                         "rfds-clear",
                                         "its-no",
                                         "mcdt-no",
                                         "amd-no-ssb",
                                         "md-clear",
                                         "srso-no",
                                         "srso-user-kernel-no",
                                         "eraps",
                                         "sbpb",
                                         "ibpb-brtype",
                                         "ibrs-same-mode",
                                         "ibpb-ret",
                                         "verw-clear",
                                         "tsa-sq-no",
                                         "tsa-l1-no",
                                         "rrsba",
                                         "stibp-always-on",
                                         "no-nested-data-bp",
                                         "lfence-always-serializing",
                                         "null-sel-clr-base"};

constexpr std::string_view kSpeculation[] = {"intel-psfd", "ipred-ctrl", "rrsba-ctrl",
                                             "ddpd-u",     "bhi-ctrl",   "amd-psfd"};

constexpr std::string_view kPower[] = {"est", "tm2", "tm", "acpi", "arat", "pbe", "invtsc"};

constexpr std::string_view kTracing[] = {"dtes64", "ds-cpl", "ds", "intel-pt", "ibs", "wdt"};

constexpr std::string_view kChipset[] = {"xtpr", "dca", "extapic", "nodeid-msr", "perfctr-nb"};

constexpr std::string_view kMachineCheck[] = {"overflow-recov", "succor"};

constexpr std::string_view kOtherProcessors[] = {"kvm-pv-unhalt", "kvm-pv-tlb-flush", "kvm-pv-ipi",
                                                 "kvm-pv-sched-yield"};

constexpr std::string_view kHostEvents[] = {"kvm-asyncpf-vmexit", "kvm-msi-ext-dest-id"};

constexpr std::string_view kShadowStacks[] = {"shstk",     "ibt",     "cet-sss",    "xss-cet-u",
                                              "xss-cet-s", "svm-sss", "vmx-ept-sss"};

constexpr std::string_view kOtherModes[] = {"pse36", "cr8legacy"};

constexpr std::string_view kSgx[] = {"sgx",          "sgxlc",        "sgx1",
                                     "sgx2",         "sgx-edeccssa", "sgx-exinfo",
                                     "sgx-debug",    "sgx-mode64",   "sgx-provisionkey",
                                     "sgx-tokenkey", "sgx-kss",      "sgx-aex-notify"};

constexpr std::string_view kTiles[] = {"amx-bf16", "amx-int8", "amx-fp16", "amx-complex"};

constexpr std::string_view kWithdrawn[] = {"mpx", "pcommit", "avx512-4vnniw", "avx512-4fmaps"};

constexpr std::string_view kLa57[] = {"la57"};

constexpr std::string_view kSplitLock[] = {"split-lock-detect"};

constexpr std::string_view kCounters[] = {"full-width-write"};

constexpr std::string_view kSecureStart[] = {"skinit"};

constexpr std::string_view kInExits[] = {"vmx-ins-outs", "vmx-nested-exception",
                                         "vmx-ept-advanced-exitinfo", "vmx-store-lma"};

constexpr std::string_view kSvmQuiet[] = {"svm-lock",    "vmcb-clean",   "decodeassists",
                                          "pfthreshold", "avic",         "v-vmsave-vmload",
                                          "vnmi",        "svme-addr-chk"};

constexpr std::string_view kFiveLevels[] = {"vmx-page-walk-5"};

constexpr std::string_view kCentaur[] = {"xstore",  "xstore-en", "xcrypt", "xcrypt-en", "ace2",
                                         "ace2-en", "phe",       "phe-en", "pmm",       "pmm-en"};

constexpr Reason kReasons[] = {
    {"it only tells something: no instruction and no switch follows it", kTells},
    {"it is about speed, not about what happens", kSpeed},
    {"a hint: the instruction runs everywhere, and nothing shows what it did", kHints},
    {"it tells of speculation or of an erratum in the silicon, which a guest cannot see", kSilicon},
    {"its switch changes speculation, and silicon without it may ignore the write", kSpeculation},
    {"it is about power, heat or time over long spans", kPower},
    {"tracing needs buffers and interrupts, and no KVM passes it on without them", kTracing},
    {"it belongs to the chipset or the node", kChipset},
    {"it shows at a machine check only", kMachineCheck},
    {"its hypercall acts on other processors; the probe has one", kOtherProcessors},
    {"it shows when the host does something, not when the guest asks", kHostEvents},
    {"CET stays off in the probe: with it every CALL, RET and jump of its kernel would be checked, "
     "and "
     "no KVM here offers it",
     kShadowStacks},
    {"it shows outside of 64-bit mode only", kOtherModes},
    {"SGX needs memory of its own, which no KVM here gives", kSgx},
    {"the tiles would have to be configured first", kTiles},
    {"withdrawn: today the same bytes are a NOP or another instruction", kWithdrawn},
    {"of Centaur and Zhaoxin processors, which no model here copies", kCentaur},
    {"57-bit addresses are switched on outside of long mode only, and the probe starts inside",
     kLa57},
    {"a split lock may raise #AC in the host, which then slows the whole machine down", kSplitLock},
    {"it needs a performance counter that runs", kCounters},
    {"it is about details of rare exits, and the probe's own are simple ones", kInExits},
    {"EPT of five levels would need tables of its own, and no KVM here offers it", kFiveLevels},
    {"a guest of the probe's small kind runs the same with it and without", kSvmQuiet},
    {"SKINIT leaves a machine that no one can go on with", kSecureStart},
};

}  // namespace

std::optional<std::string_view> not_exercisable(std::string_view feature) {
  for (const Reason& reason : kReasons)
    if (std::ranges::find(reason.features, feature) != reason.features.end()) return reason.why;
  return std::nullopt;
}

}  // namespace vmm
