#include "vmm/machine/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <set>

#include "vmm/core/memory_fake.h"
#include "vmm/machine/explain_golden.h"
#include "vmm/machine/explain_rules.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

// 2 MiB of RAM, and what is written there.
using Ram = FakeRam;

constexpr Gpa kPml4 = 0x1000, kPdpt = 0x2000, kPd = 0x3000, kGdt = 0x5000, kIdt = 0x6000;
constexpr Gva kCode = 0x10000;

// A kernel in 64-bit mode: the first GiB mapped to itself with 2 MiB pages, a flat GDT, an IDT with
// handlers, a stack. Tests break one thing of it.
struct Machine {
  Machine() {
    ram.put64(kPml4, kPdpt | 3);
    ram.put64(kPdpt, kPd | 3);
    for (unsigned i = 0; i < 512; ++i) ram.put64(kPd + i * 8, i * 2_MiB | 0x83);
    ram.put64(kGdt + 8, 0x00af9b000000ffff);
    ram.put64(kGdt + 16, 0x00cf93000000ffff);
    for (unsigned v = 0; v < 32; ++v) {
      ram.put64(kIdt + v * 16, 0x0000'8e00'0008'0000ull | 0x8000 | v * 16);
      ram.put64(kIdt + v * 16 + 8, 0);
    }
    CpuState cpu;
    cpu.regs.rip = kCode;
    cpu.regs.rsp = 0x9000;
    cpu.regs.rflags = 2;
    cpu.sregs.cr0 = spec::CR0_PE | spec::CR0_PG;
    cpu.sregs.cr3 = kPml4;
    cpu.sregs.cr4 = spec::CR4_PAE;
    cpu.sregs.efer = spec::EFER_LME | spec::EFER_LMA;
    cpu.sregs.cs = {.base = 0,
                    .limit = 0xffffffff,
                    .selector = 8,
                    .type = 11,
                    .present = 1,
                    .dpl = 0,
                    .db = 0,
                    .s = 1,
                    .l = 1,
                    .g = 1,
                    .avl = 0,
                    .unusable = 0,
                    .padding = 0};
    cpu.sregs.ss = {.base = 0,
                    .limit = 0xffffffff,
                    .selector = 16,
                    .type = 3,
                    .present = 1,
                    .dpl = 0,
                    .db = 1,
                    .s = 1,
                    .l = 0,
                    .g = 1,
                    .avl = 0,
                    .unusable = 0,
                    .padding = 0};
    cpu.sregs.ds = cpu.sregs.es = cpu.sregs.ss;
    cpu.sregs.tr = {.base = 0x7000,
                    .limit = 0x67,
                    .selector = 24,
                    .type = 11,
                    .present = 1,
                    .dpl = 0,
                    .db = 0,
                    .s = 0,
                    .l = 0,
                    .g = 0,
                    .avl = 0,
                    .unusable = 0,
                    .padding = 0};
    cpu.sregs.gdt = {.base = kGdt, .limit = 0x17, .padding = {}};
    cpu.sregs.idt = {.base = kIdt, .limit = 0xfff, .padding = {}};
    scene.vcpus = {cpu};
    scene.memory = &ram;
    scene.outcome = ending::TripleFault{0};
    scene.model = "haswell@4";
    scene.symbols = &symbols;
    symbols.add("start", kCode, 0x100);
    symbols.add("main", kCode + 0x100, 0x100);
    CpuidTable& c = scene.cpuid;
    c.at(0) = {0xd, 0x756e6547, 0x6c65746e, 0x49656e69};
    c.at(1) = {0x306c3, 0, 0, 0x078bfbff};
    c.at(7);
    c.at(0x80000001) = {0, 0, 1, 0x20100800};
    c.at(0x80000008).eax = 0x3028;
  }

  CpuState& cpu() { return scene.vcpus[0]; }
  void emulation_failure() {
    InternalError error;
    error.suberror = 1;
    scene.outcome = ending::InternalFailure{0, error};
  }
  // Bytes at RIP, and HLTs behind them.
  void code(const std::vector<std::uint8_t>& bytes) {
    ram.put(kCode, std::vector<std::uint8_t>(16, 0xf4));
    ram.put(kCode, bytes);
  }
  CrashCard card() const {
    CrashCard made = explain(scene);
    EXPECT_LE(made.lines.size(), kMaxCardLines);
    for (const std::string& line : made.lines) EXPECT_LE(line.size(), 120u) << line;
    EXPECT_FALSE(made.lines.empty());
    EXPECT_FALSE(made.layer.empty());
    return made;
  }

  Ram ram;
  SymbolTable symbols;
  CrashScene scene;
};

// The story of the 1 GiB pages: the direct map uses PDPTEs with PS, and paging was just switched
// on.
struct GiantPages : Machine {
  GiantPages() {
    for (unsigned i = 0; i < 32; ++i) ram.put64(kPdpt + i * 8, i * 1_GiB | 0x83);
    cpu().sregs.cs.l = 0;
    cpu().sregs.cs.db = 1;
    cpu().sregs.idt = {.base = 0, .limit = 0, .padding = {}};
    ram.put(kCode, {0x0f, 0x22, 0xc0, 0xea, 0, 0, 1, 0, 8, 0});
    cpu().regs.rip = kCode + 3;
  }
};

TEST(Explain, one_gib_pages_without_pdpe1gb) {
  const GiantPages m;
  const CrashCard card = m.card();
  EXPECT_EQ(card.rule, "pdpte-ps-without-pdpe1gb");
  EXPECT_EQ(card.layer, "guest");
  expect_golden(card.text(), "one-gib-pages.txt");
  // The same ending as an emulation failure (EPT, a host of before Linux 5.14).
  GiantPages emulated;
  emulated.emulation_failure();
  EXPECT_EQ(emulated.card().rule, "pdpte-ps-without-pdpe1gb");
}

TEST(Explain, one_gib_pages_on_a_host_without_them) {
  GiantPages m;
  m.scene.host_has_pdpe1gb = false;
  m.scene.kvm_backend = "pvm";
  EXPECT_EQ(m.card().rule, "pdpte-ps-without-pdpe1gb");
  expect_golden(m.card().text(), "one-gib-pages-pvm.txt");
  // With the bit forced into the guest's CPUID the tables are right and the host is at fault.
  m.scene.cpuid.at(0x80000001).edx |= 1u << 26;
  EXPECT_EQ(m.card().rule, "pdpte-ps-host-lacks-1gib");
  EXPECT_EQ(m.card().layer, "host");
  expect_golden(m.card().text(), "one-gib-pages-forced.txt");
}

TEST(Explain, one_gib_pages_are_no_cause_where_they_work) {
  GiantPages m;
  m.scene.cpuid.at(0x80000001).edx |= 1u << 26;
  EXPECT_EQ(m.card().rule.find("pdpte"), std::string::npos);
}

TEST(Explain, executes_in_the_trapped_vga_window) {
  Machine m;
  m.ram.vga_is_trapped = true;
  m.emulation_failure();
  m.cpu().regs.rip = 0xb0000;
  m.ram.put(kCode + 0x110, {0xe8, 0, 0, 0, 0});
  m.ram.put64(0x9000, 0x1234);
  m.ram.put64(0x9008, kCode + 0x115);
  const CrashCard card = m.card();
  EXPECT_EQ(card.rule, "executes-in-hole");
  EXPECT_EQ(card.cause, "vCPU 0 executes at b0000h: the VGA window (A0000h-BFFFFh), not RAM");
  EXPECT_THAT(card.lines, Contains(HasSubstr("return addresses on the stack: 10115h (main+15h)")));
}

TEST(Explain, executes_beyond_ram_and_in_device_pages) {
  Machine m;
  m.emulation_failure();
  m.cpu().regs.rip = 0x300000;
  EXPECT_EQ(m.card().cause, "vCPU 0 executes at 300000h: no RAM (beyond its end), not RAM");
  m.ram.put64(kPd + 8, 0xfee00083);
  m.cpu().regs.rip = 0x200010;
  EXPECT_EQ(m.card().rule, "executes-in-hole");
  EXPECT_THAT(m.card().cause, HasSubstr("200010h (GPA fee00010h): the local APIC's page"));
}

TEST(Explain, a_fetch_that_only_the_exit_words_tell_of) {
  // As posted for VMX: reason 30h, qualification 584h (bit 2: a fetch); SVM gives the address too.
  CrashScene scene;
  InternalError error;
  error.suberror = 1;
  error.ndata = 6;
  error.data = {0, 0x30, 0x584, 0, 0, 0};
  scene.vcpus.resize(1);
  scene.vcpus[0].sregs.cr0 = 1;
  scene.memory_is_partial = true;
  scene.outcome = ending::InternalFailure{0, error};
  CrashCard card = explain(scene);
  EXPECT_EQ(card.rule, "executes-in-hole");
  EXPECT_THAT(card.lines,
              Contains(HasSubstr("VM exit 30h EPT violation, qualification 584h: a fetch "
                                 "where nothing is mapped")));
  error.data = {0, 0x400, 0x100000014, 0xb0000, 0, 0};
  scene.outcome = ending::InternalFailure{0, error};
  card = explain(scene);
  EXPECT_THAT(card.cause, HasSubstr("b0000h: the VGA window"));
  EXPECT_THAT(card.lines, Contains(HasSubstr("400h nested page fault")));
}

TEST(Explain, executes_in_the_real_mode_vectors) {
  Machine m;
  m.emulation_failure();
  m.scene.vcpus.push_back(m.cpu());
  m.scene.vcpu = 1;
  CpuState& ap = m.scene.vcpus[1];
  ap.sregs.cr0 = 0x60000010;
  ap.sregs.efer = 0;
  ap.sregs.cs.l = 0;
  ap.regs.rip = 0x40;
  const CrashCard card = m.card();
  EXPECT_EQ(card.rule, "executes-in-ivt");
  EXPECT_THAT(card.cause, HasSubstr("vCPU 1 executes at 40h in real mode"));
  EXPECT_THAT(card.lines, Contains(HasSubstr("its SIPI vector")));
}

TEST(Explain, zero_filled_memory) {
  Machine m;
  m.cpu().regs.rip = 0x20000;
  m.cpu().regs.rax = 0xffff800000000000;
  const CrashCard card = m.card();
  EXPECT_EQ(card.rule, "executes-zeroes-or-ones");
  EXPECT_THAT(card.cause, HasSubstr("executes zero-filled memory at 20000h"));
  m.ram.put(0x20000, std::vector<std::uint8_t>(16, 0xff));
  EXPECT_THAT(m.card().cause, HasSubstr("executes ff-filled memory"));
}

TEST(Explain, mmio_with_a_vector_instruction) {
  Machine m;
  m.emulation_failure();
  m.ram.put64(kPd + 8, 0xfee00083);
  m.cpu().regs.rdi = 0x2000f0;
  m.code({0xf3, 0x0f, 0x7f, 0x07});  // movdqu [rdi], xmm0
  const CrashCard card = m.card();
  EXPECT_EQ(card.rule, "mmio-with-unsupported-instruction");
  EXPECT_EQ(card.cause,
            "movdqu [rdi], xmm0 touches MMIO at GPA fee000f0h (the local APIC's page), and KVM "
            "cannot emulate this instruction");
}

TEST(Explain, vectors_in_the_emulator_of_pvm) {
  Machine m;
  m.emulation_failure();
  m.scene.kvm_backend = "pvm";
  m.code({0x0f, 0x57, 0xc0});
  const CrashCard card = m.card();
  EXPECT_EQ(card.rule, "emulation-unsupported-instruction");
  EXPECT_EQ(card.layer, "host");
  EXPECT_THAT(card.cause, HasSubstr("xorps xmm0, xmm0 at 10000h (start)"));
  EXPECT_THAT(card.lines, Contains(HasSubstr("-mgeneral-regs-only")));
  m.code({0xcc});
  EXPECT_EQ(m.card().rule, "breakpoint-in-emulated-code");
}

TEST(Explain, event_delivery_into_a_hole) {
  Machine m;
  InternalError error;
  error.suberror = 3;
  error.ndata = 5;
  error.data = {0x80000b0e, 0x31, 0, 0x2b570000, 1};  // as posted for lxd, with a GPA beyond RAM
  m.scene.outcome = ending::InternalFailure{0, error};
  m.scene.kvm_backend = "vmx";
  CrashCard card = m.card();
  EXPECT_EQ(card.rule, "event-delivery-hits-hole");
  EXPECT_EQ(card.cause,
            "while delivering hardware exception #PF (vector 14) with an error code, the CPU "
            "touched GPA 2b570000h, which is no RAM (beyond its end)");
  error.ndata = 4;  // kernels before 6.14 give the address for a misconfiguration only
  m.scene.outcome = ending::InternalFailure{0, error};
  EXPECT_THAT(m.card().cause, HasSubstr("touched memory that is not RAM"));
  m.scene.kvm_backend = "svm";
  error.ndata = 5;
  error.data = {0xb0000, 0x400, 0x100000007, 0xb0000, 1};
  m.scene.outcome = ending::InternalFailure{0, error};
  EXPECT_THAT(m.card().cause, HasSubstr("touched GPA b0000h, which is the VGA window"));
}

TEST(Explain, exception_during_delivery_and_unknown_exits) {
  Machine m;
  InternalError error;
  error.suberror = 2;
  error.ndata = 2;
  error.data = {0x80000202, 0x80000202};
  m.scene.outcome = ending::InternalFailure{0, error};
  CrashCard card = m.card();
  EXPECT_EQ(card.rule, "exception-during-delivery");
  EXPECT_THAT(card.cause, HasSubstr("NMI (vector 2)"));
  error.suberror = 4;
  error.data = {0x4b};
  error.ndata = 1;
  m.scene.kvm_backend = "vmx";
  m.scene.outcome = ending::InternalFailure{0, error};
  card = m.card();
  EXPECT_EQ(card.rule, "unexpected-exit-reason");
  EXPECT_EQ(card.layer, "host");
  EXPECT_THAT(card.cause, HasSubstr("4bh notify window"));
}

TEST(Explain, paging_just_enabled_with_an_unmapped_rip) {
  GiantPages m;
  m.ram.put64(kPdpt, 0);
  CrashCard card = m.card();
  EXPECT_EQ(card.rule, "paging-just-enabled-rip-unmapped");
  EXPECT_THAT(card.cause, HasSubstr("CR0.PG was just set"));
  EXPECT_THAT(card.cause, HasSubstr("PDPTE[0] at 2000h = 0h is not present"));
  m.ram.put(kCode, {0x0f, 0x22, 0xd8});
  EXPECT_THAT(m.card().cause, HasSubstr("CR3 was just loaded"));
}

TEST(Explain, an_instruction_that_the_model_lacks) {
  Machine m;
  m.code({0x66, 0x0f, 0x38, 0xf8, 0x03});  // movdir64b rax, [rbx]
  m.cpu().regs.rax = m.cpu().regs.rbx = 0x8000;
  CrashCard card = m.card();
  EXPECT_EQ(card.rule, "instruction-lacks-cpuid-bit");
  EXPECT_THAT(card.cause, HasSubstr("haswell@4 lacks movdir64b (CPUID 7.0.ECX[28] = 0)"));
  EXPECT_THAT(card.lines, Contains(HasSubstr("--cpu-model haswell@4,+movdir64b")));
  m.scene.cpuid.at(7).ecx = 1u << 28;
  EXPECT_NE(m.card().rule, "instruction-lacks-cpuid-bit");
  m.scene.cpuid = {};  // nothing known: nothing claimed
  EXPECT_NE(m.card().rule, "instruction-lacks-cpuid-bit");
}

TEST(Explain, sse_before_it_is_enabled) {
  Machine m;
  m.code({0x0f, 0x57, 0xc0});
  CrashCard card = m.card();
  EXPECT_EQ(card.rule, "instruction-not-enabled");
  EXPECT_THAT(card.cause, HasSubstr("xorps xmm0, xmm0 while CR4.OSFXSR is 0"));
  EXPECT_THAT(card.lines, Contains(HasSubstr("set CR4.OSFXSR first")));
}

TEST(Explain, control_register_values_that_the_cpu_refuses) {
  Machine m;
  m.code({0x0f, 0x22, 0xe0});  // mov cr4, rax
  m.cpu().regs.rax = spec::CR4_PAE | spec::CR4_SMEP;
  EXPECT_EQ(m.card().rule, "control-bit-lacks-cpuid-bit");
  EXPECT_THAT(m.card().cause, HasSubstr("sets CR4.SMEP (bit 20), but haswell@4 lacks smep"));
  m.cpu().regs.rax = 0;
  EXPECT_EQ(m.card().rule, "bad-control-register");
  EXPECT_THAT(m.card().cause, HasSubstr("CR4.PAE cannot go off in long mode"));
  m.code({0x0f, 0x30});  // wrmsr
  m.cpu().regs.rcx = 0xc0000080;
  m.cpu().regs.rax = 0x500 | spec::EFER_SVME;
  EXPECT_THAT(m.card().cause, HasSubstr("sets EFER.SVME (bit 12)"));
}

TEST(Explain, a_selector_beyond_the_gdt) {
  Machine m;
  m.code({0x8e, 0xd8});  // mov ds, ax
  m.cpu().regs.rax = 0x20;
  CrashCard card = m.card();
  EXPECT_EQ(card.rule, "bad-selector");
  EXPECT_THAT(card.cause, HasSubstr("selector 20h is beyond GDTR.limit 17h"));
  m.cpu().regs.rax = 0x10;
  m.ram.put64(kGdt + 16, 0x00cf13000000ffff);  // P clear
  card = m.card();
  EXPECT_THAT(card.cause, HasSubstr("#NP"));
  EXPECT_THAT(card.cause, HasSubstr("is not present"));
}

TEST(Explain, a_page_fault_without_an_idt) {
  Machine m;
  m.code({0x48, 0x89, 0x07});  // mov [rdi], rax
  m.cpu().regs.rdi = 0x8000000000;
  m.cpu().sregs.cr2 = 0x8000000000;
  m.cpu().sregs.idt = {.base = 0, .limit = 0, .padding = {}};
  const CrashCard card = m.card();
  EXPECT_EQ(card.rule, "page-fault-without-handler");
  EXPECT_EQ(card.cause,
            "#PF: mov [rdi], rax writes 8000000000h: PML4E[1] at 1008h = 0h is not present (P, "
            "bit 0, is clear)");
  EXPECT_THAT(card.lines,
              Contains(HasSubstr("gate 14 (#PF): IDTR.limit 0h is too small, it needs efh  <--")));
  EXPECT_THAT(card.lines, Contains(HasSubstr("  #PF (error code 2h: W) on the write to "
                                             "8000000000h (as CR2 says), then #DF")));
  m.cpu().sregs.cr2 = 0x1000;
  EXPECT_THAT(m.card().lines, Contains(HasSubstr("probably #PF (error code 2h: W)")));
}

TEST(Explain, a_non_canonical_address) {
  Machine m;
  m.code({0x48, 0x8b, 0x07});
  m.cpu().regs.rdi = 0x800000000000;
  const CrashCard card = m.card();
  EXPECT_EQ(card.rule, "non-canonical-address");
  EXPECT_THAT(card.cause, testing::StartsWith("#GP: "));
}

TEST(Explain, a_jump_to_nowhere) {
  Machine m;
  m.cpu().regs.rip = 0x7000000000;
  const CrashCard card = m.card();
  EXPECT_EQ(card.rule, "rip-not-mapped");
  EXPECT_THAT(card.lines, Contains(HasSubstr("is the page of RIP mapped")));
}

TEST(Explain, a_stack_that_ran_out) {
  Machine m;
  m.cpu().regs.rsp = 0x8000000000;
  m.code({0x50});  // push rax
  CrashCard card = m.card();
  EXPECT_EQ(card.rule, "stack-not-usable");
  EXPECT_THAT(card.cause, HasSubstr("RSP 8000000000h"));
  m.code({0x90});  // an interrupt came, say
  EXPECT_EQ(m.card().rule, "stack-not-usable");
}

TEST(Explain, ud2_and_software_interrupts_without_an_idt) {
  Machine m;
  m.cpu().sregs.idt = {.base = 0, .limit = 0, .padding = {}};
  m.code({0x0f, 0x0b});
  EXPECT_EQ(m.card().rule, "idt-too-small-or-unmapped");
  EXPECT_THAT(m.card().cause,
              testing::StartsWith("#UD at 10000h (start) (ud2 raises it on purpose), "
                                  "and there is no IDT to take it"));
  m.code({0xcd, 0x30});
  EXPECT_EQ(m.card().rule, "idt-too-small-or-unmapped");
  m.cpu().sregs.idt = {.base = 0x8000000000, .limit = 0xfff, .padding = {}};
  EXPECT_THAT(m.card().cause, HasSubstr("the IDT at 8000000300h is not mapped"));
}

// One defect of gate 6 and of what it leads to, and the words for it.
struct GateCase {
  std::function<void(Machine&)> damage;
  const char* words;
};

TEST(Explain, what_can_be_wrong_with_a_gate) {
  constexpr Gpa kGate = kIdt + 6 * 16;
  const GateCase kCases[] = {
      {[](Machine& m) { m.ram.put64(kGate, 0x00000e0000088060); }, "not present"},
      {[](Machine& m) { m.ram.put64(kGate, 0); }, "the entry is all zero"},
      {[](Machine& m) { m.ram.put64(kGate, 0x0000820000088060); }, "type 2h is no interrupt"},
      {[](Machine& m) { m.ram.put64(kGate, 0x00008e0000008060); }, "its selector is null"},
      {[](Machine& m) { m.ram.put64(kGate, 0x00008e0000308060); }, "beyond GDTR.limit"},
      {[](Machine& m) { m.ram.put64(kGate, 0x00008e0000108060); }, "is no code segment"},
      {[](Machine& m) { m.ram.put64(kGdt + 8, 0x00cf9b000000ffff); }, "is not 64-bit (L is 0)"},
      {[](Machine& m) { m.ram.put64(kGate + 8, 0x80); }, "is not mapped for a fetch"},
      {[](Machine& m) { m.ram.put64(kGate, 0x00408e0000088060); }, "is in no RAM"},
      {[](Machine& m) { m.ram.put64(kGate, 0x00008e0100088060); }, "IST1 of the TSS (0h)"},
      {[](Machine& m) {
         m.ram.put64(kGate, 0x00008e0700088060);
         m.cpu().sregs.tr.limit = 0x20;
       },
       "it wants IST7 of the TSS, whose limit is 20h"},
      {[](Machine& m) { m.cpu().regs.rsp = 0x8000000000; }, "cannot be pushed to"},
      {[](Machine& m) { m.cpu().sregs.gdt.base = 0x8000000000; }, "the GDT at 8000000008h is not"},
  };
  for (const GateCase& c : kCases) {
    Machine m;
    m.code({0x0f, 0x0b});
    c.damage(m);
    const GateReport gate = Facts(m.scene).gate(6);
    EXPECT_FALSE(gate.usable);
    EXPECT_THAT(gate.text, HasSubstr(c.words));
    EXPECT_THAT(gate.text, testing::StartsWith("gate 6 (#UD): "));
  }
  Machine sound;
  EXPECT_TRUE(Facts(sound.scene).gate(6).usable);
  EXPECT_EQ(Facts(sound.scene).gate(6).text, "gate 6 (#UD): handler 8060h");
}

TEST(Explain, svm_has_reset_the_registers) {
  Machine m;
  m.scene.registers_trusted = false;
  m.scene.kvm_backend = "svm";
  m.cpu().regs.rip = 0xfff0;
  m.cpu().sregs.cs.selector = 0xf000;
  m.scene.last_exits = {{.vcpu = 0,
                         .rip = kCode + 4,
                         .kind = "out",
                         .address = 0x3f8,
                         .value = 0x41,
                         .width = 1,
                         .device = "serial0"}};
  CrashCard card = m.card();
  EXPECT_EQ(card.rule, "registers-reset-by-svm");
  EXPECT_THAT(card.lines, Not(Contains(HasSubstr("fff0h"))));
  EXPECT_THAT(card.lines, Contains(HasSubstr("last seen alive: RIP 10004h (start+4h)")));
  // With the registers of an earlier exit at hand, they are shown as such.
  m.cpu().regs.rip = kCode + 4;
  m.cpu().sregs.cs.selector = 8;
  m.cpu().sregs.idt.limit = 0;
  card = m.card();
  EXPECT_THAT(card.lines, Contains(testing::StartsWith("  before  long mode")));
  EXPECT_THAT(card.lines, Contains(HasSubstr("no exception could be taken: gate 14")));
}

TEST(Explain, halted_for_ever) {
  Machine m;
  m.scene.outcome = ending::HaltedForever{};
  m.cpu().mp_state = KVM_MP_STATE_HALTED;
  CrashCard card = m.card();
  EXPECT_EQ(card.rule, "halted-with-interrupts-off");
  EXPECT_THAT(card.cause, HasSubstr("at 10000h (start)"));
  m.ram.put(kCode - 1, {0xf4});  // RIP stands behind the HLT
  EXPECT_THAT(m.card().cause, HasSubstr("at ffffh:"));
  m.ram.put(kCode - 1, {0x90});
  m.scene.vcpus.push_back(m.cpu());
  m.scene.vcpus[1].mp_state = KVM_MP_STATE_INIT_RECEIVED;
  card = m.card();
  EXPECT_THAT(card.lines, Contains(HasSubstr("vCPU 0: halted at 10000h (start), IF=0")));
  EXPECT_THAT(card.lines, Contains(HasSubstr("vCPU 1: waits for a SIPI")));
  m.cpu().mp_state = KVM_MP_STATE_UNINITIALIZED;
  EXPECT_EQ(m.card().rule, "waiting-for-sipi");
}

TEST(Explain, stalls_and_timeouts_say_where_each_vcpu_is) {
  Machine m;
  m.scene.outcome = ending::TimedOut{2.5};
  for (int i = 0; i < 40; ++i) m.scene.vcpus.push_back(m.cpu());
  CrashCard card = m.card();
  EXPECT_EQ(card.rule, "timed-out");
  EXPECT_THAT(card.lines, Contains(HasSubstr("vCPU 0: runs at 10000h (start), IF=0")));
  m.scene.outcome = ending::Stalled{1};
  EXPECT_EQ(m.card().rule, "stalled");
}

struct EntryCase {
  std::function<void(CpuState&)> damage;
  const char* rule;
  const char* words;
};

TEST(Explain, entry_failures_name_the_rule_of_vm_entry) {
  const EntryCase kCases[] = {
      {[](CpuState& c) { c.sregs.cs.base = 0x7fffeed269c6; }, "entry-failure-cs-base",
       "CS.base = 7fffeed269c6h: bits 63:32 must be 0"},
      {[](CpuState& c) { c.sregs.cr3 |= 1ull << 40; }, "entry-failure-cr3-width",
       "beyond MAXPHYADDR 40"},
      {[](CpuState& c) { c.regs.rflags = 0; }, "entry-failure-rflags", "bit 1 must be 1"},
      {[](CpuState& c) {
         c.events.interrupt.injected = 1;
         c.events.interrupt.nr = 0xd1;
       },
       "entry-failure-injection", "external interrupt d1h is injected while RFLAGS.IF is 0"},
      {[](CpuState& c) { c.sregs.cr4 |= spec::CR4_VMXE; }, "entry-failure-cr4",
       "CR4.VMXE is 1 and CPUID 1.ECX[5] (vmx) is 0"},
      {[](CpuState& c) { c.sregs.efer = spec::EFER_LMA; }, "entry-failure-efer", "LMA must be"},
      {[](CpuState& c) { c.sregs.cr0 &= ~1ull; }, "entry-failure-cr0", "CR0.PE is 0"},
      {[](CpuState& c) { c.regs.rip = 1ull << 47; }, "entry-failure-rip", "not canonical"},
      {[](CpuState& c) { c.sregs.tr.type = 9; }, "entry-failure-tr", "no busy TSS"},
      {[](CpuState& c) { c.sregs.ss.g = 0; }, "entry-failure-limit", "does not fit G=0"},
      {[](CpuState&) {}, "entry-failure-unknown", "no rule known here"},
  };
  for (const EntryCase& c : kCases) {
    Machine m;
    m.scene.outcome = ending::EntryFailure{0, 0x80000021, 3};
    c.damage(m.cpu());
    const CrashCard card = m.card();
    EXPECT_EQ(card.rule, c.rule);
    EXPECT_EQ(card.layer, "monitor");
    EXPECT_THAT(card.cause, HasSubstr(c.words));
    EXPECT_THAT(card.cause, HasSubstr("80000021h invalid guest state (VM entry failed)"));
  }
}

TEST(Explain, an_entry_that_fails_where_kvm_forgot_the_tpr_is_kvms_fault) {
  Machine m;
  m.scene.kvm_backend = "vmx";
  m.scene.outcome = ending::EntryFailure{0, 7, 0};
  m.cpu().sregs.apic_base = 0xfffe0100;
  EXPECT_EQ(m.card().rule, "entry-failure-tpr-threshold");
  EXPECT_EQ(m.card().layer, "host");
  EXPECT_THAT(m.card().cause, HasSubstr("the guest's LAPIC is off (IA32_APIC_BASE fffe0100h)"));
  m.cpu().sregs.apic_base = 0xfee00d00;
  EXPECT_THAT(m.card().cause, HasSubstr("the guest's LAPIC is in x2APIC mode"));
  m.cpu().sregs.apic_base = 0xfee00900;
  EXPECT_EQ(m.card().rule, "entry-failure-unknown");
}

TEST(Explain, the_paging_lint_names_what_the_host_tolerates) {
  GiantPages m;
  EXPECT_THAT(
      paging_lint_lines(m.scene),
      testing::ElementsAre(testing::StartsWith("paging: PDPTE[0..31] of the table at 2000h")));
  m.scene.vcpus.resize(8, m.cpu());  // the same tables on all
  EXPECT_EQ(paging_lint_lines(m.scene).size(), 1u);
  m.scene.cpuid = {};
  EXPECT_TRUE(paging_lint_lines(m.scene).empty());
}

TEST(Explain, a_scene_with_nothing_known_still_has_a_card) {
  for (const RunOutcome& outcome :
       {RunOutcome(ending::TripleFault{}), RunOutcome(ending::InternalFailure{}),
        RunOutcome(ending::EntryFailure{}), RunOutcome(ending::HaltedForever{}),
        RunOutcome(ending::Stalled{}), RunOutcome(ending::TimedOut{}),
        RunOutcome(ending::GuestExit{}), RunOutcome(ending::MonitorFailure{"x"})}) {
    CrashScene scene;
    scene.outcome = outcome;
    const CrashCard card = explain(scene);
    EXPECT_FALSE(card.rule.empty());
    EXPECT_FALSE(card.lines.empty());
    scene.vcpu = 7;  // no such vCPU
    scene.vcpus.resize(2);
    EXPECT_FALSE(explain(scene).lines.empty());
  }
}

TEST(Explain, rule_ids_are_unique) {
  std::set<std::string_view> ids;
  for (const Rule& rule : all_rules()) EXPECT_TRUE(ids.insert(rule.id).second) << rule.id;
  EXPECT_EQ(all_rules().back().id, "unexplained");
}

TEST(Explain, hostile_names_stay_harmless_and_lines_short) {
  GiantPages m;
  m.scene.model = std::string(5000, 'x') + "\x1b[2J";
  m.symbols.add(std::string(400, 'y'), 0x133000, 0x100);
  m.cpu().regs.rip = 0x133010;
  for (int i = 0; i < 300; ++i) m.scene.last_exits.push_back({.rip = 0x133010, .kind = "hlt"});
  EXPECT_EQ(m.card().text().find('\x1b'), std::string::npos);
}

TEST(Explain, random_machines_never_crash_it) {
  std::mt19937_64 random(4);
  Machine m;
  for (int round = 0; round < 400; ++round) {
    for (int i = 0; i < 40; ++i)
      m.ram.put64(random() % 0x8000 & ~7ull, random() % 3 == 0 ? random() : random() % 0x9000 | 7);
    m.ram.put64(kCode & ~7ull, random());
    CpuState& c = m.cpu();
    auto* raw = reinterpret_cast<std::uint8_t*>(&c.sregs);
    if (random() % 2 == 0) raw[random() % sizeof c.sregs] = static_cast<std::uint8_t>(random());
    c.regs.rip = random() % 4 == 0 ? random() : kCode + random() % 8;
    c.regs.rsp = random() % 4 == 0 ? random() : 0x9000;
    InternalError error;
    error.suberror = static_cast<std::uint32_t>(random() % 6);
    error.ndata = static_cast<std::uint32_t>(random() % 20);
    for (auto& word : error.data) word = random() % 2 == 0 ? random() : random() % 0x500;
    switch (random() % 4) {
      case 0:
        m.scene.outcome = ending::TripleFault{};
        break;
      case 1:
        m.scene.outcome = ending::EntryFailure{0, random(), 0};
        break;
      default:
        m.scene.outcome = ending::InternalFailure{0, error};
    }
    m.scene.kvm_backend = std::array{"", "vmx", "svm", "pvm"}[random() % 4];
    m.scene.registers_trusted = random() % 4 != 0;
    m.card();
    if (round % 20 == 0) {
      Machine fresh;
      m.cpu() = fresh.cpu();
    }
  }
}

}  // namespace
}  // namespace vmm
