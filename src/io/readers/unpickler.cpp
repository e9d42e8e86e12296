// The opcodes of the restricted unpickler.
#include "io/readers/unpickler.h"

#include <bit>
#include <cstdio>

#include "io/readers/torch_globals.h"

namespace ospnext {
namespace {

// Limit on values, memo entries, marks and stack height together. Each value may need 500 bytes. A
// 14B checkpoint with its optimizer needs about 60,000.
constexpr size_t kMaxParts = 400'000;

enum Opcode : uint8_t {
  kMark = '(',
  kStop = '.',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersistentId = 'Q',
  kReduce = 'R',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kAppends = 'e',
  kBinFloat = 'G',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kEmptyTuple = ')',
  kSetItems = 'u',
  kEmptyDict = '}',
  kEmptyList = ']',
  kProtocol = 0x80,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kTrue = 0x88,
  kFalse = 0x89,
  kLong1 = 0x8a,
  kShortBinUnicode = 0x8c,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
};

}  // namespace

Unpickler::Unpickler(std::span<const std::byte> program, const std::string& origin,
                     StorageLookup storages)
    : cursor_(program, origin), origin_(origin), storages_(std::move(storages)) {}

const PickleValue& Unpickler::run() {
  for (;;) {
    if (values_.size() + memo_.size() + marks_.size() + stack_.size() > kMaxParts) {
      refuse("more than " + std::to_string(kMaxParts) + " parts");
    }
    const uint8_t opcode = cursor_.u8();
    if (opcode == kStop) {
      return *pop();
    }
    if (opcode == kProtocol) {
      if (const int protocol = cursor_.u8(); protocol < 2 || protocol > 5) {
        refuse("the protocol " + std::to_string(protocol));
      }
    } else if (opcode == kFrame) {
      cursor_.u64();  // a hint for buffering
    } else if (opcode == kMark) {
      marks_.push_back(stack_.size());
    } else if (!push_scalar(opcode) && !push_container(opcode) && !fill_container(opcode) &&
               !use_memo(opcode) && !use_global(opcode)) {
      char number[8];
      std::snprintf(number, sizeof(number), "0x%02x", opcode);
      refuse(std::string("the pickle opcode ") + number);
    }
  }
}

bool Unpickler::push_scalar(uint8_t opcode) {
  switch (opcode) {
    case kNone:
      push(std::monostate{});
      return true;
    case kTrue:
    case kFalse:
      push(opcode == kTrue);
      return true;
    case kBinInt:
      push(int64_t{static_cast<int32_t>(cursor_.u32())});
      return true;
    case kBinInt1:
      push(int64_t{cursor_.u8()});
      return true;
    case kBinInt2:
      push(int64_t{cursor_.u16()});
      return true;
    case kLong1: {
      const size_t count = cursor_.u8();
      if (count > 8) {
        refuse("an integer of more than 64 bits");
      }
      const uint64_t raw = cursor_.little_endian(count);
      const int unused = 64 - 8 * static_cast<int>(count);
      // Two's complement of `count` bytes: extend the sign to the upper bits.
      push(count == 0 ? int64_t{0} : static_cast<int64_t>(raw << unused) >> unused);
      return true;
    }
    case kBinFloat:
      push(std::bit_cast<double>(__builtin_bswap64(cursor_.u64())));  // big-endian
      return true;
    case kBinUnicode:
      push(std::string(cursor_.text(cursor_.u32())));
      return true;
    case kShortBinUnicode:
      push(std::string(cursor_.text(cursor_.u8())));
      return true;
    default:
      return false;
  }
}

bool Unpickler::push_container(uint8_t opcode) {
  switch (opcode) {
    case kEmptyDict:
      push(PickleDict{});
      return true;
    case kEmptyList:
      push(PickleList{});
      return true;
    case kEmptyTuple:
      push(PickleList{{}, true});
      return true;
    case kTuple:
      push(PickleList{pop_to_mark(), true});
      return true;
    case kTuple1:
    case kTuple2:
    case kTuple3: {
      std::vector<PickleValue*> items(opcode - kTuple1 + 1);
      for (size_t i = items.size(); i-- > 0;) {
        items[i] = pop();
      }
      push(PickleList{std::move(items), true});
      return true;
    }
    default:
      return false;
  }
}

bool Unpickler::fill_container(uint8_t opcode) {
  switch (opcode) {
    case kAppend:
      append({pop()});
      return true;
    case kAppends:
      append(pop_to_mark());
      return true;
    case kSetItem: {
      PickleValue* value = pop();
      PickleValue* key = pop();
      set_items({key, value});
      return true;
    }
    case kSetItems:
      set_items(pop_to_mark());
      return true;
    case kBuild:  // attributes of an OrderedDict, such as torch's _metadata, are not needed
      pop();
      if (!std::holds_alternative<PickleDict>(top()->content)) {
        refuse("attributes of something that is no OrderedDict");
      }
      return true;
    default:
      return false;
  }
}

bool Unpickler::use_memo(uint8_t opcode) {
  switch (opcode) {
    case kBinPut:
      remember(cursor_.u8());
      return true;
    case kLongBinPut:
      remember(cursor_.u32());
      return true;
    case kMemoize:
      remember(static_cast<uint32_t>(memo_.size()));
      return true;
    case kBinGet:
    case kLongBinGet: {
      const uint32_t slot = opcode == kBinGet ? cursor_.u8() : cursor_.u32();
      const auto found = memo_.find(slot);
      if (found == memo_.end()) {
        refuse("a reference to the unknown memo " + std::to_string(slot));
      }
      stack_.push_back(found->second);
      return true;
    }
    default:
      return false;
  }
}

bool Unpickler::use_global(uint8_t opcode) {
  switch (opcode) {
    case kGlobal: {
      const std::string module(cursor_.line());
      push_global(module + "." + std::string(cursor_.line()));
      return true;
    }
    case kStackGlobal: {
      const std::string name = pop_text("a global's name");
      push_global(pop_text("a global's module") + "." + name);
      return true;
    }
    case kBinPersistentId:
      push(storage_of_persistent_id(*pop(), storages_, origin_));
      return true;
    case kReduce: {
      const auto* arguments = std::get_if<PickleList>(&pop()->content);
      const auto* function = std::get_if<PickleGlobal>(&pop()->content);
      if (function == nullptr || arguments == nullptr || !arguments->is_tuple) {
        refuse("a call of something that is no function");
      }
      values_.push_back(call_torch_global(function->name, arguments->items, origin_));
      stack_.push_back(&values_.back());
      return true;
    }
    default:
      return false;
  }
}

template <class T>
void Unpickler::push(T content) {
  values_.push_back({std::move(content)});
  stack_.push_back(&values_.back());
}

PickleValue* Unpickler::pop() {
  PickleValue* value = top();
  stack_.pop_back();
  return value;
}

PickleValue* Unpickler::top() {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) {
    refuse("a value taken from an empty stack");
  }
  return stack_.back();
}

std::vector<PickleValue*> Unpickler::pop_to_mark() {
  if (marks_.empty()) {
    refuse("a missing mark");
  }
  const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<PickleValue*> items(begin, stack_.end());
  stack_.erase(begin, stack_.end());
  marks_.pop_back();
  return items;
}

std::string Unpickler::pop_text(const char* what) {
  const auto* text = std::get_if<std::string>(&pop()->content);
  if (text == nullptr) {
    refuse(std::string(what) + " that is no text");
  }
  return *text;
}

void Unpickler::push_global(const std::string& name) {
  if (!is_torch_global(name)) {
    refuse("the global " + quoted(name));
  }
  push(PickleGlobal{name});
}

void Unpickler::remember(uint32_t slot) {
  memo_[slot] = top();
}

void Unpickler::append(std::vector<PickleValue*> items) {
  auto* list = std::get_if<PickleList>(&top()->content);
  if (list == nullptr || list->is_tuple) {
    refuse("an item appended to something that is no list");
  }
  list->items.insert(list->items.end(), items.begin(), items.end());
}

void Unpickler::set_items(const std::vector<PickleValue*>& keys_and_values) {
  auto* dict = std::get_if<PickleDict>(&top()->content);
  if (dict == nullptr || keys_and_values.size() % 2 != 0) {
    refuse("an item set in something that is no dictionary");
  }
  for (size_t i = 0; i < keys_and_values.size(); i += 2) {
    dict->items.emplace_back(keys_and_values[i], keys_and_values[i + 1]);
  }
}

void Unpickler::refuse(const std::string& what) const {
  throw InputError(origin_ + ": expected only tensors and containers, found " + what);
}

}  // namespace ospnext
