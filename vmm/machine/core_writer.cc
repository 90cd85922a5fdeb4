#include "vmm/machine/core_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "vmm/base/text.h"
#include "vmm/core/page_map.h"
#include "vmm/machine/debug_arch.h"

namespace vmm {
namespace {

// What is looked at together: the pagemap's entries for it are 64 KiB.
constexpr std::size_t kPiece = 32_MiB;
constexpr std::size_t kPage = 4_KiB;

bool is_zero(std::span<const std::uint8_t> page) {
  return page[0] == 0 && std::equal(page.begin() + 1, page.end(), page.begin());
}

}  // namespace

Result<gdb::CoreSpec> describe_core(Machine& machine, const RunReport& report,
                                    const MachineSpec& spec, const LoadedImage& image) {
  constexpr std::uint32_t kKernelGsBase = 0xc0000102;
  const CpuState& died = report.vcpus.at(report.vcpu);
  gdb::CoreSpec core;
  // A 32-bit image may have gone on to long mode, whose registers an ELF32 could not hold.
  core.arch = spec.gdb_arch.value_or(
      (died.sregs.efer & spec::EFER_LMA) != 0 ? gdb::Arch::X86_64 : debug_arch(spec, image));
  core.program = std::filesystem::path(image.path).filename().string();
  core.command = fmt::format("{}: {}", core.program, headline(report.outcome));
  core.cpuid = machine.guest_cpuid();
  for (unsigned i = 0; i < machine.vcpu_count(); ++i) {
    gdb::CoreThread thread{.number = i + 1, .signal = 0, .registers = {}, .kernel_gs_base = 0};
    thread.registers = VMM_TRY(machine.registers(i));
    thread.registers.cpu = report.vcpus.at(i);
    if (const auto base = machine.msr(i, kKernelGsBase)) thread.kernel_gs_base = *base;
    core.threads.push_back(std::move(thread));
  }
  if (is_death(report.outcome)) core.threads[report.vcpu].signal = SIGSEGV;
  std::rotate(core.threads.begin(), core.threads.begin() + report.vcpu,
              core.threads.begin() + report.vcpu + 1);
  const auto context = PagingContext::from(died, PagingFeatures::from(machine.guest_cpuid()));
  PageMap map = map_pages(machine.memory(), context);
  core.mapped = std::move(map.ranges);
  core.all_mapped = map.complete;
  return core;
}

Result<CoreWriter> CoreWriter::open(const std::string& path) {
  Fd file = VMM_TRY_CONTEXT(Fd::open(path, O_WRONLY | O_CREAT, ErrorKind::Usage, 0600), "--core");
  struct stat status {};
  if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode))
    return fail(Error::usage("--core " + path + ": not a regular file")
                    .hint("a core file has holes; name a file on a disk"));
  auto pagemap = Fd::open("/proc/self/pagemap", O_RDONLY);
  return CoreWriter(path, std::move(file), pagemap ? std::move(*pagemap) : Fd());
}

Result<void> CoreWriter::put(std::span<const std::uint8_t> bytes, std::uint64_t offset) const {
  const auto failed = [&](const char* call) {
    return fail(Error::system(ErrorKind::Internal, fmt::format("--core {}: {}", path_, call), errno)
                    .hint("the file is not complete"));
  };
  if (::lseek(file_.get(), static_cast<off_t>(offset), SEEK_SET) < 0) return failed("lseek");
  while (!bytes.empty()) {
    const ssize_t n = ::write(file_.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return failed("write");
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

// Reads the kernel's words about the pages of `bytes` (proc(5), pagemap); false where they are not
// to be had, and then each page counts as touched.
bool CoreWriter::touched(std::span<const std::uint8_t> bytes,
                         std::vector<std::uint64_t>& entries) const {
  if (!pagemap_) return false;
  entries.resize(bytes.size() / kPage);
  const auto at = reinterpret_cast<std::uintptr_t>(bytes.data()) / kPage * sizeof entries[0];
  const std::size_t size = entries.size() * sizeof entries[0];
  return ::lseek(pagemap_.get(), static_cast<off_t>(at), SEEK_SET) >= 0 &&
         ::read(pagemap_.get(), entries.data(), size) == static_cast<ssize_t>(size);
}

// The pages that are not all zero, neighbours at once.
Result<std::uint64_t> CoreWriter::put_region(std::span<const std::uint8_t> bytes,
                                             std::uint64_t offset) const {
  constexpr std::uint64_t kPresentOrSwapped = 3ull << 62;
  std::uint64_t written = 0;
  std::vector<std::uint64_t> entries;
  for (std::size_t piece = 0; piece < bytes.size(); piece += kPiece) {
    const auto part = bytes.subspan(piece, std::min(kPiece, bytes.size() - piece));
    const bool known = touched(part, entries);
    std::size_t begin = 0;
    for (std::size_t at = 0; at <= part.size(); at += kPage) {
      const bool wanted = at < part.size() &&
                          (!known || (entries[at / kPage] & kPresentOrSwapped) != 0) &&
                          !is_zero(part.subspan(at, kPage));
      if (wanted) continue;
      if (at > begin) VMM_TRY(put(part.subspan(begin, at - begin), offset + piece + begin));
      written += at - begin;
      begin = at + kPage;
    }
  }
  return written;
}

Result<CoreWriter::Written> CoreWriter::write(gdb::CoreSpec core, const GuestMemory& memory) const {
  core.memory.clear();
  for (const GuestMemory::Region& region : memory.regions())
    core.memory.push_back({region.base, region.host.size()});
  const gdb::CoreHeader header = gdb::core_header(core);
  if (::ftruncate(file_.get(), 0) != 0 ||
      ::ftruncate(file_.get(), static_cast<off_t>(header.file_size)) != 0)
    return fail(
        Error::system(ErrorKind::Internal, fmt::format("--core {}: ftruncate", path_), errno)
            .hint(fmt::format("{} bytes long, most of it holes", header.file_size)));
  VMM_TRY(put(header.bytes, 0));
  Written written{.bytes = header.bytes.size(), .complete = header.complete};
  for (std::size_t i = 0; i < core.memory.size(); ++i)
    if (header.offsets[i])
      written.bytes += VMM_TRY(put_region(memory.regions()[i].host, *header.offsets[i]));
  return written;
}

}  // namespace vmm
