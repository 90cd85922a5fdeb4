#include "vmm/cpu/toml_table.h"

#include <fmt/format.h>

// toml++ 3.3 asserts what a hostile file can break ("[[[" does), and lets clang assume it in
// release builds. The code after such an assertion handles the case, so it is taken out in every
// build.
#undef NDEBUG
#define TOML_ASSERT(expr) static_assert(true)
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include <algorithm>

#include "vmm/base/text.h"

namespace vmm {
namespace {

std::string place_of(const std::string& file, const toml::source_region& region) {
  return fmt::format("{}:{}:{}", file, region.begin.line, region.begin.column);
}

const toml::table& as_table(const void* table) { return *static_cast<const toml::table*>(table); }

std::string_view type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "a number";
    case toml::node_type::boolean:
      return "true or false";
    default:
      return "of another type";
  }
}

bool is_plain(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

// The items of the array under `key`, `name` each; none where the key is absent.
template <typename T>
Result<std::vector<decltype(std::declval<const toml::node&>().as<T>())>> items_of(
    const toml::table& table, const std::string& file, std::string_view key, std::size_t max,
    std::string_view name) {
  std::vector<decltype(std::declval<const toml::node&>().as<T>())> items;
  const toml::node* node = table.get(key);
  if (node == nullptr) return items;
  const std::string place = place_of(file, node->source());
  const toml::array* array = node->as_array();
  if (array == nullptr)
    return fail(
        Error::usage(fmt::format("'{}' is {}, not an array of {}s", key, type_name(*node), name))
            .at(place));
  if (array->size() > max)
    return fail(Error::usage(fmt::format("'{}' has {} items, at most {} are allowed", key,
                                         array->size(), max))
                    .at(place));
  for (const toml::node& item : *array) {
    items.push_back(item.as<T>());
    if (items.back() == nullptr)
      return fail(Error::usage(fmt::format("'{}' holds something that is {}, not a {}", key,
                                           type_name(item), name))
                      .at(place_of(file, item.source())));
  }
  return items;
}

}  // namespace

struct TomlDocument::Data {
  std::string file;
  toml::table table;
};

TomlDocument::TomlDocument(std::unique_ptr<Data> data) : data_(std::move(data)) {}
TomlDocument::TomlDocument(TomlDocument&&) noexcept = default;
TomlDocument::~TomlDocument() = default;

Result<TomlDocument> TomlDocument::parse(std::string_view text, std::string_view file) {
  auto data = std::make_unique<Data>();
  data->file = file;
  toml::parse_result parsed = toml::parse(text);
  if (!parsed)
    return fail(Error::usage(printable(parsed.error().description(), 300))
                    .at(place_of(data->file, parsed.error().source())));
  data->table = std::move(parsed).table();
  return TomlDocument(std::move(data));
}

TomlTable TomlDocument::root() const { return TomlTable(&data_->table, &data_->file); }

std::string TomlTable::place() const { return place_of(*file_, as_table(table_).source()); }

std::string TomlTable::place(std::string_view key) const {
  const toml::node* node = as_table(table_).get(key);
  return node != nullptr ? place_of(*file_, node->source()) : place();
}

bool TomlTable::has(std::string_view key) const { return as_table(table_).contains(key); }

Result<void> TomlTable::only(std::initializer_list<std::string_view> known) const {
  for (const auto& [key, value] : as_table(table_)) {
    if (std::find(known.begin(), known.end(), key.str()) != known.end()) continue;
    Error error = Error::usage(fmt::format("unknown key '{}'", printable(key.str(), 60)))
                      .at(place_of(*file_, key.source()));
    const std::vector<std::string> names(known.begin(), known.end());
    if (const auto near = nearest_name(key.str(), names))
      error = std::move(error).hint(fmt::format("did you mean '{}'?", *near));
    return fail(std::move(error));
  }
  return {};
}

Result<std::uint64_t> TomlTable::number(std::string_view key, std::uint64_t low,
                                        std::uint64_t high) const {
  const toml::node* node = as_table(table_).get(key);
  if (node == nullptr) return fail(Error::usage(fmt::format("'{}' is missing", key)).at(place()));
  const auto* value = node->as_integer();
  if (value == nullptr)
    return fail(Error::usage(fmt::format("'{}' is {}, not a number", key, type_name(*node)))
                    .at(place(key)));
  const std::int64_t number = value->get();
  if (number < 0 || static_cast<std::uint64_t>(number) < low ||
      static_cast<std::uint64_t>(number) > high) {
    // Leaves are read in hex, counts are not.
    const std::string range = high > 0xffff ? fmt::format("0x{:x} to 0x{:x}", low, high)
                              : low == high ? fmt::format("{}", low)
                                            : fmt::format("{} to {}", low, high);
    return fail(
        Error::usage(fmt::format("'{}' is {}, allowed is {}", key, number, range)).at(place(key)));
  }
  return static_cast<std::uint64_t>(number);
}

Result<std::string> TomlTable::string(std::string_view key, std::size_t max) const {
  const toml::node* node = as_table(table_).get(key);
  if (node == nullptr) return fail(Error::usage(fmt::format("'{}' is missing", key)).at(place()));
  const auto* value = node->as_string();
  if (value == nullptr)
    return fail(Error::usage(fmt::format("'{}' is {}, not a string", key, type_name(*node)))
                    .at(place(key)));
  const std::string& text = value->get();
  if (text.empty() || text.size() > max || !is_plain(text))
    return fail(Error::usage(fmt::format("'{}' takes 1 to {} printable characters", key, max))
                    .at(place(key)));
  return text;
}

Result<std::size_t> TomlTable::choice(std::string_view key,
                                      std::initializer_list<std::string_view> choices) const {
  const std::string text = VMM_TRY(string(key, 64));
  const auto it = std::find(choices.begin(), choices.end(), text);
  if (it == choices.end())
    return fail(Error::usage(fmt::format("'{}' is '{}', allowed are {}", key, text,
                                         fmt::join(choices, ", ")))
                    .at(place(key)));
  return static_cast<std::size_t>(it - choices.begin());
}

Result<std::vector<TomlString>> TomlTable::strings(std::string_view key, std::size_t max) const {
  std::vector<TomlString> result;
  for (const auto* item :
       VMM_TRY(items_of<std::string>(as_table(table_), *file_, key, max, "string")))
    result.push_back({item->get(), place_of(*file_, item->source())});
  return result;
}

Result<std::vector<TomlTable>> TomlTable::tables(std::string_view key, std::size_t max) const {
  std::vector<TomlTable> result;
  for (const auto* item :
       VMM_TRY(items_of<toml::table>(as_table(table_), *file_, key, max, "table")))
    result.push_back(TomlTable(item, file_));
  return result;
}

}  // namespace vmm
