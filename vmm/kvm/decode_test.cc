#include "vmm/kvm/decode.h"

#include <gtest/gtest.h>

#include <vector>

namespace vmm {
namespace {

class Decode : public testing::Test {
 protected:
  Decode() : page_(12288) {}
  kvm_run& run() { return *reinterpret_cast<kvm_run*>(page_.data()); }
  Exit decode() { return decode_exit(run(), page_); }
  template <typename T>
  T as() {
    const Exit exit = decode();
    EXPECT_TRUE(std::holds_alternative<T>(exit)) << to_string(exit);
    return std::holds_alternative<T>(exit) ? std::get<T>(exit) : T{};
  }
  alignas(16) std::vector<std::uint8_t> page_;
};

TEST_F(Decode, port_output_borrows_the_bytes_of_the_shared_page) {
  run().exit_reason = KVM_EXIT_IO;
  run().io.direction = KVM_EXIT_IO_OUT;
  run().io.size = 2;
  run().io.count = 3;
  run().io.port = 0x3f8;
  run().io.data_offset = 4096;
  page_[4096 + 5] = 0x77;
  const auto out = as<PioOut>();
  EXPECT_EQ(out.port, 0x3f8);
  EXPECT_EQ(out.data.size(), 6u);
  EXPECT_EQ(out.data[5], 0x77);
}

TEST_F(Decode, a_port_exit_that_points_outside_the_page_is_unknown) {
  run().exit_reason = KVM_EXIT_IO;
  run().io.direction = KVM_EXIT_IO_IN;
  run().io.size = 4;
  run().io.count = 0xffffffff;
  run().io.data_offset = 4096;
  as<UnknownExit>();
  run().io.count = 1;
  run().io.data_offset = 12288 - 3;
  as<UnknownExit>();
  run().io.size = 3;
  run().io.data_offset = 4096;
  as<UnknownExit>();
}

TEST_F(Decode, mmio_is_a_read_or_a_write_of_up_to_eight_bytes) {
  run().exit_reason = KVM_EXIT_MMIO;
  run().mmio.phys_addr = 0xb8000;
  run().mmio.len = 8;
  EXPECT_EQ(as<MmioRead>().data.size(), 8u);
  run().mmio.is_write = 1;
  EXPECT_EQ(as<MmioWrite>().gpa, 0xb8000u);
  run().mmio.len = 9;
  as<UnknownExit>();
}

TEST_F(Decode, internal_errors_carry_at_most_sixteen_words) {
  run().exit_reason = KVM_EXIT_INTERNAL_ERROR;
  run().internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
  run().internal.ndata = 1000;
  run().internal.data[15] = 9;
  const auto error = as<InternalError>();
  EXPECT_EQ(error.ndata, 16u);
  EXPECT_EQ(error.data[15], 9u);
}

TEST_F(Decode, plain_reasons_become_their_alternatives) {
  run().exit_reason = KVM_EXIT_SHUTDOWN;
  as<Shutdown>();
  run().exit_reason = KVM_EXIT_HLT;
  as<Halt>();
  run().exit_reason = KVM_EXIT_INTR;
  as<Interrupted>();
  run().exit_reason = KVM_EXIT_FAIL_ENTRY;
  run().fail_entry.hardware_entry_failure_reason = 0x80000021;
  EXPECT_EQ(as<FailEntry>().reason, 0x80000021u);
  run().exit_reason = 4711;
  EXPECT_EQ(as<UnknownExit>().reason, 4711u);
}

TEST_F(Decode, the_answer_to_an_msr_exit_goes_into_the_shared_page) {
  run().exit_reason = KVM_EXIT_X86_RDMSR;
  run().msr.index = 0x10;
  const auto read = as<MsrRead>();
  *read.value = 0x1234;
  *read.error = 1;
  EXPECT_EQ(run().msr.data, 0x1234u);
  EXPECT_EQ(run().msr.error, 1);
}

}  // namespace
}  // namespace vmm
