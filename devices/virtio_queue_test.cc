#include "devices/virtio_queue.h"

#include <gtest/gtest.h>

#include <string>

#include "devices/virtio_rings_fake.h"

namespace vmm {
namespace {

constexpr std::uint16_t kNext = FakeDescriptor::kNext, kWrite = FakeDescriptor::kWrite,
                        kIndirect = FakeDescriptor::kIndirect;

class VirtQueueTest : public testing::Test {
 protected:
  static constexpr std::uint16_t kSize = 8;
  static constexpr Gpa kBuffer = 0x20000, kTable = 0x30000;

  GuestMemory memory = std::move(GuestMemory::create(4_MiB)).value();
  FakeRings rings{memory, 0x10000, kSize};
  VirtQueueState queue{.size = kSize,
                       .enabled = true,
                       .descriptors = rings.descriptors,
                       .available = rings.available,
                       .used = rings.used};
  VirtQueueFeatures features{.indirect = true, .event_idx = false};

  VirtResult<std::optional<VirtChain>> next() {
    VirtChain chain;
    const auto found = next_chain(queue, memory, features, chain);
    if (!found) return tl::unexpected<std::string_view>(found.error());
    return *found ? std::optional(chain) : std::nullopt;
  }
  // The rule that the front chain breaks; empty when it breaks none.
  std::string broken_rule() {
    const auto chain = next();
    return chain ? std::string() : std::string(chain.error());
  }
  std::string rule_of(std::initializer_list<FakeDescriptor> descriptors) {
    rings.chain(0, descriptors);
    rings.start_at(0);
    queue.next_available = 0;
    rings.offer(0);
    return broken_rule();
  }
};

TEST_F(VirtQueueTest, an_empty_queue_has_no_chain) {
  const auto chain = next();
  ASSERT_TRUE(chain);
  EXPECT_FALSE(*chain);
}

TEST_F(VirtQueueTest, a_chain_lists_what_is_read_and_what_is_written) {
  rings.chain(2, {{kBuffer, 16}, {kBuffer + 64, 32}, {kBuffer + 0x1000, 512, kWrite}});
  rings.offer(2);
  const auto chain = next();
  ASSERT_TRUE(chain && *chain);
  EXPECT_EQ((*chain)->head, 2);
  ASSERT_EQ((*chain)->readable.size(), 2u);
  EXPECT_EQ((*chain)->readable_size, 48u);
  ASSERT_EQ((*chain)->writable.size(), 1u);
  EXPECT_EQ((*chain)->writable[0].address, kBuffer + 0x1000);
  EXPECT_EQ((*chain)->writable_size, 512u);
}

TEST_F(VirtQueueTest, a_chain_stays_at_the_front_until_it_is_used) {
  rings.chain(0, {{kBuffer, 16}});
  rings.chain(3, {{kBuffer, 24}});
  rings.offer(0);
  rings.offer(3);
  EXPECT_EQ((*next())->head, 0);
  EXPECT_EQ((*next())->head, 0);
  EXPECT_EQ(use_chain(queue, memory, features, 0, 7), true);
  EXPECT_EQ((*next())->head, 3);
  EXPECT_EQ(use_chain(queue, memory, features, 3, 0), true);
  EXPECT_FALSE(*next());
  EXPECT_EQ(rings.used_index(), 2);
  EXPECT_EQ(rings.used_element(0), (std::pair<std::uint32_t, std::uint32_t>(0, 7)));
  EXPECT_EQ(rings.used_element(1), (std::pair<std::uint32_t, std::uint32_t>(3, 0)));
}

TEST_F(VirtQueueTest, indices_wrap_around_the_ring_and_around_16_bits) {
  rings.start_at(0xfffd);
  queue.next_available = queue.next_used = 0xfffd;
  rings.put(rings.used + 2, std::uint16_t{0xfffd});
  for (std::uint16_t i = 0; i < 20; ++i) {
    const auto head = static_cast<std::uint16_t>(i % kSize);
    rings.chain(head, {{kBuffer, static_cast<std::uint32_t>(100 + i)}});
    rings.offer(head);
    const auto chain = next();
    ASSERT_TRUE(chain && *chain) << i;
    EXPECT_EQ((*chain)->head, head);
    EXPECT_EQ((*chain)->readable_size, 100u + i);
    ASSERT_TRUE(use_chain(queue, memory, features, head, i));
    const auto index = static_cast<std::uint16_t>(0xfffd + i);
    EXPECT_EQ(rings.used_index(), static_cast<std::uint16_t>(index + 1));
    EXPECT_EQ(rings.used_element(index), (std::pair<std::uint32_t, std::uint32_t>(head, i)));
  }
}

TEST_F(VirtQueueTest, an_indirect_table_stands_for_its_chain) {
  rings.describe_at(kTable, 0, {kBuffer, 16, kNext, 2});
  rings.describe_at(kTable, 2, {kBuffer + 0x1000, 1, kWrite, 0});
  rings.chain(0, {{kBuffer + 0x2000, 8}, {kTable, 48, kIndirect}});
  rings.offer(0);
  const auto chain = next();
  ASSERT_TRUE(chain && *chain) << chain.error();
  EXPECT_EQ((*chain)->readable_size, 24u) << "what stands before the table belongs to it";
  EXPECT_EQ((*chain)->writable_size, 1u);
}

TEST_F(VirtQueueTest, the_driver_may_want_no_interrupts) {
  rings.chain(0, {{kBuffer, 16}});
  rings.put(rings.available, std::uint16_t{1});
  rings.offer(0);
  ASSERT_TRUE(*next());
  EXPECT_EQ(use_chain(queue, memory, features, 0, 0), false);
}

TEST_F(VirtQueueTest, with_event_indices_each_side_says_when_it_wants_to_hear) {
  features.event_idx = true;
  const Gpa used_event = rings.available + 4 + 2 * kSize, avail_event = rings.used + 4 + 8 * kSize;
  rings.chain(0, {{kBuffer, 16}});
  rings.put(used_event, std::uint16_t{1});
  rings.offer(0);
  ASSERT_TRUE(*next());
  EXPECT_EQ(use_chain(queue, memory, features, 0, 0), false) << "index 1 is not passed yet";
  EXPECT_FALSE(*next());
  EXPECT_EQ(rings.get<std::uint16_t>(avail_event), 1) << "the next one has to be notified";
  rings.offer(0);
  ASSERT_TRUE(*next());
  EXPECT_EQ(use_chain(queue, memory, features, 0, 0), true);
}

TEST_F(VirtQueueTest, every_rule_that_a_chain_can_break_is_named) {
  EXPECT_EQ(rule_of({{kBuffer, 0}}), "a descriptor has no bytes");
  EXPECT_EQ(rule_of({{4_MiB - 8, 16}}), "a descriptor is not in RAM");
  EXPECT_EQ(rule_of({{4_MiB, 1}}), "a descriptor is not in RAM");
  EXPECT_EQ(rule_of({{~Gpa{0} - 7, 16}}), "a descriptor is not in RAM") << "wraps to address 8";
  EXPECT_EQ(rule_of({{kBuffer, 0xffff'ffff}}), "a descriptor is not in RAM");
  EXPECT_EQ(rule_of({{kBuffer, 16, kWrite}, {kBuffer, 16}}),
            "a descriptor to be read follows one to be written");
  EXPECT_EQ(rule_of({{kBuffer, 16}}), "");
}

TEST_F(VirtQueueTest, a_loop_ends) {
  rings.describe(0, {kBuffer, 16, kNext, 1});
  rings.describe(1, {kBuffer, 16, kNext, 0});
  rings.offer(0);
  EXPECT_EQ(broken_rule(), "a chain of descriptors loops");
  rings.describe(0, {kBuffer, 16, kNext, 0});
  EXPECT_EQ(broken_rule(), "a chain of descriptors loops");
}

TEST_F(VirtQueueTest, a_chain_may_have_as_many_descriptors_as_the_queue) {
  for (std::uint16_t i = 0; i < kSize; ++i)
    rings.describe(i, {kBuffer, 1, i + 1 < kSize ? kNext : std::uint16_t{0},
                       static_cast<std::uint16_t>(i + 1)});
  rings.offer(0);
  const auto chain = next();
  ASSERT_TRUE(chain && *chain);
  EXPECT_EQ((*chain)->readable.size(), std::size_t{kSize});
}

TEST_F(VirtQueueTest, indices_outside_of_the_table_are_refused) {
  rings.offer(kSize);
  EXPECT_EQ(broken_rule(), "a descriptor's index is outside of its table");
  rings.start_at(0);
  rings.describe(0, {kBuffer, 16, kNext, 0xffff});
  rings.offer(0);
  EXPECT_EQ(broken_rule(), "a descriptor's index is outside of its table");
}

TEST_F(VirtQueueTest, more_available_chains_than_entries_are_refused) {
  rings.start_at(kSize + 1);
  EXPECT_EQ(broken_rule(), "more chains are available than the queue has entries");
  rings.start_at(0xffff);
  EXPECT_EQ(broken_rule(), "more chains are available than the queue has entries");
}

TEST_F(VirtQueueTest, indirect_tables_have_rules_of_their_own) {
  const auto table = [this](std::uint32_t size, std::uint16_t flags = kIndirect, Gpa at = kTable) {
    return rule_of({{at, size, flags}});
  };
  rings.describe_at(kTable, 0, {kBuffer, 16});
  EXPECT_EQ(table(16), "");
  EXPECT_EQ(table(0), "an indirect table is no whole number of descriptors");
  EXPECT_EQ(table(24), "an indirect table is no whole number of descriptors");
  EXPECT_EQ(table(16 * 257), "an indirect table has more than 256 entries");
  EXPECT_EQ(table(0xffff'fff0), "an indirect table has more than 256 entries");
  EXPECT_EQ(table(16, kIndirect, 4_MiB), "a descriptor table is not in RAM");
  EXPECT_EQ(table(16, kIndirect, ~Gpa{0} - 15), "a descriptor table is not in RAM");
  rings.describe(0, {kTable, 16, kIndirect | kNext, 1});
  EXPECT_EQ(broken_rule(), "an indirect descriptor has a successor");
  rings.describe_at(kTable, 0, {kTable, 16, kIndirect});
  EXPECT_EQ(table(16), "an indirect descriptor where none may be");
  rings.describe_at(kTable, 0, {kBuffer, 16, kNext, 1});
  EXPECT_EQ(table(16), "a descriptor's index is outside of its table");
  rings.describe_at(kTable, 0, {kBuffer, 16, kNext, 0});
  EXPECT_EQ(table(16), "a chain of descriptors loops");
  features.indirect = false;
  EXPECT_EQ(table(16), "an indirect descriptor where none may be") << "unless it was agreed on";
}

TEST_F(VirtQueueTest, rings_outside_of_ram_are_refused_at_every_use) {
  const VirtQueueState good = queue;
  for (Gpa VirtQueueState::*ring :
       {&VirtQueueState::descriptors, &VirtQueueState::available, &VirtQueueState::used}) {
    for (const Gpa at : {Gpa{4_MiB}, Gpa{4_MiB} - 16, ~Gpa{0}, ~Gpa{0} - 1, ~Gpa{0} - 0x7f}) {
      queue = good;
      queue.*ring = at;
      EXPECT_EQ(broken_rule(), "a ring is not in RAM");
      const auto used = use_chain(queue, memory, features, 0, 0);
      ASSERT_FALSE(used);
      EXPECT_EQ(used.error(), "a ring is not in RAM");
    }
  }
}

TEST_F(VirtQueueTest, sizes_that_are_no_power_of_two_are_refused) {
  for (const unsigned size : {0u, 3u, 7u, 257u, 512u, 0x8000u, 0xffffu}) {
    queue.size = static_cast<std::uint16_t>(size);
    EXPECT_EQ(broken_rule(), "the queue's size is no power of two up to 256") << size;
    EXPECT_FALSE(use_chain(queue, memory, features, 0, 0));
  }
}

TEST_F(VirtQueueTest, bytes_are_copied_across_segments) {
  const std::vector<VirtSegment> segments{{kBuffer, 3}, {kBuffer + 100, 1}, {kBuffer + 200, 5}};
  const std::array<std::uint8_t, 7> bytes{1, 2, 3, 4, 5, 6, 7};
  ASSERT_TRUE(scatter(memory, segments, 1, bytes));
  EXPECT_EQ(rings.get<std::uint8_t>(kBuffer), 0);
  EXPECT_EQ(rings.get<std::uint16_t>(kBuffer + 1), 0x0201);
  EXPECT_EQ(rings.get<std::uint8_t>(kBuffer + 100), 3);
  EXPECT_EQ(rings.get<std::uint32_t>(kBuffer + 200), 0x0706'0504u);
  std::array<std::uint8_t, 7> back{};
  ASSERT_TRUE(gather(memory, segments, 1, back));
  EXPECT_EQ(back, bytes);
  EXPECT_FALSE(gather(memory, segments, 3, back)) << "one byte too many";
  EXPECT_TRUE(gather(memory, segments, 9, std::span<std::uint8_t>()));
}

}  // namespace
}  // namespace vmm
