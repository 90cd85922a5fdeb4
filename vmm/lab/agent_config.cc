#include "vmm/lab/agent_config.h"

#include "vmm/lab/json_fields.h"

namespace vmm {

std::string to_json(const AgentConfig& config) {
  nlohmann::json modules = nlohmann::json::array();
  for (const AgentModule& module : config.modules) {
    modules.push_back(
        {{"path", text_of_bytes(module.path)}, {"parameters", text_of_bytes(module.parameters)}});
    if (module.optional) modules.back()["optional"] = 1;
  }
  nlohmann::json json = {{"modules", std::move(modules)},
                         {"channel",
                          {{"kind", text_of_bytes(config.channel_kind)},
                           {"device", text_of_bytes(config.channel_device)}}}};
  if (config.shutdown_port != 0) json["shutdown-port"] = config.shutdown_port;
  return json.dump(1);
}

Result<AgentConfig> parse_agent_config(std::string_view json) {
  JsonFields fields(json);
  AgentConfig config;
  JsonFields channel = fields.object("channel");
  config.channel_kind = channel.bytes("kind");
  config.channel_device = channel.bytes("device");
  fields.note(channel);
  if (fields.has("shutdown-port"))
    config.shutdown_port = fields.number<std::uint16_t>("shutdown-port");
  for (JsonFields& part : fields.objects("modules")) {
    config.modules.push_back({part.bytes("path"), part.bytes("parameters"),
                              part.has("optional") && part.number<std::uint8_t>("optional") != 0});
    fields.note(part);
  }
  VMM_TRY(fields.result());
  return config;
}

}  // namespace vmm
