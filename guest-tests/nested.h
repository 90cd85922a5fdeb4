// What the tests of guest hypervisors share.
#pragma once

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

}  // namespace vmm
