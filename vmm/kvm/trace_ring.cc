#include "vmm/kvm/trace_ring.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"

namespace vmm {

namespace spec {
// The header of an event: type_len in bits 4:0, time_delta above.
constexpr unsigned TYPE_LEN_BITS = 5;
constexpr std::uint32_t TYPE_DATA_MAX = 28;
constexpr std::uint32_t TYPE_PADDING = 29;
constexpr std::uint32_t TYPE_TIME_EXTEND = 30;
constexpr std::uint32_t TYPE_TIME_STAMP = 31;
constexpr unsigned TIME_DELTA_BITS = 27;
constexpr std::size_t ALIGNMENT = 4;
constexpr std::uint64_t COMMIT_MASK = (1u << 27) - 1;  // flags about events that are missing above
}  // namespace spec

namespace {

constexpr std::size_t kMaxPage = 1u << 20;

Error not_a_format(std::string_view why) {
  return Error::host(fmt::format("the kernel's description of its events is not understood: {}",
                                 printable(why.substr(0, 80))));
}

// The number behind "offset:" in "field:u32 isa;\toffset:24;\tsize:4;\tsigned:0;".
std::optional<std::uint64_t> number_behind(std::string_view line, std::string_view word) {
  const std::size_t at = line.find(word);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view rest = line.substr(at + word.size());
  return parse_number(trim(rest.substr(0, rest.find(';'))));
}

// "field:__data_loc char[] msg;" or "field: u64 timestamp;"; nothing for another line.
std::optional<EventField> field_of(std::string_view line) {
  constexpr std::string_view kField = "field:";
  const std::size_t at = line.find(kField);
  if (at == std::string_view::npos) return std::nullopt;
  std::string_view declared = line.substr(at + kField.size());
  declared = trim(declared.substr(0, declared.find(';')));
  const std::size_t space = declared.find_last_of(" \t");
  const auto offset = number_behind(line, "offset:"), size = number_behind(line, "size:");
  if (space == std::string_view::npos || !offset || !size || *offset > EventFormat::kMaxEvent ||
      *size > kMaxPage)
    return std::nullopt;
  // "char comm[16]" is named comm.
  std::string_view name = declared.substr(space + 1);
  name = name.substr(0, name.find('['));
  return EventField{.name = std::string(name),
                    .offset = static_cast<std::size_t>(*offset),
                    .size = static_cast<std::size_t>(*size),
                    .located = declared.starts_with("__data_loc")};
}

}  // namespace

Result<EventFormat> EventFormat::parse(std::string_view text) {
  EventFormat format;
  std::optional<std::uint64_t> id;
  for (const std::string_view line : split(text, '\n')) {
    if (line.starts_with("print fmt")) break;
    if (line.starts_with("ID:")) id = parse_number(trim(line.substr(3)));
    const auto field = field_of(line);
    if (!field) continue;
    if (format.fields.size() == kMaxFields) return fail(not_a_format("an event of many fields"));
    format.fields.push_back(*field);
  }
  if (!id || *id > 0xffff) return fail(not_a_format("an event without a number"));
  const EventField* type = format.find("common_type");
  if (type == nullptr || type->offset != 0 || type->size != 2)
    return fail(not_a_format("an event that does not begin with its number"));
  format.id = static_cast<std::uint16_t>(*id);
  return format;
}

const EventField* EventFormat::find(std::string_view name) const {
  const auto found = std::ranges::find(fields, name, &EventField::name);
  return found == fields.end() ? nullptr : &*found;
}

std::optional<std::uint64_t> EventFormat::number(std::string_view name,
                                                 std::span<const std::uint8_t> event) const {
  const EventField* field = find(name);
  if (field == nullptr || field->offset > event.size() ||
      field->size > event.size() - field->offset || field->size > sizeof(std::uint64_t))
    return std::nullopt;
  std::uint64_t value = 0;
  for (std::size_t i = field->size; i-- > 0;) value = value << 8 | event[field->offset + i];
  return value;
}

std::string EventFormat::text(std::string_view name, std::span<const std::uint8_t> event,
                              std::size_t limit) const {
  const EventField* field = find(name);
  if (field == nullptr) return {};
  std::size_t offset = field->offset, size = field->size;
  if (field->located) {
    const auto place = number(name, event);
    if (!place) return {};
    offset = *place & 0xffff;
    size = *place >> 16 & 0xffff;
  }
  if (offset > event.size()) return {};
  // A size of 0 is an array that goes on to the end of the event.
  const std::size_t rest = event.size() - offset;
  const auto bytes =
      event.subspan(offset, std::min(size == 0 ? rest : std::min(size, rest), limit));
  return {bytes.begin(), std::ranges::find(bytes, std::uint8_t{0})};
}

Result<RingPage> RingPage::parse(std::string_view text) {
  RingPage page;
  bool has_commit = false, has_data = false;
  for (const std::string_view line : split(text, '\n')) {
    const auto field = field_of(line);
    if (!field) continue;
    if (field->name == "timestamp" && (field->offset != 0 || field->size != 8))
      return fail(not_a_format("a page that does not begin with a time"));
    if (field->name == "commit") {
      has_commit = true;
      page.commit_offset = field->offset;
      page.commit_size = field->size;
    } else if (field->name == "data") {
      has_data = true;
      page.data_offset = field->offset;
      page.size = field->offset + field->size;
    }
  }
  if (!has_commit || !has_data || (page.commit_size != 8 && page.commit_size != 4) ||
      page.commit_offset + page.commit_size > page.data_offset || page.size > kMaxPage)
    return fail(not_a_format("a page of the ring buffer"));
  return page;
}

void RingPage::each(
    std::span<const std::uint8_t> bytes,
    const std::function<void(std::uint64_t, std::span<const std::uint8_t>)>& event) const {
  if (bytes.size() < data_offset || data_offset < 8) return;
  std::uint64_t time = load<std::uint64_t>(bytes);
  const std::uint64_t commit = commit_size == 8 ? load<std::uint64_t>(bytes, commit_offset)
                                                : load<std::uint32_t>(bytes, commit_offset);
  auto rest = bytes.subspan(data_offset);
  rest = rest.first(std::min<std::size_t>(rest.size(), commit & spec::COMMIT_MASK));
  const auto word = [&](std::size_t at) -> std::uint64_t { return load<std::uint32_t>(rest, at); };
  constexpr std::size_t kWord = sizeof(std::uint32_t);
  while (rest.size() >= kWord) {
    const std::uint32_t type = word(0) & ((1u << spec::TYPE_LEN_BITS) - 1);
    const std::uint64_t delta = word(0) >> spec::TYPE_LEN_BITS;
    const bool has_word = rest.size() >= 2 * kWord;
    std::size_t whole = 2 * kWord;  // bytes, with its header
    if (type >= 1 && type <= spec::TYPE_DATA_MAX) {
      whole = kWord + type * spec::ALIGNMENT;
      if (whole > rest.size()) return;
      time += delta;
      event(time, rest.subspan(kWord, whole - kWord));
    } else if (!has_word) {
      return;
    } else if (type == 0) {
      // The length counts its own word.
      whole = kWord + word(kWord);
      if (whole < 2 * kWord || whole > rest.size()) return;
      time += delta;
      event(time, rest.subspan(2 * kWord, whole - 2 * kWord));
    } else if (type == spec::TYPE_PADDING) {
      // Without a delta: nothing more in this page; with one: an event that was taken back.
      if (delta == 0) return;
      whole = kWord + word(kWord);
    } else if (type == spec::TYPE_TIME_EXTEND) {
      time += word(kWord) << spec::TIME_DELTA_BITS | delta;
    } else if (type == spec::TYPE_TIME_STAMP) {
      // The upper five bits of a time are those of the one before.
      constexpr unsigned kStampBits = 59;
      time = (time >> kStampBits << kStampBits) | (word(kWord) << spec::TIME_DELTA_BITS | delta);
    }
    whole = align_up(whole, spec::ALIGNMENT);
    if (whole > rest.size()) return;
    rest = rest.subspan(whole);
  }
}

}  // namespace vmm
