// Locks, and what is said of a host that is no longer what it was.
#include "vmm/cpu/drift.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "vmm/cpu/host_grant_fake.h"
#include "vmm/cpu/recorded_hosts_fake.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

CpuLock lock_of(std::string_view selection, const HostGrant& host,
                CpuPolicy policy = CpuPolicy::Strict) {
  const auto lock = make_cpu_lock(selection, policy, {}, host);
  EXPECT_TRUE(lock) << lock.error().text();
  return lock ? *lock : CpuLock{};
}

Drift drift_of(const CpuLock& lock, const HostGrant& host) {
  const auto drift = find_drift(lock, host);
  EXPECT_TRUE(drift) << drift.error().text();
  return drift ? *drift : Drift{};
}

// "+name" for what came, "-name" for what went.
std::vector<std::string> changes(const Drift& drift) {
  std::vector<std::string> result;
  for (const BitDrift& bit : drift.bits) result.push_back((bit.came ? "+" : "-") + bit.name);
  return result;
}

std::string text(const Drift& drift, const CpuLock& lock) {
  std::string result;
  for (const std::string& line : drift_lines(drift, lock)) result += line + "\n";
  return result;
}

TEST(CpuLock, what_was_written_reads_back_equal) {
  const HostGrant host = recorded_host("milan-linux-6.1");
  const auto lock =
      make_cpu_lock("EPYC-Milan,-avx,phys-bits=40", CpuPolicy::Mask, Topology{4, 1, 2, 2}, host);
  ASSERT_TRUE(lock) << lock.error().text();
  EXPECT_EQ(lock->selection, "epyc-milan@2,-avx,phys-bits=40");
  EXPECT_FALSE(lock->refused.empty());
  const auto again = parse_cpu_lock(cpu_lock_text(*lock), "a.lock");
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(again->selection, lock->selection);
  EXPECT_EQ(again->policy, lock->policy);
  EXPECT_EQ(again->topology, lock->topology);
  EXPECT_EQ(again->model_digest, lock->model_digest);
  EXPECT_EQ(again->words.cpuid, lock->words.cpuid);
  EXPECT_EQ(again->words.msrs, lock->words.msrs);
  EXPECT_EQ(again->refused, lock->refused);
  EXPECT_EQ(again->host, lock->host);
  EXPECT_EQ(cpu_lock_text(*again), cpu_lock_text(*lock));
  EXPECT_FALSE(drift_of(*again, host).guest_changed());
}

TEST(CpuLock, there_is_none_of_a_cpu_that_strict_refuses) {
  const auto lock =
      make_cpu_lock("epyc-milan", CpuPolicy::Strict, {}, recorded_host("milan-linux-6.1"));
  ASSERT_FALSE(lock);
  EXPECT_EQ(lock.error().kind(), ErrorKind::Host);
  EXPECT_THAT(lock.error().text(), HasSubstr("refuses 2 bits, the first is erms"));
}

TEST(CpuLock, a_file_that_was_edited_is_refused) {
  const CpuLock lock = lock_of("epyc", recorded_host("milan-linux-6.1"));
  const auto refusal = [&](const std::string& pointer, const nlohmann::json& value) {
    auto document = nlohmann::json::parse(cpu_lock_text(lock));
    document[nlohmann::json::json_pointer(pointer)] = value;
    const auto read = parse_cpu_lock(document.dump(), "a.lock");
    if (read) return std::string("read");
    EXPECT_EQ(read.error().kind(), ErrorKind::Usage);
    return read.error().text() + " | " + read.error().hint_text();
  };
  EXPECT_THAT(refusal("/words/cpuid/00000001.00", "00000000 00000000 00000000 00000000"),
              HasSubstr("words_digest: not the digest of 'words'"));
  EXPECT_THAT(refusal("/schema", "vmm-host-dump"), HasSubstr("vmm cpu verify LOCK --write"));
  EXPECT_THAT(refusal("/version", 7), HasSubstr("version 7 of schema 'vmm-cpu-lock'"));
  EXPECT_THAT(refusal("/policy", "lax"), HasSubstr("policy: 'lax' is not strict, mask or force"));
  EXPECT_THAT(refusal("/selection", "epyc,+no-such"), HasSubstr("selection: --cpu-model epyc"));
  EXPECT_THAT(refusal("/topology/cores", 65), HasSubstr("topology.cores: a whole number"));
  EXPECT_THAT(refusal("/topology", {{"sockets", 9}, {"cores", 8}, {"threads", 1}}),
              HasSubstr("topology: 72 vCPUs"));
  EXPECT_THAT(refusal("/refused", {{{"name", "a"}}}), HasSubstr("refused[0]: 'word' is missing"));
  EXPECT_THAT(refusal("/host/backend", 3), HasSubstr("host.backend: a number where a string"));
  EXPECT_THAT(refusal("/host/schema", "x"), HasSubstr("host: a document of schema 'x'"));
}

TEST(Drift, the_same_host_has_none) {
  for (const std::string& name : recorded_hosts())
    for (const char* const selection : {"host", "qemu64", "haswell,+pdpe1gb"}) {
      const HostGrant host = recorded_host(name);
      const CpuLock lock = lock_of(selection, host, CpuPolicy::Mask);
      const Drift drift = drift_of(lock, host);
      EXPECT_FALSE(drift.guest_changed()) << name << " " << selection;
      EXPECT_EQ(drift.words_digest, words_digest(lock.words));
      EXPECT_THAT(drift_lines(drift, lock), IsEmpty());
    }
}

TEST(Drift, a_kernel_is_named_with_what_it_took_and_brought) {
  const CpuLock lock = lock_of("host", recorded_host("milan-linux-6.1"));
  const Drift drift = drift_of(lock, recorded_host("milan-linux-6.18"));
  EXPECT_TRUE(drift.guest_changed());
  EXPECT_FALSE(drift.model_changed);
  EXPECT_THAT(changes(drift),
              ElementsAre("+shstk", "-spec-ctrl", "+xss-cet-u", "+xss-cet-s", "+ibrs-same-mode",
                          "+sbpb", "+ibpb-brtype", "+tsa-sq-no", "+tsa-l1-no"));
  EXPECT_THAT(text(drift, lock), HasSubstr("kernel  6.1 -> 6.18"));
  EXPECT_THAT(text(drift, lock),
              HasSubstr("spec-ctrl  7.0.EDX[26]  host kernel: kvm_amd of Linux 6.18 does not offer "
                        "it, Linux 6.1 did"));
  EXPECT_THAT(text(drift, lock), HasSubstr("80000000.EAX    80000021h -> 80000022h  the host"));
}

TEST(Drift, a_new_kernel_that_gives_the_same_guest_is_none) {
  const CpuLock lock = lock_of("epyc", recorded_host("milan-linux-5.10"));
  const Drift drift = drift_of(lock, recorded_host("milan-linux-6.18"));
  EXPECT_FALSE(drift.guest_changed());
  ASSERT_EQ(drift.host.size(), 1U);
  EXPECT_EQ(drift.host[0].what, "kernel");
}

TEST(Drift, a_quirk_that_came_back_reaches_the_guest_and_one_that_it_cannot_tell_does_not) {
  HostGrant then = recorded_host("milan-linux-6.1");
  then.quirks = 0x7f;
  const CpuLock lock = lock_of("epyc", then);
  EXPECT_EQ(lock.quirks_off, 0x6cU);
  EXPECT_EQ(parse_cpu_lock(cpu_lock_text(lock), "a.lock")->quirks_off, lock.quirks_off);
  HostGrant newer = then;
  newer.quirks = 0x7ff;
  const Drift more = drift_of(lock, newer);
  EXPECT_FALSE(more.guest_changed());
  EXPECT_THAT(text(more, lock), HasSubstr("stuff-feature-msrs is off, and was on  host kernel"));
  HostGrant fewer = then;
  fewer.quirks = 0x5f;
  const Drift less = drift_of(lock, fewer);
  EXPECT_TRUE(less.guest_changed());
  EXPECT_THAT(text(less, lock), HasSubstr("fix-hypercall-insn is on, and was off  host kernel: a "
                                          "VMCALL on AMD"));
  // One of a vmm that did not say is not compared.
  CpuLock silent = lock;
  silent.quirks_off.reset();
  EXPECT_THAT(drift_of(silent, fewer).quirks, IsEmpty());
}

TEST(Drift, a_module_parameter_is_named_with_the_bit_that_it_took) {
  HostGrant then = recorded_host("milan-linux-6.1");
  then.supported.at(0x80000001).ecx |= 1U << 2;
  then.supported.at(0x8000000a).edx = 1;
  then.module_parameters["kvm_amd.nested"] = "1";
  HostGrant now = recorded_host("milan-linux-6.1");
  now.module_parameters["kvm_amd.nested"] = "0";
  const CpuLock lock = lock_of("qemu64,+svm", then);
  const Drift drift = drift_of(lock, now);
  EXPECT_THAT(changes(drift), Contains("-svm"));
  EXPECT_THAT(text(drift, lock), HasSubstr("kvm_amd.nested  1 -> 0"));
  EXPECT_THAT(text(drift, lock), HasSubstr("module parameter kvm_amd.nested=0"));
  EXPECT_THAT(text(drift, lock), HasSubstr("it was 1 then"));
  // And the other way round, under mask.
  const CpuLock masked = lock_of("qemu64,+svm", now, CpuPolicy::Mask);
  const Drift back = drift_of(masked, then);
  EXPECT_THAT(changes(back), Contains("+svm"));
  EXPECT_THAT(text(back, masked), HasSubstr("it is 1 now"));
}

TEST(Drift, a_vmx_control_is_named_with_its_word) {
  HostGrant then = recorded_host("cascadelake-linux-6.1");
  then.supported.at(1).ecx |= 1U << 5;
  for (const auto& [index, value] : bochs_vmx_msrs()) then.feature_msrs[index] = value;
  then.module_parameters["kvm_intel.vpid"] = "Y";
  HostGrant now = then;
  now.feature_msrs[0x48b] &= ~(1ULL << (32 + 5));
  now.module_parameters["kvm_intel.vpid"] = "N";
  const CpuLock lock = lock_of("host,+vmx", then);
  const auto again = parse_cpu_lock(cpu_lock_text(lock), "a.lock");
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_FALSE(drift_of(*again, then).guest_changed());
  const Drift drift = drift_of(*again, now);
  EXPECT_THAT(changes(drift), Contains("-vmx-vpid"));
  EXPECT_THAT(text(drift, lock), HasSubstr("module parameter kvm_intel.vpid=N"));
  EXPECT_THAT(text(drift, lock), HasSubstr("MSR 48B"));
}

TEST(Drift, another_processor_is_named) {
  const CpuLock lock = lock_of("skylake-xeon", recorded_host("cascadelake-linux-6.1"));
  HostGrant now = recorded_host("icelake-linux-6.1");
  now.silicon = now.supported;
  const Drift drift = drift_of(lock, now);
  EXPECT_THAT(changes(drift), ElementsAre("-mpx"));
  EXPECT_EQ(drift.bits[0].cause, "silicon");
  EXPECT_THAT(text(drift, lock), HasSubstr("GenuineIntel 00050657h -> GenuineIntel 000606a6h"));
}

TEST(Drift, bits_without_backing_count_under_force) {
  const CpuLock lock = lock_of("epyc-milan", recorded_host("milan-linux-6.1"), CpuPolicy::Force);
  const Drift drift = drift_of(lock, recorded_host("milan-linux-5.10"));
  EXPECT_THAT(changes(drift), ElementsAre("-amd-psfd"));
  EXPECT_EQ(drift.words_digest, words_digest(lock.words));
}

TEST(Drift, a_model_that_changed_is_not_the_hosts_fault) {
  const HostGrant host = recorded_host("milan-linux-6.1");
  CpuLock lock = lock_of("epyc", host);
  lock.model_digest[0] = lock.model_digest[0] == '0' ? '1' : '0';
  lock.words.set(feature_id("avx2"), false);
  const Drift drift = drift_of(lock, host);
  EXPECT_TRUE(drift.model_changed);
  EXPECT_THAT(changes(drift), ElementsAre("+avx2"));
  EXPECT_EQ(drift.bits[0].cause, "vmm or the model file");
}

}  // namespace
}  // namespace vmm
