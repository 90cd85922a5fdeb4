#include "vmm/cpu/baseline.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/cpu/flatten.h"
#include "vmm/cpu/model_text.h"
#include "vmm/cpu/refusal.h"
#include "vmm/cpu/topology.h"
#include "vmm/cpu/vmx.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

constexpr std::size_t kColumns = 98;  // and "# " before it

// KVM's own leaves are for a model to choose.
bool belongs_in_baseline(const Feature& feature, bool amd) {
  const FeatureWord& word = feature.place.word;
  const bool kvm = !word.is_msr && word.index >= 0x40000000 && word.index <= 0x4fffffff;
  return !kvm && belongs_in_model(feature, amd);
}

// As a model file may have them.
std::vector<CpuCache> caches_for_model(const CpuidTable& table) {
  std::vector<CpuCache> caches = caches_of(table);
  std::erase_if(caches, [](const CpuCache& c) {
    return c.kib == 0 || c.ways > 1024 || c.line < 16 || c.line > 256 ||
           std::uint64_t{c.kib} * 1024 % (std::uint64_t{c.ways} * c.line) != 0;
  });
  return caches;
}

CpuModel narrowest(std::span<const BaselineHost> hosts) {
  const CpuidTable& first = hosts.front().grant.supported;
  CpuModel model;
  model.name = "baseline";
  model.version = 1;
  model.title = fmt::format("what {} host{} can give", hosts.size(), hosts.size() == 1 ? "" : "s");
  model.vendor = first.vendor();
  model.brand = first.brand();
  model.max_leaf = 0xff;
  model.max_ext_leaf = 0x800000ff;
  model.phys_bits = 52;
  model.virt_bits = 48;
  model.caches = caches_for_model(first);
  CpuIdentity identity = identity_of(first);
  for (const BaselineHost& host : hosts) {
    const CpuWords words = host_words(host.grant.supported);
    identity = std::min(identity, identity_of(host.grant.supported));
    model.phys_bits = std::min(model.phys_bits, words.cpuid.phys_bits());
    model.max_leaf = std::min(model.max_leaf, std::max(words.cpuid.get(0).eax, 1U));
    model.max_ext_leaf =
        std::min(model.max_ext_leaf, std::max(words.cpuid.get(0x80000000).eax, 0x80000008U));
    if (host.grant.supported.brand() != model.brand) model.brand.clear();
    if (caches_for_model(host.grant.supported) != model.caches) model.caches.clear();
  }
  if (model.brand.empty() || printable(model.brand) != model.brand)
    model.brand = "Baseline CPU of vmm";
  model.family = identity.family;
  model.model = identity.model;
  model.stepping = identity.stepping;
  return model;
}

std::vector<Refusal> refusals_of(const CpuModel& model, const HostGrant& host) {
  CpuWords words = model_words(model);
  derive(words, {});
  return find_refusals(words, host, false);
}

// The same of a guest that is nested as far as the host can do that.
std::vector<Refusal> refusals_of_nested(const CpuModel& model, const HostGrant& host) {
  const CpuWords granted = granted_words(host, false);
  CpuWords words = model_words(model);
  for (const auto& [name, list] : {std::pair{"svm", &model.svm}, {"vmx", &model.vmx}}) {
    if (!granted.has(name)) continue;
    words.set(feature_id(name), true);
    for (const FeatureId id : *list) words.set(id, true);
  }
  derive(words, {});
  return find_refusals(words, host, false);
}

// Takes out what cannot be together: features without what they need, and XSAVE components that a
// host lays out in a way of its own.
void drop_refused(CpuModel& model, std::span<const BaselineHost> hosts) {
  for (bool changed = true; changed;) {
    changed = false;
    for (const BaselineHost& host : hosts)
      for (const Refusal& refusal : refusals_of_nested(model, host.grant)) {
        const auto id = FeatureCatalog::at(refusal.place);
        if (id && std::erase(list_of(model, refusal.place.word), *id) != 0) changed = true;
      }
  }
}

// Controls that a host fixes to 1 are fixed for all.
void fix_controls(CpuModel& model, std::span<const BaselineHost> hosts) {
  for (const FeatureId id : model.vmx) {
    const FeaturePlace& place = FeatureCatalog::get(id).place;
    if (!is_vmx_control_msr(place.word.index)) continue;
    const bool fixed = std::any_of(hosts.begin(), hosts.end(), [&](const BaselineHost& host) {
      const auto it = host.grant.feature_msrs.find(place.word.index);
      return it != host.grant.feature_msrs.end() &&
             bit(vmx_controls_fixed(it->first, it->second), place.bit);
    });
    if (fixed) model.vmx_fixed.push_back(id);
  }
}

void set_features(CpuModel& model, std::span<const BaselineHost> hosts) {
  std::vector<CpuWords> granted;
  for (const BaselineHost& host : hosts) granted.push_back(granted_words(host.grant, false));
  const bool amd = is_amd(hosts.front().grant.supported);
  const auto all = FeatureCatalog::all();
  for (std::size_t i = 0; i < all.size(); ++i)
    if (belongs_in_baseline(all[i], amd) &&
        std::all_of(granted.begin(), granted.end(),
                    [&](const CpuWords& words) { return words.has(all[i].place); }))
      list_of(model, all[i].place.word).push_back(static_cast<FeatureId>(i));
  drop_refused(model, hosts);
  fix_controls(model, hosts);
  if (std::binary_search(model.features.begin(), model.features.end(), feature_id("la57")))
    model.virt_bits = 57;
}

std::vector<BaselineGap> gaps_between(const CpuModel& model, std::span<const BaselineHost> hosts) {
  std::vector<CpuWords> granted;
  for (const BaselineHost& host : hosts) granted.push_back(granted_words(host.grant, false));
  std::vector<BaselineGap> gaps;
  const bool amd = is_amd(hosts.front().grant.supported);
  const auto all = FeatureCatalog::all();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto id = static_cast<FeatureId>(i);
    const std::vector<FeatureId>& list = list_of(model, all[i].place.word);
    if (!belongs_in_baseline(all[i], amd) || std::binary_search(list.begin(), list.end(), id))
      continue;
    BaselineGap gap{id, {}};
    for (std::size_t h = 0; h < hosts.size(); ++h)
      if (!granted[h].has(id)) gap.lacking.push_back(hosts[h].name);
    if (gap.lacking.size() < hosts.size()) gaps.push_back(std::move(gap));
  }
  return gaps;
}

Result<std::vector<std::string>> models_of_all(std::span<const BaselineHost> hosts) {
  std::vector<std::string> names;
  for (const std::string& name : builtin_cpu_models()) {
    const CpuModelFile file = VMM_TRY(builtin_cpu_model(name));
    for (const CpuModel& version : file.versions)
      if (std::all_of(hosts.begin(), hosts.end(), [&](const BaselineHost& host) {
            return refusals_of(version, host.grant).empty();
          }))
        names.push_back(version.full_name());
  }
  return names;
}

}  // namespace

Result<Baseline> find_baseline(std::span<const BaselineHost> hosts) {
  if (hosts.empty()) return fail(Error::usage("a baseline of no hosts"));
  const std::string vendor = hosts.front().grant.supported.vendor();
  for (const BaselineHost& host : hosts)
    if (const std::string other = host.grant.supported.vendor(); other != vendor)
      return fail(Error::usage(fmt::format("a host of {}, and {} is one of {}", printable(other),
                                           hosts.front().name, printable(vendor)))
                      .at(host.name)
                      .hint("no CPU is of two vendors: make one baseline for each"));
  Baseline baseline;
  baseline.model = narrowest(hosts);
  set_features(baseline.model, hosts);
  baseline.gaps = gaps_between(baseline.model, hosts);
  baseline.given = VMM_TRY(models_of_all(hosts));
  return baseline;
}

std::string baseline_text(const Baseline& baseline, std::span<const BaselineHost> hosts) {
  std::string comment = "The CPU that all these hosts can give under --cpu-policy strict:\n";
  for (const BaselineHost& host : hosts)
    comment += fmt::format("  {}: {}, Linux {}, CPU {:08x}h, {} physical address bits\n",
                           printable(host.name), backend_name(host.grant.backend),
                           printable(host.grant.kernel), host.grant.supported.get(1).eax,
                           host.grant.supported.phys_bits());
  comment += wrap_text("",
                       "Made by vmm cpu baseline. Family, model and stepping are those of the "
                       "host where they are lowest; address bits and leaf limits are the "
                       "smallest of all.",
                       kColumns);
  const auto list = [&](std::string_view head, const std::vector<std::string>& names) {
    comment += fmt::format("{}\n", head);
    comment += wrap_text("  ", names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")),
                         kColumns);
  };
  std::vector<std::string> gaps;
  for (const BaselineGap& gap : baseline.gaps)
    gaps.emplace_back(FeatureCatalog::get(gap.feature).name);
  list("Left out, since not all of them give it or what it needs:", gaps);
  list("Shipped models that all of them give:", baseline.given);
  comment.pop_back();
  return cpu_model_text(baseline.model, comment);
}

}  // namespace vmm
