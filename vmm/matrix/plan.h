// What a run would do, without running it: how many cells of which guest on which host, what is
// left out and why, what this host would skip, how long it takes.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "vmm/matrix/expand.h"
#include "vmm/matrix/runner.h"
#include "vmm/matrix/spec.h"

namespace vmm {

struct MatrixPlan {
  struct Place {
    std::string text;  // "host", "svm", "svm, npt=0"
    std::size_t cells = 0;
    // Reasons, each with how many cells this host would skip for it.
    std::map<std::string, std::size_t> skipped;
    bool asked = false;  // whether anybody could say what it would skip
  };
  std::string matrix;
  std::size_t cells = 0;                                    // chosen
  std::size_t all_cells = 0;                                // of the matrix
  std::vector<std::pair<std::string, std::size_t>> guests;  // chosen cells of each
  std::vector<Place> places;
  std::vector<Expansion::LeftOut> left_out;
  std::size_t pairs_left_out = 0;
  std::vector<std::string> missing_files;  // images that are not there
  std::vector<std::string> notes;
  double known_seconds = 0;  // what the cells took that ran before
  std::size_t known_cells = 0;
  unsigned jobs = 1;

  // Nothing where no cell is known.
  std::optional<double> estimate() const;
};

// Why this host would skip a CPU model under a policy; empty where it would not.
using SkipReason =
    std::function<std::string(const std::string& cpu_model, const std::string& policy)>;

// `skip` may be null: then nobody is asked about the host.
MatrixPlan make_plan(const MatrixSpec& spec, const Expansion& expansion,
                     const std::vector<std::size_t>& chosen, const CellTimes& times, unsigned jobs,
                     const SkipReason& skip);
std::string plan_text(const MatrixPlan& plan);
nlohmann::json to_json(const MatrixPlan& plan);

// The images of the chosen cells that cannot be read, once each; a run with one would be of no use.
std::vector<std::string> missing_files(const MatrixSpec& spec, const Expansion& expansion,
                                       const std::vector<std::size_t>& chosen);

}  // namespace vmm
