#include "vmm/machine/flash_window.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/core/flash_store_fake.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class FlashWindowTest : public testing::Test {
 protected:
  std::uint8_t read(std::uint64_t offset = 0) {
    std::array<std::uint8_t, 1> data{};
    EXPECT_EQ(window.read(offset, data), Access::Ok);
    return data[0];
  }
  void write(std::uint8_t value, std::uint64_t offset = 0) {
    EXPECT_EQ(window.write(offset, std::vector{value}), Access::Ok);
  }
  void program(std::uint8_t value, std::uint64_t offset = 0) {
    write(0x10, offset);
    write(value, offset);
    write(0xff, offset);
  }

  FakeFlashStore store{PFlash::kBlockSize};
  std::vector<bool> changes;
  FlashWindow window{"vars", store, [this](bool memory) { changes.push_back(memory); }};
};

TEST_F(FlashWindowTest, is_memory_from_the_start_and_exits_from_the_first_command_on) {
  EXPECT_THAT(changes, IsEmpty());
  window.start();
  EXPECT_THAT(changes, ElementsAre(true));
  write(0x70);
  EXPECT_THAT(changes, ElementsAre(true, false));
  EXPECT_EQ(read(), 0) << "the status";
}

TEST_F(FlashWindowTest, command_that_changes_no_mode_leaves_it_memory) {
  window.start();
  write(0x50);
  write(0xff);
  EXPECT_THAT(changes, ElementsAre(true));
}

TEST_F(FlashWindowTest, programming_many_times_maps_nothing) {
  window.start();
  for (unsigned i = 0; i < 500; ++i) {
    program(0, i);
    EXPECT_EQ(read(i), 0);
  }
  EXPECT_THAT(changes, ElementsAre(true, false));
}

TEST_F(FlashWindowTest, reading_on_makes_it_memory_again) {
  window.start();
  program(0);
  for (unsigned i = 0; i + 1 < FlashWindow::kReadsToMap; ++i) (void)read();
  EXPECT_FALSE(window.is_memory());
  (void)read();
  EXPECT_THAT(changes, ElementsAre(true, false, true));
}

TEST_F(FlashWindowTest, reading_the_status_makes_no_memory) {
  window.start();
  write(0x70);
  for (unsigned i = 0; i < 1000; ++i) (void)read();
  EXPECT_FALSE(window.is_memory());
}

TEST_F(FlashWindowTest, saving_its_state_maps_nothing) {
  window.start();
  program(0);
  (void)save_state(window);
  EXPECT_THAT(changes, ElementsAre(true, false));
}

TEST_F(FlashWindowTest, reset_and_a_loaded_state_decide_anew) {
  window.start();
  write(0x98);
  const StateBlock query = save_state(window);
  window.reset();
  EXPECT_TRUE(window.is_memory());
  ASSERT_TRUE(load_state(window, query));
  EXPECT_FALSE(window.is_memory());
  EXPECT_EQ(read(0x10), 'Q');
}

}  // namespace
}  // namespace vmm
