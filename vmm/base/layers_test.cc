// The picture of the house is true: dependencies point one way, only vmm/kvm issues ioctls, chips
// know no files, threads or locks. Reads the sources, so it runs in the root of the repository.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// The height of each folder. A file may include its own folder and those below it, but no neighbour
// of the same height.
const std::map<std::string, int, std::less<>> kHeights = {
    {"vmm/base", 0},   {"vmm/core", 1}, {"vmm/cpu", 2},   {"vmm/nested", 2}, {"vmm/kvm", 2},
    {"vmm/disk", 2},   {"devices", 2},  {"loader", 2},    {"vmm/gdb", 2},    {"vmm/machine", 3},
    {"vmm/matrix", 4}, {"vmm/lab", 4},  {"vmm/probe", 4}, {"vmm/cli", 5},
};

// "vmm/core" of "vmm/core/bus.h", "devices" of "devices/vga_text.h".
std::string folder_of(std::string_view path) {
  std::size_t end = path.find('/');
  if (path.starts_with("vmm/")) end = path.find('/', end + 1);
  return std::string(path.substr(0, end));
}

bool is_test(std::string_view path) {
  return path.ends_with("_test.cc") || path.ends_with("_fuzz.cc") || path.ends_with("_fake.h");
}

// What follows "//" on a line is no code. (A "//" inside a string is taken for a comment as well,
// which hides nothing that these rules look for.)
std::string without_comment(const std::string& line) { return line.substr(0, line.find("//")); }

class Checker {
 public:
  void check(const std::string& path, const std::string& text) {
    folder_ = folder_of(path);
    const auto height = kHeights.find(folder_);
    if (height == kHeights.end()) {
      problems_.push_back(fmt::format("{}: its folder is missing in layers_test.cc", path));
      return;
    }
    height_ = height->second;
    std::size_t number = 0;
    std::size_t start = 0;
    while (start < text.size()) {
      const std::size_t end = std::min(text.find('\n', start), text.size());
      place_ = fmt::format("{}:{}", path, ++number);
      check_line(path, text.substr(start, end - start));
      start = end + 1;
    }
  }
  const std::vector<std::string>& problems() const { return problems_; }

 private:
  void check_line(const std::string& path, const std::string& line) {
    static const std::regex kInclude(R"re(^\s*#\s*include\s*(["<])([^">]+)[">])re");
    static const std::regex kIoctl(R"re(\bioctl(_raw)?\s*\()re");
    // Most lines are neither; finding that out by regular expressions takes seconds.
    if (line.find("include") == line.npos && line.find("ioctl") == line.npos) return;
    std::smatch match;
    if (std::regex_search(line, match, kInclude)) {
      if (match[1] == "\"")
        check_own(path, match[2]);
      else if (folder_ == "devices" && !is_test(path))
        check_pure(match[2]);
      return;
    }
    // A lab's first process has a kernel of its own to itself, and its random numbers to begin.
    const bool allowed = folder_ == "vmm/kvm" || path == "vmm/base/fd.h" ||
                         path == "vmm/base/fd.cc" || path == "vmm/lab/agent/init.cc";
    if (allowed || is_test(path)) return;
    if (std::regex_search(without_comment(line), kIoctl)) report("only vmm/kvm issues ioctls");
  }

  void check_own(const std::string& path, const std::string& included) {
    const std::string target = folder_of(included);
    const auto height = kHeights.find(target);
    if (height == kHeights.end()) {
      report(fmt::format("\"{}\" does not start at the root of the sources", included));
      return;
    }
    // Tests may look sideways and use what is below, but never what is above.
    const bool allowed = target == folder_ || height->second < height_ ||
                         (is_test(path) && height->second == height_);
    if (!allowed) report(fmt::format("{} may not include {}", folder_, target));
  }

  void check_pure(const std::string& header) {
    static const std::set<std::string, std::less<>> kForbidden = {
        "thread",  "mutex",     "shared_mutex", "condition_variable", "future",
        "fstream", "iostream",  "cstdio",       "filesystem",         "unistd.h",
        "fcntl.h", "pthread.h", "poll.h"};
    if (kForbidden.contains(header) || header.starts_with("sys/") || header.starts_with("linux/"))
      report(fmt::format("a chip holds no file, thread or lock, so no <{}>", header));
  }

  void report(const std::string& what) { problems_.push_back(place_ + ": " + what); }

  std::string folder_;
  std::string place_;
  int height_ = 0;
  std::vector<std::string> problems_;
};

std::vector<std::string> problems_of(const std::string& path, const std::string& text) {
  Checker checker;
  checker.check(path, text);
  return checker.problems();
}

// Two types of one name in one namespace make one program with two truths: the linker takes
// either's inline functions for both, and no compiler says so.
class TypeNames {
 public:
  void read(const std::string& path, const std::string& text) {
    static const std::regex kNamespace(R"re(^namespace ([\w:]+) \{)re");
    static const std::regex kType(R"re(^(?:struct|class|enum class) (\w+)( final)?( :.*)? \{)re");
    std::string scope;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      std::smatch match;
      if (std::regex_search(line, match, kNamespace)) scope += match[1].str() + "::";
      if (line.starts_with("}  // namespace") && !scope.empty()) {
        const std::size_t outer = scope.rfind("::", scope.size() - 3);
        scope.erase(outer == scope.npos ? 0 : outer + 2);
      }
      if (!std::regex_search(line, match, kType)) continue;
      const auto [first, is_new] = places_.emplace(scope + match[1].str(), path);
      if (!is_new)
        problems_.push_back(fmt::format("{}: {} is in {} too", path, first->first, first->second));
    }
  }
  const std::vector<std::string>& problems() const { return problems_; }

 private:
  std::map<std::string, std::string> places_;
  std::vector<std::string> problems_;
};

TEST(TypeNamesRule, one_name_is_one_type) {
  TypeNames names;
  names.read("a.h",
             "namespace vmm {\nstruct A;\nstruct A {\n};\nclass B final : public A {\n}  // "
             "namespace vmm\n");
  names.read("b.h",
             "namespace vmm {\nnamespace spec {\nstruct A {\n}  // namespace spec\nstruct C {\n");
  EXPECT_THAT(names.problems(), IsEmpty());
  names.read("c.h", "namespace vmm {\nclass B {\n");
  EXPECT_THAT(names.problems(), ElementsAre("c.h: vmm::B is in a.h too"));
}

TEST(LayerRules, what_is_below_may_be_included) {
  EXPECT_THAT(problems_of("vmm/core/bus.cc",
                          "#include \"vmm/base/bytes.h\"\n"
                          "#include \"vmm/core/bus.h\"\n"
                          "#include <vector>\n"),
              IsEmpty());
  EXPECT_THAT(problems_of("vmm/cli/main.cc", "#include \"loader/boot.h\"\n"), IsEmpty());
}

TEST(LayerRules, what_is_above_may_not) {
  EXPECT_THAT(problems_of("vmm/base/fd.cc", "\n#include \"vmm/core/bus.h\"\n"),
              ElementsAre("vmm/base/fd.cc:2: vmm/base may not include vmm/core"));
  EXPECT_THAT(problems_of("vmm/base/fd_test.cc", "# include \"vmm/kvm/kvm.h\""),
              ElementsAre("vmm/base/fd_test.cc:1: vmm/base may not include vmm/kvm"));
}

TEST(LayerRules, neighbours_do_not_know_each_other) {
  EXPECT_THAT(problems_of("devices/pic8259.cc", "#include \"vmm/kvm/vm.h\"\n"),
              ElementsAre("devices/pic8259.cc:1: devices may not include vmm/kvm"));
  EXPECT_THAT(problems_of("loader/elf.cc", "#include \"vmm/cpu/resolve.h\"\n"),
              ElementsAre("loader/elf.cc:1: loader may not include vmm/cpu"));
  EXPECT_THAT(problems_of("vmm/kvm/kvm_test.cc", "#include \"loader/boot.h\"\n"), IsEmpty());
}

TEST(LayerRules, includes_start_at_the_root) {
  EXPECT_THAT(problems_of("loader/elf.cc", "#include \"elf.h\"\n"),
              ElementsAre("loader/elf.cc:1: \"elf.h\" does not start at the root of the sources"));
}

TEST(LayerRules, a_new_folder_needs_a_place_in_the_picture) {
  EXPECT_THAT(problems_of("vmm/sound/beep.cc", ""),
              ElementsAre("vmm/sound/beep.cc: its folder is missing in layers_test.cc"));
}

TEST(LayerRules, only_kvm_issues_ioctls) {
  const std::string call = "  if (ioctl (fd, KVM_RUN, 0) < 0) return;\n";
  EXPECT_THAT(problems_of("vmm/machine/run_loop.cc", call),
              ElementsAre("vmm/machine/run_loop.cc:1: only vmm/kvm issues ioctls"));
  EXPECT_THAT(problems_of("vmm/cli/cmd_host.cc", "fd.ioctl_raw(kKvmRun, 0);"),
              ElementsAre("vmm/cli/cmd_host.cc:1: only vmm/kvm issues ioctls"));
  EXPECT_THAT(problems_of("vmm/kvm/vcpu.cc", call), IsEmpty());
  EXPECT_THAT(problems_of("vmm/machine/run_loop.cc", "// what ioctl() would do\n"), IsEmpty());
}

TEST(LayerRules, chips_are_pure) {
  EXPECT_THAT(
      problems_of("devices/pit8254.cc", "#include <mutex>\n#include <sys/timerfd.h>\n"),
      ElementsAre("devices/pit8254.cc:1: a chip holds no file, thread or lock, so no <mutex>",
                  "devices/pit8254.cc:2: a chip holds no file, thread or lock, so no "
                  "<sys/timerfd.h>"));
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

bool is_source(const std::filesystem::path& path) {
  return path.extension() == ".cc" || path.extension() == ".h";
}

TEST(Layers, the_sources_keep_the_picture) {
  Checker checker;
  TypeNames names;
  std::size_t files = 0;
  for (const char* root : {"vmm", "devices", "loader"}) {
    ASSERT_TRUE(std::filesystem::is_directory(root)) << "not run in the root of the repository";
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
      if (!entry.is_regular_file() || !is_source(entry.path())) continue;
      const std::string path = entry.path().generic_string();
      const std::string text = read_text(entry.path());
      checker.check(path, text);
      // The probe's guest is a program of its own.
      if (path.ends_with(".h") && !path.starts_with("vmm/probe/guest/")) names.read(path, text);
      ++files;
    }
  }
  EXPECT_GT(files, 40u);
  EXPECT_THAT(checker.problems(), IsEmpty());
  EXPECT_THAT(names.problems(), IsEmpty());
}

}  // namespace
}  // namespace vmm
