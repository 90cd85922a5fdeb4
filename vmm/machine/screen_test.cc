#include "vmm/machine/screen.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/machine/terminal.h"

namespace vmm {
namespace {

class LiveScreenTest : public testing::Test {
 protected:
  void SetUp() override {
    master_ = Fd(posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
    char name[128];
    ASSERT_TRUE(master_ && grantpt(master_.get()) == 0 && unlockpt(master_.get()) == 0 &&
                ptsname_r(master_.get(), name, sizeof name) == 0);
    slave_ = Fd(::open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
    ASSERT_TRUE(slave_) << name;
    termios mode{};
    ASSERT_EQ(tcgetattr(slave_.get(), &mode), 0);
    cfmakeraw(&mode);  // what is written arrives as it is
    ASSERT_EQ(tcsetattr(slave_.get(), TCSANOW, &mode), 0);
  }
  void TearDown() override { restore_terminal(); }

  // A picture that tells its number.
  static VgaSnapshot picture(unsigned number) {
    VgaSnapshot snapshot;
    for (std::size_t i = 0; i < snapshot.cells.size(); ++i)
      snapshot.cells[i] = {static_cast<std::uint8_t>('0' + number / (i + 1) % 10), 7};
    return snapshot;
  }

  // Takes what the terminal has now.
  bool read_some() {
    char buffer[4096];
    const ssize_t n = ::read(master_.get(), buffer, sizeof buffer);
    if (n > 0) read_.append(buffer, static_cast<std::size_t>(n));
    return n > 0;
  }
  // The frames read so far, without what enters the alternate screen.
  std::vector<std::string> frames() const {
    constexpr std::string_view kEnter = "\x1b[?1049h\x1b[2J", kStart = "\x1b[H";
    EXPECT_TRUE(read_.starts_with(kEnter));
    std::vector<std::string> result;
    for (std::size_t at = kEnter.size(); at < read_.size();) {
      EXPECT_EQ(read_.compare(at, kStart.size(), kStart), 0);
      const std::size_t end = std::min(read_.find(kStart, at + 1), read_.size());
      result.push_back(read_.substr(at + kStart.size(), end - at - kStart.size()));
      at = end;
    }
    return result;
  }

  Fd master_, slave_;
  std::string read_;
};

TEST_F(LiveScreenTest, a_picture_is_drawn_once) {
  LiveScreen screen(slave_.get());
  for (int i = 0; i < 5; ++i) {
    screen.show(picture(7));
    while (read_some()) continue;
  }
  EXPECT_EQ(frames(), std::vector<std::string>{render_ansi(picture(7))});
}

// Nothing reads the terminal: each call has to come back all the same.
TEST_F(LiveScreenTest, pictures_that_the_terminal_does_not_take_are_dropped) {
  constexpr unsigned kPictures = 500;
  LiveScreen screen(slave_.get());
  for (unsigned i = 0; i < kPictures; ++i) screen.show(picture(i));
  // Reading goes on: what was begun arrives whole, then the newest.
  do {
    screen.show(picture(kPictures));
  } while (read_some());
  const auto drawn = frames();
  EXPECT_LT(drawn.size(), kPictures / 4);
  EXPECT_EQ(drawn.back(), render_ansi(picture(kPictures)));
  unsigned number = 0;
  for (const std::string& frame : drawn) {
    while (number < kPictures && frame != render_ansi(picture(number))) ++number;
    EXPECT_EQ(frame, render_ansi(picture(number)));
  }
}

TEST_F(LiveScreenTest, held_output_is_drawn_when_it_goes_on) {
  ASSERT_EQ(tcflow(slave_.get(), TCOOFF), 0);
  LiveScreen screen(slave_.get());
  for (unsigned i = 0; i < 10; ++i) screen.show(picture(i));
  EXPECT_FALSE(read_some());
  ASSERT_EQ(tcflow(slave_.get(), TCOON), 0);
  do {
    screen.show(picture(10));
  } while (read_some());
  EXPECT_EQ(frames(), std::vector<std::string>{render_ansi(picture(10))});
}

// A reader that is a little late, as every terminal is, gets the end as well.
TEST_F(LiveScreenTest, finishing_waits_for_a_slow_reader) {
  LiveScreen screen(slave_.get());
  for (unsigned i = 0; i < 500; ++i) screen.show(picture(i));
  std::atomic<bool> given_back{false};
  std::thread reader([&] {
    while (!given_back) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      read_some();
    }
    while (read_some()) continue;
  });
  screen.finish(10);
  restore_terminal();
  given_back = true;
  reader.join();
  EXPECT_TRUE(read_.ends_with("\x1b[0m\x1b[?25h\x1b[?1049l"));
}

TEST_F(LiveScreenTest, finishing_gives_up_on_a_terminal_that_nobody_reads) {
  LiveScreen screen(slave_.get());
  for (unsigned i = 0; i < 500; ++i) screen.show(picture(i));
  screen.finish(0.01);
}

TEST_F(LiveScreenTest, a_terminal_that_has_gone_delays_nobody) {
  LiveScreen screen(slave_.get());
  master_ = Fd();
  for (unsigned i = 0; i < 10; ++i) screen.show(picture(i));
  screen.finish(10);
}

TEST_F(LiveScreenTest, the_screen_is_given_back_once_and_without_waiting) {
  {
    LiveScreen screen(slave_.get());
    screen.show(picture(1));
    while (read_some()) continue;
  }
  read_.clear();
  restore_terminal();
  restore_terminal();
  while (read_some()) continue;
  EXPECT_EQ(read_, "\x1b[0m\x1b[?25h\x1b[?1049l");
  LiveScreen again(slave_.get());
  for (unsigned i = 0; i < 500; ++i) again.show(picture(i));
  restore_terminal();  // nobody reads
}

}  // namespace
}  // namespace vmm
