#include "vmm/lab/decompress.h"

#include <fmt/format.h>
#include <lzma.h>
#include <zstd.h>

#include <algorithm>
#include <memory>

#include "vmm/base/text.h"
#include "vmm/base/units.h"

namespace vmm {
namespace {

constexpr std::size_t kStep = 256_KiB;
// Both formats let a file ask for a dictionary of gigabytes; kernel modules ask for at most 8 MiB.
constexpr std::uint64_t kMaxDecoderMemory = 256_MiB;
constexpr int kMaxWindowLog = 27;

tl::unexpected<Error> damaged(const char* format, std::string_view why) {
  return fail(Error::usage(fmt::format("the {} data is damaged: {}", format, why)));
}

tl::unexpected<Error> too_large(std::size_t max_size) {
  return fail(Error::usage(fmt::format("it unpacks to more than {}", format_size(max_size))));
}

const char* lzma_reason(lzma_ret result) {
  switch (result) {
    case LZMA_FORMAT_ERROR:
      return "no .xz file";
    case LZMA_OPTIONS_ERROR:
      return "a filter that liblzma does not know";
    case LZMA_MEMLIMIT_ERROR:
      return "its dictionary is too large";
    case LZMA_BUF_ERROR:
      return "it is cut off";
    case LZMA_MEM_ERROR:
      return "no memory for its dictionary";
    default:
      return "its checksum or structure is wrong";
  }
}

}  // namespace

Result<std::vector<std::uint8_t>> decompress_xz(std::span<const std::uint8_t> bytes,
                                                std::size_t max_size) {
  lzma_stream stream = LZMA_STREAM_INIT;
  const std::unique_ptr<lzma_stream, void (*)(lzma_stream*)> end(&stream, lzma_end);
  if (lzma_stream_decoder(&stream, kMaxDecoderMemory, LZMA_CONCATENATED) != LZMA_OK)
    return fail(Error::internal("liblzma cannot start a decoder"));
  std::vector<std::uint8_t> content;
  stream.next_in = bytes.data();
  stream.avail_in = bytes.size();
  while (true) {
    const std::size_t done = content.size();
    // One byte more than allowed, so that a content of exactly max_size bytes can end.
    const std::size_t room = std::min(kStep, max_size - done + 1);
    content.resize(done + room);
    stream.next_out = content.data() + done;
    stream.avail_out = room;
    const lzma_ret result = lzma_code(&stream, LZMA_FINISH);
    content.resize(done + room - stream.avail_out);
    if (content.size() > max_size) return too_large(max_size);
    if (result == LZMA_STREAM_END) return content;
    if (result != LZMA_OK) return damaged("xz", lzma_reason(result));
  }
}

Result<std::vector<std::uint8_t>> decompress_zstd(std::span<const std::uint8_t> bytes,
                                                  std::size_t max_size) {
  const std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(),
                                                                        ZSTD_freeDCtx);
  if (!context) return fail(Error::internal("libzstd cannot start a decoder"));
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kMaxWindowLog);
  std::vector<std::uint8_t> content;
  ZSTD_inBuffer input{.src = bytes.data(), .size = bytes.size(), .pos = 0};
  while (true) {
    const std::size_t done = content.size();
    const std::size_t room = std::min(kStep, max_size - done + 1);
    content.resize(done + room);
    ZSTD_outBuffer output{.dst = content.data() + done, .size = room, .pos = 0};
    const std::size_t result = ZSTD_decompressStream(context.get(), &output, &input);
    content.resize(done + output.pos);
    if (ZSTD_isError(result) != 0) return damaged("zstd", ZSTD_getErrorName(result));
    if (content.size() > max_size) return too_large(max_size);
    if (input.pos < input.size || output.pos == room) continue;
    if (result != 0) return damaged("zstd", "it is cut off");
    return content;
  }
}

}  // namespace vmm
