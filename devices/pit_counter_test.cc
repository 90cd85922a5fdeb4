#include "devices/pit_counter.h"

#include <gtest/gtest.h>

#include <random>

namespace vmm {
namespace {

// The data sheet's counter, clock by clock, for comparison.
class ClockedCounter {
 public:
  bool out = true;
  bool null_count = false;
  long count = 0;  // meaningful while `loaded`
  bool loaded = false;

  void control(unsigned mode) {
    mode_ = mode;
    out = mode != 0;
    loaded = load_next_ = false;
    null_count = true;
    has_count_ = false;
  }
  void write(long value) {
    written_ = value;
    has_count_ = true;
    null_count = true;
    if (mode_ == 0) out = false;
    if (mode_ == 0 || mode_ == 4 || (!loaded && periodic())) load_next_ = true;
  }
  void gate(bool level) {
    const bool rising = level && !gate_;
    gate_ = level;
    if (periodic() && !level) out = true;
    if (rising && has_count_ && mode_ != 0 && mode_ != 4) load_next_ = true;
  }
  void clock() {
    if (load_next_) {
      load_next_ = false;
      load();
      if (mode_ == 1) out = false;
      if (periodic()) out = true;
      if (mode_ == 4 || mode_ == 5) out = true;
      return;
    }
    if (!loaded) return;
    if ((mode_ == 4 || mode_ == 5) && !out) out = true;
    const bool counts = gate_ || mode_ == 1 || mode_ == 5;
    if (!counts) return;
    if (mode_ == 3) {
      if (--left_in_half_ > 0) {
        count -= 2;
        return;
      }
      out = !out;
      const bool was_out = !out;
      load();
      if (was_out) left_in_half_ = period_ / 2;
      return;
    }
    --count;
    if (mode_ == 2) {
      if (count == 1) out = false;
      if (count == 0) {
        out = true;
        load();
      }
    } else if (count == 0) {
      if (!expired_) out = mode_ < 2;
      expired_ = true;
    }
  }

 private:
  bool periodic() const { return mode_ == 2 || mode_ == 3; }
  void load() {
    period_ = written_;
    count = mode_ == 3 ? period_ & ~1L : period_;
    left_in_half_ = (period_ + 1) / 2;
    loaded = true;
    expired_ = false;
    null_count = false;
  }

  unsigned mode_ = 0;
  bool gate_ = false;
  bool load_next_ = false;
  bool has_count_ = false;
  bool expired_ = false;
  long written_ = 0;
  long period_ = 0;
  long left_in_half_ = 0;
};

TEST(PitCounter, is_the_data_sheets_counter_clock_by_clock) {
  PitCounter counter(false);
  ClockedCounter model;
  std::int64_t now = 0;
  const auto status = [&] {
    counter.latch_status(now);
    return counter.read(now);
  };
  const auto count = [&] {
    counter.latch_count(now);
    const int low = counter.read(now);
    return low | counter.read(now) << 8;
  };
  const auto clock = [&] {
    ++now;
    model.clock();
  };
  for (unsigned seed = 0; seed < 100; ++seed) {
    std::mt19937 random(seed);
    const auto mode = static_cast<unsigned>(random() % 6);
    counter.write_control(static_cast<std::uint8_t>(0x30 | mode << 1), now);
    model.control(mode);
    bool gate = random() % 4 != 0;
    counter.set_gate(gate, now);
    model.gate(gate);
    const unsigned pace = seed % 2 == 0 ? 64 : 16;
    for (int step = 0; step < 2000; ++step) {
      const auto dice = static_cast<unsigned>(random());
      if (dice % pace == 0) {
        gate = !gate;
        counter.set_gate(gate, now);
        model.gate(gate);
      } else if (dice % pace == 1) {
        const long value = 2 + static_cast<long>(dice >> 8) % 20;
        counter.write(static_cast<std::uint8_t>(value), now);
        counter.write(0, now);
        model.write(value);
      }
      // Half of the events have the next one in the same clock.
      if (dice % pace > 1 || (dice >> 20) % 2 == 0) clock();
      const auto where = testing::Message()
                         << "seed " << seed << " mode " << mode << " step " << step;
      ASSERT_EQ(counter.out(now), model.out) << where;
      ASSERT_EQ((status() & 0x40) != 0, model.null_count) << where;
      if (model.loaded) {
        ASSERT_EQ(count(), model.count & 0xffff) << where;
      }
    }
  }
}

}  // namespace
}  // namespace vmm
