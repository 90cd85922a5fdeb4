// The run: why it stopped, what came before, how it ends.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "devices/vga_screen.h"
#include "vmm/base/check.h"
#include "vmm/base/text.h"
#include "vmm/machine/explain_stop.h"
#include "vmm/machine/monitor_parts.h"
#include "vmm/machine/state_json.h"

namespace vmm::monitor {
namespace {

using nlohmann::json;

std::string why_text(const MonitorScene& scene) {
  switch (scene.stop.kind) {
    case StopReason::Kind::Start:
      return "the guest has not run yet";
    case StopReason::Kind::Asked:
      return "the guest was stopped because it was asked to";
    case StopReason::Kind::Reported:
      break;
  }
  const DebugReport& report = scene.stop.report;
  const std::string place = place_name(scene, report.breakpoint.address);
  switch (report.why) {
    case DebugReport::Why::Stepped:
      return fmt::format("vCPU {} stopped after a step", report.vcpu);
    case DebugReport::Why::Breakpoint:
      return fmt::format(
          "vCPU {} stopped at {} {}", report.vcpu,
          report.breakpoint.catching ? "what --catch asks for, at" : "the breakpoint at", place);
    case DebugReport::Why::Watch:
      return fmt::format(
          "vCPU {} stopped behind {} the {} bytes that are watched at {}", report.vcpu,
          report.breakpoint.kind == Breakpoint::Kind::Write ? "a write to" : "an access to",
          report.breakpoint.length, place);
  }
  return {};
}

}  // namespace

MonitorAnswer explain_stopped(const Request& r) {
  if (!r.words.empty()) return usage();
  if (const auto card = r.scene.machine.crash_card()) return done(*card);
  const auto live = live_facts(r.scene, r.scene.vcpu);
  if (!live) return failed(live.error());
  std::string text = fmt::format(
      "{}; vCPU {} of {}{}:\n", why_text(r.scene), r.scene.vcpu, r.scene.target.vcpu_count(),
      r.scene.target.nested_position(r.scene.vcpu).level == 2 ? ", in L2" : "");
  std::vector<std::string> lines = explain_stop(*(*live)->facts);
  if (const auto ahead = entry_ahead((*live)->scene, r.scene.vcpu)) {
    std::vector<std::string> entry = ahead->finding.lines;
    if (ahead->finding.report.clean()) entry.emplace_back("it breaks no rule of VM entry");
    for (std::size_t i = 0; i < entry.size(); ++i)
      add_labelled(lines, i == 0 ? "entry" : "", entry[i]);
  }
  for (const std::string& line : lines) text += line + "\n";
  return done(std::move(text));
}

MonitorAnswer exits(const Request& r) {
  constexpr std::uint64_t kUsual = 8, kMost = 256;
  if (r.words.size() > 1) return usage();
  const auto count = r.words.empty() ? kUsual : count_of(r.words[0]);
  if (!count || *count == 0 || *count > kMost)
    return usage(fmt::format("COUNT is a number from 1 to {}", kMost));
  json document = json::array();
  std::string text;
  for (unsigned i = 0; i < r.scene.target.vcpu_count(); ++i) {
    const auto events = r.scene.machine.exits(i, *count);
    json list = json::array();
    text += fmt::format("vCPU {}:{}\n", i, events.empty() ? " none that is still known" : "");
    for (const TraceEvent& event : events) {
      list.push_back(event_json(event));
      text += fmt::format("  {:>12.6f} s  at {}: {}\n",
                          std::chrono::duration<double>(event.time).count(),
                          place_name(r.scene, event.rip), printable(event.text(), 50));
    }
    document.push_back({{"vcpu", i}, {"exits", std::move(list)}});
  }
  return r.json ? done_json(document) : done(std::move(text));
}

MonitorAnswer screen(const Request& r) {
  if (!r.words.empty()) return usage();
  const VgaSnapshot picture = r.scene.machine.screen();
  if (!picture.text_mode) return failed("the VGA is in a graphics mode, which has no text");
  if (is_blank(picture))
    return done(fmt::format("({} columns, {} rows, blank)\n", picture.columns, picture.rows));
  return done(render_text(picture));
}

MonitorAnswer trace(const Request& r) {
  if (!r.words.empty()) return usage();
  const auto about = r.scene.machine.trace_about();
  if (!about) return done("no trace is written (vmm run --trace FILE does)\n");
  return done(fmt::format("{}: {} events written, {} dropped{}\n", printable(about->path),
                          about->events, about->dropped,
                          about->error.empty() ? "" : ", ended by " + about->error));
}

MonitorAnswer step(const Request& r) {
  if (r.scene.debugger == nullptr) return failed("there is no debugger that steps (--gdb)");
  Debugger& debugger = *r.scene.debugger;
  if (r.words.size() == 2 && r.words[0] == "irq" && (r.words[1] == "on" || r.words[1] == "off"))
    debugger.step_into_interrupts(r.words[1] == "on");
  else if (!r.words.empty())
    return usage();
  return done(debugger.steps_into_interrupts() ? "steps take interrupts\n"
                                               : "steps leave interrupts pending\n");
}

// gdb keeps registers and memory that it has read until the guest has run, and only a user can tell
// it otherwise (gdb 13's `monitor`; `flushregs` until gdb 11).
MonitorAnswer reset(const Request& r) {
  if (!r.words.empty()) return usage();
  if (const auto done = r.scene.machine.reset(); !done) return failed(done.error());
  if (r.scene.debugger == nullptr || r.scene.debugger->running())
    return done("the machine has started again, as after power-on\n");
  return done(
      "the machine is at its first instruction, as after power-on; gdb still shows what it read\n"
      "before until you type: maintenance flush register-cache (and maintenance flush dcache)\n");
}

MonitorAnswer quit(const Request& r) {
  if (!r.words.empty()) return usage();
  r.scene.machine.quit();
  return done("the run ends\n");
}

}  // namespace vmm::monitor
