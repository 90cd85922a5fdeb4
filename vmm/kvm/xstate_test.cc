#include "vmm/kvm/xstate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

namespace vmm {
namespace {

using testing::HasSubstr;

TEST(GuestXstate, a_refusal_says_what_was_asked_and_why_not) {
  const Error error = guest_xstate_refused(kXtileData, EOPNOTSUPP);
  EXPECT_EQ(error.kind(), ErrorKind::Host);
  EXPECT_THAT(error.text(), HasSubstr("ARCH_REQ_XCOMP_GUEST_PERM: EOPNOTSUPP (component=18: this "
                                      "host's silicon, or its kernel, has no such state)"));
  EXPECT_THAT(guest_xstate_refused(kXtileData, EINVAL).text(), HasSubstr("older than 5.17"));
  EXPECT_THAT(guest_xstate_refused(kXtileData, EBUSY).text(), HasSubstr("has been made already"));
}

// No processor has component 62, so that every kernel refuses it.
TEST(GuestXstate, what_no_processor_has_is_refused) {
  const auto refused = permit_guest_xstate(62);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text(), HasSubstr("component=62"));
}

}  // namespace
}  // namespace vmm
