// vmm cpu show: what a model consists of, in one of several ways to look at it.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "vmm/base/text.h"
#include "vmm/cli/cmd_cpu.h"
#include "vmm/cli/lab_paths.h"
#include "vmm/core/quirks.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/provenance.h"
#include "vmm/cpu/selection.h"
#include "vmm/cpu/show.h"
#include "vmm/cpu/wishes.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

using nlohmann::json;

std::string hex(std::uint64_t value) { return fmt::format("0x{:x}", value); }

json to_json(const ResolvedCpu& cpu) {
  json features;
  for (const WordFeatures& word : features_by_word(cpu)) features[word.word] = word.names;
  json leaves;
  for (const auto& [key, r] : cpu.cpuid.entries())
    leaves[fmt::format("{:X}.{:X}", key.leaf, key.subleaf)] = {
        {"eax", hex(r.eax)}, {"ebx", hex(r.ebx)}, {"ecx", hex(r.ecx)}, {"edx", hex(r.edx)}};
  json msrs = json::object();
  for (const CpuMsr& msr : cpu.msrs) msrs[hex(msr.index)] = hex(msr.value);
  const std::uint32_t widths = cpu.cpuid.get(0x80000008).eax;
  return {{"name", cpu.name},
          {"selection", cpu.text},
          {"model_digest", cpu.model_digest},
          {"vendor", cpu.cpuid.vendor()},
          {"brand", cpu.cpuid.brand()},
          {"signature", hex(cpu.cpuid.get(1).eax)},
          {"phys_bits", widths & 0xff},
          {"virt_bits", widths >> 8 & 0xff},
          {"features", features},
          {"cpuid", leaves},
          {"msrs", msrs},
          {"quirks_off", quirk_names(cpu.quirks_off)},
          {"wishes", wish_texts(cpu.wishes, cpu.width_wish)},
          {"notes", cpu.notes}};
}

struct ShowOptions {
  std::string selection;
  std::string host;
  bool as_json = false;
  bool words = false;
  bool flat = false;
  bool vmx = false;
  bool why = false;
};

// What a selection names, read once.
struct Named {
  CpuSelection selection;
  std::optional<CpuModelFile> file;  // none for the rule `host`
  std::optional<CpuModel> model;
  std::optional<ChosenHost> host;

  HostGrant grant() const { return host ? host->grant : HostGrant{}; }
};

Result<Named> find_named(const ShowOptions& options) {
  Named named;
  named.selection = VMM_TRY(parse_cpu_selection(options.selection));
  const bool own = is_rule_host(named.selection);
  if (!own) {
    named.file = VMM_TRY(find_cpu_model_file(named.selection.model));
    named.model = VMM_TRY(version_of(*named.file, named.selection.model));
  }
  // A model is the same everywhere, so that no host is asked; only `host` is what the host says,
  // and --why has more to say where there is one.
  if (!own && !options.why && options.host.empty()) return named;
  Result<ChosenHost> host = choose_host(options.host);
  if (!host && (own || !options.host.empty())) return fail(host.error());
  if (host) named.host = *std::move(host);
  return named;
}

Result<int> show_nested(const ShowOptions& options, const Named& named) {
  const WholeCpu whole = VMM_TRY(resolve_whole(options.selection, named.grant()));
  if (options.as_json) {
    json out = document("vmm-cpu-show");
    out.update(to_json(whole.cpu));
    out["with"] = std::string(whole.nesting);
    print_json(out);
    return 0;
  }
  fmt::print("{}{}\n\n", whole.cpu.text,
             whole.nesting.empty() ? "" : fmt::format(", with +{}", whole.nesting));
  print_lines(nested_lines(whole.cpu));
  return 0;
}

Result<int> show_why(const ShowOptions& options, const Named& named, const ResolvedCpu& cpu) {
  const CpuSource source{&cpu, &named.selection, named.file ? &*named.file : nullptr,
                         named.model ? &*named.model : nullptr};
  const std::vector<MissingBit> missing = named.host ? cpu.missing : std::vector<MissingBit>();
  if (options.as_json) {
    json origins = json::object();
    const CpuWords words = words_of(cpu);
    for (std::size_t i = 0; i < FeatureCatalog::all().size(); ++i) {
      const auto id = static_cast<FeatureId>(i);
      if (!words.has(id)) continue;
      origins[std::string(FeatureCatalog::get(id).name)] = origin_of_bit(id, source);
    }
    json refused = json::array();
    for (const MissingBit& bit : missing) refused.push_back(to_json(bit));
    json out = document("vmm-cpu-show-why");
    out.update({{"name", cpu.name},
                {"selection", cpu.text},
                {"origins", origins},
                {"host", named.host ? to_json(*named.host) : json(nullptr)},
                {"refused", refused}});
    print_json(out);
    return 0;
  }
  fmt::print("{}\n\n", cpu.text);
  print_lines(provenance_lines(source, missing));
  if (!cpu.notes.empty()) fmt::print("\n");
  for (const std::string& note : cpu.notes) fmt::print("note: {}\n", note);
  if (!missing.empty())
    fmt::print("\n! is not given by {}: vmm cpu check {} says who refuses it\n", named.host->text(),
               options.selection);
  return 0;
}

Result<int> run_show(const ShowOptions& options) {
  const Named named = VMM_TRY(find_named(options));
  if (options.flat) {
    fmt::print("{}", VMM_TRY(digest_text(options.selection, named.grant())));
    return 0;
  }
  if (options.vmx) return show_nested(options, named);
  const ResolvedCpu cpu = VMM_TRY(
      resolve_cpu(options.selection, CpuPolicy::Force, Topology{}, named.grant(), Unmet::Note));
  if (options.why) return show_why(options, named, cpu);
  if (options.as_json) {
    json out = document("vmm-cpu-show");
    out.update(to_json(cpu));
    print_json(out);
    return 0;
  }
  print_lines(show_lines(cpu, named.file ? &*named.file : nullptr, options.words));
  if (!cpu.notes.empty()) fmt::print("\n");
  for (const std::string& note : cpu.notes) fmt::print("  note: {}\n", note);
  return 0;
}

}  // namespace

void add_cpu_show(CLI::App& cpu, Command& chosen) {
  auto options = std::make_shared<ShowOptions>();
  CLI::App* show = cpu.add_subcommand("show", "what a model consists of");
  show->add_option("MODEL", options->selection,
                   "NAME[@VERSION][,+feat,-feat,phys-bits=N], or a model file")
      ->required();
  CLI::Option* words = show->add_flag("--words", options->words, "also the CPUID registers in hex");
  CLI::Option* flat = show->add_flag(
      "--flat", options->flat, "the sorted lines whose SHA-256 is the model's digest, and no more");
  CLI::Option* vmx = show->add_flag("--vmx", options->vmx,
                                    "what guests may virtualize: each control, on, fixed or off");
  CLI::Option* why = show->add_flag("--why", options->why,
                                    "where each bit comes from, and whether the host gives it");
  CLI::Option* as_json = show->add_flag("--json", options->as_json, "print JSON");
  for (CLI::Option* option : {words, flat, vmx, why})
    for (CLI::Option* other : {words, flat, vmx, why})
      if (option != other) option->excludes(other);
  flat->excludes(as_json);
  add_host_option(*show, options->host);
  show->callback([options, &chosen] {
    chosen.run = [options] { return run_show(*options); };
    chosen.paths = [options] { return host_and_model_paths(options->host, {options->selection}); };
  });
}

}  // namespace vmm
