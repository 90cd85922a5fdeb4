#include "vmm/lab/file_transfer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <utility>

#include "vmm/base/text.h"
#include "vmm/lab/output_file.h"

namespace vmm {

namespace {

constexpr std::uint64_t kLargestOutput = std::uint64_t{4} << 30;  // what a disk here may get
constexpr std::size_t kAskBytes = 256 * 1024;                     // of paths in one question

}  // namespace

void FileTransfer::cancel() {
  cancelled_ = true;
  if (incoming_) link_.channel().reset(*incoming_);
}

Result<void> FileTransfer::bring_in(const std::vector<Input>& inputs) {
  std::vector<const InputFile*> files;
  for (const Input& input : inputs) {
    if (cancelled_) return {};
    if (const auto* directory = std::get_if<InputDirectory>(&input))
      VMM_TRY(link_.demand(MakeDirectory{directory->path, directory->mode, directory->names}));
    else if (const auto* link = std::get_if<InputLink>(&input))
      VMM_TRY(link_.demand(MakeLink{link->path, link->target}));
    else
      files.push_back(&std::get<InputFile>(input));
  }
  for (const InputFile* file : VMM_TRY(missing_files(files))) {
    if (cancelled_) return {};
    VMM_TRY(bring_file(*file));
  }
  return {};
}

Result<std::vector<const InputFile*>> FileTransfer::missing_files(
    const std::vector<const InputFile*>& files) {
  std::vector<const InputFile*> missing;
  for (std::size_t begin = 0; begin < files.size();) {
    AskMissing ask;
    std::size_t bytes = 0;
    for (std::size_t i = begin; i < files.size() && bytes < kAskBytes; ++i) {
      const InputFile& file = *files[i];
      ask.files.push_back({file.path, file.sha256, file.status.st_mode & 07777});
      bytes += 2 * file.path.size() + 128;
    }
    link_.ask(ask);
    const LabReply reply = VMM_TRY(link_.answer());
    const auto* answer = std::get_if<MissingFiles>(&reply);
    if (answer == nullptr) return fail(Error::lab("the lab does not say which files it misses"));
    // In order and without repetition, so that a lab cannot ask for a file for ever.
    std::optional<std::uint32_t> last;
    for (const std::uint32_t index : answer->indices) {
      if (index >= ask.files.size() || (last && index <= *last))
        return fail(Error::lab("the lab misses files that nobody spoke of"));
      last = index;
      missing.push_back(files[begin + index]);
    }
    begin += ask.files.size();
  }
  return missing;
}

Result<void> FileTransfer::bring_file(const InputFile& file) {
  StreamSpec spec;
  spec.source = VMM_TRY(Fd::open(file.source, O_RDONLY | O_NONBLOCK));
  struct stat status {};
  if (::fstat(spec.source.get(), &status) != 0 || !is_unchanged(file, status))
    return fail(Error::usage(
        fmt::format("{} changed while it was brought into the lab", printable(file.source))));
  const auto size = static_cast<std::uint64_t>(status.st_size);
  // A disk image is sent without its holes.
  const std::vector<Extent> extents = data_extents(spec.source.get(), size);
  const std::uint64_t bytes = bytes_in(extents);
  const bool holes = bytes < size && size <= kLargestSparseFile;
  spec.source_limit = holes ? bytes : size;
  if (holes)
    spec.source_parts.emplace(extents);
  else if (::lseek(spec.source.get(), 0, SEEK_SET) != 0)
    return fail(
        Error::system(ErrorKind::Usage, fmt::format("read {}", printable(file.source)), errno));
  const auto end = std::make_shared<std::optional<StreamEnd>>();
  spec.done = [end](const StreamEnd& how) { *end = how; };

  incoming_ = link_.new_stream();
  PutFile put{{file.path, file.sha256, status.st_mode & 07777}, size, *incoming_};
  if (holes) put.extents = extents;
  link_.ask(put);
  link_.channel().open(*incoming_, std::move(spec));
  auto answer = link_.answer();
  incoming_.reset();
  if (!answer) return fail(std::move(answer).error());
  const LabReply& reply = *answer;
  if (std::holds_alternative<Done>(reply) || cancelled_) return {};
  if (*end && !(*end)->reset && (*end)->given != (holes ? bytes : size))
    return fail(Error::system(ErrorKind::Usage, fmt::format("read {}", printable(file.source)),
                              (*end)->source_errno,
                              "it changed while it was brought into the lab"));
  const auto* failed = std::get_if<Failed>(&reply);
  return fail(Error::lab(failed != nullptr ? printable(failed->text, 1000)
                                           : "the lab does not say whether it has a file"));
}

Result<void> FileTransfer::make_place(const Target& target) {
  const auto here = std::filesystem::path(target.path).parent_path();
  struct stat status {};
  if (::stat(here.c_str(), &status) == 0 && S_ISDIR(status.st_mode))
    VMM_TRY(link_.demand(
        MakeDirectory{std::filesystem::path(target.in_lab).parent_path().native(), {}, {}}));
  return link_.demand(RemoveFile{target.in_lab});
}

Result<void> FileTransfer::bring_out(const Target& target) {
  const std::uint32_t stream = link_.new_stream();
  const auto end = std::make_shared<std::optional<StreamEnd>>();
  std::optional<Result<OutputFile>> file;
  std::uint64_t announced = 0;
  const bool holes = OutputFile::takes_holes(target.path);
  link_.on_file([&](const FileFollows& follows) -> Result<void> {
    announced = follows.extents ? bytes_in(*follows.extents) : follows.size;
    if (announced > kLargestOutput)
      return fail(Error::lab("the lab sends a file that is larger than it was allowed"));
    if (follows.extents && !holes)
      return fail(Error::lab("the lab sends parts of a file that has no holes"));
    file.emplace(OutputFile::begin(target.path));
    StreamSpec spec;
    spec.done = [end](const StreamEnd& how) { *end = how; };
    spec.sink_limit = announced;
    if (*file) (**file).restrict_to(follows.mode);
    if (follows.extents) {
      spec.sink_parts.emplace(*follows.extents);
      if (*file)
        if (auto sized = (**file).set_size(follows.size); !sized)
          file.emplace(fail(std::move(sized).error()));
    }
    spec.later = !*file;
    if (*file) spec.sink = (**file).take_sink();
    link_.channel().open(stream, std::move(spec));
    if (!*file) link_.channel().reset(stream);
    return {};
  });
  link_.ask(GetFile{target.in_lab, kLargestOutput, stream, holes});
  auto answer = link_.answer();
  link_.on_file({});
  if (!answer) return fail(std::move(answer).error());
  const LabReply& reply = *answer;
  if (std::holds_alternative<Absent>(reply)) return {};
  if (const auto* failed = std::get_if<Failed>(&reply))
    return fail(Error::lab(printable(failed->text, 1000)));
  if (!file) return fail(Error::lab("the lab does not say whether it has a file"));
  while (!*end) VMM_TRY(link_.step());
  if (!*file) return fail(file->error());
  if ((*end)->sink_errno != 0)
    return fail(Error::system(ErrorKind::Usage, fmt::format("write {}", printable(target.path)),
                              (*end)->sink_errno));
  if ((*end)->reset || (*end)->taken != announced)
    return fail(Error::lab(fmt::format("{} came from the lab with {} of its {} bytes",
                                       printable(target.path), (*end)->taken, announced)));
  return (**file).finish();
}

}  // namespace vmm
