// What chip-sequence.elf writes, taken apart: episodes of lines "OPERATION ADDRESS WRITTEN READ :
// VECTORS", numbers in hexadecimal, "-" where there is none.
#pragma once

#include <cstdint>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace vmm {

struct ChipLine {
  std::string text;
  std::string operation;
  std::uint64_t address = 0;
  std::optional<std::uint64_t> written, read;
  std::vector<unsigned> vectors;
};

struct ChipEpisode {
  std::string header;
  std::string subject;
  bool loose = false;
  std::vector<ChipLine> lines;
};

inline std::optional<std::uint64_t> hex_or_none(const std::string& word) {
  if (word == "-") return std::nullopt;
  return std::stoull(word, nullptr, 16);
}

// Throws what std::stoull throws where a line is not of that form.
inline std::vector<ChipEpisode> parse_chip_log(const std::string& log) {
  std::vector<ChipEpisode> episodes;
  std::istringstream lines(log);
  for (std::string text; std::getline(lines, text);) {
    std::istringstream words(text);
    std::string first, address, written, read, colon;
    words >> first;
    if (first == "#") {
      ChipEpisode& episode = episodes.emplace_back();
      episode.header = text;
      words >> episode.subject;
      episode.loose = text.ends_with(" loose");
      continue;
    }
    if (episodes.empty()) continue;
    words >> address >> written >> read >> colon;
    ChipLine line;
    line.text = text;
    line.operation = first;
    line.address = std::stoull(address, nullptr, 16);
    line.written = hex_or_none(written);
    line.read = hex_or_none(read);
    for (std::string vector; words >> vector;)
      line.vectors.push_back(static_cast<unsigned>(std::stoul(vector, nullptr, 16)));
    episodes.back().lines.push_back(std::move(line));
  }
  return episodes;
}

}  // namespace vmm
