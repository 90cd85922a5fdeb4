// What the host asks of the lab and what the lab answers: JSON in control frames, at most one
// question open at a time (pings, connections and kills aside, which have no answer or their own).
// Names and arguments are bytes, not text: each byte is one character of the JSON strings.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"
#include "vmm/lab/extents.h"

namespace vmm {

constexpr int kLabProtocol = 1;
constexpr std::size_t kMaxMessage = 1 << 20;  // bytes of JSON

// Host to lab, in a greeting frame. The lab drops whatever it was doing and greets back with the
// same word.
struct HostGreeting {
  std::string nonce;
  std::uint64_t time_ns = 0;  // since 1970; a lab whose state was loaded is of another day
};

// Lab to host, in a greeting frame: unasked (empty nonce) when it begins to listen.
struct LabGreeting {
  int protocol = kLabProtocol;
  std::string nonce;
  std::string release;  // uname -r
  std::string backend;  // "svm", "vmx" or nothing
};

// --- Questions ---

struct FileDigest {
  std::string path;
  std::string sha256;
  std::uint32_t mode = 0;  // permission bits
};
// Which of these does the lab not hold as they are here? Answer: MissingFiles.
struct AskMissing {
  std::vector<FileDigest> files;
};
// The bytes of `stream` become this file of `size` bytes, at once when they are all there: the
// whole of it, or its extents one after another, with holes between. Parents are made. Answer: Done
// or Failed.
struct PutFile {
  FileDigest file;
  std::uint64_t size = 0;
  std::uint32_t stream = 0;
  std::optional<std::vector<Extent>> extents = {};
};
// Makes a directory and its parents. With `names`, whatever else is in it goes. Answer: Done,
// Failed.
struct MakeDirectory {
  std::string path;
  std::optional<std::uint32_t> mode;  // of a new one without it: 0755
  std::optional<std::vector<std::string>> names;
};
// Makes a symbolic link. Answer: Done or Failed.
struct MakeLink {
  std::string path;
  std::string target;
};
// Removes a regular file or a link if there is one. Answer: Done or Failed.
struct RemoveFile {
  std::string path;
};
// Answer: FileFollows (its bytes then come on `stream`), Absent (there is no regular file), Failed
// (unreadable or more than `limit` bytes).
struct GetFile {
  std::string path;
  std::uint64_t limit = 0;
  std::uint32_t stream = 0;
  bool holes = false;  // only its extents are to come
};
// Answer: Started or Failed; after Started, once, Exited.
struct StartCommand {
  std::vector<std::string> argv;
  std::string directory;
  std::vector<std::string> environment;
  std::uint32_t in = 0, out = 0, err = 0;  // streams
  std::optional<TerminalSize> terminal;
};
// Sends `signal` to the command's process group. No answer.
struct KillCommand {
  int signal = 0;
};
// Joins `stream` to the Unix socket at `path`, as soon as somebody listens there, or resets it when
// the command ends before that. No answer.
struct ConnectSocket {
  std::string path;
  std::uint32_t stream = 0;
};
struct Ping {};  // Answer: Pong
struct PowerOff {};

using LabRequest = std::variant<AskMissing, PutFile, MakeDirectory, MakeLink, RemoveFile, GetFile,
                                StartCommand, KillCommand, ConnectSocket, Ping, PowerOff>;

// --- Answers ---

struct Done {};
struct Failed {
  std::string text;  // a sentence
};
struct MissingFiles {
  std::vector<std::uint32_t> indices;  // into AskMissing::files
};
struct FileFollows {
  std::uint64_t size = 0;
  std::uint32_t mode = 0777;                        // permission bits
  std::optional<std::vector<Extent>> extents = {};  // where GetFile has `holes`
};
struct Absent {};
struct Started {};
struct Exited {
  std::optional<int> code;
  std::optional<int> signal;
};
struct Pong {};

using LabReply =
    std::variant<Done, Failed, MissingFiles, FileFollows, Absent, Started, Exited, Pong>;

std::string to_json(const HostGreeting& greeting);
std::string to_json(const LabGreeting& greeting);
std::string to_json(const LabRequest& request);
std::string to_json(const LabReply& reply);

// Errors are of kind Lab and say what is wrong with the message. Whoever sent it may be hostile:
// types and ranges are checked, and a reply's indices by whoever asked.
Result<HostGreeting> parse_host_greeting(std::string_view json);
Result<LabGreeting> parse_lab_greeting(std::string_view json);
Result<LabRequest> parse_lab_request(std::string_view json);
Result<LabReply> parse_lab_reply(std::string_view json);

}  // namespace vmm
