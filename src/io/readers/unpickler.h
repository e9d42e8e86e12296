// A pickle reader that builds tensors and containers and nothing else.
#pragma once

#include <deque>
#include <map>
#include <vector>

#include "io/readers/byte_cursor.h"
#include "io/readers/pickle_value.h"

namespace ospnext {

// Runs a pickle program of protocol 2 to 5, of the opcodes that torch.save writes for state dicts.
// Only the globals of torch_globals.h are accepted; any other, and any other opcode, throws
// InputError that names it. The values live as long as the object.
// Source: CPython Lib/pickletools.py (opcodes and their arguments).
class Unpickler {
 public:
  Unpickler(std::span<const std::byte> program, const std::string& origin, StorageLookup storages);

  // The value that the program leaves behind. To be called once.
  const PickleValue& run();

 private:
  bool push_scalar(uint8_t opcode);  // each: false when the opcode is of another family
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
  std::deque<PickleValue> values_;  // all that were made; the others point here
  std::vector<PickleValue*> stack_;
  std::vector<size_t> marks_;  // heights of the stack
  std::map<uint32_t, PickleValue*> memo_;
};

}  // namespace ospnext
