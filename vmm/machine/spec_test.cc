#include "vmm/machine/spec.h"

#include <gtest/gtest.h>

namespace vmm {
namespace {

TEST(Spec, serial_targets_are_understood_in_any_case) {
  EXPECT_EQ(parse_serial("STDIO")->kind, SerialKind::Stdio);
  EXPECT_EQ(parse_serial("null")->kind, SerialKind::Null);
  EXPECT_EQ(parse_serial("pty")->kind, SerialKind::Pty);
  EXPECT_EQ(parse_serial("file:/tmp/Log")->path, "/tmp/Log");
}

TEST(Spec, an_unknown_serial_target_names_the_nearest) {
  const auto result = parse_serial("stdoo");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::Usage);
  EXPECT_EQ(result.error().hint_text(), "did you mean stdio?");
  EXPECT_FALSE(parse_serial("file:"));
}

TEST(Spec, vga_takes_trap_with_every_kind) {
  EXPECT_TRUE(parse_vga("none,trap")->trap);
  EXPECT_TRUE(parse_vga("text,trap")->trap);
  EXPECT_FALSE(parse_vga("text")->trap);
  const auto png = parse_vga("png:a,b.png,trap");
  EXPECT_EQ(png->path, "a,b.png");
  EXPECT_TRUE(png->trap);
  EXPECT_FALSE(parse_vga("png:"));
  EXPECT_FALSE(parse_vga("svga"));
}

TEST(Spec, a_policy_has_three_names) {
  for (const CpuPolicy policy : {CpuPolicy::Strict, CpuPolicy::Mask, CpuPolicy::Force})
    EXPECT_EQ(*parse_policy(policy_name(policy)), policy);
  EXPECT_EQ(parse_policy("msk").error().hint_text(), "did you mean mask?");
}

TEST(Spec, the_repeat_line_can_be_pasted_into_a_shell) {
  EXPECT_EQ(shell_line({"vmm", "run", "--module", "env NR_CPUS=1", "it's.elf", ""}),
            "vmm run --module 'env NR_CPUS=1' 'it'\\''s.elf' ''");
}

}  // namespace
}  // namespace vmm
