#include "vmm/matrix/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>

#include "vmm/base/text.h"
#include "vmm/matrix/record_reader.h"

namespace vmm {
namespace {

using nlohmann::json;

constexpr std::string_view kSchema = "vmm-matrix-journal";
constexpr int kVersion = 1;

std::string path_in(const std::string& directory) {
  return fmt::format("{}/{}", directory, kJournalName);
}

std::string line_of(const json& document) {
  // What a guest printed may be no UTF-8.
  return document.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

// 0, or the errno of the write that failed. A line is one write(2); a file takes less of it only
// when something is wrong, and the second call tells what.
int write_line(const Fd& file, std::string_view line) {
  while (!line.empty()) {
    const ssize_t count = ::write(file.get(), line.data(), line.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    if (count == 0) return ENOSPC;
    line.remove_prefix(static_cast<std::size_t>(count));
  }
  return 0;
}

Result<void> lock(const Fd& file, const std::string& path) {
  if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) return {};
  if (errno != EWOULDBLOCK)
    return fail(Error::system(ErrorKind::Internal, fmt::format("lock {}", printable(path)), errno));
  return fail(Error::usage(fmt::format("{}: another vmm writes this journal", printable(path)))
                  .hint("wait for that run to end, or stop it"));
}

// 0, or an errno: EEXIST when there is one by that name already.
int move_to_new(const std::string& from, const std::string& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL) return errno;
  // NFS cannot do that.
  if (::link(from.c_str(), to.c_str()) != 0) return errno;
  ::unlink(from.c_str());
  return 0;
}

class JournalReader {
 public:
  explicit JournalReader(const std::string& path) : path_(path) {}

  Result<void> line(std::string_view text) {
    ++number_;
    const json document = json::parse(text.begin(), text.end(), nullptr, false);
    if (document.is_discarded()) return refuse("not JSON");
    if (!document.is_object()) return refuse("no line of a journal");
    if (number_ == 1) return header(document);
    if (const auto cell = document.find("cell"); cell != document.end()) return add(*cell);
    if (document.contains("finished")) {
      RecordReader reader(document, "");
      run_.finished = reader.seconds("finished");
      if (reader.error()) return refuse(reader.error()->text());
      return {};
    }
    return refuse("no line of a journal");
  }

  Result<RunRecord> finish() && {
    if (number_ == 0)
      return fail(Error::usage("no whole line in it, not even the first: nothing ran")
                      .at(printable(path_)));
    for (std::optional<CellRecord>& cell : cells_)
      if (cell) run_.cells.push_back(std::move(*cell));
    return std::move(run_);
  }

 private:
  tl::unexpected<Error> refuse(std::string message) const {
    return fail(Error::usage(std::move(message))
                    .at(fmt::format("{}:{}", printable(path_), number_))
                    .hint("a journal is what `vmm matrix run` leaves in its directory"));
  }

  Result<void> header(const json& document) {
    const auto schema = document.find("schema");
    if (schema == document.end() || *schema != kSchema) return refuse("not the journal of a run");
    const auto version = document.find("version");
    if (version == document.end() || !version->is_number_integer())
      return refuse("a journal without a version");
    if (*version != kVersion)
      return refuse(fmt::format("a journal of version {}; this vmm reads version {}",
                                version->dump(), kVersion));
    const auto header = document.find("header");
    if (header == document.end()) return refuse("'header' is missing");
    auto parsed = parse_run_header(*header);
    if (!parsed) return refuse(parsed.error().text());
    run_.header = std::move(*parsed);
    cells_.resize(run_.header.cells.size());
    for (std::size_t i = 0; i < run_.header.cells.size(); ++i)
      places_.emplace(run_.header.cells[i], i);
    return {};
  }

  Result<void> add(const json& document) {
    auto cell = parse_cell_record(document);
    if (!cell) return refuse(cell.error().text());
    const auto place = places_.find(cell->id);
    if (place == places_.end())
      return refuse(fmt::format("the cell '{}' is not in the run's list", printable(cell->id)));
    cells_[place->second] = std::move(*cell);
    run_.finished = 0;
    return {};
  }

  const std::string& path_;
  std::size_t number_ = 0;
  RunRecord run_;
  std::vector<std::optional<CellRecord>> cells_;  // as in the header
  std::unordered_map<std::string, std::size_t> places_;
};

Error no_run(Error error) {
  if (error.errno_value() != ENOENT && error.errno_value() != ENOTDIR) return error;
  return std::move(error).hint("name the directory of a run, such as vmm-matrix/NAME/TIME");
}

Result<std::string> read_text(const std::string& path) {
  auto bytes = read_file(path, kMaxJournalSize, ErrorKind::Usage);
  if (!bytes) return fail(no_run(std::move(bytes).error()));
  return std::string(bytes->begin(), bytes->end());
}

}  // namespace

Result<Journal> Journal::create(const std::string& directory, const RunHeader& header) {
  const std::string path = path_in(directory);
  const std::string temporary = fmt::format("{}.{}.tmp", path, ::getpid());
  Fd file = VMM_TRY(
      Fd::open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW, ErrorKind::Internal));
  const json document = {{"schema", kSchema}, {"version", kVersion}, {"header", to_json(header)}};
  Result<void> done = lock(file, temporary);
  if (done) {
    if (const int reason = write_line(file, line_of(document)); reason != 0)
      done = fail(Error::system(ErrorKind::Internal, fmt::format("write {}", printable(temporary)),
                                reason));
  }
  if (done) {
    if (const int reason = move_to_new(temporary, path); reason == EEXIST)
      done = fail(Error::usage(fmt::format("{} exists: a run was made there", printable(path)))
                      .hint("--resume goes on with it; or name another directory"));
    else if (reason != 0)
      done = fail(
          Error::system(ErrorKind::Internal, fmt::format("create {}", printable(path)), reason));
  }
  if (!done) ::unlink(temporary.c_str());
  if (!done) return fail(std::move(done).error());
  return Journal(std::move(file), path);
}

Result<Journal> Journal::reopen(const std::string& directory) {
  const std::string path = path_in(directory);
  auto opened = Fd::open(path, O_RDWR | O_APPEND | O_NONBLOCK);
  if (!opened) return fail(no_run(std::move(opened).error()));
  Fd file = std::move(*opened);
  VMM_TRY(lock(file, path));
  // Only now nobody writes to it.
  const std::string text = VMM_TRY(read_text(path));
  VMM_TRY(parse_journal(text, path));
  const std::size_t whole = text.rfind('\n') + 1;  // there is one, or it had not parsed
  if (whole != text.size() && ::ftruncate(file.get(), static_cast<off_t>(whole)) != 0)
    return fail(Error::system(
        ErrorKind::Internal, fmt::format("cut the torn last line off {}", printable(path)), errno));
  return Journal(std::move(file), path);
}

Result<void> Journal::append(std::string_view line, std::string_view what) {
  struct stat before {};
  if (::fstat(file_.get(), &before) != 0)
    return fail(
        Error::system(ErrorKind::Internal, fmt::format("stat {}", printable(path_)), errno));
  const int reason = write_line(file_, line);
  if (reason == 0) return {};
  Error error =
      Error::system(ErrorKind::Internal, fmt::format("write {}", printable(path_)), reason)
          .context(what)
          .hint("what is in the journal is whole: make room, then --resume goes on from there");
  if (::ftruncate(file_.get(), before.st_size) != 0)
    error = std::move(error).context("its last line could not be cut off either");
  return fail(std::move(error));
}

Result<void> Journal::add(const CellRecord& record) {
  return append(line_of({{"cell", to_json(record)}}),
                fmt::format("'{}' is not in the journal", printable(record.id)));
}

Result<void> Journal::finish(double when) {
  return append(line_of({{"finished", when}}), "the run's end is not in the journal");
}

Result<RunRecord> parse_journal(std::string_view text, const std::string& path) {
  JournalReader reader(path);
  for (std::size_t end = text.find('\n'); end != text.npos; end = text.find('\n')) {
    VMM_TRY(reader.line(text.substr(0, end)));
    text.remove_prefix(end + 1);
  }
  return std::move(reader).finish();
}

Result<RunRecord> read_journal(const std::string& directory) {
  const std::string path = path_in(directory);
  const std::string text = VMM_TRY(read_text(path));
  return parse_journal(text, path);
}

}  // namespace vmm
