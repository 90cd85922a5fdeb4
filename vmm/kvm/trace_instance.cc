#include "vmm/kvm/trace_instance.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <map>

#include "vmm/base/text.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxFile = 1u << 20;  // of a description; kvm_exit's has 12 KiB
constexpr std::size_t kMaxProcessors = 4096;
// For all processors together; what each gets at least, and at most.
constexpr std::size_t kBufferKib = 64u << 10, kLeastKib = 256, kMostKib = 4u << 10;
constexpr std::string_view kPrefix = "vmm-";
constexpr std::string_view kMark = "vmm-vcpu ";
constexpr int kNames = 8;
constexpr const char* kWhatToDo =
    "as root, mount -t tracefs none /sys/kernel/tracing; or run as root; or --on svm, --on vmx";

bool is_directory(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

std::vector<std::string> entries_of(const std::string& path) {
  std::vector<std::string> names;
  if (DIR* directory = ::opendir(path.c_str())) {
    while (const dirent* entry = ::readdir(directory))
      if (names.size() < kMaxProcessors) names.emplace_back(entry->d_name);
    ::closedir(directory);
  }
  std::ranges::sort(names);
  return names;
}

// The process behind "vmm-4711" and "vmm-4711.2".
std::optional<pid_t> owner_of(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  const auto number = parse_number(name.substr(0, name.find('.')));
  if (!number || *number == 0 || *number > 1u << 30) return std::nullopt;
  return static_cast<pid_t>(*number);
}

// The kernel keeps one that somebody has open, a vmm of another container for one.
void remove_stale(const std::string& instances) {
  for (const std::string& name : entries_of(instances))
    if (const auto owner = owner_of(name); owner && ::kill(*owner, 0) != 0 && errno == ESRCH)
      ::rmdir((instances + "/" + name).c_str());
}

Result<std::string> text_of(const std::string& path) {
  const Fd fd = VMM_TRY(Fd::open(path, O_RDONLY, ErrorKind::Host));
  std::string text;
  char part[4096];
  while (text.size() < kMaxFile) {
    const ssize_t size = ::read(fd.get(), part, sizeof part);
    if (size < 0) return fail(Error::system(ErrorKind::Host, "read " + path, errno));
    if (size == 0) break;
    text.append(part, static_cast<std::size_t>(size));
  }
  return text;
}

}  // namespace

std::vector<std::string> usual_tracefs() {
  return {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"};
}

Result<std::unique_ptr<TraceInstance>> TraceInstance::create(const std::vector<std::string>& roots,
                                                             const Wanted& wanted) {
  const auto root = std::ranges::find_if(
      roots, [](const std::string& path) { return is_directory(path + "/instances"); });
  if (root == roots.end())
    return fail(Error::host(fmt::format("no tracefs is at {}, or not for this user",
                                        fmt::join(roots, " or ")))
                    .hint(kWhatToDo));
  const std::string instances = *root + "/instances";
  remove_stale(instances);
  std::string directory = fmt::format("{}/{}{}", instances, kPrefix, ::getpid());
  // In another container a process may have our number.
  for (int i = 1; ::mkdir(directory.c_str(), 0700) != 0; ++i) {
    if (errno != EEXIST || i > kNames)
      return fail(
          Error::system(ErrorKind::Host, fmt::format("make the directory {}", directory), errno)
              .hint(kWhatToDo));
    directory = fmt::format("{}/{}{}.{}", instances, kPrefix, ::getpid(), i);
  }
  return open(*root, directory, wanted, true);
}

Result<std::unique_ptr<TraceInstance>> TraceInstance::open(const std::string& root,
                                                           const std::string& directory,
                                                           const Wanted& wanted, bool owned) {
  std::unique_ptr<TraceInstance> instance(new TraceInstance);
  instance->directory_ = directory;
  instance->owned_ = owned;
  instance->vcpus_ = wanted.vcpus;
  auto opened = instance->open_files(root, wanted);
  if (!opened) return fail(std::move(opened).error().hint(kWhatToDo));
  return instance;
}

Result<void> TraceInstance::open_files(const std::string& root, const Wanted& wanted) {
  const std::string page = VMM_TRY(text_of(root + "/events/header_page"));
  const std::string mark = VMM_TRY(text_of(root + "/events/ftrace/print/format"));
  page_ = VMM_TRY(RingPage::parse(page));
  mark_format_ = VMM_TRY(EventFormat::parse(mark));
  for (std::size_t i = 0; i < kKvmEventKinds; ++i) {
    const auto kind = static_cast<KvmEventKind>(i);
    if (kind != KvmEventKind::Entry || wanted.entries)
      VMM_TRY(add_event(root, kind, kind == KvmEventKind::AnyExit));
  }
  // The clock of std::chrono::steady_clock, CLOCK_MONOTONIC.
  VMM_TRY(write("trace_clock", "mono"));
  for (const std::string& name : entries_of(directory_ + "/per_cpu")) {
    if (!name.starts_with("cpu")) continue;
    const std::string path = directory_ + "/per_cpu/" + name;
    Processor& processor = processors_.emplace_back();
    processor.pages =
        VMM_TRY(Fd::open(path + "/trace_pipe_raw", O_RDONLY | O_NONBLOCK, ErrorKind::Host));
    processor.statistics = VMM_TRY(Fd::open(path + "/stats", O_RDONLY, ErrorKind::Host));
  }
  if (processors_.empty())
    return fail(Error::host(fmt::format("{}/per_cpu lists no processor", directory_)));
  const std::size_t each = std::clamp(kBufferKib / processors_.size(), kLeastKib, kMostKib);
  VMM_TRY(write("buffer_size_kb", fmt::format("{}", each)));
  VMM_TRY(write("tracing_on", "1"));
  // A new instance has the options of the first one, whose user may have switched this off.
  (void)write("options/markers", "1");
  marker_ = VMM_TRY(Fd::open(directory_ + "/trace_marker", O_WRONLY, ErrorKind::Host));
  buffer_.resize(page_.size);
  return {};
}

// Which events there are depends on the kernel.
Result<void> TraceInstance::add_event(const std::string& root, KvmEventKind kind, bool needed) {
  for (const std::string_view name : KvmEventDecoder::names(kind)) {
    const auto text = text_of(fmt::format("{}/events/kvm/{}/format", root, name));
    if (!text) {
      if (needed) return fail(text.error());
      continue;
    }
    auto format = EventFormat::parse(*text);
    auto added = format ? decoder_.add(kind, std::move(*format)) : fail(format.error());
    if (added) {
      enabled_.emplace_back(name);
      return {};
    }
    if (needed) return fail(added.error());
  }
  return {};
}

TraceInstance::~TraceInstance() { close(); }

Result<void> TraceInstance::write(const std::string& file, std::string_view text) const {
  const std::string path = directory_ + "/" + file;
  const Fd fd = VMM_TRY(Fd::open(path, O_WRONLY, ErrorKind::Host));
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return fail(Error::system(ErrorKind::Host, fmt::format("write '{}' to {}", text, path), errno));
  return {};
}

void TraceInstance::mark(unsigned vcpu) const {
  const std::string text = fmt::format("{}{}\n", kMark, vcpu);
  // One that is missing is begin()'s to tell.
  [[maybe_unused]] const ssize_t written = ::write(marker_.get(), text.data(), text.size());
}

// Calls event(time, bytes) for all in at most `pages` pages; false: there may be more.
template <typename Event>
bool TraceInstance::read_pages(std::size_t processor, std::size_t pages, const Event& event) {
  for (std::size_t i = 0; i < pages; ++i) {
    const ssize_t size = ::read(processors_[processor].pages.get(), buffer_.data(), buffer_.size());
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return true;
    page_.each(std::span(buffer_).first(static_cast<std::size_t>(size)), event);
  }
  return false;
}

Result<void> TraceInstance::begin() {
  constexpr std::size_t kPages = 16;
  std::map<unsigned, std::int32_t> marked;
  for (std::size_t i = 0; i < processors_.size(); ++i)
    read_pages(i, kPages, [&](std::uint64_t, std::span<const std::uint8_t> event) {
      const std::string text = mark_format_.text("buf", event, 64);
      const auto thread = mark_format_.number("common_pid", event);
      if (mark_format_.number("common_type", event) != mark_format_.id || !thread ||
          !text.starts_with(kMark))
        return;
      const auto vcpu = parse_number(trim(std::string_view(text).substr(kMark.size())));
      if (vcpu && *vcpu < vcpus_)
        marked[static_cast<unsigned>(*vcpu)] = static_cast<std::int32_t>(*thread);
    });
  if (marked.size() != vcpus_)
    return fail(Error::host(fmt::format("{}: of {} vCPUs {} left the mark by which their threads "
                                        "are known",
                                        directory_, vcpus_, marked.size()))
                    .hint(kWhatToDo));
  std::string list;
  for (const auto& [vcpu, thread] : marked) {
    threads_.push_back(thread);
    list += fmt::format("{}\n", thread);
  }
  VMM_TRY(write("set_event_pid", list));
  for (const std::string& name : enabled_)
    VMM_TRY(write(fmt::format("events/kvm/{}/enable", name), "1"));
  marker_.reset();
  return {};
}

bool TraceInstance::read(std::vector<KvmEvent>& events, std::size_t most) {
  const std::size_t before = events.size();
  // An event has some 60 bytes: the share of each processor.
  const std::size_t pages =
      std::max<std::size_t>(1, most / processors_.size() / (page_.size / 64 + 1));
  bool all = true;
  for (std::size_t i = 0; i < processors_.size(); ++i)
    all &= read_pages(i, pages, [&](std::uint64_t time, std::span<const std::uint8_t> bytes) {
      auto event = decoder_.decode(time, bytes);
      if (!event) return;
      const auto thread = std::ranges::find(threads_, event->thread);
      if (thread == threads_.end()) return;
      event->vcpu = static_cast<unsigned>(thread - threads_.begin());
      events.push_back(std::move(*event));
    });
  std::stable_sort(events.begin() + static_cast<std::ptrdiff_t>(before), events.end(),
                   [](const KvmEvent& a, const KvmEvent& b) { return a.time < b.time; });
  return all;
}

std::uint64_t TraceInstance::lost() {
  std::uint64_t sum = 0;
  for (const Processor& processor : processors_) {
    char bytes[1024];
    const ssize_t size = ::read(processor.statistics.get(), bytes, sizeof bytes);
    if (size <= 0) continue;
    for (const std::string_view line :
         split(std::string_view(bytes, static_cast<std::size_t>(size)), '\n'))
      for (const std::string_view name : {"overrun:", "commit overrun:", "dropped events:"})
        if (line.starts_with(name)) sum += parse_number(trim(line.substr(name.size()))).value_or(0);
  }
  return sum;
}

void TraceInstance::close() {
  processors_.clear();
  marker_.reset();
  if (std::exchange(owned_, false)) ::rmdir(directory_.c_str());
}

}  // namespace vmm
