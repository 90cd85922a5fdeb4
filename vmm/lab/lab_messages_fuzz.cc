// Whatever arrives at either end of the channel: bytes for the frame reader, frames for the
// streams, JSON for the parsers.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/lab/channel.h"
#include "vmm/lab/frame.h"
#include "vmm/lab/messages.h"

namespace {

// What was understood can be written, and is then understood to be the same.
template <typename Parse>
void check_parser(Parse parse, std::string_view text) {
  const auto message = parse(text);
  if (!message) return;
  const std::string json = to_json(*message);
  const auto again = parse(json);
  if (!again || to_json(*again) != json) std::abort();
}

void check_parsers(std::string_view text) {
  check_parser(vmm::parse_host_greeting, text);
  check_parser(vmm::parse_lab_greeting, text);
  check_parser(vmm::parse_lab_request, text);
  check_parser(vmm::parse_lab_reply, text);
}

void check_reader(std::span<const std::uint8_t> bytes) {
  vmm::FrameReader reader("the channel", 4096);
  while (!bytes.empty()) {
    const auto room = reader.room();
    if (room.empty()) std::abort();
    const std::size_t count = std::min(room.size(), bytes.size());
    std::copy_n(bytes.begin(), count, room.begin());
    reader.add(count);
    bytes = bytes.subspan(count);
    for (;;) {
      const auto frame = reader.next();
      if (!frame) return;
      if (!*frame) break;
      if ((*frame)->payload.size() > vmm::kMaxPayload) std::abort();
    }
  }
}

// The input as a list of frames (kind, stream, length, bytes) with right numbers and checksums, for
// an end that has two streams open.
void check_channel(std::span<const std::uint8_t> bytes) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0) return;
  const vmm::Fd here(ends[0]);
  vmm::Fd there(ends[1]);
  {
    vmm::Channel channel(here.get(), "the channel");
    vmm::StreamSpec sink;
    sink.sink = {vmm::Fd(::open("/dev/null", O_WRONLY | O_CLOEXEC)), vmm::SinkKind::Plain};
    sink.sink_limit = 1000;
    channel.open(1, std::move(sink));
    vmm::StreamSpec later;
    later.later = true;
    channel.open(2, std::move(later));
    std::vector<std::uint8_t> wire;
    vmm::FrameWriter writer;
    writer.append(wire, vmm::FrameKind::Greeting, 0, {});
    while (bytes.size() >= 3 && wire.size() < 100'000) {
      const std::size_t length = std::min<std::size_t>(bytes[2] * 128u, bytes.size() - 3);
      writer.append(wire, static_cast<vmm::FrameKind>(bytes[0] % 10), bytes[1] % 4,
                    bytes.subspan(3, length));
      bytes = bytes.subspan(3 + length);
    }
    if (::write(there.get(), wire.data(), wire.size()) < 0) return;
    for (int round = 0; round < 4; ++round) {
      std::vector<pollfd> polled;
      channel.want(polled);
      ::poll(polled.data(), polled.size(), 0);
      bool heard = false;
      const auto handler = [](const vmm::Channel::Message& message) -> vmm::Result<void> {
        check_parsers(message.text);
        return {};
      };
      if (!channel.serve(polled, handler, heard)) break;
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::span<const std::uint8_t> bytes(data + 1, size - 1);
  if (data[0] % 3 == 0) check_parsers({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (data[0] % 3 == 1) check_reader(bytes);
  if (data[0] % 3 == 2) check_channel(bytes);
  return 0;
}
