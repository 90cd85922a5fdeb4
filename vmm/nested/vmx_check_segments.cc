// The guest's segment registers (SDM 26.3.1.2).
#include <fmt/format.h>

#include <array>

#include "vmm/base/bytes.h"
#include "vmm/core/cpu_state.h"
#include "vmm/nested/vmx_check.h"

namespace vmm::nested {
namespace {

using enum EntryResult;
using enum Finder;
using F = VmcsField;

constexpr std::uint64_t kHighHalf = ~std::uint64_t{0} << 32;

// The four fields of a segment register.
struct Segment {
  std::string_view name;
  F selector, base, limit, rights;
};

constexpr Segment kEs{"ES", F::GuestEsSelector, F::GuestEsBase, F::GuestEsLimit,
                      F::GuestEsAccessRights};
constexpr Segment kCs{"CS", F::GuestCsSelector, F::GuestCsBase, F::GuestCsLimit,
                      F::GuestCsAccessRights};
constexpr Segment kSs{"SS", F::GuestSsSelector, F::GuestSsBase, F::GuestSsLimit,
                      F::GuestSsAccessRights};
constexpr Segment kDs{"DS", F::GuestDsSelector, F::GuestDsBase, F::GuestDsLimit,
                      F::GuestDsAccessRights};
constexpr Segment kFs{"FS", F::GuestFsSelector, F::GuestFsBase, F::GuestFsLimit,
                      F::GuestFsAccessRights};
constexpr Segment kGs{"GS", F::GuestGsSelector, F::GuestGsBase, F::GuestGsLimit,
                      F::GuestGsAccessRights};
constexpr Segment kLdtr{"LDTR", F::GuestLdtrSelector, F::GuestLdtrBase, F::GuestLdtrLimit,
                        F::GuestLdtrAccessRights};
constexpr Segment kTr{"TR", F::GuestTrSelector, F::GuestTrBase, F::GuestTrLimit,
                      F::GuestTrAccessRights};
constexpr std::array kSix = {kCs, kSs, kDs, kEs, kFs, kGs};
constexpr std::array kFive = {kSs, kDs, kEs, kFs, kGs};
constexpr std::array kData = {kDs, kEs, kFs, kGs};

// The access rights (SDM table 24-2).
class Rights {
 public:
  Rights(const VmxCheck& c, const Segment& s) : value_(c.get(s.rights)) {}
  unsigned type() const { return static_cast<unsigned>(bits(value_, 3, 0)); }
  bool code_or_data() const { return bit(value_, 4); }  // S
  unsigned dpl() const { return static_cast<unsigned>(bits(value_, 6, 5)); }
  bool present() const { return bit(value_, 7); }
  bool long_mode() const { return bit(value_, 13); }  // L
  bool big() const { return bit(value_, 14); }        // D/B
  bool granular() const { return bit(value_, 15); }   // G
  bool usable() const { return !bit(value_, 16); }

 private:
  std::uint64_t value_;
};

unsigned rpl(const VmxCheck& c, const Segment& s) { return c.get(s.selector) & 3; }

// Whether the rules on access rights count: in virtual-8086 mode there are others, and CS counts
// even when it is unusable.
bool counts(const VmxCheck& c, const Segment& s) {
  return !c.v8086() && (s.name == "CS" || Rights(c, s).usable());
}

template <std::size_t N>
void each(VmxCheck& c, const std::array<Segment, N>& segments,
          void (*check)(VmxCheck&, const Segment&)) {
  for (const Segment& segment : segments)
    if (counts(c, segment)) check(c, segment);
}

void ti_clear(VmxCheck& c, const Segment& s) { c.no_bits(s.selector, 4, "TI"); }

void reserved_low(VmxCheck& c, const Segment& s) { c.no_bits(s.rights, 0xf00, "reserved"); }
void reserved_high(VmxCheck& c, const Segment& s) { c.no_bits(s.rights, 0xfffe0000, "reserved"); }

void not_granular(VmxCheck& c, const Segment& s) {
  const std::uint64_t limit = c.get(s.limit);
  if (bits(limit, 11, 0) != 0xfff && Rights(c, s).granular())
    c.violate(s.rights, "bit 15 (G) = 0", fmt::format("the limit is {:X}h", limit));
}

void granular(VmxCheck& c, const Segment& s) {
  const std::uint64_t limit = c.get(s.limit);
  if (bits(limit, 31, 20) != 0 && !Rights(c, s).granular())
    c.violate(s.rights, "bit 15 (G) = 1", fmt::format("the limit is {:X}h", limit));
}

void both_granularities(VmxCheck& c, const Segment& s) {
  not_granular(c, s);
  granular(c, s);
}

void high_base_clear(VmxCheck& c, const Segment& s) { c.no_bits(s.base, kHighHalf); }

void high_base_clear_if_usable(VmxCheck& c, const Segment& s) {
  if (Rights(c, s).usable()) high_base_clear(c, s);
}

void present(VmxCheck& c, const Segment& s) {
  if (!Rights(c, s).present()) c.violate(s.rights, "bit 7 (P) = 1");
}

void code_or_data(VmxCheck& c, const Segment& s) {
  if (!Rights(c, s).code_or_data()) c.violate(s.rights, "bit 4 (S) = 1");
}

void cs_type(VmxCheck& c) {
  if (c.v8086()) return;
  const unsigned type = Rights(c, kCs).type();
  if ((type >= 9 && type % 2 == 1) || (type == 3 && c.unrestricted())) return;
  c.violate(F::GuestCsAccessRights,
            c.unrestricted() ? "bits 3:0 = 3, 9, 11, 13 or 15" : "bits 3:0 = 9, 11, 13 or 15",
            c.unrestricted() ? "" : "\"unrestricted guest\" is 0");
}

void cs_dpl(VmxCheck& c, bool wrong, std::string allowed) {
  if (wrong)
    c.violate(F::GuestCsAccessRights, std::move(allowed),
              fmt::format("the type of CS is {}, the DPL of SS {}", Rights(c, kCs).type(),
                          Rights(c, kSs).dpl()));
}

void ss_dpl(VmxCheck& c, unsigned wanted, std::string why) {
  if (Rights(c, kSs).dpl() != wanted)
    c.violate(F::GuestSsAccessRights, fmt::format("bits 6:5 (DPL) = {}", wanted), std::move(why));
}

constexpr CheckedRule<VmxCheck> kRules[] = {
    {{"I130", "26.3.1.2", "TR selector", "must have TI clear", Exit33, Processor},
     [](VmxCheck& c) { ti_clear(c, kTr); }},
    {{"I131", "26.3.1.2", "LDTR selector", "must have TI clear if LDTR is usable", Exit33,
      Processor},
     [](VmxCheck& c) {
       if (Rights(c, kLdtr).usable()) ti_clear(c, kLdtr);
     }},
    {{"I132", "26.3.1.2", "SS selector", "must have the RPL of CS", Exit33, Processor},
     [](VmxCheck& c) {
       if (!c.v8086() && !c.unrestricted() && rpl(c, kSs) != rpl(c, kCs))
         c.violate(F::GuestSsSelector, fmt::format("bits 1:0 (RPL) = {}", rpl(c, kCs)),
                   "\"unrestricted guest\" is 0");
     }},
    {{"I133", "26.3.1.2", "bases in virtual-8086 mode", "must be 16 times the selector", Exit33,
      Processor},
     [](VmxCheck& c) {
       if (!c.v8086()) return;
       for (const Segment& s : kSix)
         if (c.get(s.base) != c.get(s.selector) << 4)
           c.violate(s.base, fmt::format("{:X}h", c.get(s.selector) << 4), "RFLAGS.VM is 1");
     }},
    {{"I134", "26.3.1.2", "TR base", "must be canonical", Exit33, Processor},
     [](VmxCheck& c) { c.canonical(F::GuestTrBase); }},
    {{"I135", "26.3.1.2", "FS base", "must be canonical", Exit33, Processor},
     [](VmxCheck& c) { c.canonical(F::GuestFsBase); }},
    {{"I136", "26.3.1.2", "GS base", "must be canonical", Exit33, Processor},
     [](VmxCheck& c) { c.canonical(F::GuestGsBase); }},
    {{"I137", "26.3.1.2", "LDTR base", "must be canonical if LDTR is usable", Exit33, Processor},
     [](VmxCheck& c) {
       if (Rights(c, kLdtr).usable()) c.canonical(F::GuestLdtrBase);
     }},
    {{"I138", "26.3.1.2", "CS base", "must have bits 63:32 clear", Exit33, Processor},
     [](VmxCheck& c) { high_base_clear(c, kCs); }},
    {{"I139", "26.3.1.2", "SS base", "must have bits 63:32 clear if SS is usable", Exit33,
      Processor},
     [](VmxCheck& c) { high_base_clear_if_usable(c, kSs); }},
    {{"I140", "26.3.1.2", "DS base", "must have bits 63:32 clear if DS is usable", Exit33,
      Processor},
     [](VmxCheck& c) { high_base_clear_if_usable(c, kDs); }},
    {{"I141", "26.3.1.2", "ES base", "must have bits 63:32 clear if ES is usable", Exit33,
      Processor},
     [](VmxCheck& c) { high_base_clear_if_usable(c, kEs); }},
    {{"I142", "26.3.1.2", "limits in virtual-8086 mode", "must be FFFFh", Exit33, Processor},
     [](VmxCheck& c) {
       if (!c.v8086()) return;
       for (const Segment& s : kSix)
         if (c.get(s.limit) != 0xffff) c.violate(s.limit, "FFFFh", "RFLAGS.VM is 1");
     }},
    {{"I143", "26.3.1.2", "access rights in virtual-8086 mode", "must be F3h", Exit33, Processor},
     [](VmxCheck& c) {
       if (!c.v8086()) return;
       for (const Segment& s : kSix)
         if (c.get(s.rights) != 0xf3) c.violate(s.rights, "F3h", "RFLAGS.VM is 1");
     }},
    {{"I144", "26.3.1.2", "CS type", "must be accessed code", Exit33, Processor}, cs_type},
    {{"I145", "26.3.1.2", "SS type", "must be accessed, writable data", Exit33, Processor},
     [](VmxCheck& c) {
       const unsigned type = Rights(c, kSs).type();
       if (counts(c, kSs) && type != 3 && type != 7)
         c.violate(F::GuestSsAccessRights, "bits 3:0 = 3 or 7");
     }},
    {{"I146", "26.3.1.2", "DS, ES, FS, GS type", "must be accessed", Exit33, Processor},
     [](VmxCheck& c) {
       each(c, kData, [](VmxCheck& check, const Segment& s) {
         if (!bit(Rights(check, s).type(), 0)) check.violate(s.rights, "bit 0 (accessed) = 1");
       });
     }},
    {{"I147", "26.3.1.2", "DS, ES, FS, GS type", "must be readable if it is code", Exit33,
      Processor},
     [](VmxCheck& c) {
       each(c, kData, [](VmxCheck& check, const Segment& s) {
         const unsigned type = Rights(check, s).type();
         if (bit(type, 3) && !bit(type, 1))
           check.violate(s.rights, "bit 1 (readable) = 1", "bit 3 (code) is 1");
       });
     }},
    {{"I148", "26.3.1.2", "CS.S", "must be 1", Exit33, Processor},
     [](VmxCheck& c) {
       if (!c.v8086()) code_or_data(c, kCs);
     }},
    {{"I149", "26.3.1.2", "SS.S", "must be 1 if SS is usable", Exit33, Processor},
     [](VmxCheck& c) {
       if (counts(c, kSs)) code_or_data(c, kSs);
     }},
    {{"I150", "26.3.1.2", "DS, ES, FS, GS.S", "must be 1 if they are usable", Exit33, Processor},
     [](VmxCheck& c) { each(c, kData, code_or_data); }},
    {{"I151", "26.3.1.2", "CS.DPL", "must be 0 for type 3", Exit33, Processor},
     [](VmxCheck& c) {
       const Rights cs(c, kCs);
       if (!c.v8086()) cs_dpl(c, cs.type() == 3 && cs.dpl() != 0, "bits 6:5 (DPL) = 0");
     }},
    {{"I152", "26.3.1.2", "CS.DPL", "must be that of SS for non-conforming code", Exit33,
      Processor},
     [](VmxCheck& c) {
       const Rights cs(c, kCs);
       const bool non_conforming = cs.type() == 9 || cs.type() == 11;
       if (!c.v8086())
         cs_dpl(c, non_conforming && cs.dpl() != Rights(c, kSs).dpl(),
                fmt::format("bits 6:5 (DPL) = {}", Rights(c, kSs).dpl()));
     }},
    {{"I153", "26.3.1.2", "CS.DPL", "must not pass that of SS for conforming code", Exit33,
      Processor},
     [](VmxCheck& c) {
       const Rights cs(c, kCs);
       const bool conforming = cs.type() == 13 || cs.type() == 15;
       if (!c.v8086())
         cs_dpl(c, conforming && cs.dpl() > Rights(c, kSs).dpl(),
                fmt::format("bits 6:5 (DPL) at most {}", Rights(c, kSs).dpl()));
     }},
    {{"I154", "26.3.1.2", "SS.DPL", "must be its RPL", Exit33, Processor},
     [](VmxCheck& c) {
       if (!c.v8086() && !c.unrestricted())
         ss_dpl(c, rpl(c, kSs), "the RPL of SS; \"unrestricted guest\" is 0");
     }},
    {{"I155", "26.3.1.2", "SS.DPL", "must be 0 in real mode and with CS of type 3", Exit33,
      Processor},
     [](VmxCheck& c) {
       if (c.v8086()) return;
       if (Rights(c, kCs).type() == 3)
         ss_dpl(c, 0, "the type of CS is 3");
       else if ((c.get(F::GuestCr0) & spec::CR0_PE) == 0)
         ss_dpl(c, 0, "CR0.PE is 0");
     }},
    {{"I156", "26.3.1.2", "DS, ES, FS, GS.DPL", "must not be below the RPL", Exit33, Processor},
     [](VmxCheck& c) {
       if (c.unrestricted()) return;
       each(c, kData, [](VmxCheck& check, const Segment& s) {
         const Rights rights(check, s);
         if (rights.type() <= 11 && rights.dpl() < rpl(check, s))
           check.violate(s.rights, fmt::format("bits 6:5 (DPL) at least {}", rpl(check, s)),
                         fmt::format("the RPL of {} is {}", s.name, rpl(check, s)));
       });
     }},
    {{"I157", "26.3.1.2", "CS.P", "must be 1", Exit33, Processor},
     [](VmxCheck& c) {
       if (!c.v8086()) present(c, kCs);
     }},
    {{"I158", "26.3.1.2", "SS, DS, ES, FS, GS.P", "must be 1 if they are usable", Exit33,
      Processor},
     [](VmxCheck& c) { each(c, kFive, present); }},
    {{"I159", "26.3.1.2", "access rights 11:8", "must be 0", Exit33, Processor},
     [](VmxCheck& c) { each(c, kSix, reserved_low); }},
    {{"I160", "26.3.1.2", "CS.D/B", "must be 0 in 64-bit code", Exit33, Processor},
     [](VmxCheck& c) {
       const Rights cs(c, kCs);
       if (!c.v8086() && c.ia32e_guest() && cs.long_mode() && cs.big())
         c.violate(F::GuestCsAccessRights, "bit 14 (D/B) = 0", "\"IA-32e mode guest\" and L are 1");
     }},
    {{"I161", "26.3.1.2", "granularity", "must be 0 if one of limit bits 11:0 is 0", Exit33,
      Processor},
     [](VmxCheck& c) { each(c, kSix, not_granular); }},
    {{"I162", "26.3.1.2", "granularity", "must be 1 if one of limit bits 31:20 is 1", Exit33,
      Processor},
     [](VmxCheck& c) { each(c, kSix, granular); }},
    {{"I163", "26.3.1.2", "access rights 31:17", "must be 0", Exit33, Processor},
     [](VmxCheck& c) { each(c, kSix, reserved_high); }},
    {{"I164", "26.3.1.2", "TR type", "must be a busy TSS", Exit33, Processor},
     [](VmxCheck& c) {
       const unsigned type = Rights(c, kTr).type();
       if (type == 11 || (type == 3 && !c.ia32e_guest())) return;
       c.violate(F::GuestTrAccessRights,
                 c.ia32e_guest() ? "bits 3:0 = 11 (busy 64-bit TSS)" : "bits 3:0 = 3 or 11 (busy)",
                 type == 9 ? "9 is one that is not busy: LTR makes it busy" : "");
     }},
    {{"I165", "26.3.1.2", "TR.S", "must be 0", Exit33, Processor},
     [](VmxCheck& c) { c.no_bits(F::GuestTrAccessRights, 1 << 4, "S"); }},
    {{"I166", "26.3.1.2", "TR.P", "must be 1", Exit33, Processor},
     [](VmxCheck& c) { present(c, kTr); }},
    {{"I167", "26.3.1.2", "TR access rights 11:8, 31:17", "must be 0", Exit33, Processor},
     [](VmxCheck& c) {
       reserved_low(c, kTr);
       reserved_high(c, kTr);
     }},
    {{"I168", "26.3.1.2", "TR granularity", "must fit the limit", Exit33, Processor},
     [](VmxCheck& c) { both_granularities(c, kTr); }},
    {{"I169", "26.3.1.2", "TR", "must be usable", Exit33, Processor},
     [](VmxCheck& c) {
       if (!Rights(c, kTr).usable()) c.violate(F::GuestTrAccessRights, "bit 16 (unusable) = 0");
     }},
    {{"I170", "26.3.1.2", "LDTR type", "must be 2 if LDTR is usable", Exit33, Processor},
     [](VmxCheck& c) {
       if (Rights(c, kLdtr).usable() && Rights(c, kLdtr).type() != 2)
         c.violate(F::GuestLdtrAccessRights, "bits 3:0 = 2 (LDT)");
     }},
    {{"I171", "26.3.1.2", "LDTR.S", "must be 0 if LDTR is usable", Exit33, Processor},
     [](VmxCheck& c) {
       if (Rights(c, kLdtr).usable()) c.no_bits(F::GuestLdtrAccessRights, 1 << 4, "S");
     }},
    {{"I172", "26.3.1.2", "LDTR.P", "must be 1 if LDTR is usable", Exit33, Processor},
     [](VmxCheck& c) {
       if (Rights(c, kLdtr).usable()) present(c, kLdtr);
     }},
    {{"I173", "26.3.1.2", "LDTR access rights 11:8, 31:17", "must be 0 if LDTR is usable", Exit33,
      Processor},
     [](VmxCheck& c) {
       if (!Rights(c, kLdtr).usable()) return;
       reserved_low(c, kLdtr);
       reserved_high(c, kLdtr);
     }},
    {{"I174", "26.3.1.2", "LDTR granularity", "must fit the limit if LDTR is usable", Exit33,
      Processor},
     [](VmxCheck& c) {
       if (Rights(c, kLdtr).usable()) both_granularities(c, kLdtr);
     }},
    {{"I175", "26.3.1.2", "segments of a FRED guest", "must be of ring 0 or 3", Exit33, NotOffered},
     nullptr,
     "KVM offers its guests no FRED"},
};

}  // namespace

std::span<const CheckedRule<VmxCheck>> vmx_guest_segment_rules() { return kRules; }

}  // namespace vmm::nested
