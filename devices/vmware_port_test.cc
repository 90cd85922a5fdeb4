#include "devices/vmware_port.h"

#include <gtest/gtest.h>

#include "devices/port_access.h"
#include "vmm/base/bytes.h"

namespace vmm {
namespace {

struct Processor {
  std::uint32_t eax = 0x564d5868, ebx = 1, ecx = 10;
  bool there = true;
  VmwarePort port{"vmware-port",
                  {.ask = [this]() -> std::optional<VmwarePort::Question> {
                     if (!there) return std::nullopt;
                     return VmwarePort::Question{eax, ecx};
                   },
                   .set_ebx = [this](std::uint32_t value) { ebx = value; }}};
  std::uint32_t asks() {
    std::uint8_t bytes[4] = {};
    EXPECT_EQ(port.read(0, bytes), Access::Ok);
    return load<std::uint32_t>(bytes, 0);
  }
};

TEST(VmwarePort, tells_its_version) {
  Processor p;
  EXPECT_EQ(p.asks(), 6u);
  EXPECT_EQ(p.ebx, 0x564d5868u);
  p.ecx = 0xabcd000a;  // the command is CX
  EXPECT_EQ(p.asks(), 6u);
}

TEST(VmwarePort, leaves_the_registers_of_other_questions_alone) {
  Processor p;
  p.ecx = 0xfff;
  EXPECT_EQ(p.asks(), p.eax);
  p.ecx = 10;
  p.eax = 0x1234;
  EXPECT_EQ(p.asks(), 0x1234u);
  p.there = false;
  EXPECT_EQ(p.asks(), ~0u);
  EXPECT_EQ(p.ebx, 1u);
}

TEST(VmwarePort, has_one_width) {
  Processor p;
  std::uint8_t bytes[2];
  EXPECT_EQ(p.port.read(0, bytes), Access::BadWidth);
  EXPECT_EQ(p.port.write(0, bytes), Access::Ok);
}

}  // namespace
}  // namespace vmm
