// What is known of a cell once it has its verdict, and of the run it belongs to: the values that
// stand in the journal and that every report is made of.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/matrix/sub_results.h"
#include "vmm/matrix/verdict.h"

namespace vmm {

// One run of a cell's guest.
struct AttemptRecord {
  CellVerdict verdict = CellVerdict::Infra;  // never Flaky
  std::string reason;                        // one line; empty for a plain pass
  std::string kind;       // ending.kind of the outcome; empty where there is none
  int exit_code = 0;      // of vmm; 128 + n when a signal ended it
  std::string rule;       // cause.rule of the outcome; may be empty
  std::string phase;      // of a time-out: boot, test, silence or noise; else empty
  double seconds = 0;     // wall clock
  std::string directory;  // of its files, relative to the run's; empty: none were kept
  SubResults results;

  bool operator==(const AttemptRecord&) const = default;
};

struct AxisValue {
  std::string axis;
  std::string value;
  bool operator==(const AxisValue&) const = default;
};

// The CPU that a cell's guest had, as the outcome tells it; all empty where it never came so far.
struct CellCpu {
  std::string model;  // name@version
  std::string model_digest;
  std::string guest_digest;
  std::vector<std::string> missing;  // names of bits that the host could not give
  bool operator==(const CellCpu&) const = default;
};

struct CellRecord {
  std::string id;  // the same in every run of the matrix: "hello smp=2 on=svm"
  std::vector<AxisValue>
      axes;  // "guest" first, then those that the cell has, in the matrix's order
  std::vector<std::string> groups;
  CellVerdict verdict = CellVerdict::Infra;
  std::string reason;    // one line; of the attempt that decided
  std::string expected;  // "pass", "fail", "xfail: REASON", and what more was asked for
  std::string link;      // of an expected failure; may be empty
  std::vector<AttemptRecord> attempts;  // oldest first, at least one
  CellCpu cpu;
  std::string host;     // "svm 6.1.0-32-cloud-amd64"; empty where it never came so far
  std::string command;  // a line for a shell that repeats it
  double started = 0;   // seconds since 1970
  double seconds = 0;   // wall clock, all attempts

  const AttemptRecord& last() const { return attempts.back(); }
  // The value of an axis; empty where the cell has none of that name.
  std::string axis(std::string_view name) const;
  bool operator==(const CellRecord&) const = default;
};

// Of a whole run.
struct RunHeader {
  std::string matrix;              // its name
  std::string file;                // path of the matrix as it was given
  std::string digest;              // SHA-256 over the matrix's text and the cells that it makes
  std::vector<std::string> cells;  // the ids of those that were chosen, in their order
  std::uint64_t all_cells = 0;     // of the matrix, before filters and shards
  std::string selection;           // the filters and the shard in words; empty: every cell
  std::uint64_t shard = 0;         // of how many, from 1 on; 0 of 0: the run was not sharded
  std::uint64_t shards = 0;
  std::string vmm;     // version
  std::string host;    // "pvm, Linux 6.18.44"
  double started = 0;  // seconds since 1970
  bool operator==(const RunHeader&) const = default;
};

// A run as its journal has it.
struct RunRecord {
  RunHeader header;
  std::vector<CellRecord> cells;  // in the order of the header, those that are finished
  double finished = 0;            // seconds since 1970; 0: it was interrupted

  // How many cells got this verdict.
  std::size_t count(CellVerdict verdict) const;
};

// Seconds since 1970, now: as records have their times.
double unix_time();

nlohmann::json to_json(const CellRecord& record);
nlohmann::json to_json(const RunHeader& header);
// A Usage error for what is no such document, and for an attempt whose directory is not below the
// run's; strings are cut at 64 KiB.
Result<CellRecord> parse_cell_record(const nlohmann::json& document);
Result<RunHeader> parse_run_header(const nlohmann::json& document);

}  // namespace vmm
