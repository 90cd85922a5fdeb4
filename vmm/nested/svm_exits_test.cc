#include "vmm/nested/svm_exits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vmm::nested {
namespace {

struct Named {
  std::uint64_t code;
  const char* text;
};

TEST(SvmExits, CodesHaveNamesAndCauses) {
  constexpr Named kNamed[] = {
      {0x0, "VMEXIT_CR0_READ (0h): read of CR0"},
      {0x18, "VMEXIT_CR8_WRITE (18h): write of CR8"},
      {0x27, "VMEXIT_DR7_READ (27h): read of DR7"},
      {0x3f, "VMEXIT_DR15_WRITE (3Fh): write of DR15"},
      {0x4e, "VMEXIT_EXCP14 (4Eh): exception #PF"},
      {0x5f, "VMEXIT_EXCP31 (5Fh): vector 31"},
      {0x60, "VMEXIT_INTR (60h): physical maskable interrupt"},
      {0x72, "VMEXIT_CPUID (72h): CPUID instruction"},
      {0x8e, "VMEXIT_RDPRU (8Eh): RDPRU instruction"},
      {0x94, "VMEXIT_CR4_WRITE_TRAP (94h): write of CR4, after the instruction"},
      {0xa6, "VMEXIT_IDLE_HLT (A6h): HLT instruction with no virtual interrupt pending"},
      {0x400, "VMEXIT_NPF (400h): nested page fault"},
      {0x401, "AVIC_INCOMPLETE_IPI (401h): AVIC could not deliver an IPI"},
      {0x403, "VMEXIT_VMGEXIT (403h): VMGEXIT instruction"},
      {0xf0000000, "exit code F0000000h, from F0000000h on for the host's own use"},
      {0x80000001, "exit code 80000001h, a software event of the GHCB"},
      {0xa7, "exit code A7h, which the manual does not define"},
      {0x404, "exit code 404h, which the manual does not define"},
      {0x1'00000400, "exit code 100000400h, which the manual does not define"},
      {~1ull, "VMEXIT_BUSY (-2): the BUSY bit was set in the VMSA"},
      {~2ull, "VMEXIT_IDLE_REQUIRED (-3): the sibling thread was not idle"},
      {~3ull, "VMEXIT_INVALID_PMC (-4): invalid state of the performance counters"},
      {~4ull, "exit code FFFFFFFFFFFFFFFBh, from F0000000h on for the host's own use"},
  };
  for (const Named& named : kNamed) EXPECT_EQ(svm_exit_text(named.code), named.text);
}

TEST(SvmExits, InvalidIsKnownInBothWidths) {
  constexpr const char* kText =
      "VMEXIT_INVALID (-1): invalid guest state in the VMCB: VMRUN failed its consistency checks";
  EXPECT_EQ(svm_exit_text(svm_exit::kInvalid), kText);
  EXPECT_EQ(svm_exit_text(0xffffffff), kText);
  EXPECT_EQ(svm_exit_name(svm_exit::kInvalid), "VMEXIT_INVALID");
}

// Appendix C: the codes of intercepts are the positions of their bits.
TEST(SvmExits, EachDefinedCodeUpToA6hIsAnIntercept) {
  for (unsigned code = 0; code <= 0xa6; ++code) {
    EXPECT_FALSE(svm_exit_name(code).empty()) << std::hex << code;
    // Of the exceptions those that exist.
    EXPECT_EQ(svm_intercept_name(code).empty(),
              code >= 0x40 && code < 0x60 && svm_exception_name(code - 0x40).empty())
        << std::hex << code;
  }
  EXPECT_EQ(svm_intercept_name(0x80), "VMRUN");
  EXPECT_EQ(svm_intercept_name(0x4d), "#GP");
  for (unsigned bit = 0xa7; bit < 192; ++bit) EXPECT_EQ(svm_intercept_name(bit), "");
}

struct Info {
  std::uint64_t code, info1, info2;
  const char* text;
};

TEST(SvmExits, InformationIsPutInWords) {
  constexpr std::uint64_t kMov = 1ull << 63;
  constexpr Info kInfos[] = {
      {0x10, kMov | 3, 0, "MOV from RBX"},
      {0x00, kMov | 8, 0, "MOV to R8"},
      {0x10, 0, 0, ""},  // LMSW, CLTS
      {0x65, kMov, 0, "MOV from RAX"},
      {0x27, 1, 0, "MOV to RCX"},
      {0x4e, 6, 0xdead000, "error code 6h, address DEAD000h"},
      {0x4d, 0x18, 0, "error code 18h"},
      {0x46, 1, 2, ""},
      {0x75, 0x80, 0, "INT 80h"},
      {0x79, 0x7000, 0, "linear address 7000h"},
      {0x7b, 0x03f80010, 0x1002, "OUT, port 3F8h, 1 byte; the next instruction is at 1002h"},
      {0x7b, 0x00600211, 0x1002, "IN, port 60h, 1 byte; the next instruction is at 1002h"},
      {0x7b, 0x01f0002d | 1 << 8, 0x44,
       "REP INS, port 1F0h, 2 bytes, segment ES, 32-bit address; the next instruction is at 44h"},
      {0x7b, 0x01f00e44, 0x44,
       "OUTS, port 1F0h, 4 bytes, segment DS, 64-bit address; the next instruction is at 44h"},
      {0x7c, 0, 0, "RDMSR; its index is in RCX"},
      {0x7c, 1, 0, "WRMSR; its index is in RCX"},
      {0x7d, 0x28, 1ull << 38, "to TSS selector 28h by a far jump, EFLAGS.RF 0"},
      {0x7d, 0x28, 1ull << 36 | 1ull << 48, "to TSS selector 28h by IRET, EFLAGS.RF 1"},
      {0x7d, 0x28, 1ull << 44 | 0x11,
       "to TSS selector 28h by a call, interrupt or exception, error code 11h, EFLAGS.RF 0"},
      {0x62, 1, 0, "external SMI"},
      {0x62, 0xb2ull << 48 | 1ull << 36 | 1ull << 33, 0x77,
       "SMI of the processor's own I/O trapping during OUT of port B2h, 1 byte, at 77h"},
      {0x90, 0x80000011, 0, "new value 80000011h"},
      {0x400, 0x100000006, 0xfee00000,
       "write to guest physical address FEE00000h: not present in the nested tables (W|U|final)"},
      {0x400, 0x200000007, 0x5000,
       "write to guest physical address 5000h (one of the guest's own page tables): the nested "
       "tables forbid it (P|W|U|tables)"},
      {0x400, 0x10000000d, 0x5000,
       "read of guest physical address 5000h: a reserved bit is set in the nested tables "
       "(P|U|RSV|final)"},
      {0x400, 0x100000015, 0x5000,
       "fetch from guest physical address 5000h: the nested tables forbid it (P|U|ID|final)"},
      {0x400, 0x580000005, 0x5000,
       "read of guest physical address 5000h: the RMP forbids it (P|U|RMP|final|ENC)"},
      {0x401, 0x0200000000004040, 1ull << 32 | 7,
       "target not running, index 7; ICRH 02000000h, ICRL 00004040h"},
      {0x401, 0, 99ull << 32, "cause 99; ICRH 00000000h, ICRL 00000000h"},
      {0x402, 1ull << 32 | 0xb0, 0x31, "write of vAPIC offset B0h, vector 31h in service"},
      {0x402, 0x20, 0, "read of vAPIC offset 20h"},
      {0x72, 1, 2, ""},
      {~0ull, 1, 2, ""},
  };
  for (const Info& info : kInfos)
    EXPECT_EQ(svm_exit_info_text(info.code, info.info1, info.info2), info.text)
        << std::hex << info.code << ' ' << info.info1;
}

TEST(SvmExits, EventsArePutInWords) {
  EXPECT_EQ(svm_event_text(0x30e), "none");
  EXPECT_EQ(svm_event_text(0x80000000 | 0x20), "interrupt 20h");
  EXPECT_EQ(svm_event_text(0x80000200 | 0x20), "NMI");
  EXPECT_EQ(svm_event_text(0x80000300 | 6), "#UD (exception 6)");
  EXPECT_EQ(svm_event_text(0x80000b00 | 13 | 0x18ull << 32), "#GP (exception 13), error code 18h");
  EXPECT_EQ(svm_event_text(0x80000300 | 2), "exception 2, which is none");
  EXPECT_EQ(svm_event_text(0x80000300 | 0x99), "exception 153, which is none");
  EXPECT_EQ(svm_event_text(0x80000400 | 0x80), "software interrupt 80h");
  EXPECT_EQ(svm_event_text(0x80000500 | 0x80), "reserved type 5, vector 80h");
}

TEST(SvmExits, FaultCodeBitsHaveNames) {
  EXPECT_EQ(npf_code_text(0), "0");
  EXPECT_EQ(npf_code_text(~0ull), "P|W|U|RSV|ID|SS|RMP|final|tables|ENC|SIZEM|VMPL|SSS");
}

}  // namespace
}  // namespace vmm::nested
