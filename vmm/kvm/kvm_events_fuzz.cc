// Any bytes as descriptions of events, and as a page of them.
#include <algorithm>
#include <cstdint>

#include "vmm/base/check.h"
#include "vmm/kvm/kvm_events.h"
#include "vmm/kvm/trace_ring_fake.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vmm;
  const std::span<const std::uint8_t> bytes(data, size);
  const std::string text(bytes.begin(), bytes.end());
  // As the input describes it: whatever fields those are, they are looked for in the input.
  const auto format = EventFormat::parse(text);
  if (format) {
    VMM_CHECK(format->fields.size() <= EventFormat::kMaxFields, "a format is bounded");
    for (const EventField& field : format->fields) {
      (void)format->number(field.name, bytes);
      VMM_CHECK(format->text(field.name, bytes, 100).size() <= 100, "so is a text");
    }
  }
  // As Linux describes it: the page is the input.
  KvmEventDecoder decoder;
  const auto add = [&](KvmEventKind kind, unsigned id, std::string_view fields) {
    VMM_CHECK(decoder.add(kind, *EventFormat::parse(format_text("event", id, fields))),
              "these are Linux's own");
  };
  add(KvmEventKind::AnyExit, 1, kExitFields);
  add(KvmEventKind::ExitToL1, 2, kInjectFields);
  add(KvmEventKind::L2EntryFailed, 3, kFailedFields);
  std::size_t told = 0;
  for (const auto& layout : {Result<RingPage>(RingPage{}), RingPage::parse(text)}) {
    if (!layout) continue;
    layout->each(bytes, [&](std::uint64_t time, std::span<const std::uint8_t> event) {
      told += 1 + event.size();
      const auto decoded = decoder.decode(time, event);
      VMM_CHECK(!decoded || decoded->message.size() <= 4 * KvmEventDecoder::kMaxMessage,
                "words are bounded");
    });
  }
  VMM_CHECK(told <= 2 * size, "a page holds no more than its bytes");
  return 0;
}
