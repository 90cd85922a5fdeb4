// Grants of real hosts from vmm/cpu/testdata, for tests.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "vmm/cpu/resolve.h"

namespace vmm {

inline HostGrant read_grant_fixture(const std::string& name) {
  HostGrant host;
  std::ifstream in("vmm/cpu/testdata/" + name + ".txt");
  EXPECT_TRUE(in) << "tests run in the root of the repository";
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string what;
    words >> what >> std::hex;
    if (what == "backend") {
      words >> what;
      host.backend = what == "vmx"   ? KvmBackend::Vmx
                     : what == "svm" ? KvmBackend::Svm
                                     : KvmBackend::Pvm;
    } else if (what == "kernel") {
      words >> host.kernel;
    } else if (what == "cpuid" || what == "silicon") {
      std::uint32_t leaf = 0;
      std::uint32_t subleaf = 0;
      CpuidRegs r;
      words >> leaf >> subleaf >> r.eax >> r.ebx >> r.ecx >> r.edx;
      (what == "cpuid" ? host.supported : host.silicon).at(leaf, subleaf) = r;
    } else if (what == "msr") {
      std::uint32_t index = 0;
      std::uint64_t value = 0;
      words >> index >> value;
      host.feature_msrs[index] = value;
    } else if (what == "parameter") {
      std::string key;
      std::string value;
      words >> key >> value;
      host.module_parameters[key] = value;
    } else if (what == "tsc-deadline") {
      host.tsc_deadline_timer = true;
    } else {
      EXPECT_TRUE(what.empty() || what == "#") << line;
      continue;
    }
    EXPECT_FALSE(words.fail()) << line;
  }
  host.max_vcpus = 64;
  return host;
}

// What kvm_intel of Linux 6.1 offers to guest hypervisors on Bochs' Skylake-X.
inline std::map<std::uint32_t, std::uint64_t> bochs_vmx_msrs() {
  return {{0x480, 0x00d8100011e57ed0},
          {0x481, 0x0000007f00000016},
          {0x482, 0xf7f9fffe0401e172},
          {0x483, 0x007fffff00036dff},
          {0x484, 0x0000f3ff000011ff},
          {0x485, 0x20000165},
          {0x486, 0x80000021},
          {0x488, 0x2000},
          {0x48a, 0x34},
          {0x48b, 0x02137bff00000000},
          {0x48c, 0x00000f0106334041},
          {0x48d, 0x0000007f00000016},
          {0x48e, 0xf7f9fffe04006172},
          {0x48f, 0x007fffff00036dfb},
          {0x490, 0x0000f3ff000011fb},
          {0x491, 1}};
}

// A host that grants all that has a name: for tests of what a model is.
inline HostGrant generous_grant() {
  HostGrant host;
  host.backend = KvmBackend::Vmx;
  host.tsc_deadline_timer = host.nested_state = true;
  for (const std::uint32_t leaf : {1U, 6U, 0x80000001U, 0x80000007U, 0x80000008U, 0x8000000aU,
                                   0x80000021U, 0x80000022U, 0x40000001U, 0xc0000001U})
    host.supported.at(leaf) = {~0U, ~0U, ~0U, ~0U};
  for (const std::uint32_t subleaf : {0U, 1U, 2U})
    host.supported.at(7, subleaf) = {~0U, ~0U, ~0U, ~0U};
  for (const std::uint32_t leaf : {0x12U, 0x14U, 0x24U})
    for (const std::uint32_t subleaf : {0U, 1U})
      host.supported.at(leaf, subleaf) = {~0U, ~0U, ~0U, ~0U};
  host.supported.at(0xd, 1) = {~0U, 0, ~0U, 0};
  for (const std::uint32_t index : {0x10aU, 0xcfU, 0x345U}) host.feature_msrs[index] = ~0ULL;
  return host;
}

}  // namespace vmm
