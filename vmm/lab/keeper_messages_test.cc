// What a client and a keeper say to each other survives the way; anything else is refused.
#include "vmm/lab/keeper_messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vmm {
namespace {

TEST(KeeperMessages, a_command_arrives_as_it_was_sent) {
  KeeperRequest sent{.kind = KeeperRequest::Kind::Execute, .command = {}, .has_input = true};
  sent.command.argv = {"/usr/bin/vmm", "run", "a b\"c", "\xff\xfe"};
  sent.command.directory = "/home/me";
  sent.command.environment = {"TERM=xterm"};
  sent.command.paths = {
      {PathUse::Kind::Input, "/k"}, {PathUse::Kind::Output, "/o"}, {PathUse::Kind::Socket, "/s"}};
  sent.command.terminal = true;
  const auto got = parse_keeper_request(to_json(sent));
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->kind, sent.kind);
  EXPECT_EQ(got->command.argv[2], "a b\"c");
  EXPECT_EQ(got->command.directory, "/home/me");
  EXPECT_EQ(got->command.environment, sent.command.environment);
  ASSERT_EQ(got->command.paths.size(), 3U);
  EXPECT_EQ(got->command.paths[1].kind, PathUse::Kind::Output);
  EXPECT_EQ(got->command.paths[2].path, "/s");
  EXPECT_TRUE(got->command.terminal);
  EXPECT_TRUE(got->has_input);
}

TEST(KeeperMessages, an_error_keeps_its_kind_its_text_and_its_hint) {
  KeeperReply sent;
  sent.error = Error::no_lab("nothing there").hint("try another");
  const auto got = parse_keeper_reply(to_json(sent));
  ASSERT_TRUE(got.has_value());
  ASSERT_TRUE(got->error.has_value());
  EXPECT_EQ(got->error->kind(), ErrorKind::NoLab);
  EXPECT_EQ(got->error->text(), "nothing there");
  EXPECT_EQ(got->error->hint_text(), "try another");
}

TEST(KeeperMessages, an_end_is_a_code_or_a_signal) {
  KeeperReply code;
  code.exit.code = 80;
  KeeperReply signal;
  signal.exit.signal = 9;
  EXPECT_EQ(parse_keeper_reply(to_json(code))->exit.code, 80);
  EXPECT_EQ(parse_keeper_reply(to_json(code))->exit.signal, std::nullopt);
  EXPECT_EQ(parse_keeper_reply(to_json(signal))->exit.signal, 9);
}

TEST(KeeperMessages, what_is_no_message_is_an_error_and_no_crash) {
  for (
      const char* text :
      {"", "{", "[]", "1", "{}", R"({"do":"dance"})", R"({"do":"execute"})", R"({"do":7})",
       R"({"do":"execute","argv":[1],"directory":"","environment":[],"paths":[],"terminal":false,"input":false})",
       R"({"do":"execute","argv":[],"directory":"","environment":[],"paths":[{"use":"eat","path":""}],"terminal":false,"input":false})"})
    EXPECT_FALSE(parse_keeper_request(text).has_value()) << text;
  for (const char* text :
       {"", "{}",
        R"({"description":"","state":"","pid":1,"error":{"kind":99,"text":"","hint":""}})",
        R"({"description":"","state":"","pid":1,"code":"0"})"})
    EXPECT_FALSE(parse_keeper_reply(text).has_value()) << text;
}

}  // namespace
}  // namespace vmm
