#include "vmm/cli/bisect_run.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <nlohmann/json.hpp>

#include "vmm/base/process.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxOutcome = std::size_t{64} << 20;
// Beyond the run's own time limit: what starting and reporting may take on a slow host.
constexpr std::chrono::seconds kGrace{120};

// A file without a name, of which a child is told as /proc/self/fd/N: nothing is left behind.
Result<Fd> memory_file(const char* name, std::string_view text) {
  Fd file(::memfd_create(name, 0));
  if (!file) return fail(Error::system(ErrorKind::Internal, "memfd_create", errno));
  VMM_TRY(replace_contents(file, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()},
                           name));
  return file;
}

Result<std::string> content_of(const Fd& file) {
  std::string text;
  char buffer[65536];
  while (text.size() < kMaxOutcome) {
    const ssize_t count =
        ::pread(file.get(), buffer, sizeof buffer, static_cast<off_t>(text.size()));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail(Error::system(ErrorKind::Internal, "read of the outcome", errno));
    if (count == 0) break;
    text.append(buffer, static_cast<std::size_t>(count));
  }
  return text;
}

std::string path_of(const Fd& file) { return fmt::format("/proc/self/fd/{}", file.get()); }

// Until the child has ended; it is killed with its owner when `limit` passes.
Result<ChildProcess::Status> wait_for(ChildProcess& child, std::chrono::seconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  for (;;) {
    if (const auto status = child.ended()) return *status;
    if (std::chrono::steady_clock::now() > end)
      return fail(Error::lab(fmt::format("vmm run did not end within {} s; its last lines: {}",
                                         limit.count(), child.output().tail().last(3))));
    pollfd events[2] = {{child.pidfd().get(), POLLIN, 0}, {child.output().fd(), POLLIN, 0}};
    ::poll(events, 2, 200);
  }
}

}  // namespace

std::string RunVerdict::text() const {
  return fmt::format("{}{}, exit code {}", kind, rule.empty() ? "" : fmt::format(" ({})", rule),
                     code);
}

Result<RunVerdict> parse_run_verdict(const std::string& outcome) {
  const auto wrong = [](const char* what) {
    return fail(Error::internal(fmt::format("the outcome of vmm run {}", what)));
  };
  const json document = json::parse(outcome, nullptr, false);
  if (!document.is_object()) return wrong("is no JSON object");
  const auto ending = document.find("ending");
  if (ending == document.end() || !ending->is_object()) return wrong("has no ending");
  RunVerdict verdict;
  const auto kind = ending->find("kind");
  const auto code = ending->find("exit_code");
  if (kind == ending->end() || !kind->is_string() || code == ending->end() ||
      !code->is_number_integer())
    return wrong("has an ending without kind and exit code");
  verdict.kind = kind->get<std::string>();
  verdict.code = code->get<int>();
  if (const auto headline = ending->find("headline");
      headline != ending->end() && headline->is_string())
    verdict.headline = headline->get<std::string>();
  if (const auto cause = document.find("cause"); cause != document.end() && cause->is_object())
    if (const auto rule = cause->find("rule"); rule != cause->end() && rule->is_string())
      verdict.rule = rule->get<std::string>();
  return verdict;
}

std::vector<std::string> bisect_run_words(const BisectRunSpec& spec, const std::string& selection,
                                          const std::string& outcome) {
  std::vector<std::string> words = {"run",
                                    "--cpu-model",
                                    selection,
                                    "--outcome-json",
                                    outcome,
                                    "--timeout",
                                    fmt::format("{}", spec.timeout),
                                    "--quiet"};
  words.insert(words.end(), spec.options.begin(), spec.options.end());
  words.push_back(spec.guest.front());
  if (spec.guest.size() > 1) {
    words.emplace_back("--");
    words.insert(words.end(), spec.guest.begin() + 1, spec.guest.end());
  }
  return words;
}

Result<RunVerdict> run_under_model(const BisectRunSpec& spec, const std::string& model_text,
                                   const std::string& suffix) {
  const Fd model = VMM_TRY(memory_file("cpu-model", model_text));
  const Fd outcome = VMM_TRY(memory_file("outcome", ""));
  ProcessSpec process;
  process.argv = bisect_run_words(spec, path_of(model) + suffix, path_of(outcome));
  process.argv.insert(process.argv.begin(), "/proc/self/exe");
  process.inherit = {model.get(), outcome.get()};
  ChildProcess child = VMM_TRY(ChildProcess::start(process));
  const auto limit = std::chrono::seconds(static_cast<long>(spec.timeout)) + kGrace;
  const ChildProcess::Status status = VMM_TRY(wait_for(child, limit));
  const std::string text = VMM_TRY(content_of(outcome));
  RunVerdict verdict;
  if (text.empty()) {
    // A usage error comes before the outcome is opened, and is the same under every CPU.
    if (status.how == CLD_EXITED)
      return fail(Error::usage(fmt::format("vmm run ended with {} and left no outcome: {}",
                                           status.value, child.output().tail().last(3))));
    verdict.kind = "vmm-died";
    verdict.code = 128 + status.value;
    verdict.headline = child.output().tail().last(3);
    return verdict;
  }
  verdict = VMM_TRY(parse_run_verdict(text));
  if (verdict.kind == "signal")
    return fail(Error::host("the run was stopped by a signal: " + verdict.headline));
  return verdict;
}

}  // namespace vmm
