#include "vmm/kvm/trace_instance.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "vmm/kvm/trace_ring_fake.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::uint16_t kPrint = 5, kExit = 103, kInject = 89;

// A tracefs of plain files: what a kernel would have made of a new instance is there already.
class TraceInstanceTest : public testing::Test {
 protected:
  TraceInstanceTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "vmm-tracefs-XXXXXX").string();
    root_ = mkdtemp(pattern.data());
    instance_ = root_ + "/instances/ours";
    write("events/header_page", kHeaderPageText);
    write("events/ftrace/print/format", format_text("print", kPrint, kPrintFields));
    write("events/kvm/kvm_exit/format", format_text("kvm_exit", kExit, kExitFields));
    write("events/kvm/kvm_nested_vmexit_inject/format",
          format_text("kvm_nested_vmexit_inject", kInject, kInjectFields));
    for (const char* name :
         {"trace_clock", "buffer_size_kb", "tracing_on", "trace_marker", "set_event_pid",
          "events/kvm/kvm_exit/enable", "events/kvm/kvm_nested_vmexit_inject/enable"})
      write(std::string("instances/ours/") + name, "");
    for (const char* cpu : {"cpu0", "cpu1"}) {
      write(pages_of(cpu), "");
      write(fmt::format("instances/ours/per_cpu/{}/stats", cpu),
            "entries: 4\noverrun: 3\ncommit overrun: 1\nbytes: 10\ndropped events: 2\n");
    }
  }
  ~TraceInstanceTest() override { std::filesystem::remove_all(root_); }

  static std::string pages_of(const std::string& cpu) {
    return "instances/ours/per_cpu/" + cpu + "/trace_pipe_raw";
  }
  void write(const std::string& file, std::string_view text) const {
    std::filesystem::create_directories(std::filesystem::path(root_ + "/" + file).parent_path());
    std::ofstream(root_ + "/" + file) << text;
  }
  void add_page(const std::string& cpu, const PageBuilder& page) const {
    const auto bytes = page.page();
    std::ofstream(root_ + "/" + pages_of(cpu), std::ios::app)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  std::string text_of(const std::string& file) const {
    std::ifstream stream(instance_ + "/" + file);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  Result<std::unique_ptr<TraceInstance>> open(unsigned vcpus = 2) const {
    return TraceInstance::open(root_, instance_, {.vcpus = vcpus}, false);
  }
  static EventBytes mark(unsigned vcpu, std::int32_t thread) {
    EventBytes event(kPrint, thread);
    event.put<std::uint64_t>(8, 0).text(fmt::format("vmm-vcpu {}\n", vcpu));
    return event;
  }
  static EventBytes exit_event(std::int32_t thread, std::uint32_t reason) {
    EventBytes event(kExit, thread);
    event.put<std::uint32_t>(8, reason).put<std::uint64_t>(16, 0).put<std::uint32_t>(24, 1);
    return event;
  }
  std::string root_, instance_;
};

TEST_F(TraceInstanceTest,
       records_the_threads_that_left_their_marks_and_gives_their_events_by_time) {
  add_page("cpu0", PageBuilder(10).event(mark(1, 4001), 0));
  add_page("cpu1", PageBuilder(12).event(mark(0, 4000), 0));
  const auto instance = open();
  ASSERT_TRUE(instance) << instance.error().text();
  const auto begun = (*instance)->begin();
  ASSERT_TRUE(begun) << begun.error().text();
  EXPECT_EQ(text_of("set_event_pid"), "4000\n4001\n");
  EXPECT_EQ(text_of("trace_clock"), "mono");
  EXPECT_EQ(text_of("buffer_size_kb"), "4096");
  EXPECT_EQ(text_of("events/kvm/kvm_exit/enable"), "1");
  EXPECT_EQ(text_of("events/kvm/kvm_nested_vmexit_inject/enable"), "1");
  EXPECT_FALSE((*instance)->has(KvmEventKind::L2Entry));

  add_page("cpu0", PageBuilder(100).event(exit_event(4000, 10), 0).event(exit_event(4000, 12), 50));
  add_page("cpu1", PageBuilder(120).event(exit_event(4001, 48), 0).event(exit_event(9999, 1), 1));
  std::vector<KvmEvent> events;
  EXPECT_TRUE((*instance)->read(events, 1000));
  std::vector<std::tuple<std::uint64_t, unsigned, std::uint32_t>> seen;
  for (const KvmEvent& event : events) seen.emplace_back(event.time, event.vcpu, event.code);
  using Seen = std::tuple<std::uint64_t, unsigned, std::uint32_t>;
  EXPECT_THAT(seen, ElementsAre(Seen{100, 0, 10}, Seen{120, 1, 48}, Seen{150, 0, 12}));
  EXPECT_EQ((*instance)->lost(), 12u);
}

TEST_F(TraceInstanceTest, does_not_begin_where_a_thread_is_not_known) {
  add_page("cpu0", PageBuilder(10).event(mark(1, 4001), 0).event(mark(7, 4007), 0));
  const auto instance = open();
  ASSERT_TRUE(instance);
  const auto begun = (*instance)->begin();
  ASSERT_FALSE(begun);
  EXPECT_THAT(begun.error().text(), HasSubstr("of 2 vCPUs 1 left the mark"));
  EXPECT_EQ(text_of("events/kvm/kvm_exit/enable"), "");
}

TEST_F(TraceInstanceTest, says_what_is_missing_and_what_to_do) {
  std::filesystem::remove(root_ + "/events/kvm/kvm_exit/format");
  const auto without_kvm = open();
  ASSERT_FALSE(without_kvm);
  EXPECT_THAT(without_kvm.error().text(), HasSubstr("events/kvm/kvm_exit/format"));
  EXPECT_THAT(without_kvm.error().text(), HasSubstr("ENOENT"));
  EXPECT_THAT(without_kvm.error().hint_text(), HasSubstr("--on svm"));

  const auto nowhere = TraceInstance::create({"/nowhere/a", "/nowhere/b"}, {});
  ASSERT_FALSE(nowhere);
  EXPECT_THAT(nowhere.error().text(), HasSubstr("/nowhere/a or /nowhere/b"));
  EXPECT_THAT(nowhere.error().hint_text(), HasSubstr("mount -t tracefs"));
}

TEST_F(TraceInstanceTest, removes_what_dead_processes_left_and_nothing_else) {
  const std::string instances = root_ + "/instances/";
  // No process has a number above the kernel's largest, 2^22.
  const std::string dead = instances + "vmm-1000000000";
  const std::string dead_too = dead + ".3";
  const std::string ours = fmt::format("{}vmm-{}", instances, getppid());
  const std::string other = instances + "vmm-notes";
  for (const std::string& name : {dead, dead_too, ours, other})
    std::filesystem::create_directory(name);
  // Nothing fills a directory here, so it is refused; and goes again.
  EXPECT_FALSE(TraceInstance::create({root_}, {}));
  EXPECT_FALSE(std::filesystem::exists(dead));
  EXPECT_FALSE(std::filesystem::exists(dead_too));
  EXPECT_TRUE(std::filesystem::exists(ours));
  EXPECT_TRUE(std::filesystem::exists(other));
  EXPECT_FALSE(std::filesystem::exists(fmt::format("{}vmm-{}", instances, getpid())));
}

}  // namespace
}  // namespace vmm
