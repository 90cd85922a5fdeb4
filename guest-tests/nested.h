// What the tests of guest hypervisors share.
#pragma once

#include <map>
#include <string>

#include "guest-tests/run_vmm.h"

namespace vmm {

// A test's name begins with the backend that it needs, svm or vmx: elsewhere it is skipped.
class Nested : public KvmTest {
 protected:
  void SetUp() override {
    KvmTest::SetUp();
    if (IsSkipped()) return;
    std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
    if (name.starts_with("DISABLED_")) name.erase(0, 9);
    const std::string backend = name.substr(0, name.find('_'));
    if (host_backend() != backend)
      GTEST_SKIP() << "this KVM is " << host_backend() << ", only " << backend
                   << " has what the guest needs: vmm lab start --backend " << backend;
  }
};

// What --kvm-trace has to tell of svm-hello and vmx-hello: how many exits of each reason L2 has on
// each processor. L1 gets all of them, and enters L2 as often.
void expect_kvm_trace_of_hello(const RunResult& run, const nlohmann::json& outcome,
                               unsigned processors, const std::map<std::string, unsigned>& reasons);
// And what stands in the lines of its trace; `cpuid` is the reason of L2's CPUID.
void expect_timeline_of_hello(const std::string& text, unsigned processors,
                              const std::string& cpuid);

}  // namespace vmm
