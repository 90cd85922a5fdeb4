#include "vmm/machine/flash_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "vmm/machine/variable_store_fake.h"

namespace vmm {
namespace {

using namespace testing_variables;
using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

// The first 64h bytes of OVMF_VARS.fd are its two headers; any bytes do.
std::vector<std::uint8_t> empty_store() {
  std::vector<std::uint8_t> bytes(2 * kHalf, 0xff);
  for (std::size_t i = 0; i < kFirst; ++i) bytes[i] = static_cast<std::uint8_t>(i);
  return bytes;
}

class FlashFileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "flash-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder = pattern;
    path = folder / "vars.fd";
    put(empty_store());
  }
  void TearDown() override { fs::remove_all(folder); }

  void put(const std::vector<std::uint8_t>& bytes) const {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  std::vector<std::uint8_t> content() const {
    return read_file(path, FlashFile::kMaxSize, ErrorKind::Image).value();
  }
  Result<std::unique_ptr<FlashFile>> open(VarsSpec::Mode mode) const {
    return FlashFile::open({path, mode});
  }
  std::string refusal(VarsSpec::Mode mode = VarsSpec::Mode::Write) const {
    const auto file = open(mode);
    if (file) return "it was opened";
    EXPECT_EQ(exit_code(file.error().kind()), 65);
    return file.error().text() + " | " + file.error().hint_text();
  }

  fs::path folder, path;
};

#ifdef VMM_ASAN
constexpr bool kInstrumented = true;
#else
constexpr bool kInstrumented = false;
#endif

TEST_F(FlashFileTest, words_of_the_option) {
  EXPECT_EQ(parse_vars("a.fd").value(), (VarsSpec{"a.fd", VarsSpec::Mode::Write}));
  EXPECT_EQ(parse_vars("a,b,copy").value(), (VarsSpec{"a,b", VarsSpec::Mode::Copy}));
  EXPECT_EQ(parse_vars("a.fd,ro").value(), (VarsSpec{"a.fd", VarsSpec::Mode::ReadOnly}));
  for (const char* text : {"a.fd", "a.fd,copy", "a.fd,ro"})
    EXPECT_EQ(vars_text(parse_vars(text).value()), text);
  for (const char* text : {"", ",copy", ",ro"})
    EXPECT_EQ(parse_vars(text).error().kind(), ErrorKind::Usage);
}

TEST_F(FlashFileTest, what_is_written_is_in_the_file_at_once_and_nothing_else_is) {
  const auto file = open(VarsSpec::Mode::Write);
  ASSERT_TRUE(file) << file.error().text();
  std::vector<std::uint8_t> expected = content();
  // Someone else's change, which a rewrite would undo.
  expected[0x5000] = 0x12;
  put(expected);
  EXPECT_TRUE((*file)->write(0x1ffe, std::vector<std::uint8_t>{1, 2, 3, 4}));
  for (std::size_t i = 0; i < 4; ++i) expected[0x1ffe + i] = static_cast<std::uint8_t>(i + 1);
  EXPECT_EQ(content(), expected);
  EXPECT_EQ((*file)->bytes()[0x2001], 4);
  EXPECT_TRUE((*file)->sync());
}

TEST_F(FlashFileTest, copy_and_read_only_leave_the_file_alone) {
  const auto before = content();
  const auto copy = open(VarsSpec::Mode::Copy);
  const auto fixed = open(VarsSpec::Mode::ReadOnly);
  ASSERT_TRUE(copy && fixed);
  EXPECT_TRUE((*copy)->write(7, std::vector<std::uint8_t>{0}));
  EXPECT_EQ((*copy)->bytes()[7], 0);
  EXPECT_FALSE((*fixed)->is_writable());
  EXPECT_FALSE((*fixed)->write(7, std::vector<std::uint8_t>{0}));
  EXPECT_EQ((*fixed)->bytes()[7], 7);
  EXPECT_EQ(content(), before);
}

TEST_F(FlashFileTest, two_writers_are_refused_and_so_is_a_copy_of_what_is_being_written) {
  auto first = open(VarsSpec::Mode::Write);
  ASSERT_TRUE(first) << first.error().text();
  EXPECT_THAT(refusal(), AllOf(HasSubstr("vars.fd: --vars: another guest uses it"),
                               HasSubstr("a store of its own")));
  EXPECT_THAT(refusal(VarsSpec::Mode::Copy), HasSubstr("another guest may write to it"));
  first->reset();
  const auto copy = open(VarsSpec::Mode::Copy);
  EXPECT_TRUE(copy);
  EXPECT_TRUE(open(VarsSpec::Mode::Write)) << "a copy holds nothing once it is made";
}

TEST_F(FlashFileTest, what_is_no_store_is_refused) {
  put({});
  EXPECT_THAT(refusal(), HasSubstr("this file has 0 bytes"));
  put(std::vector<std::uint8_t>(0x1001));
  EXPECT_THAT(refusal(), HasSubstr("in whole 4 KiB; this file has 4097 bytes"));
  fs::resize_file(path, FlashFile::kMaxSize + FlashFile::kPageSize);
  EXPECT_THAT(refusal(), HasSubstr("4 KiB to 16 MiB"));
  fs::remove(path);
  EXPECT_THAT(refusal(), HasSubstr("ENOENT"));
  fs::create_directory(path);
  EXPECT_THAT(refusal(VarsSpec::Mode::Copy), HasSubstr("no regular file"));
}

// ---- the power fails

// What is on the disk after each write, as changes; and where it was synced.
class RecordingMedium final : public FlashMedium {
 public:
  struct Change {
    std::uint64_t offset = 0;
    std::vector<std::uint8_t> data;
  };
  explicit RecordingMedium(std::vector<Change>& changes) : changes_(changes) {}
  bool write(std::uint64_t offset, std::span<const std::uint8_t> data) override {
    const std::uint64_t page = offset / FlashFile::kPageSize;
    EXPECT_EQ((offset + data.size() - 1) / FlashFile::kPageSize, page);
    EXPECT_TRUE(!behind_ || *behind_ == page) << "two pages may reach the disk in either order";
    behind_ = page;
    changes_.push_back({offset, {data.begin(), data.end()}});
    return true;
  }
  bool sync() override {
    behind_.reset();
    return true;
  }

 private:
  std::vector<Change>& changes_;
  std::optional<std::uint64_t> behind_;
};

// Sets variables until the store was rewritten twice. `after` gets what they were after each.
void use_store(FlashFile& file, const std::function<void(const Values&)>& after) {
  PFlash flash("vars", file);
  VariableDriver driver(flash, file.bytes());
  Values now;
  for (unsigned i = 0; driver.reclaims < 2; ++i) {
    const std::string name = "Boot000" + std::to_string(i % 7);
    now[name] = std::string(700 + i % 5 * 300, static_cast<char>('a' + i % 26));
    driver.set(name, now[name]);
    after(now);
  }
}

// Every durable state is one of these, for at most one page is behind (RecordingMedium checks it).
TEST_F(FlashFileTest, store_is_valid_wherever_the_power_fails) {
  if (kInstrumented) GTEST_SKIP() << "minutes under a sanitizer; the release build does it";
  std::vector<std::uint8_t> image = empty_store();
  const std::vector<std::uint8_t> headers(image.begin(), image.begin() + kFirst);
  std::vector<RecordingMedium::Change> changes;
  auto file =
      FlashFile::create(image, VarsSpec::Mode::Write, std::make_unique<RecordingMedium>(changes));
  ASSERT_TRUE(file) << file.error().text();
  std::vector<std::pair<std::size_t, Values>> steps{{0, {}}};
  use_store(**file, [&](const Values& now) { steps.emplace_back(changes.size(), now); });
  ASSERT_GT(changes.size(), 10'000U);

  std::size_t step = 0;
  for (std::size_t cut = 0; cut < changes.size(); ++cut) {
    while (step + 1 < steps.size() && steps[step + 1].first <= cut) ++step;
    // A reader looks at less than all of it, so it is asked where something can go wrong.
    const auto& [offset, data] = changes[cut];
    const auto values = read_store(image, headers);
    ASSERT_TRUE(values) << "no valid store before write " << cut << " at " << offset;
    const Values& before = steps[step].second;
    const Values& then = steps[std::min(step + 1, steps.size() - 1)].second;
    ASSERT_TRUE(*values == before || *values == then)
        << "neither the values before nor those after write " << cut << " at " << offset;
    std::ranges::copy(data, image.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  EXPECT_EQ(read_store(image, headers), steps.back().second);
}

// The reader of these tests can fail: a byte that was lost is seen.
TEST_F(FlashFileTest, store_with_writes_out_of_order_is_seen_as_such) {
  if (kInstrumented) GTEST_SKIP() << "minutes under a sanitizer; the release build does it";
  std::vector<std::uint8_t> image = empty_store();
  const std::vector<std::uint8_t> headers(image.begin(), image.begin() + kFirst);
  std::vector<RecordingMedium::Change> changes;
  auto file =
      FlashFile::create(image, VarsSpec::Mode::Write, std::make_unique<RecordingMedium>(changes));
  ASSERT_TRUE(file);
  use_store(**file, [](const Values&) {});
  unsigned wrong = 0;
  for (std::size_t lost = 0; lost < changes.size(); lost += 97) {
    std::vector<std::uint8_t> damaged = image;
    for (std::size_t i = 0; i < changes.size() && i < lost + 400; ++i)
      if (i != lost)
        std::ranges::copy(changes[i].data,
                          damaged.begin() + static_cast<std::ptrdiff_t>(changes[i].offset));
    const auto values = read_store(damaged, headers);
    if (!values || std::ranges::any_of(*values, [](const auto& v) {
          return v.second.find_first_not_of(v.second[0]) != std::string::npos;
        }))
      ++wrong;
  }
  EXPECT_GT(wrong, 10U);
}

TEST_F(FlashFileTest, killed_process_leaves_a_valid_file) {
  const std::vector<std::uint8_t> image = empty_store();
  const std::vector<std::uint8_t> headers(image.begin(), image.begin() + kFirst);
  for (const unsigned steps : {1U, 3U, 20U, 60U}) {
    put(image);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto file = open(VarsSpec::Mode::Write);
      unsigned done = 0;
      if (file)
        use_store(**file, [&](const Values&) {
          if (++done == steps) kill(getpid(), SIGKILL);
        });
      _exit(1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    const auto values = read_store(content(), headers);
    ASSERT_TRUE(values);
    EXPECT_EQ(values->size(), std::min(steps, 7U));
    EXPECT_TRUE(open(VarsSpec::Mode::Write)) << "its lock went with it";
  }
}

class FailingMedium final : public FlashMedium {
 public:
  bool write(std::uint64_t, std::span<const std::uint8_t>) override { return false; }
  bool sync() override { return false; }
};

TEST_F(FlashFileTest, host_that_cannot_write_is_seen_by_the_guest_and_counted) {
  const auto file =
      FlashFile::create(empty_store(), VarsSpec::Mode::Write, std::make_unique<FailingMedium>());
  ASSERT_TRUE(file);
  PFlash flash("vars", **file);
  for (const std::uint8_t value : {std::uint8_t{0x10}, std::uint8_t{0x00}})
    EXPECT_EQ(flash.write(0x3000, std::vector{value}), Access::Ok);
  std::array<std::uint8_t, 1> status{};
  EXPECT_EQ(flash.read(0x3000, status), Access::Ok);
  EXPECT_EQ(status[0], 0x90);
  EXPECT_EQ((*file)->failures(), 1U);
  EXPECT_EQ((*file)->bytes()[0x3000], 0xff);
}

}  // namespace
}  // namespace vmm
