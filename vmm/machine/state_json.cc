#include "vmm/machine/state_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "vmm/machine/explain_nested.h"
#include "vmm/machine/register_text.h"

namespace vmm {

using nlohmann::json;

std::string json_hex(std::uint64_t value) { return fmt::format("0x{:x}", value); }

namespace {

json segment_json(const kvm_segment& s) {
  return {{"selector", json_hex(s.selector)},
          {"base", json_hex(s.base)},
          {"limit", json_hex(s.limit)},
          {"type", s.type},
          {"present", s.present},
          {"dpl", s.dpl},
          {"s", s.s},
          {"l", s.l},
          {"db", s.db},
          {"g", s.g},
          {"unusable", s.unusable}};
}

}  // namespace

json registers_json(const CpuState& cpu) {
  const kvm_regs& r = cpu.regs;
  const kvm_sregs& s = cpu.sregs;
  json general = {
      {"rax", json_hex(r.rax)}, {"rbx", json_hex(r.rbx)}, {"rcx", json_hex(r.rcx)},
      {"rdx", json_hex(r.rdx)}, {"rsi", json_hex(r.rsi)}, {"rdi", json_hex(r.rdi)},
      {"rsp", json_hex(r.rsp)}, {"rbp", json_hex(r.rbp)}, {"r8", json_hex(r.r8)},
      {"r9", json_hex(r.r9)},   {"r10", json_hex(r.r10)}, {"r11", json_hex(r.r11)},
      {"r12", json_hex(r.r12)}, {"r13", json_hex(r.r13)}, {"r14", json_hex(r.r14)},
      {"r15", json_hex(r.r15)}, {"rip", json_hex(r.rip)}, {"rflags", json_hex(r.rflags)}};
  json control = {{"cr0", json_hex(s.cr0)},
                  {"cr2", json_hex(s.cr2)},
                  {"cr3", json_hex(s.cr3)},
                  {"cr4", json_hex(s.cr4)},
                  {"cr8", json_hex(s.cr8)},
                  {"efer", json_hex(s.efer)},
                  {"dr6", json_hex(cpu.debugregs.dr6)},
                  {"dr7", json_hex(cpu.debugregs.dr7)},
                  {"apic_base", json_hex(s.apic_base)}};
  json tables = {{"gdt", {{"base", json_hex(s.gdt.base)}, {"limit", json_hex(s.gdt.limit)}}},
                 {"idt", {{"base", json_hex(s.idt.base)}, {"limit", json_hex(s.idt.limit)}}}};
  json segments = {{"cs", segment_json(s.cs)}, {"ds", segment_json(s.ds)},
                   {"es", segment_json(s.es)}, {"fs", segment_json(s.fs)},
                   {"gs", segment_json(s.gs)}, {"ss", segment_json(s.ss)},
                   {"tr", segment_json(s.tr)}, {"ldt", segment_json(s.ldt)}};
  return {{"general", general}, {"control", control}, {"tables", tables}, {"segments", segments}};
}

std::string mp_state_name(std::uint32_t state) {
  switch (state) {
    case KVM_MP_STATE_RUNNABLE:
      return "runnable";
    case KVM_MP_STATE_UNINITIALIZED:
      return "wait-for-sipi";
    case KVM_MP_STATE_INIT_RECEIVED:
      return "init-received";
    case KVM_MP_STATE_HALTED:
      return "halted";
    case KVM_MP_STATE_SIPI_RECEIVED:
      return "sipi-received";
    default:
      return fmt::format("state-{}", state);
  }
}

json event_json(const TraceEvent& e) {
  json j = {
      {"ns", e.time.count()}, {"vcpu", e.vcpu}, {"rip", json_hex(e.rip)}, {"kind", e.kind.name()}};
  if (e.width != 0) {
    j["address"] = json_hex(e.address);
    j["value"] = json_hex(e.value);
    j["width"] = e.width;
    j["count"] = e.count;
    j["device"] = e.device.empty() ? json() : json(e.device);
  }
  return j;
}

json walk_json(Gva address, const Walk& walk) {
  json steps = json::array();
  for (const WalkStep& step : walk.steps)
    steps.push_back({{"entry", step.entry_name},
                     {"level", step.level},
                     {"index", step.index},
                     {"at", json_hex(step.entry_gpa)},
                     {"value", json_hex(step.entry)}});
  json j = {{"address", json_hex(address)},
            {"mode", paging_text(walk.mode)},
            {"steps", std::move(steps)},
            {"gpa", walk.gpa ? json(json_hex(*walk.gpa)) : json()},
            {"page_size", walk.page_size},
            {"writable", walk.writable},
            {"user", walk.user},
            {"executable", walk.executable},
            {"failure", nullptr}};
  if (walk.failure)
    j["failure"] = {{"rule", walk.failure->rule},
                    {"text", walk.failure->text},
                    {"vector", walk.failure->vector},
                    {"error_code", walk.failure->error_code},
                    {"depends_on", walk.failure->depends_on}};
  return j;
}

json nested_walk_json(const NestedWalk& walk) {
  json steps = json::array();
  for (const NestedWalk::Step& step : walk.steps)
    steps.push_back({{"entry", step.entry},
                     {"index", step.index},
                     {"at", json_hex(step.at)},
                     {"value", json_hex(step.value)}});
  return {{"address", json_hex(walk.address)},
          {"steps", std::move(steps)},
          {"gpa", walk.gpa ? json(json_hex(*walk.gpa)) : json()},
          {"page_size", walk.page_size},
          {"writable", walk.writable},
          {"executable", walk.executable},
          {"failure", walk.failure.empty() ? json() : json(walk.failure)}};
}

json violation_json(const nested::Violation& violation) {
  return {{"rule", violation.rule->id},
          {"section", violation.rule->section},
          {"text", fmt::format("{} {}", violation.rule->subject, violation.rule->text)},
          {"field", violation.field},
          {"found", json_hex(violation.found)},
          {"allowed", violation.allowed},
          {"why", violation.why},
          {"result", nested::result_text(violation.rule->result)}};
}

}  // namespace vmm
