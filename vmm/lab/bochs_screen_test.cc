#include "vmm/lab/bochs_screen.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>
#include <string>

namespace vmm {
namespace {

TEST(BochsScreen, is_the_other_end_of_the_terminal_that_the_process_made) {
  EXPECT_FALSE(open_terminal_of(::getpid())) << "none was made";
  const Fd made(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
  ASSERT_TRUE(made);
  EXPECT_FALSE(open_terminal_of(::getpid())) << "still locked";
  ASSERT_EQ(::unlockpt(made.get()), 0);
  const auto screen = open_terminal_of(::getpid());
  ASSERT_TRUE(screen);
  // More than a terminal keeps for one who does not read.
  const std::string refresh = "\x1b[?25l\x1b[?1c";
  std::size_t written = 0, read = 0;
  for (int i = 0; i < 20000; ++i) {
    const ssize_t n = ::write(made.get(), refresh.data(), refresh.size());
    ASSERT_GT(n, 0) << "full after " << written << " bytes";
    written += static_cast<std::size_t>(n);
    std::array<char, 4096> bytes{};
    for (ssize_t got = 0; (got = ::read(screen->get(), bytes.data(), bytes.size())) > 0;)
      read += static_cast<std::size_t>(got);
  }
  EXPECT_GT(read, written / 2) << "the last of it may be on the way";
  std::array<char, 16> echo{};
  EXPECT_EQ(::read(made.get(), echo.data(), echo.size()), -1) << "nothing comes back";
}

TEST(BochsScreen, of_a_process_that_is_gone_is_none) {
  EXPECT_FALSE(open_terminal_of(0x7fff'fff0));
}

}  // namespace
}  // namespace vmm
