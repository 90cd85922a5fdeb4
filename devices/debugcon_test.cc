#include "devices/debugcon.h"

#include <gtest/gtest.h>

#include "devices/port_access.h"
#include "devices/streams_fake.h"

namespace vmm {
namespace {

TEST(Debugcon, reads_e9h_so_that_guests_find_it) {
  Debugcon port("debugcon", nullptr);
  EXPECT_EQ(in(port, 0), 0xe9);
}

TEST(Debugcon, sends_each_byte) {
  FakeSink sink;
  Debugcon port("debugcon", &sink);
  for (const char c : std::string("hi\n")) out(port, 0, static_cast<unsigned char>(c));
  EXPECT_EQ(sink.text, "hi\n");
}

TEST(Debugcon, drops_and_counts_what_the_sink_refuses) {
  FakeSink sink;
  sink.room = 2;
  Debugcon port("debugcon", &sink);
  for (const char c : std::string("abcde")) out(port, 0, static_cast<unsigned char>(c));
  EXPECT_EQ(sink.text, "ab");
  EXPECT_EQ(port.state().dropped, 3u);
  port.reset();
  EXPECT_EQ(port.state().dropped, 0u);
}

}  // namespace
}  // namespace vmm
