#include "cli/flags_from_fields.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <iostream>
#include <map>
#include <numeric>
#include <regex>

namespace ospnext {
namespace {

using nlohmann::json;

constexpr const char* kConfigFlag = "--config";

std::string flag_name(const std::string& field) {
  std::string name = "--" + field;
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

// `text` as a number, or nothing if any part of it is not a number.
template <class Number>
std::optional<Number> parse_number(const std::string& text) {
  Number value{};
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || stop != end || begin == end) {
    return std::nullopt;
  }
  return value;
}

// One value of a flag. Throws InputError such as "--width: found "abc", expected a whole number".
json parse_value(const Flag& flag, const std::string& text) {
  const char* expected = "";
  switch (flag.kind) {
    case Flag::Kind::kText:
      return text;
    case Flag::Kind::kWhole:
      if (const auto whole = parse_number<int64_t>(text)) {
        return *whole;
      }
      if (const auto large = parse_number<uint64_t>(text)) {  // a seed
        return *large;
      }
      expected = "a whole number";
      break;
    case Flag::Kind::kReal:
      if (const auto real = parse_number<double>(text); real && std::isfinite(*real)) {
        return *real;
      }
      expected = "a finite number";
      break;
    case Flag::Kind::kSwitch:
      if (text == "true" || text == "false") {
        return text == "true";
      }
      expected = "true or false";
      break;
  }
  throw InputError(flag_name(flag.name) + ": found \"" + text + "\", expected " + expected);
}

json parse_values(const Flag& flag, const std::vector<std::string>& texts) {
  if (!flag.is_list) {
    if (texts.size() > 1) {
      throw InputError(flag_name(flag.name) + ": found it " + std::to_string(texts.size()) +
                       " times, expected it once");
    }
    return parse_value(flag, texts.front());
  }
  json list = json::array();
  for (const std::string& text : texts) {
    const bool split = flag.kind != Flag::Kind::kText;
    for (const std::string& part : split ? CLI::detail::split(text, ',') : std::vector{text}) {
      list.push_back(parse_value(flag, part));
    }
  }
  return list;
}

std::string type_text(const Flag& flag) {
  const std::map<Flag::Kind, std::string> names = {{Flag::Kind::kText, "TEXT"},
                                                   {Flag::Kind::kWhole, "INT"},
                                                   {Flag::Kind::kReal, "NUMBER"},
                                                   {Flag::Kind::kSwitch, "[true|false]"}};
  return names.at(flag.kind) + (flag.is_list ? " ..." : "");
}

std::string default_text(const Flag& flag) {
  if (flag.default_value.is_string()) {
    return flag.default_value.get<std::string>();
  }
  return flag.default_value.empty() ? "" : flag.default_value.dump();
}

// Splits --flag=value into two words and gives "true" to a switch without a value: CLI11 takes the
// next word as the value of "--flag=" and has no optional values.
Arguments separate_values(const std::vector<Flag>& flags, const Arguments& arguments) {
  std::map<std::string, bool> is_switch = {{kConfigFlag, false}};
  for (const Flag& flag : flags) {
    is_switch[flag_name(flag.name)] = flag.kind == Flag::Kind::kSwitch && !flag.is_list;
  }
  Arguments words;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    const size_t equals = argument.starts_with("--") ? argument.find('=') : std::string::npos;
    words.push_back(argument.substr(0, equals));
    const auto known = is_switch.find(words.back());
    if (equals != std::string::npos) {
      words.push_back(argument.substr(equals + 1));
    } else if (known != is_switch.end()) {
      const bool has_next = i + 1 < arguments.size();
      if (!known->second) {
        if (!has_next) {
          throw InputError(argument + ": a value is missing");
        }
        words.push_back(arguments[++i]);
      } else if (has_next && (arguments[i + 1] == "true" || arguments[i + 1] == "false")) {
        words.push_back(arguments[++i]);
      } else {
        words.push_back("true");
      }
    }
  }
  return words;
}

[[noreturn]] void refuse_unknown(const std::string& word, const std::vector<Flag>& flags) {
  if (!word.starts_with('-')) {
    throw InputError("found \"" + word + "\" where a flag was expected");
  }
  std::vector<std::string> names = {kConfigFlag, "--help"};
  for (const Flag& flag : flags) {
    names.push_back(flag_name(flag.name));
  }
  const std::string meant = likely_meant(word, names);
  throw InputError(
      "unknown flag " + word +
      (meant.empty() ? "; --help lists those there are" : "; did you mean " + meant + "?"));
}

}  // namespace

std::optional<GivenFlags> read_flags(const std::string& command, const std::string& summary,
                                     const std::vector<Flag>& flags, const Arguments& arguments,
                                     const ConfigTranslator& translate) {
  CLI::App app(summary, "ospnext " + command);
  app.allow_extras();
  GivenFlags given;
  app.add_option(
         kConfigFlag, given.config_path,
         "flag names and values in JSON or YAML, or a video that keeps them; flags override it")
      ->type_name("FILE");
  std::vector<std::pair<const Flag*, CLI::Option*>> options;
  for (const Flag& flag : flags) {
    CLI::Option* option = app.add_option(
        flag_name(flag.name), [](const CLI::results_t&) { return true; },
        with_flag_names(flag.help));
    option->type_name(type_text(flag))->default_str(default_text(flag));
    option->take_all();
    options.emplace_back(&flag, option);
  }
  try {
    Arguments words = separate_values(flags, arguments);
    std::reverse(words.begin(), words.end());  // CLI11 reads from the end
    app.parse(words);
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    throw InputError(error.what());
  }
  if (const auto rest = app.remaining(); !rest.empty()) {
    refuse_unknown(rest.front(), flags);
  }
  for (const auto& [flag, option] : options) {
    if (option->count() > 0) {
      given.flags[flag->name] = parse_values(*flag, option->results());
    }
  }
  if (!given.config_path.empty()) {
    given.config_file = read_config_file(given.config_path, translate);
  }
  return given;
}

std::string with_flag_names(const std::string& text) {
  static const std::regex field("`([a-z][a-z0-9_]*)`");
  std::string shown;
  auto end = text.begin();
  for (std::sregex_iterator found(text.begin(), text.end(), field), none; found != none; ++found) {
    shown.append(end, (*found)[0].first).append(flag_name((*found)[1]));
    end = (*found)[0].second;
  }
  return shown.append(end, text.end());
}

std::string likely_meant(const std::string& word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = 1 + word.size() / 4;  // words farther away are hardly a typing error
  for (const std::string& candidate : candidates) {
    // Levenshtein distance, one row of the table at a time.
    std::vector<size_t> row(candidate.size() + 1);
    std::iota(row.begin(), row.end(), 0);
    for (size_t i = 1; i <= word.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i;
      for (size_t j = 1; j <= candidate.size(); ++j) {
        const size_t replaced = diagonal + (word[i - 1] == candidate[j - 1] ? 0 : 1);
        diagonal = row[j];
        row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
      }
    }
    if (row.back() < best_distance || (best.empty() && row.back() == best_distance)) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

}  // namespace ospnext
