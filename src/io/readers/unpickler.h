// A pickle reader that builds only tensors and containers.
#pragma once

#include <deque>
#include <map>
#include <vector>

#include "io/readers/byte_cursor.h"
#include "io/readers/pickle_value.h"

namespace ospnext {

// Runs a pickle program of protocol 2 to 5 with the opcodes that torch.save writes for state dicts.
// It accepts only the globals of torch_globals.h. Any other global or opcode throws InputError with
// its name. The values are valid as long as the object exists.
// Source: CPython Lib/pickletools.py (opcodes and their arguments).
class Unpickler {
 public:
  Unpickler(std::span<const std::byte> program, const std::string& origin, StorageLookup storages);

  // Returns the final value of the program. Call it once.
  const PickleValue& run();

 private:
  bool push_scalar(uint8_t opcode);  // each of these returns false for an opcode of another family
  bool push_container(uint8_t opcode);
  bool fill_container(uint8_t opcode);
  bool use_memo(uint8_t opcode);
  bool use_global(uint8_t opcode);

  template <class T>
  void push(T content);
  PickleValue* pop();
  std::vector<PickleValue*> pop_to_mark();
  PickleValue* top();
  std::string pop_text(const char* what);
  void push_global(const std::string& name);
  void remember(uint32_t slot);
  void append(std::vector<PickleValue*> items);
  void set_items(const std::vector<PickleValue*>& keys_and_values);
  [[noreturn]] void refuse(const std::string& what) const;

  ByteCursor cursor_;
  std::string origin_;
  StorageLookup storages_;
  std::deque<PickleValue> values_;  // all created values; the members below point here
  std::vector<PickleValue*> stack_;
  std::vector<size_t> marks_;  // heights of the stack
  std::map<uint32_t, PickleValue*> memo_;
};

}  // namespace ospnext
