#include "vmm/cpu/cpu_lock.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "vmm/base/fd.h"
#include "vmm/base/sha256.h"
#include "vmm/base/text.h"
#include "vmm/core/quirks.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/guest_text.h"
#include "vmm/cpu/host_dump.h"
#include "vmm/cpu/json_node.h"
#include "vmm/cpu/selection.h"
#include "vmm/cpu/words_json.h"

namespace vmm {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kMaxFileSize = 2 << 20;  // a host dump is in it
constexpr std::size_t kMaxRefused = 4096;
constexpr std::size_t kMaxText = 1024;
constexpr std::size_t kDigest = 64;
constexpr const char* kHint = "vmm cpu verify LOCK --write MODEL makes one";

constexpr std::array kPolicies = {CpuPolicy::Strict, CpuPolicy::Mask, CpuPolicy::Force};

ordered_json to_json(const MissingBit& bit) {
  return {{"name", bit.name},
          {"word", bit.word},
          {"refused_by", bit.refused_by},
          {"reason", printable(bit.reason, kMaxText - 100)},
          {"remedy", bit.remedy}};
}

Result<MissingBit> missing_bit_of(const JsonNode& node) {
  VMM_TRY(node.only({"name", "word", "refused_by", "reason", "remedy"}));
  MissingBit bit;
  bit.name = VMM_TRY(node.string("name", 1, kMaxText));
  bit.word = VMM_TRY(node.string("word", 1, kMaxText));
  bit.refused_by = VMM_TRY(node.string("refused_by", 1, kMaxText));
  bit.reason = VMM_TRY(node.string("reason", 1, kMaxText));
  bit.remedy = VMM_TRY(node.string("remedy", 1, kMaxText));
  return bit;
}

Result<CpuPolicy> policy_of(const JsonNode& node) {
  const std::string text = VMM_TRY(node.string(1, kMaxText));
  for (const CpuPolicy policy : kPolicies)
    if (policy_name(policy) == text) return policy;
  return fail(node.error(fmt::format("'{}' is not strict, mask or force", printable(text, 40))));
}

Result<Topology> topology_of(const JsonNode& node) {
  VMM_TRY(node.only({"sockets", "cores", "threads"}));
  const auto count = [&](std::string_view key) -> Result<unsigned> {
    return static_cast<unsigned>(VMM_TRY(node.number(key, 1, 64)));
  };
  Topology topology{.vcpus = 1,
                    .sockets = VMM_TRY(count("sockets")),
                    .cores = VMM_TRY(count("cores")),
                    .threads = VMM_TRY(count("threads"))};
  topology.vcpus = topology.sockets * topology.cores * topology.threads;
  if (topology.vcpus > 64)
    return fail(node.error(fmt::format("{} vCPUs, at most 64 are possible", topology.vcpus)));
  return topology;
}

Result<CpuWords> words_of(const JsonNode& node) {
  VMM_TRY(node.only({"cpuid", "msrs"}));
  const JsonNode cpuid = VMM_TRY(node.member("cpuid"));
  const JsonNode msrs = VMM_TRY(node.member("msrs"));
  CpuWords words;
  words.cpuid = VMM_TRY(cpuid_of_json(cpuid));
  words.msrs = VMM_TRY(msrs_of_json(msrs));
  return words;
}

Result<std::uint32_t> quirks_of(const JsonNode& node) {
  std::uint32_t quirks = 0;
  for (const JsonNode& item : VMM_TRY(node.items(32))) {
    const std::string name = VMM_TRY(item.string(1, kMaxText));
    const KvmQuirk* quirk = find_quirk(name);
    if (quirk == nullptr)
      return fail(item.error(fmt::format("unknown quirk '{}'", printable(name, 60))));
    quirks |= quirk->bit;
  }
  return quirks;
}

// A version never changes, so its name is enough; a user's own file is found by its path.
std::string selection_text(const CpuSelection& selection, const ResolvedCpu& cpu) {
  if (!model_file_of(selection.model)) return cpu.text;
  std::string text = selection.model;
  for (const CpuOverride& change : selection.overrides) text += "," + change.text();
  return text;
}

}  // namespace

std::string words_digest(const CpuWords& words) {
  std::string text;
  for (const auto& [key, r] : words.cpuid.entries())
    text += fmt::format("{:08x}.{:02x}={:08x} {:08x} {:08x} {:08x}\n", key.leaf, key.subleaf, r.eax,
                        r.ebx, r.ecx, r.edx);
  for (const auto& [index, value] : words.msrs)
    text += fmt::format("{:08x}={:016x}\n", index, value);
  return sha256_hex(text);
}

CpuWords locked_words(const ResolvedCpu& cpu) {
  CpuWords words = words_of(cpu);
  words.cpuid = without_runtime_bits(words.cpuid);
  return words;
}

Result<CpuLock> make_cpu_lock(std::string_view selection, CpuPolicy policy,
                              const Topology& topology, const HostGrant& host) {
  const CpuSelection parsed = VMM_TRY(parse_cpu_selection(selection));
  const ResolvedCpu cpu = VMM_TRY(resolve_cpu(selection, policy, topology, host));
  if (policy == CpuPolicy::Strict && !cpu.missing.empty())
    return fail(
        Error::host(fmt::format("{} is not to be had under strict: the host refuses {} "
                                "bit{}, the first is {}",
                                cpu.text, cpu.missing.size(), cpu.missing.size() == 1 ? "" : "s",
                                cpu.missing.front().name))
            .hint("vmm cpu check says why; --cpu-policy mask locks what is left"));
  return CpuLock{.vmm = VMM_VERSION,
                 .selection = selection_text(parsed, cpu),
                 .policy = policy,
                 .topology = topology,
                 .model_digest = cpu.model_digest,
                 .words = locked_words(cpu),
                 .refused = cpu.missing,
                 .quirks_off = cpu.quirks_off & host.quirks,
                 .host = host};
}

std::string cpu_lock_text(const CpuLock& lock) {
  ordered_json refused = ordered_json::array();
  for (const MissingBit& bit : lock.refused) refused.push_back(to_json(bit));
  ordered_json document = {
      {"schema", "vmm-cpu-lock"},
      {"version", 1},
      {"vmm", lock.vmm},
      {"selection", lock.selection},
      {"policy", policy_name(lock.policy)},
      {"topology",
       {{"sockets", lock.topology.sockets},
        {"cores", lock.topology.cores},
        {"threads", lock.topology.threads}}},
      {"model_digest", lock.model_digest},
      {"words_digest", words_digest(lock.words)},
      {"words", {{"cpuid", cpuid_json(lock.words.cpuid)}, {"msrs", msrs_json(lock.words.msrs)}}},
      {"refused", std::move(refused)},
      {"host", host_dump_json(lock.host)}};
  if (lock.quirks_off) document["quirks_off"] = quirk_names(*lock.quirks_off);
  return document.dump(2) + "\n";
}

Result<CpuLock> parse_cpu_lock(std::string_view text, std::string_view file) {
  const JsonDocument document = VMM_TRY(JsonDocument::parse(text, file, kMaxFileSize));
  const JsonNode root = document.root();
  VMM_TRY(root.expect_schema("vmm-cpu-lock", kHint));
  VMM_TRY(root.only({"schema", "version", "vmm", "selection", "policy", "topology", "model_digest",
                     "words_digest", "words", "refused", "quirks_off", "host"}));
  CpuLock lock;
  lock.vmm = VMM_TRY(root.string("vmm", 1, kMaxText));
  const JsonNode selection = VMM_TRY(root.member("selection"));
  lock.selection = VMM_TRY(selection.string(1, 8192));
  if (const auto parsed = parse_cpu_selection(lock.selection); !parsed)
    return fail(selection.error(parsed.error().text()).hint(parsed.error().hint_text()));
  const JsonNode policy = VMM_TRY(root.member("policy"));
  lock.policy = VMM_TRY(policy_of(policy));
  const JsonNode topology = VMM_TRY(root.member("topology"));
  lock.topology = VMM_TRY(topology_of(topology));
  lock.model_digest = VMM_TRY(root.string("model_digest", 1, kDigest));
  const JsonNode words = VMM_TRY(root.member("words"));
  lock.words = VMM_TRY(words_of(words));
  const JsonNode digest = VMM_TRY(root.member("words_digest"));
  if (VMM_TRY(digest.string(kDigest, kDigest)) != words_digest(lock.words))
    return fail(digest.error("not the digest of 'words': one of them was edited")
                    .hint("a lock is written by vmm cpu verify --write, and never by hand"));
  const JsonNode refused = VMM_TRY(root.member("refused"));
  for (const JsonNode& item : VMM_TRY(refused.items(kMaxRefused)))
    lock.refused.push_back(VMM_TRY(missing_bit_of(item)));
  if (root.has("quirks_off")) {
    const JsonNode quirks = VMM_TRY(root.member("quirks_off"));
    lock.quirks_off = VMM_TRY(quirks_of(quirks));
  }
  const JsonNode host = VMM_TRY(root.member("host"));
  lock.host = VMM_TRY(host_dump_of_json(host));
  return lock;
}

Result<CpuLock> read_cpu_lock(const std::string& path) {
  const auto bytes = VMM_TRY(read_file(path, kMaxFileSize, ErrorKind::Usage));
  return parse_cpu_lock({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

}  // namespace vmm
