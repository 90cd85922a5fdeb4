#include "vmm/lab/keeper_messages.h"

#include <nlohmann/json.hpp>

namespace vmm {
namespace {

using nlohmann::json;

constexpr std::pair<KeeperRequest::Kind, const char*> kKinds[] = {
    {KeeperRequest::Kind::Status, "status"},
    {KeeperRequest::Kind::Execute, "execute"},
    {KeeperRequest::Kind::Stop, "stop"},
};

constexpr std::pair<PathUse::Kind, const char*> kUses[] = {
    {PathUse::Kind::Input, "input"},
    {PathUse::Kind::Output, "output"},
    {PathUse::Kind::Socket, "socket"},
};

template <typename Value, std::size_t n>
const char* word_of(const std::pair<Value, const char*> (&words)[n], Value value) {
  for (const auto& [candidate, word] : words)
    if (candidate == value) return word;
  return words[0].second;
}

// Throws as json::at() does.
template <typename Value, std::size_t n>
Value value_of(const std::pair<Value, const char*> (&words)[n], const std::string& word) {
  for (const auto& [value, candidate] : words)
    if (word == candidate) return value;
  throw json::other_error::create(501, "unknown word " + word, nullptr);
}

std::string dump(const json& j) { return j.dump(-1, ' ', false, json::error_handler_t::replace); }

template <typename Message, typename Read>
Result<Message> parse(std::string_view text, Read read) {
  try {
    return read(json::parse(text));
  } catch (const json::exception& e) {
    return fail(
        Error::lab(std::string("a message on a lab's socket is not understood: ") + e.what()));
  }
}

}  // namespace

std::string to_json(const KeeperRequest& request) {
  json j = {{"do", word_of(kKinds, request.kind)}};
  if (request.kind == KeeperRequest::Kind::Execute) {
    json paths = json::array();
    for (const PathUse& use : request.command.paths)
      paths.push_back({{"use", word_of(kUses, use.kind)}, {"path", use.path}});
    j["argv"] = request.command.argv;
    j["directory"] = request.command.directory;
    j["environment"] = request.command.environment;
    j["paths"] = paths;
    j["terminal"] = request.command.terminal;
    j["input"] = request.has_input;
  }
  return dump(j);
}

std::string to_json(const KeeperReply& reply) {
  json j = {{"description", reply.description}, {"state", reply.state}, {"pid", reply.pid}};
  if (reply.error)
    j["error"] = {{"kind", static_cast<int>(reply.error->kind())},
                  {"text", reply.error->text()},
                  {"hint", reply.error->hint_text()}};
  if (reply.exit.code) j["code"] = *reply.exit.code;
  if (reply.exit.signal) j["signal"] = *reply.exit.signal;
  return dump(j);
}

Result<KeeperRequest> parse_keeper_request(std::string_view text) {
  return parse<KeeperRequest>(text, [](const json& j) {
    KeeperRequest request;
    request.kind = value_of(kKinds, j.at("do").get<std::string>());
    if (request.kind != KeeperRequest::Kind::Execute) return request;
    j.at("argv").get_to(request.command.argv);
    j.at("directory").get_to(request.command.directory);
    j.at("environment").get_to(request.command.environment);
    for (const json& use : j.at("paths"))
      request.command.paths.push_back({.kind = value_of(kUses, use.at("use").get<std::string>()),
                                       .path = use.at("path").get<std::string>()});
    j.at("terminal").get_to(request.command.terminal);
    j.at("input").get_to(request.has_input);
    return request;
  });
}

Result<KeeperReply> parse_keeper_reply(std::string_view text) {
  return parse<KeeperReply>(text, [](const json& j) {
    KeeperReply reply;
    j.at("description").get_to(reply.description);
    j.at("state").get_to(reply.state);
    j.at("pid").get_to(reply.pid);
    if (j.contains("error")) {
      const json& e = j.at("error");
      const int kind = e.at("kind").get<int>();
      if (kind < 0 || kind > static_cast<int>(ErrorKind::Host))
        throw json::other_error::create(501, "unknown kind of error", nullptr);
      Error error(static_cast<ErrorKind>(kind), e.at("text").get<std::string>());
      if (const auto hint = e.at("hint").get<std::string>(); !hint.empty())
        error = std::move(error).hint(hint);
      reply.error = std::move(error);
    }
    if (j.contains("code")) reply.exit.code = j.at("code").get<int>();
    if (j.contains("signal")) reply.exit.signal = j.at("signal").get<int>();
    return reply;
  });
}

}  // namespace vmm
