#include "devices/virtio_blk.h"

#include <algorithm>
#include <utility>

#include "vmm/base/bytes.h"

namespace vmm {
namespace spec {
namespace {

constexpr std::uint16_t DEVICE_BLOCK = 0x1001;
constexpr std::uint16_t TYPE_BLOCK = 2;
constexpr std::uint32_t CLASS_SCSI = 0x010000;  // mass storage, as other virtio disks say

constexpr unsigned F_SEG_MAX = 2, F_RO = 5, F_BLK_SIZE = 6, F_FLUSH = 9;

// 5.2.6: header {type, reserved, sector}, data, one byte of status.
constexpr std::size_t HEADER_SIZE = 16;
constexpr std::uint32_t T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8;
constexpr std::uint8_t S_OK = 0, S_IOERR = 1, S_UNSUPP = 2;
constexpr std::size_t ID_SIZE = 20;

}  // namespace
}  // namespace spec

VirtioBlk::VirtioBlk(std::string name, BlockGeometry geometry, GuestMemory& memory, Wires wires)
    : VirtioPci(std::move(name),
                {.device = spec::DEVICE_BLOCK,
                 .subsystem = spec::TYPE_BLOCK,
                 .class_code = spec::CLASS_SCSI},
                memory, std::move(wires)),
      geometry_(std::move(geometry)) {
  chain_.reserve();
}

std::uint64_t VirtioBlk::device_features() const {
  return std::uint64_t{1} << spec::F_SEG_MAX | std::uint64_t{1} << spec::F_BLK_SIZE |
         std::uint64_t{1} << spec::F_FLUSH |
         (geometry_.read_only ? std::uint64_t{1} << spec::F_RO : 0);
}

// 5.2.4; what belongs to features that are not offered reads 0.
std::array<std::uint8_t, VirtioPci::kConfigSize> VirtioBlk::device_config() const {
  std::array<std::uint8_t, kConfigSize> config{};
  store(config, 0, geometry_.sectors);
  store(config, 12, kSegMax);
  store(config, 20, static_cast<std::uint32_t>(kSectorSize));
  return config;
}

void VirtioBlk::forget() {
  request_.reset();
  ++number_;
}

// Takes up the request at the front; false when there is none.
bool VirtioBlk::begin() {
  if (!next(chain_)) return false;
  std::array<std::uint8_t, spec::HEADER_SIZE> header;
  if (chain_.readable_size < header.size() || chain_.writable_size == 0 ||
      !gather(memory(), chain_.readable, 0, header)) {
    break_device("a block request lacks its header or the byte for its status");
    return false;
  }
  Request request;
  request.type = load<std::uint32_t>(header, 0);
  const auto sector = load<std::uint64_t>(header, 8);
  if (request.type == spec::T_IN) request.size = chain_.writable_size - 1;
  if (request.type == spec::T_OUT) request.size = chain_.readable_size - header.size();
  // Beyond any disk where it does not fit.
  request.offset = sector <= low_mask(64) / kSectorSize ? sector * kSectorSize : low_mask(64);
  request_ = request;
  ++number_;
  return true;
}

// The status of a request that the disk is not asked for at all.
std::optional<std::uint8_t> VirtioBlk::refusal(const Request& request) const {
  if (request.type == spec::T_FLUSH) return std::nullopt;
  if (request.type != spec::T_IN && request.type != spec::T_OUT) return spec::S_UNSUPP;
  if (request.type == spec::T_OUT && geometry_.read_only) return spec::S_IOERR;
  const std::uint64_t end = geometry_.sectors * kSectorSize;
  if (request.size % kSectorSize != 0 || request.offset > end ||
      request.size > end - request.offset)
    return spec::S_IOERR;
  return std::nullopt;
}

void VirtioBlk::answer(std::uint8_t status) {
  const Request request = *std::exchange(request_, std::nullopt);
  if (status != spec::S_OK) ++failures_;
  const bool data = request.type == spec::T_IN && status == spec::S_OK;
  if (!scatter(memory(), chain_.writable, chain_.writable_size - 1, {&status, 1}))
    return break_device("the byte for a request's status is not in RAM");
  use(chain_.head, static_cast<std::uint32_t>((data ? request.size : 0) + 1));
}

// 5.2.6.1: up to 20 bytes, without a terminator when it has all of them.
void VirtioBlk::answer_get_id() {
  std::array<std::uint8_t, spec::ID_SIZE> id{};
  std::copy_n(geometry_.id.begin(), std::min(geometry_.id.size(), id.size()), id.begin());
  const std::size_t room =
      static_cast<std::size_t>(std::min<std::uint64_t>(id.size(), chain_.writable_size - 1));
  if (!scatter(memory(), chain_.writable, 0, std::span(id).first(room)))
    return break_device("a descriptor is not in RAM");
  answer(spec::S_OK);
}

std::optional<BlockJob> VirtioBlk::next_job(std::span<std::uint8_t> buffer) {
  if (job_out_ || !running()) return std::nullopt;
  for (unsigned served = 0; served < VirtQueueState::kMaxSize; ++served) {
    if (!request_ && !begin()) return std::nullopt;
    const Request& request = *request_;
    if (request.type == spec::T_GET_ID) {
      answer_get_id();
      continue;
    }
    if (const auto status = refusal(request)) {
      answer(*status);
      continue;
    }
    BlockJob job{.kind = BlockJob::Kind::Flush, .request = number_};
    if (request.type != spec::T_FLUSH) {
      job.kind = request.type == spec::T_IN ? BlockJob::Kind::Read : BlockJob::Kind::Write;
      job.offset = request.offset + request.moved;
      job.size = static_cast<std::size_t>(
          std::min<std::uint64_t>(request.size - request.moved, buffer.size()));
      if (job.size == 0) {  // a request for no sectors
        answer(spec::S_OK);
        continue;
      }
    }
    if (job.kind == BlockJob::Kind::Write &&
        !gather(memory(), chain_.readable, spec::HEADER_SIZE + request.moved,
                buffer.first(job.size))) {
      request_.reset();
      break_device("a descriptor is not in RAM");
      return std::nullopt;
    }
    job_out_ = true;
    return job;
  }
  ask_for_work();
  return std::nullopt;
}

void VirtioBlk::finish_job(const BlockJob& job, bool done, std::span<const std::uint8_t> buffer) {
  job_out_ = false;
  if (!request_ || job.request != number_) return;
  if (!running()) return forget();  // begun anew when it runs again
  if (!done) return answer(spec::S_IOERR);
  if (job.kind == BlockJob::Kind::Read &&
      !scatter(memory(), chain_.writable, request_->moved, buffer.first(job.size))) {
    request_.reset();
    return break_device("a descriptor is not in RAM");
  }
  request_->moved += job.size;
  if (request_->moved == request_->size) answer(spec::S_OK);
}

}  // namespace vmm
