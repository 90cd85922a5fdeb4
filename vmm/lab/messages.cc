#include "vmm/lab/messages.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "vmm/base/text.h"
#include "vmm/lab/json_fields.h"

namespace vmm {

namespace {

using nlohmann::json;

json list_of(const std::vector<std::string>& strings) {
  json list = json::array();
  for (const std::string& text : strings) list.push_back(text_of_bytes(text));
  return list;
}

// A flat list: offset, size, offset, size.
void put_extents(json& fields, const std::optional<std::vector<Extent>>& extents) {
  if (!extents) return;
  json list = json::array();
  for (const Extent& extent : *extents) {
    list.push_back(extent.offset);
    list.push_back(extent.size);
  }
  fields["extents"] = std::move(list);
}

json fields_of(const FileDigest& file) {
  return {{"path", text_of_bytes(file.path)}, {"sha256", file.sha256}, {"mode", file.mode}};
}

struct RequestFields {
  json operator()(const AskMissing& ask) const {
    json files = json::array();
    for (const FileDigest& file : ask.files) files.push_back(fields_of(file));
    return {{"do", "missing"}, {"files", std::move(files)}};
  }
  json operator()(const PutFile& put) const {
    json fields = fields_of(put.file);
    fields.update({{"do", "put"}, {"size", put.size}, {"stream", put.stream}});
    put_extents(fields, put.extents);
    return fields;
  }
  json operator()(const MakeDirectory& make) const {
    json fields = {{"do", "directory"}, {"path", text_of_bytes(make.path)}};
    if (make.mode) fields["mode"] = *make.mode;
    if (make.names) fields["names"] = list_of(*make.names);
    return fields;
  }
  json operator()(const MakeLink& make) const {
    return {
        {"do", "link"}, {"path", text_of_bytes(make.path)}, {"target", text_of_bytes(make.target)}};
  }
  json operator()(const RemoveFile& remove) const {
    return {{"do", "remove"}, {"path", text_of_bytes(remove.path)}};
  }
  json operator()(const GetFile& get) const {
    json fields = {{"do", "get"},
                   {"path", text_of_bytes(get.path)},
                   {"limit", get.limit},
                   {"stream", get.stream}};
    if (get.holes) fields["holes"] = 1;
    return fields;
  }
  json operator()(const StartCommand& start) const {
    json fields = {{"do", "start"},
                   {"argv", list_of(start.argv)},
                   {"directory", text_of_bytes(start.directory)},
                   {"environment", list_of(start.environment)},
                   {"in", start.in},
                   {"out", start.out},
                   {"err", start.err}};
    if (start.terminal) {
      fields["rows"] = start.terminal->rows;
      fields["columns"] = start.terminal->columns;
    }
    return fields;
  }
  json operator()(const KillCommand& kill) const {
    return {{"do", "kill"}, {"signal", kill.signal}};
  }
  json operator()(const ConnectSocket& connect) const {
    return {{"do", "connect"}, {"path", text_of_bytes(connect.path)}, {"stream", connect.stream}};
  }
  json operator()(const Ping&) const { return {{"do", "ping"}}; }
  json operator()(const PowerOff&) const { return {{"do", "power-off"}}; }
};

struct ReplyFields {
  json operator()(const Done&) const { return {{"is", "done"}}; }
  json operator()(const Failed& failed) const {
    return {{"is", "failed"}, {"text", text_of_bytes(failed.text)}};
  }
  json operator()(const MissingFiles& missing) const {
    return {{"is", "missing"}, {"indices", missing.indices}};
  }
  json operator()(const FileFollows& file) const {
    json fields = {{"is", "file"}, {"size", file.size}, {"mode", file.mode}};
    put_extents(fields, file.extents);
    return fields;
  }
  json operator()(const Absent&) const { return {{"is", "absent"}}; }
  json operator()(const Started&) const { return {{"is", "started"}}; }
  json operator()(const Exited& exited) const {
    json fields = {{"is", "exited"}};
    if (exited.code) fields["code"] = *exited.code;
    if (exited.signal) fields["signal"] = *exited.signal;
    return fields;
  }
  json operator()(const Pong&) const { return {{"is", "pong"}}; }
};

FileDigest file_digest(JsonFields& fields) {
  FileDigest file{fields.bytes("path"), fields.bytes("sha256"),
                  fields.number<std::uint32_t>("mode")};
  if (file.mode > 07777) fields.problem("its 'mode' is more than permission bits");
  return file;
}

std::optional<std::vector<Extent>> extents_of(JsonFields& fields, std::uint64_t size) {
  if (!fields.has("extents")) return std::nullopt;
  const std::vector<std::uint64_t> numbers = fields.numbers("extents");
  std::vector<Extent> extents;
  for (std::size_t i = 0; i + 1 < numbers.size(); i += 2)
    extents.push_back({numbers[i], numbers[i + 1]});
  if (numbers.size() % 2 != 0 || extents.size() > kMaxExtents || size > kLargestSparseFile ||
      !are_extents_of(extents, size))
    fields.problem("its 'extents' are not those of a file of its 'size'");
  return extents;
}

FileFollows file_follows(JsonFields& fields) {
  FileFollows file;
  file.size = fields.number<std::uint64_t>("size");
  file.mode = fields.number<std::uint32_t>("mode");
  if (file.mode > 07777) fields.problem("its 'mode' is more than permission bits");
  file.extents = extents_of(fields, file.size);
  return file;
}

AskMissing ask_missing(JsonFields& fields) {
  AskMissing ask;
  for (JsonFields& part : fields.objects("files")) {
    ask.files.push_back(file_digest(part));
    fields.note(part);
  }
  return ask;
}

PutFile put_file(JsonFields& fields) {
  PutFile put{file_digest(fields), fields.number<std::uint64_t>("size"),
              fields.number<std::uint32_t>("stream")};
  put.extents = extents_of(fields, put.size);
  return put;
}

MakeDirectory make_directory(JsonFields& fields) {
  MakeDirectory make;
  make.path = fields.bytes("path");
  if (fields.has("mode")) {
    make.mode = fields.number<std::uint32_t>("mode");
    if (*make.mode > 07777) fields.problem("its 'mode' is more than permission bits");
  }
  if (fields.has("names")) make.names = fields.list("names");
  return make;
}

StartCommand start_command(JsonFields& fields) {
  StartCommand start;
  start.argv = fields.list("argv");
  if (start.argv.empty()) fields.problem("its 'argv' is empty");
  start.directory = fields.bytes("directory");
  start.environment = fields.list("environment");
  start.in = fields.number<std::uint32_t>("in");
  start.out = fields.number<std::uint32_t>("out");
  start.err = fields.number<std::uint32_t>("err");
  if (fields.has("rows"))
    start.terminal =
        TerminalSize{fields.number<std::uint16_t>("rows"), fields.number<std::uint16_t>("columns")};
  return start;
}

KillCommand kill_command(JsonFields& fields) {
  const auto signal = fields.number<std::uint16_t>("signal");
  if (signal < 1 || signal > 64) fields.problem("its 'signal' is no signal");
  return {signal};
}

MissingFiles missing_files(const json& object, JsonFields& fields) {
  MissingFiles missing;
  const auto indices = object.find("indices");
  if (indices == object.end() || !indices->is_array()) {
    fields.problem("its 'indices' is not a list");
    return missing;
  }
  for (const json& index : *indices) {
    if (!index.is_number_unsigned() || index.get<std::uint64_t>() > kMaxMessage) {
      fields.problem("its 'indices' has something that is no index");
      break;
    }
    missing.indices.push_back(index.get<std::uint32_t>());
  }
  return missing;
}

Exited exited_how(JsonFields& fields) {
  Exited exited;
  if (fields.has("code") == fields.has("signal"))
    fields.problem("it has not exactly one of 'code' and 'signal'");
  if (fields.has("code")) exited.code = fields.number<std::uint8_t>("code");
  if (fields.has("signal")) {
    exited.signal = fields.number<std::uint8_t>("signal");
    if (*exited.signal < 1 || *exited.signal > 64) fields.problem("its 'signal' is no signal");
  }
  return exited;
}

Result<LabRequest> request_of(const std::string& what, JsonFields& fields) {
  if (what == "missing") return ask_missing(fields);
  if (what == "put") return put_file(fields);
  if (what == "directory") return make_directory(fields);
  if (what == "link") return MakeLink{fields.bytes("path"), fields.bytes("target")};
  if (what == "remove") return RemoveFile{fields.bytes("path")};
  if (what == "get")
    return GetFile{fields.bytes("path"), fields.number<std::uint64_t>("limit"),
                   fields.number<std::uint32_t>("stream"), fields.has("holes")};
  if (what == "start") return start_command(fields);
  if (what == "kill") return kill_command(fields);
  if (what == "connect")
    return ConnectSocket{fields.bytes("path"), fields.number<std::uint32_t>("stream")};
  if (what == "ping") return Ping{};
  if (what == "power-off") return PowerOff{};
  return fail(Error::lab(fmt::format("nobody knows how to do '{}'", printable(what))));
}

Result<LabReply> reply_of(const std::string& what, const json& object, JsonFields& fields) {
  if (what == "done") return Done{};
  if (what == "failed") return Failed{fields.bytes("text")};
  if (what == "missing") return missing_files(object, fields);
  if (what == "file") return file_follows(fields);
  if (what == "absent") return Absent{};
  if (what == "started") return Started{};
  if (what == "exited") return exited_how(fields);
  if (what == "pong") return Pong{};
  return fail(Error::lab(fmt::format("nobody knows what '{}' is", printable(what))));
}

template <typename T>
Result<T> checked(const JsonFields& fields, Result<T> value) {
  VMM_TRY(fields.result());
  return value;
}

}  // namespace

std::string to_json(const HostGreeting& greeting) {
  return json{{"nonce", text_of_bytes(greeting.nonce)}, {"time", greeting.time_ns}}.dump();
}

std::string to_json(const LabGreeting& greeting) {
  return json{{"protocol", greeting.protocol},
              {"nonce", text_of_bytes(greeting.nonce)},
              {"release", text_of_bytes(greeting.release)},
              {"backend", text_of_bytes(greeting.backend)}}
      .dump();
}

std::string to_json(const LabRequest& request) {
  return std::visit(RequestFields{}, request).dump();
}

std::string to_json(const LabReply& reply) { return std::visit(ReplyFields{}, reply).dump(); }

Result<HostGreeting> parse_host_greeting(std::string_view text) {
  JsonFields fields(text);
  HostGreeting greeting{fields.bytes("nonce"), fields.number<std::uint64_t>("time")};
  return checked<HostGreeting>(fields, std::move(greeting));
}

Result<LabGreeting> parse_lab_greeting(std::string_view text) {
  JsonFields fields(text);
  LabGreeting greeting{fields.number<std::uint16_t>("protocol"), fields.bytes("nonce"),
                       fields.bytes("release"), fields.bytes("backend")};
  return checked<LabGreeting>(fields, std::move(greeting));
}

Result<LabRequest> parse_lab_request(std::string_view text) {
  JsonFields fields(text);
  const std::string what = fields.bytes("do");
  VMM_TRY(fields.result());
  auto request = request_of(what, fields);
  return checked<LabRequest>(fields, std::move(request));
}

Result<LabReply> parse_lab_reply(std::string_view text) {
  json object = json::parse(text, nullptr, false);
  JsonFields fields(object);
  const std::string what = fields.bytes("is");
  VMM_TRY(fields.result());
  auto reply = reply_of(what, object, fields);
  return checked<LabReply>(fields, std::move(reply));
}

}  // namespace vmm
