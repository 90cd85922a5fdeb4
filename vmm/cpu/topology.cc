#include "vmm/cpu/topology.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <optional>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

constexpr unsigned kMaxVcpus = 64;

// Bits that number `count` things.
unsigned id_bits(unsigned count) { return static_cast<unsigned>(std::bit_width(count - 1)); }

struct IdLayout {
  unsigned thread_bits;
  unsigned package_shift;  // threads and cores
};

IdLayout layout_of(const Topology& topology) {
  const unsigned thread_bits = id_bits(topology.threads);
  return {thread_bits, thread_bits + id_bits(topology.cores)};
}

// Leaves 4 and 8000001Dh agree in all but EAX[31:26], which AMD reserves (SDM Vol. 2A CPUID, APM
// Vol. 3 E.4.15).
CpuidRegs cache_leaf(const CpuCache& cache, const Topology& topology, bool amd) {
  const IdLayout layout = layout_of(topology);
  const unsigned sharing = cache.shared_by == CpuCache::SharedBy::Core ? 1U << layout.thread_bits
                                                                       : 1U << layout.package_shift;
  const unsigned cores = 1U << (layout.package_shift - layout.thread_bits);
  CpuidRegs regs;
  regs.eax = static_cast<unsigned>(cache.type) | cache.level << 5 | 1U << 8 |
             std::min(sharing - 1, 0xfffU) << 14;
  if (!amd) regs.eax |= std::min(cores - 1, 0x3fU) << 26;
  regs.ebx = (cache.line - 1) | (cache.ways - 1) << 22;
  regs.ecx = static_cast<std::uint32_t>(std::uint64_t{cache.kib} * 1024 /
                                        (std::uint64_t{cache.ways} * cache.line)) -
             1;
  return regs;
}

// Two levels, thread and core; the closing level has type 0 and the subleaf's number.
std::vector<CpuidRegs> x2apic_levels(const Topology& topology) {
  const IdLayout layout = layout_of(topology);
  return {{layout.thread_bits, topology.threads, 0 | 1U << 8, 0},
          {layout.package_shift, topology.cores * topology.threads, 1 | 2U << 8, 0},
          {0, 0, 2, 0}};
}

// AMD's code for associativity in 80000006 (APM Vol. 3, table E-4).
std::uint32_t associativity_code(unsigned ways) {
  switch (ways) {
    case 1:
      return 1;
    case 2:
      return 2;
    case 4:
      return 4;
    case 8:
      return 6;
    case 16:
      return 8;
    case 32:
      return 10;
    case 48:
      return 11;
    case 64:
      return 12;
    case 96:
      return 13;
    case 128:
      return 14;
    default:
      return 9;  // "see 8000001Dh"
  }
}

const CpuCache* find_cache(std::span<const CpuCache> caches, unsigned level, CpuCache::Type type) {
  for (const CpuCache& cache : caches)
    if (cache.level == level && cache.type == type) return &cache;
  return nullptr;
}

std::uint32_t l1_word(const CpuCache* cache) {
  if (cache == nullptr) return 0;
  return std::min(cache->kib, 0xffU) << 24 | std::min(cache->ways, 0xfeU) << 16 | 1U << 8 |
         (cache->line & 0xff);
}

std::uint32_t l2_word(const CpuCache* cache) {
  if (cache == nullptr) return 0;
  return std::min(cache->kib, 0xffffU) << 16 | associativity_code(cache->ways) << 12 | 1U << 8 |
         (cache->line & 0xff);
}

std::uint32_t l3_word(const CpuCache* cache) {
  if (cache == nullptr) return 0;
  return std::min(cache->kib / 512, 0x3fffU) << 18 | associativity_code(cache->ways) << 12 |
         1U << 8 | (cache->line & 0xff);
}

void write_leaf(CpuidTable& table, std::uint32_t leaf, const std::vector<CpuidRegs>& subleaves) {
  table.erase(leaf);
  for (std::size_t i = 0; i < subleaves.size(); ++i)
    table.at(leaf, static_cast<std::uint32_t>(i)) = subleaves[i];
}

// The place of one vCPU: the only leaves that differ between vCPUs.
void write_ids(CpuidTable& table, const Topology& topology, unsigned vcpu) {
  const std::uint32_t id = apic_id_of_vcpu(topology, vcpu);
  CpuidRegs& one = table.at(1);
  one.ebx = (one.ebx & 0x00ffffff) | id << 24;
  for (const std::uint32_t leaf : {0xbU, 0x1fU})
    for (std::uint32_t i = 0; table.find(leaf, i) != nullptr; ++i) table.at(leaf, i).edx = id;
  if (table.find(0x8000001e) != nullptr) {
    const std::uint32_t core = vcpu / topology.threads % topology.cores;
    const std::uint32_t node = vcpu / (topology.threads * topology.cores);
    table.at(0x8000001e) = {id, core | (topology.threads - 1) << 8, node, 0};
  }
}

}  // namespace

Result<Topology> parse_topology(std::string_view text) {
  const std::vector<std::string_view> parts = split(text, ',');
  const auto usage = [&](std::string what) {
    return Error::usage(fmt::format("--smp '{}': {}", printable(text, 60), what))
        .hint("--smp N[,sockets=S,cores=C,threads=T], 1 to 64 vCPUs");
  };
  const auto count_of = [&](std::string_view value) -> Result<unsigned> {
    const auto number = parse_number(value);
    if (!number) return fail(usage(fmt::format("'{}' is not a number", printable(value, 20))));
    if (*number < 1 || *number > kMaxVcpus)
      return fail(usage(fmt::format("{} is not between 1 and {}", *number, kMaxVcpus)));
    return static_cast<unsigned>(*number);
  };
  Topology topology;
  topology.vcpus = VMM_TRY(count_of(parts.front()));
  std::optional<unsigned> sockets, cores, threads;
  for (const std::string_view part : std::span(parts).subspan(1)) {
    const std::size_t equals = part.find('=');
    const std::string key = lower(part.substr(0, equals));
    std::optional<unsigned>* target = key == "sockets"   ? &sockets
                                      : key == "cores"   ? &cores
                                      : key == "threads" ? &threads
                                                         : nullptr;
    if (target == nullptr || equals == std::string_view::npos)
      return fail(
          usage(fmt::format("'{}' is not sockets=, cores= or threads=", printable(part, 30))));
    if (target->has_value()) return fail(usage(fmt::format("'{}' is there twice", key)));
    *target = VMM_TRY(count_of(part.substr(equals + 1)));
  }
  topology.threads = threads.value_or(1);
  // All cores of one socket, unless the cores are given and the sockets are not.
  if (cores) {
    topology.cores = *cores;
    topology.sockets =
        sockets.value_or(std::max(1U, topology.vcpus / (topology.cores * topology.threads)));
  } else {
    topology.sockets = sockets.value_or(1);
    topology.cores = std::max(1U, topology.vcpus / (topology.sockets * topology.threads));
  }
  if (topology.sockets * topology.cores * topology.threads != topology.vcpus)
    return fail(usage(fmt::format(
        "{} sockets * {} cores * {} threads are {} vCPUs, not {}", topology.sockets, topology.cores,
        topology.threads, topology.sockets * topology.cores * topology.threads, topology.vcpus)));
  return topology;
}

std::uint32_t apic_id_of_vcpu(const Topology& topology, unsigned vcpu) {
  const IdLayout layout = layout_of(topology);
  const unsigned thread = vcpu % topology.threads;
  const unsigned core = vcpu / topology.threads % topology.cores;
  const unsigned socket = vcpu / (topology.threads * topology.cores);
  return socket << layout.package_shift | core << layout.thread_bits | thread;
}

ShapeLeaves shape_leaves(const Topology& topology, std::span<const CpuCache> caches,
                         const ShapeWish& wish) {
  const IdLayout layout = layout_of(topology);
  ShapeLeaves shape;
  shape.logical_count = static_cast<std::uint8_t>(std::min(1U << layout.package_shift, 0xffU));
  if (wish.max_leaf >= 0xb) shape.leaf_b = x2apic_levels(topology);
  if (wish.max_leaf >= 0x1f) shape.leaf_1f = x2apic_levels(topology);
  std::vector<CpuidRegs> described;
  for (const CpuCache& cache : caches) described.push_back(cache_leaf(cache, topology, wish.amd));
  if (!described.empty()) described.push_back({});  // type 0 ends the list
  if (wish.amd) {
    if (wish.topoext && wish.max_ext_leaf >= 0x8000001e) {
      shape.leaf_8000001d = std::move(described);
      shape.has_8000001e = true;
    }
    // NC is the number of threads less one, ApicIdSize the width of the id within a package.
    shape.ext_8_ecx = (topology.cores * topology.threads - 1) | layout.package_shift << 12;
    shape.l1 = {l1_word(find_cache(caches, 1, CpuCache::Type::Data)),
                l1_word(find_cache(caches, 1, CpuCache::Type::Instruction))};
    shape.l2_l3 = {l2_word(find_cache(caches, 2, CpuCache::Type::Unified)),
                   l3_word(find_cache(caches, 3, CpuCache::Type::Unified))};
  } else {
    if (wish.max_leaf >= 4) shape.leaf_4 = std::move(described);
    shape.l2_l3[0] = l2_word(find_cache(caches, 2, CpuCache::Type::Unified));
  }
  return shape;
}

void apply_shape(const ShapeLeaves& shape, CpuidTable& table) {
  CpuidRegs& one = table.at(1);
  one.ebx = (one.ebx & 0xff00ffff) | std::uint32_t{shape.logical_count} << 16;
  write_leaf(table, 4, shape.leaf_4);
  write_leaf(table, 0xb, shape.leaf_b);
  write_leaf(table, 0x1f, shape.leaf_1f);
  write_leaf(table, 0x8000001d, shape.leaf_8000001d);
  table.erase(0x8000001e);
  if (shape.has_8000001e) table.at(0x8000001e) = {};
  if (table.find(0x80000008) != nullptr) table.at(0x80000008).ecx = shape.ext_8_ecx;
  table.erase(0x80000005);
  if (shape.l1[0] != 0 || shape.l1[1] != 0) table.at(0x80000005) = {0, 0, shape.l1[0], shape.l1[1]};
  table.erase(0x80000006);
  if (shape.l2_l3[0] != 0 || shape.l2_l3[1] != 0)
    table.at(0x80000006) = {0, 0, shape.l2_l3[0], shape.l2_l3[1]};
  write_ids(table, Topology{}, 0);
}

std::vector<CpuCache> caches_of(const CpuidTable& table) {
  std::vector<CpuCache> caches;
  const std::uint32_t leaf =
      table.find(4) != nullptr && (table.get(4).eax & 0x1f) != 0 ? 4 : 0x8000001d;
  for (std::uint32_t i = 0; i < 8; ++i) {
    const CpuidRegs regs = table.get(leaf, i);
    const auto type = bits(regs.eax, 4, 0);
    const auto level = static_cast<unsigned>(bits(regs.eax, 7, 5));
    if (type == 0) break;
    if (type > 3 || level < 1 || level > 4) continue;
    const std::uint64_t ways = bits(regs.ebx, 31, 22) + 1;
    const std::uint64_t partitions = bits(regs.ebx, 21, 12) + 1;
    const std::uint64_t line = bits(regs.ebx, 11, 0) + 1;
    const std::uint64_t size = ways * partitions * line * (std::uint64_t{regs.ecx} + 1);
    if (size < 1024 || size > std::uint64_t{1} << 30 || size % (ways * line) != 0) continue;
    caches.push_back(
        {.level = level,
         .type = static_cast<CpuCache::Type>(type),
         .kib = static_cast<unsigned>(size / 1024),
         .ways = static_cast<unsigned>(ways),
         .line = static_cast<unsigned>(line),
         // A host that is a guest itself may report odd counts of sharers.
         .shared_by = level <= 2 ? CpuCache::SharedBy::Core : CpuCache::SharedBy::Socket});
  }
  return caches;
}

CpuidTable cpuid_of_vcpu(const ResolvedCpu& cpu, const Topology& topology, unsigned vcpu) {
  CpuidTable table = cpu.cpuid;
  write_ids(table, topology, vcpu);
  return table;
}

}  // namespace vmm
