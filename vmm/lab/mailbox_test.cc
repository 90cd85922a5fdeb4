// Both sides of the mailbox over one piece of memory, in one thread and in two.
#include "vmm/lab/mailbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <random>
#include <thread>

namespace vmm {
namespace {

using Bytes = std::vector<std::uint8_t>;

struct MailboxTest : testing::Test {
  Bytes image = Bytes(mailbox::kEnd);
  MappedMailboxDisk disk{image};
};

// An endpoint that offers `out` and collects what comes into `in`, at most `appetite` bytes a step.
struct Party {
  Bytes out;
  Bytes in;
  std::size_t appetite = SIZE_MAX;

  Result<bool> step(Mailbox& mailbox) {
    return mailbox.step(
        [&](std::span<const std::uint8_t> bytes) {
          const std::size_t n = std::min(bytes.size(), appetite);
          in.insert(in.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
          return n;
        },
        [&](std::span<std::uint8_t> bytes) {
          const std::size_t n = std::min(bytes.size(), out.size());
          std::copy_n(out.begin(), n, bytes.begin());
          out.erase(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(n));
          return n;
        });
  }
};

Bytes random_bytes(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  Bytes bytes(size);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
  return bytes;
}

TEST_F(MailboxTest, bytes_arrive_in_both_directions) {
  Mailbox host(MailboxSide::Host, disk);
  Mailbox lab(MailboxSide::Lab, disk);
  Party here{.out = {1, 2, 3}, .in = {}};
  Party there{.out = {9, 8}, .in = {}};
  ASSERT_TRUE(here.step(host).value());
  ASSERT_TRUE(there.step(lab).value());
  ASSERT_TRUE(here.step(host).value());
  EXPECT_THAT(there.in, testing::ElementsAre(1, 2, 3));
  EXPECT_THAT(here.in, testing::ElementsAre(9, 8));
}

TEST_F(MailboxTest, an_idle_mailbox_moves_nothing) {
  Mailbox host(MailboxSide::Host, disk);
  Party here;
  EXPECT_FALSE(here.step(host).value());
}

TEST_F(MailboxTest, a_reader_that_takes_little_gets_everything_and_stops_the_writer_at_a_ring) {
  Mailbox host(MailboxSide::Host, disk);
  Mailbox lab(MailboxSide::Lab, disk);
  const Bytes sent = random_bytes(mailbox::kRing + 12345, 1);
  Party here{.out = sent, .in = {}};
  Party there{.out = {}, .in = {}, .appetite = 0};
  while (here.step(host).value()) {
  }
  EXPECT_EQ(here.out.size(), 12345U);
  for (const std::size_t appetite : {1UL, 511UL, 513UL, 100000UL}) {
    there.appetite = appetite;
    for (int i = 0; i < 20; ++i) {
      ASSERT_TRUE(there.step(lab).has_value());
      ASSERT_TRUE(here.step(host).has_value());
    }
  }
  while (there.step(lab).value() || here.step(host).value()) {
  }
  EXPECT_EQ(there.in, sent);
}

TEST_F(MailboxTest, counters_survive_their_sector) {
  const MailboxCounters counters{.written = 0x1122334455667788, .taken = 42};
  EXPECT_EQ(decode_counters(encode_counters(counters)), counters);
}

TEST_F(MailboxTest, a_control_sector_that_is_half_written_is_no_news) {
  const MailboxCounters counters{.written = 255, .taken = 42};
  const MailboxSector good = encode_counters(counters);
  for (std::size_t byte = 0; byte < 28; ++byte)
    for (const unsigned flip : {0x01U, 0x80U, 0xffU}) {
      MailboxSector bad = good;
      bad[byte] = static_cast<std::uint8_t>(bad[byte] ^ flip);
      EXPECT_EQ(decode_counters(bad), std::nullopt) << byte;
    }
  EXPECT_EQ(decode_counters(Bytes(mailbox::kSector)), std::nullopt);
  EXPECT_EQ(decode_counters(std::span(good).first(100)), std::nullopt);
}

TEST_F(MailboxTest, counters_that_cannot_be_true_are_a_failure_of_the_lab) {
  for (const MailboxCounters lie :
       {MailboxCounters{.written = mailbox::kRing + 1, .taken = 0},
        MailboxCounters{.written = 0, .taken = 1}, MailboxCounters{.written = ~0ULL, .taken = 0}}) {
    Mailbox host(MailboxSide::Host, disk);
    const MailboxSector sector = encode_counters(lie);
    std::copy(sector.begin(), sector.end(), image.begin() + mailbox::kLabControl);
    Party here;
    const auto result = here.step(host);
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().kind(), ErrorKind::Lab);
  }
}

TEST_F(MailboxTest, a_counter_that_shrinks_is_a_failure_of_the_lab) {
  Mailbox host(MailboxSide::Host, disk);
  Party here;
  for (const std::uint64_t written : {100U, 99U}) {
    const MailboxSector sector = encode_counters({.written = written, .taken = 0});
    std::copy(sector.begin(), sector.end(), image.begin() + mailbox::kLabControl);
    EXPECT_EQ(here.step(host).has_value(), written == 100) << written;
  }
}

TEST_F(MailboxTest, a_disk_that_fails_ends_the_step) {
  struct Broken : MailboxDisk {
    Result<void> read(std::uint64_t, std::span<std::uint8_t>) override {
      return fail(Error::lab("the disk is gone"));
    }
    Result<void> write(std::uint64_t, std::span<const std::uint8_t>) override { return {}; }
  } broken;
  Mailbox lab(MailboxSide::Lab, broken);
  Party there;
  EXPECT_FALSE(there.step(lab).has_value());
}

// Two relays as in a lab: what one end of the host's socket says comes out of the lab's.
struct RelayTest : testing::Test {
  RelayTest() {
    for (auto* pair : {&host, &lab}) {
      int ends[2];
      EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
      (*pair)[0] = Fd(ends[0]);
      (*pair)[1] = Fd(ends[1]);
    }
    mapping = Mapping::anonymous(mailbox::kEnd).value();
  }
  void start() {
    for (const MailboxSide side : {MailboxSide::Host, MailboxSide::Lab})
      threads.emplace_back([this, side] {
        MappedMailboxDisk disk(mapping.bytes());
        EXPECT_TRUE(
            relay_mailbox(side, disk, side == MailboxSide::Host ? host[1] : lab[1]).has_value());
      });
  }
  void finish() {
    host[0].reset();
    lab[0].reset();
    for (auto& thread : threads) thread.join();
  }

  std::array<Fd, 2> host;
  std::array<Fd, 2> lab;
  Mapping mapping;
  std::vector<std::thread> threads;
};

TEST_F(RelayTest, an_echo_of_nine_megabytes_comes_back_whole) {
#if defined(VMM_TSAN)
  GTEST_SKIP() << "the two sides share memory as two processes do, not as threads do";
#endif
  start();
  const Bytes sent = random_bytes(9 << 20, 2);
  threads.emplace_back([&] {
    Bytes buffer(64 << 10);
    for (std::size_t left = sent.size(); left > 0;) {
      const ssize_t n = ::recv(lab[0].get(), buffer.data(), std::min(buffer.size(), left), 0);
      ASSERT_GT(n, 0);
      left -= static_cast<std::size_t>(n);
      ASSERT_EQ(::send(lab[0].get(), buffer.data(), static_cast<std::size_t>(n), MSG_NOSIGNAL), n);
    }
  });
  threads.emplace_back([&] {
    ASSERT_EQ(::send(host[0].get(), sent.data(), sent.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(sent.size()));
  });
  Bytes back;
  Bytes buffer(64 << 10);
  while (back.size() < sent.size()) {
    const ssize_t n = ::recv(host[0].get(), buffer.data(), buffer.size(), 0);
    ASSERT_GT(n, 0);
    back.insert(back.end(), buffer.begin(), buffer.begin() + n);
  }
  EXPECT_EQ(back, sent);
  finish();
}

}  // namespace
}  // namespace vmm
