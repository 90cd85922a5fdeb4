#include "vmm/lab/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "vmm/lab/agent_config.h"
#include "vmm/lab/json_fields.h"

namespace vmm {
namespace {

using testing::HasSubstr;

// What comes out of the parser, written again.
std::string request_again(const LabRequest& request) {
  const auto parsed = parse_lab_request(to_json(request));
  return parsed ? to_json(*parsed) : parsed.error().text();
}

std::string reply_again(const LabReply& reply) {
  const auto parsed = parse_lab_reply(to_json(reply));
  return parsed ? to_json(*parsed) : parsed.error().text();
}

TEST(LabMessages, requests_survive_the_way) {
  const std::string odd = "/tmp/\xff\xfe \"\\\n\x7f\xc3\xa9";
  const LabRequest requests[] = {
      AskMissing{{{odd, "ab", 0644}, {"/b", "cd", 04755}}},
      PutFile{{odd, "00", 0600}, std::uint64_t{1} << 40, 5},
      PutFile{{odd, "00", 0600}, 9000, 5, std::vector<Extent>{{0, 10}, {4096, 100}}},
      PutFile{{odd, "00", 0600}, 9000, 5, std::vector<Extent>{}},
      MakeDirectory{odd, {}, {}},
      MakeDirectory{"/d", 0700, std::vector<std::string>{"a", odd}},
      MakeLink{"/l", odd},
      RemoveFile{odd},
      GetFile{odd, 77, 6},
      GetFile{odd, 77, 6, true},
      StartCommand{{"/bin/true", odd, ""}, "/", {"A=" + odd}, 1, 2, 3, {}},
      StartCommand{{"/bin/true"}, "/", {}, 1, 2, 3, TerminalSize{25, 132}},
      KillCommand{9},
      ConnectSocket{odd, 9},
      Ping{},
      PowerOff{},
  };
  for (const LabRequest& request : requests) EXPECT_EQ(request_again(request), to_json(request));
  const auto put = parse_lab_request(to_json(requests[1]));
  ASSERT_TRUE(put);
  EXPECT_EQ(std::get<PutFile>(*put).file.path, odd);
  EXPECT_EQ(std::get<PutFile>(*put).size, std::uint64_t{1} << 40);
}

TEST(LabMessages, replies_survive_the_way) {
  const LabReply replies[] = {
      Done{},
      Failed{"no \xff"},
      MissingFiles{{0, 3, 4}},
      FileFollows{1234567890123},
      Absent{},
      Started{},
      Exited{7, {}},
      Exited{{}, 15},
      Pong{},
      FileFollows{4, 0600, std::vector<Extent>{{1, 2}}},
  };
  for (const LabReply& reply : replies) EXPECT_EQ(reply_again(reply), to_json(reply));
}

TEST(LabMessages, a_bad_one_is_refused_with_the_reason) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "not a JSON object"},
      {"[1]", "not a JSON object"},
      {"{\"is\":7}", "'is' is not a string"},
      {"{\"is\":\"dance\"}", "nobody knows what 'dance' is"},
      {"{\"is\":\"exited\"}", "exactly one"},
      {"{\"is\":\"exited\",\"code\":1,\"signal\":1}", "exactly one"},
      {"{\"is\":\"exited\",\"code\":256}", "'code' is not a number from 0 to 255"},
      {"{\"is\":\"exited\",\"code\":-1}", "'code' is not a number"},
      {"{\"is\":\"exited\",\"signal\":65}", "no signal"},
      {"{\"is\":\"file\",\"size\":1.5}", "'size' is not a number"},
      {"{\"is\":\"file\",\"size\":\"1\"}", "'size' is not a number"},
      {"{\"is\":\"missing\",\"indices\":{}}", "'indices' is not a list"},
      {"{\"is\":\"missing\",\"indices\":[99999999999]}", "no index"},
      {"{\"is\":\"failed\",\"text\":\"\xe2\x82\xac\"}", "'text' is not a string of bytes"},
  };
  for (const auto& [json, reason] : cases) {
    const auto reply = parse_lab_reply(json);
    ASSERT_FALSE(reply) << json;
    EXPECT_EQ(reply.error().kind(), ErrorKind::Lab);
    EXPECT_THAT(reply.error().text(), HasSubstr(reason));
  }
  EXPECT_FALSE(
      parse_lab_request("{\"do\":\"start\",\"argv\":[],\"directory\":\"/\","
                        "\"environment\":[],\"in\":1,\"out\":2,\"err\":3}"));
  EXPECT_FALSE(
      parse_lab_request("{\"do\":\"put\",\"path\":\"/a\",\"sha256\":\"\",\"mode\":65536,"
                        "\"size\":0,\"stream\":1}"));
  EXPECT_FALSE(parse_lab_request("{\"do\":\"kill\",\"signal\":0}"));
}

TEST(LabMessages, every_byte_is_a_character) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  EXPECT_EQ(bytes_of_text(text_of_bytes(all)), all);
  EXPECT_EQ(bytes_of_text("\xc3"), std::nullopt);
  EXPECT_EQ(bytes_of_text("\xe2\x82\xac"), std::nullopt);
}

TEST(AgentConfigFile, is_read_as_it_was_written) {
  const AgentConfig config{{{"/m/kvm.ko", "", false}, {"/m/kvm-amd.ko", "nested=1 npt=0", true}},
                           "tty",
                           "/dev/vport0p1",
                           0x8900};
  const auto read = parse_agent_config(to_json(config));
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(to_json(*read), to_json(config));
  EXPECT_EQ(read->modules[1].parameters, "nested=1 npt=0");
  EXPECT_TRUE(read->modules[1].optional);
  EXPECT_EQ(read->shutdown_port, 0x8900);
  EXPECT_FALSE(parse_agent_config("{}"));
}

}  // namespace
}  // namespace vmm
