// Build step: cpu-models/*.toml to a C++ source.
//
//   embed_cpu_models OUTPUT.cc features.toml MODEL.toml ...
//
// features.toml becomes a constant table, since reading it would cost every start of vmm more than
// opening /dev/kvm does. Models become texts, read by the same parser as a user's own files, with a
// table of their aliases beside them, so that an alias does not have every file read. What is wrong
// in features.toml stops the build with file:line:column.

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

struct Bit {
  std::string name, what, since;
  bool is_msr = false;
  std::uint32_t index = 0, subleaf = 0;
  unsigned reg = 0, bit = 0;
  std::vector<std::string> aliases, needs;
  toml::source_region source;
};

std::string file_name;

[[noreturn]] void die(const toml::source_region& at, const std::string& message) {
  std::cerr << file_name << ":" << at.begin.line << ":" << at.begin.column << ": " << message
            << "\n";
  std::exit(1);
}

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    std::cerr << "cannot read " << path << "\n";
    std::exit(1);
  }
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string string_of(const toml::node* node, const toml::source_region& at, const char* key) {
  if (node == nullptr || !node->is_string()) die(at, std::string("'") + key + "' must be a string");
  return std::string(node->as_string()->get());
}

std::vector<std::string> strings_of(const toml::node* node, const char* key) {
  std::vector<std::string> result;
  if (node == nullptr) return result;
  if (!node->is_array()) die(node->source(), std::string("'") + key + "' must be an array");
  for (const toml::node& item : *node->as_array())
    result.push_back(string_of(&item, item.source(), key));
  return result;
}

void check_keys(const toml::table& table, const std::set<std::string>& known) {
  for (const auto& [key, value] : table)
    if (!known.contains(std::string(key.str())))
      die(key.source(), "unknown key '" + std::string(key.str()) + "'");
}

std::optional<std::uint32_t> hex(const std::string& text) {
  if (text.empty() || text.size() > 8) return std::nullopt;
  std::uint32_t value = 0;
  for (const char c : text) {
    const std::string digits = "0123456789ABCDEF";
    const std::size_t digit = digits.find(c);
    if (digit == std::string::npos) return std::nullopt;
    value = value << 4 | static_cast<std::uint32_t>(digit);
  }
  return value;
}

// "7.0.EBX", "1.ECX", "MSR 10A" into the fields of `bit`.
void parse_place(const std::string& text, const toml::source_region& at, Bit& bit) {
  if (text.starts_with("MSR ")) {
    const auto index = hex(text.substr(4));
    if (!index) die(at, "'" + text + "' is not an MSR");
    bit.is_msr = true;
    bit.index = *index;
    return;
  }
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, '.');) parts.push_back(part);
  const std::vector<std::string> registers = {"EAX", "EBX", "ECX", "EDX"};
  const auto reg =
      parts.empty() ? registers.end() : std::find(registers.begin(), registers.end(), parts.back());
  const auto leaf = parts.empty() ? std::nullopt : hex(parts.front());
  const auto subleaf = parts.size() == 3 ? hex(parts[1]) : std::optional<std::uint32_t>(0);
  if (parts.size() < 2 || parts.size() > 3 || reg == registers.end() || !leaf || !subleaf)
    die(at, "'" + text + "' is not LEAF[.SUBLEAF].REGISTER or MSR INDEX");
  bit.index = *leaf;
  bit.subleaf = *subleaf;
  bit.reg = static_cast<unsigned>(reg - registers.begin());
}

// "6.8", "<=6.8" or "never".
bool is_kernel(const std::string& text) {
  if (text == "never") return true;
  const std::size_t first = text.starts_with("<=") ? 2 : 0;
  const std::size_t dot = text.find('.', first);
  return dot != std::string::npos && dot > first && dot + 1 < text.size() &&
         text.find_first_not_of("0123456789.", first) == std::string::npos &&
         text.find('.', dot + 1) == std::string::npos;
}

std::vector<Bit> read_features(const std::string& path) {
  file_name = path;
  const toml::parse_result parsed = toml::parse(read_text(path), path);
  if (!parsed) die(parsed.error().source(), std::string(parsed.error().description()));
  const toml::table& root = parsed.table();
  check_keys(root, {"schema", "word"});
  const toml::node* schema = root.get("schema");
  if (schema == nullptr || schema->value<std::int64_t>() != 1)
    die(root.source(), "schema must be 1");
  const toml::node* words = root.get("word");
  if (words == nullptr || !words->is_array_of_tables()) die(root.source(), "no [[word]]");
  std::vector<Bit> bits;
  for (const toml::node& node : *words->as_array()) {
    const toml::table& word = *node.as_table();
    check_keys(word, {"at", "bits"});
    Bit place;
    parse_place(string_of(word.get("at"), word.source(), "at"), word.source(), place);
    const toml::node* list = word.get("bits");
    if (list == nullptr || !list->is_array()) die(word.source(), "'bits' must be an array");
    for (const toml::node& item : *list->as_array()) {
      if (!item.is_table()) die(item.source(), "a bit is a table { bit = ..., name = ... }");
      const toml::table& table = *item.as_table();
      check_keys(table, {"bit", "name", "alias", "needs", "what", "kvm-since"});
      Bit bit = place;
      bit.source = item.source();
      bit.name = string_of(table.get("name"), item.source(), "name");
      if (const toml::node* what = table.get("what"))
        bit.what = string_of(what, item.source(), "what");
      if (const toml::node* since = table.get("kvm-since")) {
        bit.since = string_of(since, item.source(), "kvm-since");
        if (!is_kernel(bit.since))
          die(since->source(), "'" + bit.since + "' is not \"6.8\", \"<=6.8\" or \"never\"");
      }
      bit.aliases = strings_of(table.get("alias"), "alias");
      bit.needs = strings_of(table.get("needs"), "needs");
      const std::int64_t number = table["bit"].value_or<std::int64_t>(-1);
      if (number < 0 || number >= (bit.is_msr ? 64 : 32)) die(item.source(), "bit out of range");
      bit.bit = static_cast<unsigned>(number);
      bits.push_back(bit);
    }
  }
  std::stable_sort(bits.begin(), bits.end(), [](const Bit& a, const Bit& b) {
    return std::tie(a.is_msr, a.index, a.subleaf, a.reg, a.bit) <
           std::tie(b.is_msr, b.index, b.subleaf, b.reg, b.bit);
  });
  for (std::size_t i = 1; i < bits.size(); ++i) {
    const Bit &a = bits[i - 1], &b = bits[i];
    if (std::tie(a.is_msr, a.index, a.subleaf, a.reg, a.bit) ==
        std::tie(b.is_msr, b.index, b.subleaf, b.reg, b.bit))
      die(b.source, "'" + a.name + "' and '" + b.name + "' are the same bit");
  }
  return bits;
}

std::map<std::string, std::size_t> index_names(const std::vector<Bit>& bits) {
  std::map<std::string, std::size_t> names;
  for (std::size_t i = 0; i < bits.size(); ++i) {
    std::vector<std::string> all = bits[i].aliases;
    all.push_back(bits[i].name);
    for (const std::string& name : all) {
      if (name.empty() ||
          name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-") != std::string::npos)
        die(bits[i].source, "'" + name + "': names are lower case letters, digits, '-' and '.'");
      if (!names.emplace(name, i).second) die(bits[i].source, "the name '" + name + "' is taken");
    }
  }
  return names;
}

void check_needs(const std::vector<Bit>& bits, const std::map<std::string, std::size_t>& names) {
  std::vector<int> state(bits.size(), 0);  // 1 while on the path, 2 when done
  const std::function<void(std::size_t)> visit = [&](std::size_t i) {
    if (state[i] == 1) die(bits[i].source, "'" + bits[i].name + "' needs itself");
    if (state[i] == 2) return;
    state[i] = 1;
    for (const std::string& need : bits[i].needs) {
      const auto it = names.find(need);
      if (it == names.end() || bits[it->second].name != need)
        die(bits[i].source, "'" + bits[i].name + "' needs the unknown '" + need + "'");
      visit(it->second);
    }
    state[i] = 2;
  };
  for (std::size_t i = 0; i < bits.size(); ++i) visit(i);
}

// The other names of the versions in a model file. The rest of it is the parser's to judge, at run
// time and in the tests.
std::vector<std::string> aliases_of(const std::string& text, const std::string& path) {
  file_name = path;
  const toml::parse_result parsed = toml::parse(text, path);
  if (!parsed) die(parsed.error().source(), std::string(parsed.error().description()));
  std::vector<std::string> aliases;
  const toml::node* versions = parsed.table().get("version");
  if (versions == nullptr || !versions->is_array_of_tables()) return aliases;
  for (const toml::node& version : *versions->as_array())
    if (const toml::node* alias = version.as_table()->get("alias"))
      aliases.push_back(string_of(alias, alias->source(), "alias"));
  return aliases;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: embed_cpu_models OUTPUT.cc features.toml MODEL.toml ...\n";
    return 1;
  }
  const std::vector<Bit> bits = read_features(argv[2]);
  const auto names = index_names(bits);
  check_needs(bits, names);

  std::ostringstream out;
  out << "// Made from cpu-models/*.toml by embed_cpu_models; do not edit.\n"
         "#include <array>\n\n#include \"vmm/cpu/builtin.h\"\n\nnamespace vmm::builtin "
         "{\nnamespace {\n\n";
  for (std::size_t i = 0; i < bits.size(); ++i) {
    if (bits[i].needs.empty()) continue;
    out << "constexpr FeatureId kNeeds" << i << "[] = {";
    for (const std::string& need : bits[i].needs) out << names.at(need) << ", ";
    out << "};\n";
  }
  out << "\nconstexpr std::array<Feature, " << bits.size() << "> kFeatures = {{\n";
  for (std::size_t i = 0; i < bits.size(); ++i) {
    const Bit& b = bits[i];
    const char* registers[] = {"Eax", "Ebx", "Ecx", "Edx"};
    out << "    {" << quoted(b.name) << ", " << quoted(b.what) << ", {{"
        << (b.is_msr ? "true" : "false") << ", " << b.index << "u, " << b.subleaf
        << "u, CpuidReg::" << registers[b.reg] << "}, " << b.bit << "}, ";
    if (b.needs.empty())
      out << "{}, ";
    else
      out << "kNeeds" << i << ", ";
    out << quoted(b.since) << "},\n";
  }
  out << "}};\n\nconstexpr std::array<NamedId, " << names.size() << "> kNames = {{\n";
  for (const auto& [name, id] : names) out << "    {" << quoted(name) << ", " << id << "},\n";
  out << "}};\n\n";

  std::map<std::string, std::string> models;  // name to path
  for (int i = 3; i < argc; ++i) {
    const std::string path = argv[i];
    const std::string base = path.substr(path.rfind('/') + 1);
    models[base.substr(0, base.rfind('.'))] = path;
  }
  std::map<std::string, std::string> aliases;  // to the name of the model
  out << "constexpr std::array<TextFile, " << models.size() << "> kModels = {{\n";
  for (const auto& [name, path] : models) {
    const std::string text = read_text(path);
    if (text.find(")toml\"") != std::string::npos) {
      std::cerr << path << ": holds )toml\", which ends the literal\n";
      return 1;
    }
    for (const std::string& alias : aliases_of(text, path)) {
      if (models.contains(alias) || !aliases.emplace(alias, name).second) {
        std::cerr << path << ": the alias '" << alias << "' is taken\n";
        return 1;
      }
    }
    out << "    {" << quoted(name) << ", " << quoted("cpu-models/" + name + ".toml") << ", R\"toml("
        << text << ")toml\"},\n";
  }
  out << "}};\n\nconstexpr std::array<Alias, " << aliases.size() << "> kAliases = {{\n";
  for (const auto& [alias, name] : aliases)
    out << "    {" << quoted(alias) << ", " << quoted(name) << "},\n";
  out << "}};\n\n}  // namespace\n\n"
         "std::span<const Feature> features() { return kFeatures; }\n"
         "std::span<const NamedId> feature_names() { return kNames; }\n"
         "std::span<const TextFile> model_files() { return kModels; }\n"
         "std::span<const Alias> model_aliases() { return kAliases; }\n\n"
         "}  // namespace vmm::builtin\n";
  std::ofstream file(argv[1], std::ios::binary);
  file << out.str();
  file.close();
  return file ? 0 : 1;
}
