// A reader over an XML document, for elements, their attributes and their text: places as
// FILE:LINE:COLUMN. There are no entities but XML's five, no document types and nothing that is
// fetched.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

// One element of a document, which must outlive it.
class XmlNode {
 public:
  std::string_view name() const;
  std::string place() const;
  // FILE:LINE:COLUMN of the attribute, or of the element where it has none of that name.
  std::string place(std::string_view attribute) const;

  // The elements within, in order; no text, no comments.
  std::vector<XmlNode> children() const;
  // The first of that name.
  std::optional<XmlNode> child(std::string_view name) const;

  bool has(std::string_view attribute) const;
  // Printable ASCII of 1 to `max` characters, spaces at the ends aside; an error when absent.
  Result<std::string> attribute(std::string_view name, std::size_t max) const;
  // The same of the text in the element.
  Result<std::string> text(std::size_t max) const;

  Error error(std::string message) const;  // a Usage error at place()

 private:
  friend class XmlDocument;
  XmlNode(const void* node, const void* data) : node_(node), data_(data) {}

  const void* node_;  // pugi::xml_node_struct: the library's header stays in one source file
  const void* data_;
};

class XmlDocument {
 public:
  // Usage errors for a syntax error, a document type, no element, a text of more than `max_size`
  // bytes. `file` is only used in messages.
  static Result<XmlDocument> parse(std::string_view text, std::string_view file,
                                   std::size_t max_size);
  XmlDocument(XmlDocument&&) noexcept;
  ~XmlDocument();

  XmlNode root() const;

 private:
  struct Data;
  friend class XmlNode;
  explicit XmlDocument(std::unique_ptr<Data> data);
  std::unique_ptr<Data> data_;
};

}  // namespace vmm
