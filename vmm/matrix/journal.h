// The journal of a run: an append-only file of JSON lines, from which an interrupted run goes on
// and every report is made. A line is written by one write(2), so whatever ends vmm, even SIGKILL,
// leaves whole lines and at most one torn one at the end, which is cut off when the journal is
// opened again: no finished cell is lost and none is made up.
//
//   {"schema":"vmm-matrix-journal","version":1,"header":{...}}
//   {"cell":{...}}       one for each that has its verdict; of two with one id the later counts
//   {"finished":1764266400.5}
#pragma once

#include <string>
#include <string_view>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"
#include "vmm/matrix/record.h"

namespace vmm {

// The file's name in a run's directory.
inline constexpr std::string_view kJournalName = "journal.jsonl";
inline constexpr std::size_t kMaxJournalSize = std::size_t{1} << 30;

// One thread at a time writes it.
class Journal {
 public:
  // A new one, which must not exist yet (a Usage error). It appears with its header, or not at all.
  static Result<Journal> create(const std::string& directory, const RunHeader& header);
  // One that goes on, less a torn last line. Errors as read_journal(); Usage when another vmm
  // writes it.
  static Result<Journal> reopen(const std::string& directory);

  // Errors of kind Internal (a full disk): the file ends with its last whole line then.
  Result<void> add(const CellRecord& record);
  // Every cell has its verdict.
  Result<void> finish(double when);

 private:
  Journal(Fd file, std::string path) : file_(std::move(file)), path_(std::move(path)) {}
  // `what` is said in an error: "the verdict of 'hello smp=1' is not in it".
  Result<void> append(std::string_view line, std::string_view what);

  Fd file_;
  std::string path_;
};

// The run in DIRECTORY. Usage errors name the line that is none of ours, and a journal of another
// version; a torn last line is none. Where a cell stands twice the later line counts; a run to
// which cells were added after its end has not ended.
Result<RunRecord> read_journal(const std::string& directory);
// The same of a journal's text; `path` is used in messages only.
Result<RunRecord> parse_journal(std::string_view text, const std::string& path);

}  // namespace vmm
