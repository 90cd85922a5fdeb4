// A triple fault whose registers SVM has lost, explained by what lies in memory.
#include "vmm/base/text.h"
#include "vmm/machine/explain_rule_parts.h"
#include "vmm/machine/explain_tables.h"

namespace vmm {
namespace {

// Several roots that share the entry at fault are one cause.
bool same_cause(const OtherTables& tables) {
  const auto entry = [](const OtherTables::Broken& broken) {
    return broken.place.walk.steps.back().entry_gpa;
  };
  for (const auto& broken : tables.broken)
    if (entry(broken) != entry(tables.broken.front())) return false;
  return true;
}

}  // namespace

std::optional<Verdict> tables_found(const Facts& f) {
  if (!ended_by<ending::TripleFault>(f) || f.at_fault() || f.is_reset_state()) return std::nullopt;
  const OtherTables tables = find_other_tables(f);
  // Beside sound tables nothing tells which ones were in use.
  if (!tables.complete || tables.broken.empty() || tables.sound != 0 || !same_cause(tables))
    return std::nullopt;
  const auto& [root, place] = tables.broken.front();
  const WalkFailure& failure = *place.walk.failure;
  const bool gib_page = failure.rule == "reserved-ps-pdpte";

  Verdict v;
  v.rule = "inferred-" + failure.rule;
  if (gib_page && !f.scene.nested_paging)
    v.cause = fmt::format(
        "probably: {} has PS set (a 1 GiB page); {} lacks pdpe1gb (CPUID 80000001h.EDX[26])",
        step_text(place.walk.steps.back()), f.model);
  else
    v.cause = fmt::format("probably: {} ({})", failure.text, f.model);

  v.notes.push_back(fmt::format(
      "inferred from page tables in memory: SVM keeps no registers of the fault, but the root at "
      "{:x}h, which is not the last CR3 ({:x}h), maps the code that ran last, through that entry{}",
      root, f.cpu->sregs.cr3,
      tables.broken.size() == 1 ? ""
                                : fmt::format(" (so do {} more root{})", tables.broken.size() - 1,
                                              tables.broken.size() == 2 ? "" : "s")));
  if (const auto load = find_cr3_load(f))
    v.notes.push_back(fmt::format("the code ahead loads CR3: {} at {}; the next fetch is then {}",
                                  printable(load->text, 40), f.address(load->linear),
                                  vector_name(failure.vector)));
  const GateReport gate = f.gate(failure.vector);
  if (!gate.usable && gate.known)
    v.notes.push_back(fmt::format("and nothing could have caught it: {}", gate.text));

  if (gib_page) {
    v.tries = {models_with_pdpe1gb(f),
               "map with 2 MiB pages (PDEs with PS) where CPUID has no pdpe1gb"};
  } else {
    v.tries = {"look at how the guest makes that entry, and what it checks before"};
  }
  v.tries.push_back("to be sure: a host with VT-x or PVM keeps the registers of the fault");
  v.place = place;
  v.place_name = fmt::format("RIP {:x}h by CR3 = {:x}h", f.rip, root);
  return v;
}

}  // namespace vmm
