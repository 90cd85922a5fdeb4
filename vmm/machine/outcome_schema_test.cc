#include "vmm/machine/outcome_schema.h"

#include <gtest/gtest.h>

#include "vmm/machine/report.h"

namespace vmm {
namespace {

using nlohmann::json;

struct Fixture {
  MachineSpec spec;
  ResolvedCpu cpu;
  HostGrant host;
  LoadedImage image;
  RunReport report;

  Fixture() {
    spec.command_line = {"vmm", "run", "a kernel.elf"};
    cpu.name = "haswell@4";
    cpu.text = "haswell@4,+pdpe1gb";
    cpu.model_digest = std::string(64, 'a');
    cpu.missing = {{"avx2", "7.0.EBX[5]", "silicon", "the processor lacks it", ""}};
    host.backend = KvmBackend::Pvm;
    host.kernel = "6.18.0";
    host.module_parameters = {{"kvm.ignore_msrs", "N"}};
    image.path = "a kernel.elf";
    report.guest_digest = std::string(64, '0');
    report.cpuid_differences = {{{1, 0}, CpuidReg::Ecx, 1, 2}};
    report.vcpus.resize(2);
    report.last_exits = {{.kind = "shutdown"},
                         {.kind = "out", .address = 0x3f8, .value = 65, .width = 1}};
    report.unclaimed = {{"port", 0x2e9, {1, 2}}};
    report.unknown_msrs[0x10] = {1, 0};
    report.trace = {"events.json", 12, 3, "ENOSPC"};
  }
  json document() const { return outcome_json(report, spec, cpu, host, image); }
};

TEST(OutcomeSchema, every_kind_of_ending_gives_a_valid_document) {
  InternalError internal;
  internal.ndata = 2;
  const std::vector<RunOutcome> endings = {ending::GuestExit{5},
                                           ending::PowerOff{"port 604h"},
                                           ending::Reset{"port CF9h"},
                                           ending::TripleFault{1},
                                           ending::InternalFailure{0, internal},
                                           ending::EntryFailure{0, 7, 1},
                                           ending::Caught{0, "VMRUN at 1000h"},
                                           ending::HaltedForever{},
                                           ending::Stalled{1.5},
                                           ending::TimedOut{2},
                                           ending::Stopped{15},
                                           ending::Quit{},
                                           ending::MonitorFailure{"KVM_RUN: EFAULT"}};
  ASSERT_EQ(endings.size(), std::variant_size_v<RunOutcome>);
  for (const RunOutcome& outcome : endings) {
    Fixture f;
    f.report.outcome = outcome;
    f.report.card = CrashCard{"some-rule-1", "a sentence", "host", {"a sentence", "a line"}};
    EXPECT_EQ(outcome_problems(f.document()), "") << kind_name(outcome);
    EXPECT_EQ(f.document()["ending"]["kind"], kind_name(outcome));
    EXPECT_EQ(f.document()["layer"], "host");
  }
}

TEST(OutcomeSchema, walks_of_l2_are_a_part_of_the_document) {
  Fixture f;
  NestedFinding finding{.vcpu = 1, .state = {.guest_mode = true}};
  L2Walk refused{.of = "cr2", .address = 0x8000000000};
  WalkFailure& failure = refused.walk.failure.emplace();
  failure.rule = "not-present";
  failure.text = "PML4E[1] is not present";
  L2Walk known{.of = "rip", .address = 0x101000};
  known.walk.gpa = 0x1000;
  known.walk.steps = {{"PTE", 1, 0x101, 0x4808, 0x1003, 4096}};
  known.nested = NestedWalk{.address = 0x1000,
                            .steps = {{"EPT PML4E", 0, 0x9000, 0xa007}},
                            .failure = "EPT PDPTE[0] is not present"};
  finding.walks = {known, refused};
  f.report.hypervisors = {finding};
  json document = f.document();
  EXPECT_EQ(outcome_problems(document), "");
  json& walks = document["hypervisors"][0]["l2_walks"];
  EXPECT_EQ(walks[0]["nested"]["steps"][0]["value"], "0xa007");
  EXPECT_EQ(walks[0]["nested"]["failure"], "EPT PDPTE[0] is not present");
  EXPECT_EQ(walks[1]["nested"], nullptr);
  EXPECT_EQ(walks[1]["failure"]["rule"], "not-present");
  walks[0].erase("nested");
  EXPECT_NE(outcome_problems(document), "");
}

TEST(OutcomeSchema, a_refusal_is_a_valid_document_whatever_is_known) {
  Fixture f;
  const Error error = Error::host("no such bits");
  EXPECT_EQ(outcome_problems(refusal_json(error, f.spec, nullptr, nullptr)), "");
  EXPECT_EQ(outcome_problems(refusal_json(error, f.spec, &f.cpu, &f.host)), "");
  EXPECT_EQ(refusal_json(error, f.spec, nullptr, nullptr)["ending"]["exit_code"], 77);
}

TEST(OutcomeSchema, exits_by_reason_are_valid_from_either_source) {
  Fixture f;
  f.report.outcome = ending::GuestExit{0};
  f.report.kvm_exits.emplace();
  f.report.kvm_exits->problem = "no tracefs";
  EXPECT_EQ(outcome_problems(f.document()), "");
  KvmExits exits;
  exits.statistics = ExitStatistics(1);
  exits.statistics.add({.kind = KvmEventKind::AnyExit, .svm = true, .code = 0x400});
  exits.statistics.add({.kind = KvmEventKind::L2EntryFailed, .message = "CC(x)"});
  exits.statistics.finish();
  exits.counters["nested_run"] = 2;
  f.report.kvm_exits = exits;
  EXPECT_EQ(outcome_problems(f.document()), "");
  EXPECT_EQ(f.document()["kvm_trace"]["reasons"][0]["reason"], "VMEXIT_NPF");
}

TEST(OutcomeSchema, the_schema_refuses_what_is_not_an_outcome) {
  Fixture f;
  json document = f.document();
  document["version"] = 2;
  EXPECT_NE(outcome_problems(document), "");
  document = f.document();
  document["ending"]["kind"] = "exploded";
  EXPECT_NE(outcome_problems(document), "");
  document = f.document();
  document.erase("cpu");
  EXPECT_NE(outcome_problems(document), "");
  document = f.document();
  document["vcpus"][0]["general"]["rip"] = 5;
  EXPECT_NE(outcome_problems(document), "");
}

TEST(OutcomeSchema, bits_say_what_the_policy_made_of_them) {
  Fixture f;
  f.cpu.policy = CpuPolicy::Force;
  EXPECT_EQ(f.document()["cpu"]["missing"][0]["status"], "UNBACKED");
  f.cpu.policy = CpuPolicy::Mask;
  EXPECT_EQ(f.document()["cpu"]["missing"][0]["status"], "masked");
}

}  // namespace
}  // namespace vmm
