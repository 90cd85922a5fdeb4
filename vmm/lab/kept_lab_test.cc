// When a lab is booted anew, and who is told.
#include "vmm/lab/kept_lab.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "vmm/lab/wire_fake.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// What happened to the labs of a test, in order.
using Diary = std::vector<std::string>;

class FakeEmulator final : public Emulator {
 public:
  explicit FakeEmulator(Diary& diary) : diary_(diary) {}
  ~FakeEmulator() override { diary_.push_back("end"); }
  const Fd& channel() const override { return none_; }
  std::optional<std::string> death() override { return std::nullopt; }
  void pause() override {}
  void resume() override {}

 private:
  Diary& diary_;
  Fd none_;
};

// What the next commands come to; a string is an error that is final.
struct Script {
  std::optional<std::string> command_fails;
  std::optional<std::string> check_fails;
};

class FakeSession final : public LabSession {
 public:
  FakeSession(Diary& diary, const Script& script) : diary_(diary), script_(script) {}
  const LabHello& hello() const override { return hello_; }
  Result<LabExit> execute(const LabCommand& command, const LabStreams&, int) override {
    diary_.push_back(command.argv.front());
    if (!script_.command_fails) return LabExit{.code = 7, .signal = {}};
    broken_ = true;
    return fail(Error::lab(*script_.command_fails));
  }
  Result<void> check(std::chrono::seconds) override {
    if (!script_.check_fails) return {};
    broken_ = true;
    return fail(Error::lab(*script_.check_fails));
  }
  void set_patience(std::chrono::seconds) override {}
  bool broken() const override { return broken_; }
  void power_off() override {}

 private:
  Diary& diary_;
  const Script& script_;
  LabHello hello_{"6.1-test", "svm"};
  bool broken_ = false;
};

class KeptLabTest : public testing::Test {
 protected:
  Result<LabExit> run(const std::string& name) {
    const LabCommand command{.argv = {name}, .directory = "/", .environment = {}, .paths = {}};
    return lab_.execute(command, {.in = -1, .out = err_.there.get(), .err = err_.there.get()}, -1);
  }
  // What the commands were told on their stderr since it was last asked.
  std::string told() {
    std::string text(4096, '\0');
    const ssize_t count = ::read(err_.here.get(), text.data(), text.size());
    text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    return text;
  }

  Diary diary_;
  Script script_;
  LabBackend backend_ = LabBackend::Svm;
  std::optional<std::string> boot_fails_;
  SocketPair err_;
  KeptLab lab_{[this](int) -> Result<std::unique_ptr<Lab>> {
    diary_.push_back("boot");
    if (boot_fails_) return fail(Error::lab(*boot_fails_));
    return std::make_unique<Lab>(backend_, std::make_unique<FakeEmulator>(diary_),
                                 std::make_unique<FakeSession>(diary_, script_));
  }};
};

TEST_F(KeptLabTest, one_boot_serves_many_commands) {
  ASSERT_TRUE(lab_.boot(-1));
  EXPECT_EQ(lab_.state(), "idle");
  EXPECT_EQ(lab_.description(), "Linux 6.1-test with kvm_amd in QEMU");
  EXPECT_EQ(run("one")->code, 7);
  EXPECT_EQ(run("two")->code, 7);
  EXPECT_THAT(diary_, ElementsAre("boot", "one", "two"));
  EXPECT_EQ(told(), "");
}

TEST_F(KeptLabTest, a_command_that_cannot_be_killed_costs_the_lab_and_the_next_one_is_told) {
  ASSERT_TRUE(lab_.boot(-1));
  script_.command_fails = "the command in the lab does not end when it is killed";
  EXPECT_THAT(run("stuck").error().text(), HasSubstr("does not end when it is killed"));
  EXPECT_THAT(lab_.state(), HasSubstr("down: the command in the lab does not end"));
  EXPECT_EQ(told(), "");

  script_.command_fails.reset();
  EXPECT_EQ(run("next")->code, 7);
  EXPECT_EQ(told(),
            "vmm: lab: it boots anew: the command in the lab does not end when it is killed\n");
  EXPECT_EQ(lab_.state(), "idle");
  EXPECT_EQ(run("another")->code, 7);
  EXPECT_EQ(told(), "");
  EXPECT_THAT(diary_, ElementsAre("boot", "stuck", "end", "boot", "next", "another"));
}

TEST_F(KeptLabTest, a_lab_that_does_not_answer_gets_no_command) {
  ASSERT_TRUE(lab_.boot(-1));
  script_.check_fails = "the lab has been silent for 30 s";
  EXPECT_EQ(run("one")->code, 7);
  EXPECT_EQ(told(), "vmm: lab: it boots anew: the lab has been silent for 30 s\n");
  EXPECT_THAT(diary_, ElementsAre("boot", "end", "boot", "one"));
}

TEST_F(KeptLabTest, a_silent_vmx_lab_hints_at_what_bochs_cannot_interrupt) {
  script_.command_fails = "the lab has been silent for 120 s";
  EXPECT_EQ(run("one").error().hint_text(), "");
  backend_ = LabBackend::Vmx;
  EXPECT_THAT(run("two").error().hint_text(), HasSubstr("loops with interrupts off"));
  script_.command_fails = "the lab was stopped";
  EXPECT_EQ(run("three").error().hint_text(), "");
}

TEST_F(KeptLabTest, a_boot_that_fails_is_tried_again_by_the_next_command) {
  ASSERT_TRUE(lab_.boot(-1));
  script_.command_fails = "qemu exited with 1";
  EXPECT_FALSE(run("one"));
  boot_fails_ = "no memory";
  EXPECT_EQ(run("two").error().text(), "no memory");
  EXPECT_EQ(lab_.state(), "down: no memory");
  boot_fails_.reset();
  script_.command_fails.reset();
  EXPECT_EQ(run("three")->code, 7);
  EXPECT_EQ(lab_.state(), "idle");
  EXPECT_THAT(diary_, ElementsAre("boot", "one", "end", "boot", "boot", "three"));
}

TEST_F(KeptLabTest, a_reader_that_is_gone_or_full_holds_up_no_boot) {
  ASSERT_TRUE(lab_.boot(-1));
  script_.check_fails = "silent";
  const std::string much(1 << 16, 'x');
  while (::send(err_.there.get(), much.data(), much.size(), MSG_DONTWAIT) > 0) {
  }
  EXPECT_EQ(run("full")->code, 7);
  err_.here.reset();
  EXPECT_EQ(run("gone")->code, 7);
  EXPECT_THAT(diary_, ElementsAre("boot", "end", "boot", "full", "end", "boot", "gone"));
}

}  // namespace
}  // namespace vmm
