// The cache of saved labs, and the monitor of a QEMU that saves one.
#include "vmm/lab/saved_states.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "vmm/lab/qmp.h"
#include "vmm/lab/wire_fake.h"

namespace vmm {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class SavedStatesTest : public testing::Test {
 protected:
  std::string directory() const { return folder_ / "states"; }
  void save(const StateKey& key, const std::string& text) const {
    auto draft = SavedStates(directory()).begin(key);
    ASSERT_TRUE(draft && *draft);
    ASSERT_EQ(::write((**draft).file().get(), text.data(), text.size()),
              static_cast<ssize_t>(text.size()));
    ASSERT_TRUE((**draft).keep());
  }
  std::string found(const StateKey& key) const {
    const auto file = SavedStates(directory()).find(key);
    if (!file) return "(none)";
    std::string text(100, '\0');
    const ssize_t count = ::read(file->get(), text.data(), text.size());
    text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    return text;
  }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory()), {}));
  }

  TemporaryFolder folder_;
  const StateKey key_{"abc", 2'500'000};
};

TEST_F(SavedStatesTest, one_is_found_by_what_it_fits) {
  EXPECT_EQ(found(key_), "(none)");
  save(key_, "state");
  EXPECT_EQ(found(key_), "state");
  EXPECT_EQ(found({"abd", 2'500'000}), "(none)");
  // The same processor, measured again; and another.
  EXPECT_EQ(found({"abc", 2'500'300}), "state");
  EXPECT_EQ(found({"abc", 2'499'700}), "state");
  EXPECT_EQ(found({"abc", 2'503'000}), "(none)");
  EXPECT_EQ(found({"abc", 0}), "(none)");
  struct stat status {};
  ASSERT_EQ(::stat((directory() + "/abc-2500000.state").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(SavedStatesTest, one_that_is_no_good_is_forgotten) {
  save(key_, "bad");
  SavedStates(directory()).forget(key_);
  EXPECT_EQ(found(key_), "(none)");
  save(key_, "good");
  EXPECT_EQ(found(key_), "good");
}

TEST_F(SavedStatesTest, what_is_not_kept_leaves_nothing) {
  {
    const auto draft = SavedStates(directory()).begin(key_);
    ASSERT_TRUE(draft && *draft);
    EXPECT_EQ(::write((**draft).file().get(), "half", 4), 4);
  }
  EXPECT_EQ(files(), 0u);
  // A process that was killed leaves its draft, which the next one takes over.
  write_text(directory() + "/.new", "half of another");
  save(key_, "whole");
  EXPECT_EQ(found(key_), "whole");
  EXPECT_EQ(files(), 1u);
}

TEST_F(SavedStatesTest, one_process_saves_at_a_time) {
  const SavedStates states(directory());
  const auto draft = states.begin(key_);
  ASSERT_TRUE(draft && *draft);
  const auto second = states.begin({"other", 1});
  ASSERT_TRUE(second);
  EXPECT_FALSE(*second);
}

TEST_F(SavedStatesTest, the_least_used_one_makes_room) {
  for (std::size_t i = 0; i < SavedStates::kMost; ++i) {
    save({fmt::format("s{}", i), 1000}, "state");
    // Older than the one before.
    fs::last_write_time(fmt::format("{}/s{}-1000.state", directory(), i),
                        fs::file_time_type::clock::now() - std::chrono::hours(10 + i));
  }
  // Used now.
  EXPECT_EQ(found({fmt::format("s{}", SavedStates::kMost - 1), 1000}), "state");
  save({"new", 1000}, "state");
  EXPECT_EQ(files(), SavedStates::kMost);
  EXPECT_EQ(found({fmt::format("s{}", SavedStates::kMost - 2), 1000}), "(none)");
  EXPECT_EQ(found({fmt::format("s{}", SavedStates::kMost - 1), 1000}), "state");
  EXPECT_EQ(found({"new", 1000}), "state");
}

TEST_F(SavedStatesTest, other_files_are_none_and_stay) {
  fs::create_directories(directory());
  write_text(folder_ / "elsewhere", "foreign");
  fs::create_symlink(folder_ / "elsewhere", directory() + "/abc-2500000.state");
  write_text(directory() + "/notes", "mine");
  write_text(directory() + "/abc-x.state", "no number");
  EXPECT_EQ(found(key_), "(none)");
  save(key_, "state");
  EXPECT_EQ(found(key_), "state");
  EXPECT_EQ(read_text(folder_ / "elsewhere"), "foreign");
  EXPECT_EQ(read_text(directory() + "/notes"), "mine");
}

TEST_F(SavedStatesTest, a_place_that_cannot_be_made_is_named) {
  write_text(folder_ / "file", "");
  const auto draft = SavedStates(folder_ / "file/states").begin(key_);
  ASSERT_FALSE(draft);
  EXPECT_THAT(draft.error().text(), HasSubstr("file/states: ENOTDIR"));
}

// --- The monitor ---

// Answers each line with the next of its own.
class FakeMonitor {
 public:
  explicit FakeMonitor(std::vector<std::string> answers)
      : thread_([fd = std::move(pair_.there), answers = std::move(answers)] {
          say(fd, R"({"QMP": {"version": {}}})");
          for (const std::string& answer : answers) {
            char line[512];
            if (::read(fd.get(), line, sizeof line) <= 0) return;
            say(fd, answer);
          }
        }) {}
  ~FakeMonitor() { thread_.join(); }
  Qmp qmp() { return Qmp(std::move(pair_.here), std::chrono::milliseconds(5000)); }

 private:
  static void say(const Fd& fd, const std::string& line) {
    const std::string text = line + "\n";
    EXPECT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }

  SocketPair pair_;
  std::thread thread_;
};

TEST(QmpTest, the_answer_is_told_from_events) {
  FakeMonitor monitor(
      {R"({"return": {}})", "{\"event\": \"STOP\"}\n{\"return\": {\"status\": \"active\"}}"});
  Qmp qmp = monitor.qmp();
  const auto answer = qmp.execute("query-migrate");
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->value("status", ""), "active");
}

TEST(QmpTest, refusals_and_ends_are_errors_of_the_lab) {
  const auto said = [](std::vector<std::string> answers) {
    FakeMonitor monitor(std::move(answers));
    Qmp qmp = monitor.qmp();
    const auto answer = qmp.execute("migrate");
    EXPECT_FALSE(answer);
    if (answer) return std::string();
    EXPECT_EQ(answer.error().kind(), ErrorKind::Lab);
    return answer.error().text();
  };
  EXPECT_THAT(said({R"({"return": {}})", R"({"error": {"class": "GenericError", "desc": "no"}})"}),
              HasSubstr("QEMU refuses migrate"));
  EXPECT_THAT(said({R"({"return": {}})"}), HasSubstr("QEMU's monitor was closed"));
  EXPECT_THAT(said({"nonsense"}), HasSubstr("QEMU's monitor says 'nonsense'"));
  EXPECT_THAT(said({R"({"return": {}})", "[1]"}), HasSubstr("QEMU's monitor says '[1]'"));
}

TEST(QmpTest, silence_has_a_limit) {
  SocketPair pair;
  Qmp qmp(std::move(pair.here), std::chrono::milliseconds(50));
  const auto answer = qmp.execute("cont");
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().text(), HasSubstr("has said nothing for"));
}

}  // namespace
}  // namespace vmm
