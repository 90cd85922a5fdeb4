// From a model's name to the CPUID and MSRs of a vCPU, checked against what the host grants.
//
//   selection ("haswell@4,+pdpe1gb") + topology + policy + HostGrant  ->  ResolvedCpu
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/core/cpuid_table.h"
#include "vmm/cpu/cpu_model.h"

namespace vmm {

enum class CpuPolicy { Strict, Mask, Force };
std::string_view policy_name(CpuPolicy policy);  // "strict", "mask", "force"

// Who has VT-x or SVM underneath /dev/kvm.
enum class KvmBackend { None, Vmx, Svm, Pvm, Unknown };
std::string_view backend_name(KvmBackend backend);  // "vmx", "svm", "pvm", "none", "unknown"

// What this host's KVM offers, as values: filled by vmm/machine/host.cc from vmm/kvm, or by a test.
struct HostGrant {
  KvmBackend backend = KvmBackend::None;
  std::string kernel;                                    // uname -r
  std::map<std::string, std::string> module_parameters;  // "kvm_intel.nested" -> "Y"
  CpuidTable supported;                                  // KVM_GET_SUPPORTED_CPUID
  CpuidTable silicon;                                    // CPUID executed on the host
  std::map<std::uint32_t, std::uint64_t> feature_msrs;  // KVM_GET_MSR_FEATURE_INDEX_LIST and values
  bool tsc_deadline_timer = false;                      // KVM_CAP_TSC_DEADLINE_TIMER
  bool nested_state = false;                            // KVM_CAP_NESTED_STATE != 0
  unsigned max_vcpus = 0;
  std::uint32_t quirks = 0;  // KVM_CAP_DISABLE_QUIRKS2: those that can be switched off
  bool operator==(const HostGrant&) const = default;
};

struct Topology {
  unsigned vcpus = 1;  // 1 to 64; sockets * cores * threads
  unsigned sockets = 1;
  unsigned cores = 1;
  unsigned threads = 1;
  bool operator==(const Topology&) const = default;
};

// "--smp N[,sockets=,cores=,threads=]": what is not given is derived, all cores of one socket by
// default. Usage errors for 0, more than 64, and products that do not match.
Result<Topology> parse_topology(std::string_view text);

// A wanted bit that the host does not give.
struct MissingBit {
  std::string name;        // "avx2", or "7.0.EBX[5]" for a bit without a name
  std::string word;        // "7.0.EBX[5]"
  std::string refused_by;  // "silicon", "host kernel", "module parameter kvm_intel.nested=N", ...
  std::string reason;      // in words
  std::string remedy;
  bool operator==(const MissingBit&) const = default;
};

struct CpuMsr {
  std::uint32_t index = 0;
  std::uint64_t value = 0;
  bool operator==(const CpuMsr&) const = default;
};

struct ResolvedCpu {
  std::string name;  // "haswell@4", "host"
  std::string text;  // the selection with its overrides, canonical: "haswell@4,+pdpe1gb"
  CpuPolicy policy = CpuPolicy::Strict;
  CpuidTable cpuid;  // of vCPU 0, after the policy
  std::vector<CpuMsr> msrs;
  std::vector<MissingBit> missing;  // what the host cannot give (strict: the run is refused)
  std::vector<std::string> notes;   // what the user should know once: phys-bits differ, ...
  std::string model_digest;         // SHA-256 of the model and its overrides, hex
  // What a model file and a selection say beside the words: wishes as they hold in the end, words
  // without names, and KVM's quirks that the CPU is to be without where KVM can do that.
  std::vector<CpuWish> wishes;
  std::optional<CpuOverride::Kind> width_wish;
  std::vector<CpuRawWord> raw;
  std::uint32_t quirks_off = 0;  // as in vmm/core/quirks.h
};

// What a host that does not fulfil a wish of a selection (require:, forbid:, phys-bits=host-exact)
// means: an error for those who want to run, a note for those who only look.
enum class Unmet { Refuse, Note };

// The names of all models that are built in, sorted; "host" is among them.
std::vector<std::string> model_names();

// Resolves `selection` (the argument of --cpu-model; a path with a '/' or ending in .toml is read
// as a model file). Host errors for what the selection requires or forbids of a host that is known.
// Usage errors name an unknown model or feature with the nearest name. Under Strict the caller
// refuses when `missing` is not empty.
Result<ResolvedCpu> resolve_cpu(std::string_view selection, CpuPolicy policy,
                                const Topology& topology, const HostGrant& host,
                                Unmet unmet = Unmet::Refuse);

// The text that `model_digest` is made over: canonical_text() in words.h, and the quirks that are
// not as usual. Errors as resolve_cpu().
Result<std::string> digest_text(std::string_view selection, const HostGrant& host);

// The APIC id of vCPU `vcpu` (< topology.vcpus): socket, core and thread fields, each as wide as
// its count needs, so ids have gaps where a count is no power of two. At most 127. KVM's LAPIC
// takes its id from KVM_CREATE_VCPU, so this is the id to create the vCPU with.
std::uint32_t apic_id_of_vcpu(const Topology& topology, unsigned vcpu);

// The table of one vCPU: APIC id in leaves 1, Bh and 1Fh. Never touches a feature bit.
CpuidTable cpuid_of_vcpu(const ResolvedCpu& cpu, const Topology& topology, unsigned vcpu);

constexpr std::uint32_t kMicrocodeRevision = 0x8b;  // IA32_BIOS_SIGN_ID
constexpr std::uint32_t kPlatformInfo = 0xce;       // MSR_PLATFORM_INFO

// The MSRs to give each vCPU, in order: `cpu.msrs`, and before them what is alike for every CPU of
// a vendor unless its model says otherwise, so that no guest reads what this KVM begins with: a
// microcode revision, and CPUID faulting.
std::vector<CpuMsr> msrs_of_vcpu(const ResolvedCpu& cpu);

// A CPU to look at rather than to run: with the nested capabilities that no bare name shows.
struct WholeCpu {
  ResolvedCpu cpu;  // under Force, one vCPU; `text` and `model_digest` are the selection's own
  std::string_view nesting;  // "vmx" or "svm" where it was added to the selection, else empty
  // Leaf limits of the selection alone: nesting that was added may raise them.
  std::uint32_t max_leaf = 0;
  std::uint32_t max_ext_leaf = 0;
};
// Errors as resolve_cpu(); a wish that the host does not fulfil is a note. `host` counts for the
// rule `host` and for notes only.
Result<WholeCpu> resolve_whole(std::string_view selection, const HostGrant& host);

// The lines of a refusal or a list: "avx2  7.0.EBX[5]  refused by silicon: ...; try ...".
std::vector<std::string> describe(const std::vector<MissingBit>& missing);

// KVM's quirks that this CPU is without on this host, and those that stay although it wants to be
// without them, with what a guest meets then.
std::vector<std::string> quirk_lines(const ResolvedCpu& cpu, const HostGrant& host);

}  // namespace vmm
