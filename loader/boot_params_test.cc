#include "loader/boot_params.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "loader/bzimage_header.h"
#include "loader/compressed_fake.h"
#include "loader/image_builder.h"

namespace vmm {
namespace {

using namespace testing_images;
using ::testing::HasSubstr;
namespace header = bzimage_header;

LoadedImage kernel() {
  auto image = parse(testing_packed::bzimage(minimal_elf<Class64>()));
  EXPECT_TRUE(image) << error_text(image);
  return std::move(*image);
}

struct Placed {
  GuestMemory memory = std::move(GuestMemory::create(64_MiB)).value();
  Result<CpuState> state;

  explicit Placed(const BootOptions& options, const LoadedImage& image = kernel())
      : state(place_image(image, options, memory)) {}
  template <typename T>
  T param(std::size_t at) const {
    return memory.read_value<T>(state->regs.rsi + at).value();
  }
};

TEST(BootParams, header_map_command_line_and_initrd_are_where_linux_looks) {
  BootOptions options;
  options.command_line = "console=ttyS0 panic=-1";
  options.initrd = pattern(10'000);
  const Placed placed(options);
  ASSERT_TRUE(placed.state) << error_text(placed.state);
  EXPECT_EQ(placed.param<std::uint32_t>(header::kHeader), header::kHdrS);
  EXPECT_EQ(placed.param<std::uint16_t>(header::kVersion), 0x20f);
  EXPECT_EQ(placed.param<std::uint8_t>(header::kTypeOfLoader), 0xff);
  EXPECT_EQ(placed.param<std::uint8_t>(0x1ef), 0);  // the sentinel
  const auto line = placed.param<std::uint32_t>(header::kCmdLinePtr);
  std::string text(22, ' ');
  for (std::size_t i = 0; i < text.size(); ++i)
    text[i] = placed.memory.read_value<char>(line + i).value();
  EXPECT_EQ(text, options.command_line);
  EXPECT_EQ(placed.memory.read_value<char>(line + 22), 0);
  const auto initrd = placed.param<std::uint32_t>(header::kRamdiskImage);
  EXPECT_EQ(placed.param<std::uint32_t>(header::kRamdiskSize), 10'000U);
  EXPECT_EQ(initrd % 4096, 0U);
  EXPECT_EQ(initrd, 64_MiB - 12'288);
  ByteVector bytes(10'000);
  ASSERT_TRUE(placed.memory.read(initrd, bytes));
  EXPECT_EQ(bytes, pattern(10'000));
  const std::vector<E820Entry> map = make_e820(placed.memory);
  ASSERT_EQ(placed.param<std::uint8_t>(0x1e8), map.size());
  for (std::size_t i = 0; i < map.size(); ++i) {
    EXPECT_EQ(placed.param<std::uint64_t>(0x2d0 + i * 20), map[i].base);
    EXPECT_EQ(placed.param<std::uint64_t>(0x2d0 + i * 20 + 8), map[i].size);
    EXPECT_EQ(placed.param<std::uint32_t>(0x2d0 + i * 20 + 16), map[i].type);
  }
}

TEST(BootParams, entry_state_is_that_of_the_64_bit_protocol) {
  const Placed placed({});
  ASSERT_TRUE(placed.state);
  const CpuState& state = *placed.state;
  EXPECT_EQ(state.regs.rip, 0x100010U);
  EXPECT_EQ(state.sregs.cs.selector, 0x10);
  EXPECT_EQ(state.sregs.cs.l, 1);
  for (const kvm_segment& s : {state.sregs.ds, state.sregs.es, state.sregs.ss})
    EXPECT_EQ(s.selector, 0x18);
  EXPECT_EQ(state.regs.rflags, 2U);
  EXPECT_NE(state.sregs.cr0 & (1ull << 31), 0U);
  // The descriptors in memory are the ones that the CPU holds.
  const auto code = placed.memory.read_value<std::uint64_t>(state.sregs.gdt.base + 0x10).value();
  EXPECT_EQ(code, 0x00af'9b00'0000'ffffU);
  EXPECT_EQ(state.sregs.gdt.limit, 0x2f);
}

TEST(BootParams, entry_state_is_that_of_the_32_bit_protocol) {
  ByteVector bytes = testing_packed::bzimage(pattern(0x300));
  const auto image = parse(bytes, with_protocol("linux32"));
  ASSERT_TRUE(image) << error_text(image);
  const Placed placed({}, *image);
  ASSERT_TRUE(placed.state) << error_text(placed.state);
  EXPECT_EQ(placed.state->regs.rip, 0x100'0000U);
  EXPECT_EQ(placed.state->sregs.cs.selector, 0x10);
  EXPECT_EQ(placed.state->sregs.cs.db, 1);
  EXPECT_EQ(placed.state->sregs.cr0, 0x11U);
  EXPECT_EQ(placed.state->regs.rbp | placed.state->regs.rdi | placed.state->regs.rbx, 0U);
  EXPECT_EQ(placed.param<std::uint32_t>(header::kHeader), header::kHdrS);
}

TEST(BootParams, screen_is_told_only_where_someone_looks) {
  BootOptions options;
  EXPECT_EQ(Placed(options).param<std::uint8_t>(0x07), 0);
  options.screen = true;
  const Placed placed(options);
  EXPECT_EQ(placed.param<std::uint8_t>(0x07), 80);
  EXPECT_EQ(placed.param<std::uint8_t>(0x0e), 25);
  EXPECT_EQ(placed.param<std::uint8_t>(0x0f), 1);
}

TEST(BootParams, initrd_larger_than_memory_is_an_image_error) {
  BootOptions options;
  options.initrd.resize(64_MiB);
  const Placed placed(options);
  ASSERT_FALSE(placed.state);
  EXPECT_EQ(placed.state.error().kind(), ErrorKind::Image);
  EXPECT_THAT(error_text(placed.state), HasSubstr("the initrd has 64 MiB"));
  EXPECT_THAT(hint_text(placed.state), HasSubstr("--mem"));
}

TEST(BootParams, kernel_that_needs_more_room_than_there_is_is_refused) {
  ByteVector bytes = testing_packed::bzimage(minimal_elf<Class64>());
  store<std::uint32_t>(bytes, header::kInitSize, 128U << 20);
  const auto image = parse(bytes);
  ASSERT_TRUE(image);
  const Placed placed({}, *image);
  ASSERT_FALSE(placed.state);
  EXPECT_THAT(error_text(placed.state), HasSubstr("needs 128 MiB"));
  EXPECT_THAT(hint_text(placed.state), HasSubstr("--mem 129M"));
}

TEST(BootParams, initrd_keeps_below_the_kernels_limit_and_the_line_below_its_length) {
  ByteVector bytes = testing_packed::bzimage(minimal_elf<Class64>());
  store<std::uint32_t>(bytes, header::kInitrdAddrMax, 0x1ff'ffff);
  store<std::uint32_t>(bytes, header::kCmdLineSize, 10);
  const auto image = parse(bytes);
  BootOptions options;
  options.initrd = pattern(100);
  options.command_line = "0123456789";
  const Placed placed(options, *image);
  ASSERT_TRUE(placed.state) << error_text(placed.state);
  EXPECT_EQ(placed.param<std::uint32_t>(header::kRamdiskImage), 0x1ff'f000U);
  options.command_line += "x";
  const Placed longer(options, *image);
  ASSERT_FALSE(longer.state);
  EXPECT_EQ(longer.state.error().kind(), ErrorKind::Usage);
  EXPECT_THAT(error_text(longer.state), HasSubstr("11 characters; this kernel takes 10"));
}

TEST(BootParams, modules_are_refused_with_what_linux_has_instead) {
  BootOptions options;
  options.modules = {{"m", "", {1}}};
  const Placed placed(options);
  ASSERT_FALSE(placed.state);
  EXPECT_THAT(hint_text(placed.state), HasSubstr("--initrd"));
  options = {};
  options.initrd = {1};
  const Placed other(options, *parse(minimal_multiboot1<Class32>()));
  EXPECT_THAT(hint_text(other.state), HasSubstr("--module FILE"));
}

TEST(BootParams, console_is_added_unless_the_line_names_one) {
  EXPECT_EQ(with_console("", false, false), "console=ttyS0");
  EXPECT_EQ(with_console("quiet", false, false), "console=ttyS0 quiet");
  EXPECT_EQ(with_console("quiet", true, false), "console=tty0 console=ttyS0 quiet");
  EXPECT_EQ(with_console("quiet", true, true), "console=ttyS0 console=tty0 quiet");
  EXPECT_EQ(with_console("console=hvc0", false, false), "console=hvc0");
  EXPECT_EQ(with_console("quiet console=", true, false), "quiet console=");
  EXPECT_EQ(with_console("netconsole=x earlyconsole", false, false),
            "console=ttyS0 netconsole=x earlyconsole");
}

}  // namespace
}  // namespace vmm
