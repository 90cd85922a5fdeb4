#include "vmm/machine/trace_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

namespace vmm {
namespace {

using nlohmann::json;

class TraceFileTest : public testing::Test {
 protected:
  TraceFileTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "vmm-trace-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  ~TraceFileTest() override { std::filesystem::remove_all(folder_); }
  std::unique_ptr<TraceFile> make(const std::string& path, TraceFilter filter = {}) {
    auto file = TraceFile::create(path, std::move(filter), nullptr, 1, [this] { ++woken; });
    EXPECT_TRUE(file) << file.error().text();
    return std::move(*file);
  }
  std::string path(const char* name) const { return folder_ / name; }
  static std::vector<json> lines_of(const std::string& path) {
    std::vector<json> lines;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) lines.push_back(json::parse(line));
    return lines;
  }

  std::filesystem::path folder_;
  unsigned woken = 0;
};

TEST_F(TraceFileTest, a_reset_goes_on_in_time_and_outlives_the_devices_it_has_named) {
  const auto file = make(path("t.json"));
  auto name = std::make_unique<std::string>("a-device-of-the-first-life");
  file->event({.time = VmTime{2000}, .kind = "out", .width = 1, .device = *name});
  file->drain();  // Chrome's form keeps an exit until the guest goes on
  file->event({.time = VmTime{3000}, .kind = "in", .width = 1, .device = *name});
  file->start_again(VmTime{5000});
  name->assign(name->size(), '?');
  name.reset();
  file->event({.time = VmTime{1000}, .kind = "hlt"});
  file->finish(VmTime{4000});
  const json all = json::parse(std::ifstream(path("t.json")));
  double reset = -1, halt = -1, end = -1;
  std::string text = all.dump();
  for (const json& e : all) {
    if (e["name"].get<std::string>().starts_with("reset")) reset = e["ts"];
    if (e["name"] == "hlt") halt = e["ts"];
    if (e["name"] == "end") end = e["ts"];
  }
  EXPECT_EQ(reset, 5);
  EXPECT_EQ(halt, 6);
  EXPECT_EQ(end, 9);
  EXPECT_EQ(text.find("??"), std::string::npos);
  EXPECT_NE(text.find("a-device-of-the-first-life"), std::string::npos);
}

TEST_F(TraceFileTest, events_come_out_in_order_and_the_end_says_how_many) {
  const auto file = make(path("t"));
  for (unsigned i = 0; i < 10; ++i) file->event({.kind = "inject", .value = i});
  file->drain();
  file->event({.kind = "hlt"});
  file->finish(VmTime{5});
  const auto lines = lines_of(path("t"));
  ASSERT_EQ(lines.size(), 12u);
  EXPECT_EQ(lines[9]["vector"], "0x9");
  EXPECT_EQ(lines[10]["kind"], "hlt");
  EXPECT_EQ(lines[11]["kind"], "end");
  EXPECT_EQ(lines[11]["count"], 11);
  EXPECT_EQ(file->totals().events, 11u);
  EXPECT_EQ(file->totals().dropped, 0u);
}

TEST_F(TraceFileTest, what_finds_the_buffer_full_is_counted_where_it_is_missing) {
  const auto file = make(path("t"));
  constexpr unsigned kEvents = 100'000;
  for (unsigned i = 0; i < kEvents; ++i) file->event({.kind = "hlt"});
  EXPECT_GE(woken, 1u);
  file->drain();
  file->event({.kind = "wake"});
  file->finish(VmTime{5});
  const auto lines = lines_of(path("t"));
  const auto totals = file->totals();
  EXPECT_EQ(totals.events + totals.dropped, kEvents + 1);
  EXPECT_GT(totals.dropped, 0u);
  ASSERT_EQ(lines.size(), totals.events + 2);
  EXPECT_EQ(lines[lines.size() - 3]["kind"], "dropped");
  EXPECT_EQ(lines[lines.size() - 3]["count"], totals.dropped);
  EXPECT_EQ(lines[lines.size() - 2]["kind"], "wake");
  EXPECT_EQ(lines.back()["dropped"], totals.dropped);
}

TEST_F(TraceFileTest, the_filter_comes_before_the_buffer) {
  const auto file = make(path("t"), *TraceFilter::parse(std::vector<std::string>{"kind=wake"}));
  for (unsigned i = 0; i < 100'000; ++i) file->event({.kind = "hlt"});
  file->event({.kind = "wake"});
  file->finish(VmTime{5});
  EXPECT_EQ(file->totals().events, 1u);
  EXPECT_EQ(file->totals().dropped, 0u);
}

TEST_F(TraceFileTest, chrome_s_form_is_valid_when_it_ends_regularly) {
  const auto file = make(path("t.json"));
  for (unsigned i = 0; i < 10'000; ++i)
    file->event({.kind = i % 2 == 0 ? TraceKind("hlt") : TraceKind("enter")});
  file->finish(VmTime{5});
  std::ifstream text(path("t.json"));
  EXPECT_TRUE(json::parse(text).is_array());
}

TEST_F(TraceFileTest, a_full_disk_ends_the_file_and_is_told) {
  const auto file = make("/dev/full");
  for (unsigned i = 0; i < 5; ++i) file->event({.kind = "hlt"});
  file->drain();
  file->event({.kind = "hlt"});
  file->finish(VmTime{5});
  EXPECT_EQ(file->error_number(), ENOSPC);
  EXPECT_EQ(file->totals().events, 0u);
  EXPECT_EQ(file->totals().dropped, 6u);
}

TEST_F(TraceFileTest, a_pipe_that_is_full_makes_nobody_wait_and_loses_no_part_of_a_line) {
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  const Fd reader(::open(path("pipe").c_str(), O_RDONLY | O_NONBLOCK));
  ASSERT_TRUE(reader);
  const auto file = make(path("pipe"));
  constexpr unsigned kEvents = 20'000;  // more than a pipe holds
  for (unsigned i = 0; i < kEvents; ++i) file->event({.kind = "hlt"});
  std::string text;
  const auto read_some = [&] {
    std::array<char, 4096> part;
    const ssize_t count = ::read(reader.get(), part.data(), part.size());
    if (count > 0) text.append(part.data(), static_cast<std::size_t>(count));
    return count > 0;
  };
  for (unsigned i = 0; i < 10; ++i) {
    file->drain();
    read_some();
  }
  // The rest at once, then the end.
  for (unsigned i = 0; i < 1000 && file->totals().events < kEvents; ++i) {
    while (read_some()) {
    }
    file->drain();
  }
  file->finish(VmTime{5});
  while (read_some()) {
  }
  EXPECT_EQ(file->totals().events, kEvents);
  EXPECT_EQ(file->error_number(), 0);
  std::size_t lines = 0;
  std::istringstream all(text);
  for (std::string line; std::getline(all, line); ++lines) ASSERT_TRUE(json::accept(line)) << line;
  EXPECT_EQ(lines, kEvents + 1);
}

TEST_F(TraceFileTest, a_pipe_that_nobody_reads_holds_the_end_up_only_for_a_while) {
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  const Fd reader(::open(path("pipe").c_str(), O_RDONLY | O_NONBLOCK));
  const auto file = make(path("pipe"));
  for (unsigned i = 0; i < 20'000; ++i) file->event({.kind = "hlt"});
  file->finish(VmTime{5});
  EXPECT_EQ(file->error_number(), EAGAIN);
  EXPECT_EQ(file->totals().events + file->totals().dropped, 20'000u);
}

std::vector<std::string> kinds_of(const std::vector<json>& lines) {
  std::vector<std::string> kinds;
  for (const json& line : lines)
    kinds.push_back(line["kind"].get<std::string>() + " " + std::to_string(line["ns"].get<int>()));
  return kinds;
}

TraceEvent at(int ns, TraceKind kind) { return {.time = VmTime{ns}, .kind = kind}; }

TEST_F(TraceFileTest, what_others_tell_is_merged_by_time_and_ours_keep_their_order) {
  const auto file = make(path("t"));
  file->event(at(20, "ipi"));  // what an exit caused stands before it
  file->event(at(15, "out"));
  file->event(at(30, "enter"));
  file->take();
  file->event(at(45, "hlt"));
  file->merge({at(5, "kvm-entry"), at(17, "kvm-exit"), at(40, "kvm-entry"), at(50, "kvm-exit")},
              VmTime{40});
  file->take();
  file->merge({}, VmTime{60});
  file->finish(VmTime{60});
  const std::vector<std::string> expected = {"kvm-entry 5", "kvm-exit 17", "ipi 20",
                                             "out 15",      "enter 30",    "kvm-entry 40",
                                             "hlt 45",      "kvm-exit 50", "end 60"};
  EXPECT_EQ(kinds_of(lines_of(path("t"))), expected);
  EXPECT_EQ(file->totals().events, 8u);
}

TEST_F(TraceFileTest, what_others_tell_is_filtered_and_bounded_and_written_at_the_end) {
  const std::vector<std::string> terms = {"kind=kvm-exit"};
  const auto file = make(path("t"), *TraceFilter::parse(terms));
  file->event(at(1, "hlt"));
  file->merge({at(2, "kvm-entry"), at(3, "kvm-exit")}, VmTime{0});
  std::vector<TraceEvent> flood(70'000, at(4, "kvm-exit"));
  file->merge(std::move(flood), VmTime{0});
  file->finish(VmTime{5});
  EXPECT_EQ(file->totals().events, 65'536u);
  EXPECT_EQ(file->totals().dropped, 70'001u - 65'536u);
  EXPECT_EQ(lines_of(path("t")).back()["kind"], "end");
}

}  // namespace
}  // namespace vmm
