#include "vmm/cpu/xml_node.h"

#include <fmt/format.h>

#include <pugixml.hpp>

#include "vmm/base/text.h"

namespace vmm {

struct XmlDocument::Data {
  std::string file;
  std::string text;    // as it was read
  std::string parsed;  // pugixml works in place: names and values point in here
  pugi::xml_document document;

  std::string place_of(const char* pointer) const {
    const bool inside = pointer >= parsed.data() && pointer < parsed.data() + parsed.size();
    return inside ? text_place(file, text, static_cast<std::size_t>(pointer - parsed.data()))
                  : file;
  }
};

namespace {

pugi::xml_node node_of(const void* node) {
  return pugi::xml_node(static_cast<pugi::xml_node_struct*>(const_cast<void*>(node)));
}

// What pugixml says begins with a capital letter.
std::string syntax_error(const pugi::xml_parse_result& result) {
  return "not XML: " + lower(std::string_view(result.description()).substr(0, 1)) +
         (result.description() + 1);
}

Result<std::string> plain(std::string_view text, std::size_t max, std::string_view what,
                          const std::string& place) {
  text = trim(text);
  if (text.empty() || text.size() > max)
    return fail(
        Error::usage(fmt::format("{}: {} characters, 1 to {} are allowed", what, text.size(), max))
            .at(place));
  if (printable(text, max) != text)
    return fail(
        Error::usage(fmt::format("{}: '{}' is not printable ASCII", what, printable(text, 60)))
            .at(place));
  return std::string(text);
}

}  // namespace

std::string_view XmlNode::name() const { return node_of(node_).name(); }

std::string XmlNode::place() const {
  return static_cast<const XmlDocument::Data*>(data_)->place_of(node_of(node_).name());
}

std::string XmlNode::place(std::string_view attribute) const {
  const auto found = node_of(node_).attribute(std::string(attribute).c_str());
  return found ? static_cast<const XmlDocument::Data*>(data_)->place_of(found.name()) : place();
}

std::vector<XmlNode> XmlNode::children() const {
  std::vector<XmlNode> result;
  for (const pugi::xml_node child : node_of(node_).children())
    if (child.type() == pugi::node_element)
      result.push_back(XmlNode(child.internal_object(), data_));
  return result;
}

std::optional<XmlNode> XmlNode::child(std::string_view name) const {
  const auto found = node_of(node_).child(std::string(name).c_str());
  if (!found) return std::nullopt;
  return XmlNode(found.internal_object(), data_);
}

bool XmlNode::has(std::string_view attribute) const {
  return !node_of(node_).attribute(std::string(attribute).c_str()).empty();
}

Result<std::string> XmlNode::attribute(std::string_view name, std::size_t max) const {
  const auto found = node_of(node_).attribute(std::string(name).c_str());
  if (!found) return fail(error(fmt::format("<{}> needs '{}'", printable(this->name(), 40), name)));
  return plain(found.value(), max, fmt::format("'{}'", name), place(name));
}

Result<std::string> XmlNode::text(std::size_t max) const {
  return plain(node_of(node_).text().get(), max, fmt::format("<{}>", printable(name(), 40)),
               place());
}

Error XmlNode::error(std::string message) const {
  return Error::usage(std::move(message)).at(place());
}

XmlDocument::XmlDocument(std::unique_ptr<Data> data) : data_(std::move(data)) {}
XmlDocument::XmlDocument(XmlDocument&&) noexcept = default;
XmlDocument::~XmlDocument() = default;

Result<XmlDocument> XmlDocument::parse(std::string_view text, std::string_view file,
                                       std::size_t max_size) {
  auto data = std::make_unique<Data>();
  data->file = printable(file);
  if (text.size() > max_size)
    return fail(Error::usage(fmt::format("{} bytes, at most {} are read", text.size(), max_size))
                    .at(data->file));
  // The library ends at a zero byte.
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos)
    return fail(Error::usage("not XML: a zero byte").at(text_place(data->file, text, zero)));
  data->text = text;
  data->parsed = text;
  const pugi::xml_parse_result result = data->document.load_buffer_inplace(
      data->parsed.data(), data->parsed.size(), pugi::parse_default | pugi::parse_doctype,
      pugi::encoding_utf8);
  if (!result)
    return fail(Error::usage(syntax_error(result))
                    .at(text_place(data->file, text, static_cast<std::size_t>(result.offset))));
  for (const pugi::xml_node node : data->document.children())
    if (node.type() == pugi::node_doctype)
      return fail(Error::usage("a document type is not read")
                      .at(data->place_of(node.value()))
                      .hint("take the <!DOCTYPE ...> out"));
  const pugi::xml_node root = data->document.document_element();
  if (!root || root.next_sibling())
    return fail(Error::usage(root ? "not XML: more than one element" : "not XML: no element")
                    .at(text_place(data->file, text, 0)));
  return XmlDocument(std::move(data));
}

XmlNode XmlDocument::root() const {
  return {data_->document.document_element().internal_object(), data_.get()};
}

}  // namespace vmm
