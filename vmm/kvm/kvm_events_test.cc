#include "vmm/kvm/kvm_events.h"

#include <gtest/gtest.h>

#include "vmm/kvm/trace_ring_fake.h"

namespace vmm {
namespace {

KvmEventDecoder decoder_with(KvmEventKind kind, std::string_view fields, unsigned id = 9) {
  KvmEventDecoder decoder;
  const auto added = decoder.add(kind, *EventFormat::parse(format_text("an_event", id, fields)));
  EXPECT_TRUE(added) << added.error().text();
  return decoder;
}

TEST(KvmEvents, an_exit_has_its_reason_its_vendor_and_the_guests_rip) {
  const KvmEventDecoder decoder = decoder_with(KvmEventKind::AnyExit, kExitFields);
  EventBytes event(9, 42);
  event.put<std::uint32_t>(8, 0x400).put<std::uint64_t>(16, 0x1234).put<std::uint32_t>(24, 2);
  EXPECT_EQ(decoder.decode(77, event.bytes()), (KvmEvent{.kind = KvmEventKind::AnyExit,
                                                         .thread = 42,
                                                         .time = 77,
                                                         .svm = true,
                                                         .code = 0x400,
                                                         .rip = 0x1234}));
  event.put<std::uint32_t>(24, 1);
  EXPECT_FALSE(decoder.decode(77, event.bytes())->svm);
}

TEST(KvmEvents, a_refusal_has_the_words_of_kvm_made_harmless) {
  const KvmEventDecoder decoder = decoder_with(KvmEventKind::L2EntryFailed, kFailedFields);
  EventBytes event(9, 42);
  const std::string words = "a \"b\" \\ \x1b[2J" + std::string(300, 'x');
  event.put<std::uint32_t>(8, 16u | static_cast<std::uint32_t>(words.size()) << 16)
      .put<std::uint32_t>(12, 7)
      .text(words);
  const auto decoded = decoder.decode(1, event.bytes());
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->code, 7u);
  EXPECT_EQ(decoded->message.substr(0, 8), "a 'b' ' ");
  EXPECT_EQ(decoded->message.find_first_of("\"\\\x1b"), std::string::npos);
  EXPECT_LE(decoded->message.size(), 4 * KvmEventDecoder::kMaxMessage);
}

TEST(KvmEvents, what_is_another_event_or_half_of_one_is_none) {
  const KvmEventDecoder decoder = decoder_with(KvmEventKind::AnyExit, kExitFields);
  EXPECT_EQ(decoder.decode(1, {}), std::nullopt);
  EXPECT_EQ(decoder.decode(1, EventBytes(8, 1).bytes()), std::nullopt);
  EXPECT_EQ(decoder.decode(1, EventBytes(9, 1).bytes()), std::nullopt);
}

TEST(KvmEvents, a_format_without_the_reason_is_refused) {
  KvmEventDecoder decoder;
  const auto added = decoder.add(KvmEventKind::AnyExit,
                                 *EventFormat::parse(format_text("kvm_exit", 9, kInjectFields)));
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().text(), "this kernel's kvm_exit has no field exit_reason");
  EXPECT_FALSE(decoder.has(KvmEventKind::AnyExit));
}

}  // namespace
}  // namespace vmm
