#include "rl/guards.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "io/readers/bounded_json.h"

namespace ospnext {
namespace {

using nlohmann::json;

double mean(const std::vector<double>& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), 0.0) / static_cast<double>(numbers.size());
}

std::string shown_number(double number) {
  return json(std::stod(std::to_string(number))).dump();  // six digits behind the point
}

[[noreturn]] void refuse(const std::string& text) {
  throw InputError("`guard`: found \"" + text +
                   "\", expected NAME:LOW:HIGH, such as motion:0.5x:2x or exposure:0.9:");
}

std::optional<GuardBound> parse_bound(std::string_view text, const std::string& whole) {
  if (text.empty()) {
    return std::nullopt;
  }
  GuardBound bound{.value = 0, .is_relative = text.ends_with('x')};
  const char* const end = text.data() + text.size() - (bound.is_relative ? 1 : 0);
  const auto [stop, error] = std::from_chars(text.data(), end, bound.value);
  if (error != std::errc() || stop != end || !std::isfinite(bound.value)) {
    refuse(whole);
  }
  return bound;
}

Guard parse_guard(const std::string& text, const std::vector<std::string>& names) {
  const size_t second = text.rfind(':');
  const size_t first = second == text.npos || second == 0 ? text.npos : text.rfind(':', second - 1);
  if (first == text.npos) {
    refuse(text);
  }
  const std::string_view all = text;
  Guard guard{.name = text.substr(0, first),
              .low = parse_bound(all.substr(first + 1, second - first - 1), text),
              .high = parse_bound(all.substr(second + 1), text)};
  if (!guard.low && !guard.high) {
    refuse(text);
  }
  if (guard.low && guard.high && guard.low->is_relative == guard.high->is_relative &&
      guard.low->value > guard.high->value) {
    throw InputError("`guard`: found \"" + text + "\", expected a LOW of at most HIGH");
  }
  if (std::ranges::find(names, guard.name) == names.end()) {
    std::string known;
    for (const std::string& name : names) {
      known += (known.empty() ? "" : ", ") + name;
    }
    throw InputError("`guard`: found \"" + guard.name +
                     "\", expected a name of `reward` or `watch`" + ", or diversity: " + known);
  }
  return guard;
}

std::vector<double> numbers_of(const json& list, const std::string& origin) {
  std::vector<double> numbers;
  if (!list.is_array()) {
    throw InputError(origin + ": found " + shown(list) + ", expected a list of numbers");
  }
  for (const json& entry : list) {
    if (!entry.is_number() || !std::isfinite(entry.get<double>())) {
      throw InputError(origin + ": found " + shown(entry) + ", expected a number");
    }
    numbers.push_back(entry.get<double>());
  }
  return numbers;
}

}  // namespace

std::vector<Guard> parse_guards(const std::vector<std::string>& texts,
                                const std::vector<std::string>& rewards) {
  std::vector<std::string> names = rewards;
  names.emplace_back(kDiversity);
  std::vector<Guard> guards;
  for (const std::string& text : texts) {
    guards.push_back(parse_guard(text, names));
    const std::string& name = guards.back().name;
    if (std::ranges::count(guards, name, &Guard::name) > 1) {
      throw InputError("`guard`: found " + name + " twice, expected it once");
    }
  }
  return guards;
}

GuardWatch::GuardWatch(std::vector<Guard> guards, int64_t epochs)
    : guards_(std::move(guards)), epochs_(epochs) {}

void GuardWatch::append(const std::string& name, double number) {
  History& history = histories_[name];
  if (static_cast<int64_t>(history.first.size()) < epochs_) {
    history.first.push_back(number);
  }
  history.last.push_back(number);
  if (static_cast<int64_t>(history.last.size()) > epochs_) {
    history.last.erase(history.last.begin());
  }
}

void GuardWatch::add(const std::map<std::string, double>& numbers, double reward) {
  if (guards_.empty()) {
    return;
  }
  append("", reward);
  for (const Guard& guard : guards_) {
    append(guard.name, numbers.at(guard.name));
    const bool is_relative =
        (guard.low && guard.low->is_relative) || (guard.high && guard.high->is_relative);
    const History& history = histories_.at(guard.name);
    if (is_relative && is_full(history) && mean(history.first) <= 0) {
      throw InputError("`guard`: " + guard.name + ": found a mean of " +
                       shown_number(mean(history.first)) + " over the first " +
                       std::to_string(epochs_) +
                       " epochs, expected more than 0 for a bound with an x");
    }
  }
}

std::string GuardWatch::violation(const Guard& guard) const {
  const auto found = histories_.find(guard.name);
  if (found == histories_.end() || !is_full(found->second)) {
    return "";
  }
  const double beginning = mean(found->second.first), now = mean(found->second.last);
  const auto sentence = [&](const char* side, const GuardBound& bound) {
    const std::string expected =
        bound.is_relative
            ? shown_number(bound.value) + " times that of the first, " + shown_number(beginning)
            : shown_number(bound.value);
    return guard.name + ": the mean over the last " + std::to_string(epochs_) + " epochs is " +
           shown_number(now) + ", expected at " + side + " " + expected;
  };
  const auto limit = [&](const GuardBound& bound) {
    return bound.is_relative ? bound.value * beginning : bound.value;
  };
  if (guard.low && now < limit(*guard.low)) {
    return sentence("least", *guard.low);
  }
  if (guard.high && now > limit(*guard.high)) {
    return sentence("most", *guard.high);
  }
  return "";
}

std::string GuardWatch::violation() const {
  for (const Guard& guard : guards_) {
    if (std::string sentence = violation(guard); !sentence.empty()) {
      return sentence;
    }
  }
  return "";
}

std::optional<double> GuardWatch::reward() const {
  const auto found = histories_.find("");
  if (found == histories_.end() || !is_full(found->second) || !violation().empty()) {
    return std::nullopt;
  }
  return mean(found->second.last);
}

json GuardWatch::state() const {
  json state = json::object();
  for (const auto& [name, history] : histories_) {
    state[name] = {{"first", history.first}, {"last", history.last}};
  }
  return state;
}

void GuardWatch::restore(const json& state, const std::string& origin) {
  histories_.clear();
  if (!state.is_object()) {
    throw InputError(origin + ": found " + shown(state) + ", expected histories by name");
  }
  const auto most = static_cast<size_t>(epochs_);
  for (const auto& [name, entry] : state.items()) {
    const std::string place = origin + ": " + json(name).dump();
    if (!entry.is_object()) {
      throw InputError(place + ": found " + shown(entry) + ", expected first and last");
    }
    History history{.first = numbers_of(entry.value("first", json()), place + ": first"),
                    .last = numbers_of(entry.value("last", json()), place + ": last")};
    if (history.first.empty() || history.last.empty()) {
      throw InputError(place + ": found no numbers, expected some");
    }
    history.first.resize(std::min(history.first.size(), most));
    const size_t rest = history.last.size() - std::min(history.last.size(), most);
    history.last.erase(history.last.begin(), history.last.begin() + static_cast<ptrdiff_t>(rest));
    histories_[name] = std::move(history);
  }
}

}  // namespace ospnext
