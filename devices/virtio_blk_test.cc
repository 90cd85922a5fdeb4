#include "devices/virtio_blk.h"

#include "devices/virtio_rig.h"

namespace vmm {
namespace {

class VirtioBlkTest : public VirtioRig {};
class ReadOnlyTest : public VirtioRig {
 protected:
  ReadOnlyTest() : VirtioRig(true) {}
};

constexpr std::uint8_t kOk = 0, kIoError = 1, kUnsupported = 2;

TEST_F(VirtioBlkTest, reads_sectors_into_the_guest) {
  start_legacy();
  request(0, 3, 1024);
  write(0x10, std::uint16_t{0});
  EXPECT_EQ(work(), 1u);
  EXPECT_EQ(status(), kOk);
  EXPECT_EQ(guest_bytes(kData, 1024), disk_bytes(3, 1024));
  EXPECT_EQ(rings.used_index(), 1);
  EXPECT_EQ(rings.used_element(0), (std::pair<std::uint32_t, std::uint32_t>(0, 1025)));
}

TEST_F(VirtioBlkTest, writes_sectors_from_the_guest) {
  start_modern(kVersion1);
  for (std::uint32_t i = 0; i < 1024; i += 4) rings.put(kData + i, 0xabcd'0000 + i);
  request(1, kSectors - 2, 1024);
  write(modern(0x3000), std::uint16_t{0});
  EXPECT_EQ(work(), 1u);
  EXPECT_EQ(status(), kOk);
  EXPECT_EQ(disk_bytes(kSectors - 2, 1024), guest_bytes(kData, 1024));
  EXPECT_EQ(rings.used_element(0).second, 1u) << "only the status was written";
}

TEST_F(VirtioBlkTest, large_requests_go_through_a_small_buffer) {
  start_legacy();
  request(0, 0, kSectors * kSectorSize);
  EXPECT_EQ(work(512), kSectors);
  EXPECT_EQ(status(), kOk);
  EXPECT_EQ(guest_bytes(kData, bytes.size()), bytes);
  request(1, 0, kSectors * kSectorSize, 5);
  std::fill(bytes.begin(), bytes.end(), std::uint8_t{0});
  EXPECT_EQ(work(1024), kSectors / 2);
  EXPECT_EQ(guest_bytes(kData, bytes.size()), bytes);
}

TEST_F(VirtioBlkTest, any_layout_of_descriptors_will_do) {
  start_modern(kVersion1);
  put_header(0, 1);
  rings.put(kStatus + 1, kUntouched);
  // The header in three parts, the data in two that are no whole sectors, the status with the last.
  rings.chain(0, {{kHeader, 1},
                  {kHeader + 1, 7},
                  {kHeader + 8, 8},
                  {kData, 700, kWrite},
                  {kData + 0x1000, 325, kWrite}});
  rings.offer(0);
  work(512);
  EXPECT_EQ(guest_bytes(kData, 700), disk_bytes(1, 700));
  const auto rest = guest_bytes(kData + 0x1000, 325);
  EXPECT_EQ(rest.back(), kOk);
  const auto whole = disk_bytes(1, 1024);
  EXPECT_TRUE(std::equal(rest.begin(), rest.end() - 1, whole.begin() + 700));
}

TEST_F(VirtioBlkTest, flush_asks_the_backend) {
  start_legacy(1u << 9);
  request(4, 0, 0);
  EXPECT_EQ(work(), 1u);
  EXPECT_EQ(flushes, 1u);
  EXPECT_EQ(status(), kOk);
}

TEST_F(VirtioBlkTest, get_id_gives_the_name_in_20_bytes) {
  start_legacy();
  request(8, 0, 20);
  EXPECT_EQ(work(), 0u);
  EXPECT_EQ(status(), kOk);
  const auto id = guest_bytes(kData, 20);
  EXPECT_EQ(std::string(id.begin(), id.end()), std::string("a disk") + std::string(14, '\0'));
}

TEST_F(VirtioBlkTest, requests_of_other_types_are_not_supported) {
  start_legacy();
  for (const std::uint32_t type : {2u, 3u, 11u, 13u, 0x8000'0000u, 0xffff'ffffu}) {
    request(type, 0, 512);
    EXPECT_EQ(work(), 0u);
    EXPECT_EQ(status(), kUnsupported) << type;
  }
  EXPECT_EQ(disk.failures(), 6u);
}

TEST_F(VirtioBlkTest, what_lies_outside_of_the_disk_is_an_error) {
  start_legacy();
  const auto status_of = [this](std::uint32_t type, std::uint64_t sector, std::uint32_t size) {
    request(type, sector, size);
    EXPECT_EQ(work(), 0u);
    return status();
  };
  for (const std::uint32_t type : {0u, 1u}) {
    EXPECT_EQ(status_of(type, kSectors, 512), kIoError);
    EXPECT_EQ(status_of(type, kSectors - 1, 1024), kIoError);
    EXPECT_EQ(status_of(type, ~std::uint64_t{0}, 512), kIoError);
    EXPECT_EQ(status_of(type, std::uint64_t{1} << 55, 512), kIoError) << "its bytes wrap to 0";
    EXPECT_EQ(status_of(type, 0, 511), kIoError) << "no whole sectors";
    EXPECT_EQ(status_of(type, 0, 513), kIoError);
  }
  EXPECT_TRUE(disk.problem().empty()) << "that is no broken ring";
}

TEST_F(VirtioBlkTest, a_request_for_no_sectors_is_done_at_once) {
  start_legacy();
  request(0, kSectors, 0);
  EXPECT_EQ(work(), 0u);
  EXPECT_EQ(status(), kOk);
}

TEST_F(VirtioBlkTest, an_error_of_the_backend_reaches_the_guest) {
  start_legacy();
  failing = true;
  request(0, 0, 1024);
  EXPECT_EQ(work(512), 1u) << "the rest is not tried";
  EXPECT_EQ(status(), kIoError);
  failing = false;
  request(0, 0, 512);
  EXPECT_EQ(work(), 1u);
  EXPECT_EQ(status(), kOk) << "the next one is served";
}

TEST_F(ReadOnlyTest, nothing_is_written) {
  EXPECT_NE(read<std::uint32_t>(0x00) & 1u << 5, 0u) << "VIRTIO_BLK_F_RO";
  start_legacy();
  const auto before = bytes;
  request(1, 0, 512);
  EXPECT_EQ(work(), 0u);
  EXPECT_EQ(status(), kIoError);
  EXPECT_EQ(bytes, before);
}

TEST_F(VirtioBlkTest, requests_without_header_or_status_break_the_device) {
  const std::vector<std::vector<FakeDescriptor>> cases{
      {{kHeader, 15}, {kStatus, 1, kWrite}},
      {{kHeader, 16}},
      {{kStatus, 1, kWrite}},
  };
  for (const auto& descriptors : cases) {
    rings.start_at(0);
    start_modern(kVersion1);
    put_header(0, 0);
    for (std::size_t i = 0; i < descriptors.size(); ++i) {
      FakeDescriptor d = descriptors[i];
      if (i + 1u < descriptors.size()) d.flags |= FakeDescriptor::kNext;
      d.next = static_cast<std::uint16_t>(i + 1);
      rings.describe(static_cast<std::uint16_t>(i), d);
    }
    rings.offer(0);
    EXPECT_EQ(work(), 0u);
    EXPECT_EQ(read<std::uint8_t>(modern(0x14)), 0x4f) << "DEVICE_NEEDS_RESET";
    EXPECT_EQ(disk.problem(), "a block request lacks its header or the byte for its status");
    EXPECT_EQ(status(), kUntouched);
  }
}

TEST_F(VirtioBlkTest, several_requests_are_served_in_order) {
  start_legacy();
  for (std::uint16_t i = 0; i < 4; ++i) request(0, i, 512, static_cast<std::uint16_t>(i * 3));
  EXPECT_EQ(work(), 4u);
  EXPECT_EQ(rings.used_index(), 4);
  for (std::uint16_t i = 0; i < 4; ++i) EXPECT_EQ(rings.used_element(i).first, i * 3u);
}

TEST_F(VirtioBlkTest, one_look_answers_a_bounded_number_and_asks_to_be_called_again) {
  start_legacy();
  put_header(99, 0);
  rings.chain(0, {{kHeader, 16}, {kStatus, 1, kWrite}});
  for (unsigned i = 0; i < 256; ++i) rings.offer(0);
  works = 0;
  std::vector<std::uint8_t> buffer(512);
  EXPECT_FALSE(disk.next_job(buffer));
  EXPECT_EQ(works, 1u);
  EXPECT_EQ(rings.used_index(), 256);
}

TEST_F(VirtioBlkTest, only_one_part_is_out_at_a_time) {
  start_legacy();
  request(0, 0, 512);
  std::vector<std::uint8_t> buffer(512);
  const auto job = disk.next_job(buffer);
  ASSERT_TRUE(job);
  EXPECT_FALSE(disk.next_job(buffer));
  disk.finish_job(*job, true, buffer);
  EXPECT_EQ(status(), kOk);
}

TEST_F(VirtioBlkTest, after_a_reset_nothing_of_a_request_reaches_the_guest) {
  start_legacy();
  request(0, 0, 512);
  std::vector<std::uint8_t> buffer(512, 0x77);
  const auto job = disk.next_job(buffer);
  ASSERT_TRUE(job);
  write(0x12, std::uint8_t{0});
  const auto before = guest_bytes(0, 4_MiB);
  disk.finish_job(*job, true, buffer);
  EXPECT_EQ(guest_bytes(0, 4_MiB), before);
  EXPECT_TRUE(irq.changes.empty());
}

TEST_F(VirtioBlkTest, a_state_saved_within_a_request_begins_it_anew) {
  start_legacy();
  request(0, 2, 1024);
  std::vector<std::uint8_t> buffer(512);
  const auto job = disk.next_job(buffer);
  ASSERT_TRUE(job);
  perform(*job, buffer);
  disk.finish_job(*job, true, buffer);
  const StateBlock saved = save_state(disk);
  ASSERT_TRUE(load_state(disk, saved));
  EXPECT_EQ(work(512), 2u);
  EXPECT_EQ(status(), kOk);
  EXPECT_EQ(guest_bytes(kData, 1024), disk_bytes(2, 1024));
}

TEST_F(VirtioBlkTest, without_bus_mastering_it_touches_no_memory) {
  start_legacy();
  set_config(0x04, std::uint16_t{0x0003});
  request(0, 0, 512);
  write(0x10, std::uint16_t{0});
  EXPECT_EQ(work(), 0u);
  EXPECT_EQ(status(), kUntouched);
  works = 0;
  enable_bus_master();
  EXPECT_EQ(works, 1u) << "it looks again by itself";
  EXPECT_EQ(work(), 1u);
}

TEST_F(VirtioBlkTest, before_driver_ok_it_looks_at_no_ring) {
  start_legacy();
  write(0x12, std::uint8_t{0});
  write(0x12, std::uint8_t{3});
  write(0x08, static_cast<std::uint32_t>(kRings >> 12));
  request(0, 0, 512);
  write(0x10, std::uint16_t{0});
  EXPECT_EQ(work(), 0u);
  write(0x12, std::uint8_t{7});
  EXPECT_EQ(work(), 1u);
}

}  // namespace
}  // namespace vmm
