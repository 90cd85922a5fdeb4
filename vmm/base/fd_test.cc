#include "vmm/base/fd.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "vmm/base/bytes.h"
#include "vmm/base/fault.h"
#include "vmm/base/units.h"

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// An empty folder that goes with the test.
class Files : public testing::Test {
 protected:
  Files() {
    std::string pattern = testing::TempDir() + "vmm-fd-XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
  }
  ~Files() override { std::filesystem::remove_all(folder_); }

  std::string path(std::string_view name) const { return folder_ + "/" + std::string(name); }
  std::string make(std::string_view name, std::string_view text) const {
    std::ofstream(path(name), std::ios::binary) << text;
    return path(name);
  }
  std::size_t count_files() const {
    const std::filesystem::directory_iterator files(folder_);
    return static_cast<std::size_t>(std::distance(begin(files), end(files)));
  }

  std::string folder_;
};

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

std::string text_of(const std::vector<std::uint8_t>& bytes) {
  return std::string(bytes.begin(), bytes.end());
}

std::vector<std::uint8_t> bytes_of(std::string_view text) {
  return std::vector<std::uint8_t>(text.begin(), text.end());
}

using FdOwner = Files;

TEST_F(FdOwner, closes_at_the_end_of_its_life) {
  int number = -1;
  {
    const Fd fd = Fd::open("/dev/null", O_RDONLY).value();
    number = fd.get();
    EXPECT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
}

TEST_F(FdOwner, moving_hands_the_descriptor_over) {
  Fd first = Fd::open("/dev/null", O_RDONLY).value();
  const int number = first.get();
  Fd second = std::move(first);
  EXPECT_EQ(second.get(), number);
  Fd third = Fd::open("/dev/null", O_RDONLY).value();
  const int closed = third.get();
  third = std::move(second);
  EXPECT_EQ(third.get(), number);
  EXPECT_TRUE(is_open(number));
  EXPECT_FALSE(is_open(closed));
}

TEST_F(FdOwner, release_gives_up_ownership) {
  Fd fd = Fd::open("/dev/null", O_RDONLY).value();
  const int number = fd.release();
  EXPECT_FALSE(fd);
  fd.reset();
  EXPECT_TRUE(is_open(number));
  ::close(number);
}

TEST_F(FdOwner, is_not_inherited_by_other_programs) {
  const Fd fd = Fd::open("/dev/null", O_RDONLY).value();
  EXPECT_NE(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(FdOwner, an_open_that_fails_names_the_path_and_has_the_kind_asked_for) {
  const auto missing = Fd::open(path("missing"), O_RDONLY, ErrorKind::Image);
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().kind(), ErrorKind::Image);
  EXPECT_EQ(missing.error().errno_value(), ENOENT);
  EXPECT_EQ(missing.error().text(),
            "open " + path("missing") + ": ENOENT (No such file or directory)");
  EXPECT_THAT(Fd::open("no\x1b[2Jsuch", O_RDONLY).error().text(), HasSubstr("no\\x1b[2Jsuch"));
}

class Ioctls : public testing::Test {
 protected:
  ~Ioctls() override { set_faults({}); }
  static constexpr IoctlRequest kRequest{FIONREAD, "FIONREAD"};
};

TEST_F(Ioctls, give_the_result_of_the_kernel) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const Fd in(ends[0]), out(ends[1]);
  ASSERT_EQ(::write(out.get(), "abc", 3), 3);
  int waiting = 0;
  const auto result = in.ioctl(kRequest, &waiting);
  ASSERT_TRUE(result.has_value()) << result.error().text();
  EXPECT_EQ(*result, 0);
  EXPECT_EQ(waiting, 3);
}

TEST_F(Ioctls, an_error_has_the_name_the_errno_and_the_detail) {
  const Fd null = Fd::open("/dev/null", O_RDONLY).value();
  const auto plain = null.ioctl(kRequest);
  ASSERT_FALSE(plain.has_value());
  EXPECT_EQ(plain.error().kind(), ErrorKind::Host);
  EXPECT_EQ(plain.error().errno_value(), ENOTTY);
  EXPECT_EQ(plain.error().text(), "FIONREAD: ENOTTY (Inappropriate ioctl for device)");
  EXPECT_EQ(null.ioctl(kRequest, 0, "vcpu 3").error().text(), "FIONREAD: ENOTTY (vcpu 3)");
  EXPECT_EQ(plain.error().hint_text(), "");
  EXPECT_EQ(null.ioctl_raw(kRequest, 0), -ENOTTY);
  EXPECT_EQ(Fd().ioctl_raw(kRequest, 0), -EBADF);
}

TEST_F(Ioctls, of_a_vm_that_kvm_has_given_up_says_so) {
  constexpr IoctlRequest kRun{FIONREAD, "KVM_RUN"};
  set_faults({{"KVM_RUN", EIO, 1}});
  const auto result = Fd().ioctl(kRun);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().hint_text(), testing::HasSubstr("KVM has given this VM up"));
}

TEST_F(Ioctls, a_planned_fault_keeps_the_call_from_the_kernel) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const Fd in(ends[0]), out(ends[1]);
  set_faults({{"FIONREAD", E2BIG, 2}});
  int waiting = -1;
  EXPECT_TRUE(in.ioctl(kRequest, &waiting).has_value());
  EXPECT_EQ(waiting, 0);
  waiting = -1;
  const auto second = in.ioctl(kRequest, &waiting, "nent=81");
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().text(), "FIONREAD: E2BIG (nent=81)");
  EXPECT_EQ(waiting, -1);
  EXPECT_TRUE(in.ioctl(kRequest, &waiting).has_value());
}

// Whether the page at `address` is mapped at all.
bool is_mapped(const void* address) {
  unsigned char residency = 0;
  return ::mincore(const_cast<void*>(address), 1, &residency) == 0;
}

TEST(MappingOwner, anonymous_memory_is_zero_and_goes_with_its_owner) {
  const void* address = nullptr;
  {
    const auto mapping = Mapping::anonymous(64_KiB);
    ASSERT_TRUE(mapping.has_value());
    address = mapping->bytes().data();
    EXPECT_EQ(mapping->bytes().size(), 64_KiB);
    EXPECT_TRUE(std::all_of(mapping->bytes().begin(), mapping->bytes().end(),
                            [](std::uint8_t byte) { return byte == 0; }));
    EXPECT_TRUE(is_mapped(address));
  }
  EXPECT_FALSE(is_mapped(address));
}

TEST(MappingOwner, takes_no_memory_before_it_is_touched) {
  // Far more than a build machine has.
  const auto mapping = Mapping::anonymous(1024_GiB);
  ASSERT_TRUE(mapping.has_value()) << mapping.error().text();
  std::vector<unsigned char> resident(1024);
  ASSERT_EQ(::mincore(mapping->bytes().data(), resident.size() * 4096, resident.data()), 0);
  EXPECT_TRUE(std::none_of(resident.begin(), resident.end(), [](auto page) { return page & 1; }));
}

TEST(MappingOwner, large_memory_begins_where_a_huge_page_does) {
  for (const std::size_t size : {2_MiB, 2_MiB + 4_KiB, 5_MiB + 123}) {
    const std::uint8_t* end = nullptr;
    {
      const auto mapping = Mapping::anonymous(size);
      ASSERT_TRUE(mapping.has_value());
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(mapping->bytes().data()) % 2_MiB, 0u);
      EXPECT_EQ(mapping->bytes().size(), size);
      end = mapping->bytes().data() + align_up(size, 4_KiB);
      EXPECT_TRUE(is_mapped(end - 4096));
      EXPECT_TRUE(is_mapped(mapping->bytes().data()));
    }
    EXPECT_FALSE(is_mapped(end - 4096));
  }
}

TEST(MappingOwner, a_wish_for_huge_pages_takes_no_memory_and_changes_no_byte) {
  Mapping mapping = Mapping::anonymous(8_MiB).value();
  mapping.bytes()[5_MiB] = 7;
  prefer_huge_pages(mapping.bytes());
  prefer_huge_pages(mapping.bytes().subspan(123));
  prefer_huge_pages(mapping.bytes().first(100));
  prefer_huge_pages({});
  EXPECT_EQ(mapping.bytes()[5_MiB], 7);
  std::vector<unsigned char> resident(512);
  ASSERT_EQ(::mincore(mapping.bytes().data(), 2_MiB, resident.data()), 0);
  EXPECT_TRUE(std::none_of(resident.begin(), resident.end(), [](auto page) { return page & 1; }));
}

TEST(MappingOwner, moving_keeps_one_owner) {
  Mapping first = Mapping::anonymous(4_KiB).value();
  std::uint8_t* const address = first.bytes().data();
  Mapping second = std::move(first);
  EXPECT_EQ(second.bytes().data(), address);
  second.bytes()[0] = 7;
  Mapping third;
  third = std::move(second);
  EXPECT_EQ(third.bytes()[0], 7);
}

TEST(MappingOwner, what_the_host_cannot_map_is_a_host_error_with_the_size) {
  const auto mapping = Mapping::anonymous(std::size_t{1} << 62);
  ASSERT_FALSE(mapping.has_value());
  EXPECT_EQ(mapping.error().kind(), ErrorKind::Host);
  EXPECT_THAT(mapping.error().text(), StartsWith("mmap of 4194304 TiB: ENOMEM"));
  EXPECT_FALSE(Mapping::anonymous(0).has_value());
}

using SharedMapping = Files;

TEST_F(SharedMapping, shows_the_file) {
  const Fd fd = Fd::open(make("f", std::string(4096, 'a')), O_RDWR).value();
  const auto mapping = Mapping::shared(fd, 4_KiB);
  ASSERT_TRUE(mapping.has_value());
  EXPECT_EQ(mapping->bytes()[4095], 'a');
  mapping->bytes()[0] = 'b';
  char first = 0;
  ASSERT_EQ(::pread(fd.get(), &first, 1, 0), 1);
  EXPECT_EQ(first, 'b');
  EXPECT_EQ(Mapping::shared(Fd(), 4_KiB).error().errno_value(), EBADF);
}

using ReadFile = Files;

TEST_F(ReadFile, gives_the_whole_of_it) {
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += static_cast<char>(i * 7);
  EXPECT_EQ(text_of(read_file(make("f", text), 1_MiB, ErrorKind::Image).value()), text);
  EXPECT_TRUE(read_file(make("empty", ""), 0, ErrorKind::Image).value().empty());
}

TEST_F(ReadFile, the_limit_is_inclusive_and_said) {
  const std::string file = make("f", "12345");
  EXPECT_TRUE(read_file(file, 5, ErrorKind::Image).has_value());
  const auto result = read_file(file, 4, ErrorKind::Image);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind(), ErrorKind::Image);
  EXPECT_EQ(result.error().text(), file + " has 5 bytes; the limit is 4 bytes");
}

TEST_F(ReadFile, a_file_larger_than_memory_is_refused_before_it_is_read) {
  const std::string file = make("huge", "");
  std::filesystem::resize_file(file, 1'000'000'000'000);
  EXPECT_THAT(read_file(file, 1_GiB, ErrorKind::Image).error().text(),
              HasSubstr("the limit is 1 GiB"));
}

TEST_F(ReadFile, folders_devices_and_missing_files_are_refused) {
  EXPECT_EQ(read_file(folder_, 1_MiB, ErrorKind::Image).error().text(),
            folder_ + " is a directory");
  EXPECT_EQ(read_file("/dev/zero", 1_MiB, ErrorKind::Usage).error().text(),
            "/dev/zero is not a regular file");
  EXPECT_EQ(read_file(path("missing"), 1_MiB, ErrorKind::Usage).error().errno_value(), ENOENT);
  EXPECT_EQ(read_file("", 1_MiB, ErrorKind::Usage).error().errno_value(), ENOENT);
}

TEST_F(ReadFile, a_pipe_without_a_writer_does_not_hang) {
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_THAT(read_file(path("pipe"), 1_MiB, ErrorKind::Usage).error().text(),
              HasSubstr("is not a regular file"));
}

using WriteFile = Files;

TEST_F(WriteFile, makes_the_file_and_leaves_nothing_else) {
  ASSERT_TRUE(write_file(path("f"), bytes_of("hello")).has_value());
  EXPECT_EQ(text_of(read_file(path("f"), 100, ErrorKind::Usage).value()), "hello");
  EXPECT_EQ(count_files(), 1u);
}

TEST_F(WriteFile, replaces_what_was_there) {
  make("f", "something much longer");
  ASSERT_TRUE(write_file(path("f"), bytes_of("short")).has_value());
  EXPECT_EQ(text_of(read_file(path("f"), 100, ErrorKind::Usage).value()), "short");
}

TEST_F(WriteFile, a_failure_names_the_path_and_leaves_nothing_behind) {
  const auto nowhere = write_file(path("no/f"), bytes_of("x"));
  ASSERT_FALSE(nowhere.has_value());
  EXPECT_THAT(nowhere.error().text(), HasSubstr(path("no/f")));
  EXPECT_EQ(nowhere.error().errno_value(), ENOENT);
  std::filesystem::create_directory(path("folder"));
  EXPECT_FALSE(write_file(path("folder"), bytes_of("x")).has_value());
  EXPECT_EQ(count_files(), 1u);
}

TEST_F(WriteFile, a_write_that_fails_half_way_leaves_the_old_file) {
  make("f", "old");
  // The file-size limit stands for a full disk.
  rlimit saved{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &saved), 0);
  auto* const previous = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, saved.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto result = write_file(path("f"), std::vector<std::uint8_t>(10'000, 'x'));
  ::setrlimit(RLIMIT_FSIZE, &saved);
  ::signal(SIGXFSZ, previous);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().errno_value(), EFBIG);
  EXPECT_EQ(text_of(read_file(path("f"), 100, ErrorKind::Usage).value()), "old");
  EXPECT_EQ(count_files(), 1u);
}

using ReplaceContents = Files;

TEST_F(ReplaceContents, cuts_a_longer_file) {
  const Fd fd = Fd::open(make("f", "something much longer"), O_WRONLY).value();
  ASSERT_TRUE(replace_contents(fd, bytes_of("short"), path("f")).has_value());
  EXPECT_EQ(text_of(read_file(path("f"), 100, ErrorKind::Usage).value()), "short");
}

TEST_F(ReplaceContents, twice_leaves_the_second_alone) {
  const Fd fd = Fd::open(path("f"), O_WRONLY | O_CREAT).value();
  ASSERT_TRUE(replace_contents(fd, bytes_of("the first and longer"), path("f")).has_value());
  ASSERT_TRUE(replace_contents(fd, bytes_of("second"), path("f")).has_value());
  EXPECT_EQ(text_of(read_file(path("f"), 100, ErrorKind::Usage).value()), "second");
}

TEST_F(ReplaceContents, a_pipe_just_gets_the_bytes) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const Fd in(ends[0]), out(ends[1]);
  ASSERT_TRUE(replace_contents(out, bytes_of("abc"), "a pipe").has_value());
  char got[8] = {};
  EXPECT_EQ(::read(in.get(), got, sizeof got), 3);
  EXPECT_STREQ(got, "abc");
}

TEST_F(ReplaceContents, a_descriptor_that_cannot_be_written_is_an_error) {
  const Fd fd = Fd::open(make("f", "text"), O_RDONLY).value();
  const auto result = replace_contents(fd, bytes_of("abc"), path("f"));
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().text(), StartsWith("write " + path("f") + ": "));
}

TEST(TerminalSizeOf, a_terminal_is_known_and_a_file_has_none) {
  const winsize set{25, 132, 0, 0};
  const Fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_TRUE(static_cast<bool>(master));
  ASSERT_EQ(::ioctl(master.get(), TIOCSWINSZ, &set), 0);
  const auto size = terminal_size(master.get());
  ASSERT_TRUE(size.has_value());
  EXPECT_EQ(size->rows, 25);
  EXPECT_EQ(size->columns, 132);
  const Fd file = Fd::open("/dev/null", O_RDWR).value();
  EXPECT_FALSE(terminal_size(file.get()).has_value());
}

using FirstLine = Files;

TEST_F(FirstLine, is_trimmed_and_alone) {
  EXPECT_EQ(read_first_line(make("f", "Y \nN\n")), "Y");
  EXPECT_EQ(read_first_line(make("g", "1")), "1");
  EXPECT_EQ(read_first_line(make("h", "\n")), "");
}

TEST_F(FirstLine, is_nothing_where_there_is_none) {
  EXPECT_EQ(read_first_line(make("f", "")), std::nullopt);
  EXPECT_EQ(read_first_line(path("missing")), std::nullopt);
  EXPECT_EQ(read_first_line(folder_), std::nullopt);
}

}  // namespace
}  // namespace vmm
