// SQLite, as far as the server needs it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

struct sqlite3;
struct sqlite3_stmt;

namespace ospnext {

// The database cannot do what it is asked for now: it is locked by another program for longer than
// five seconds, or its disk is full.
class DatabaseError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Database;

// One run of an SQL statement: bind its values in order, then step through its rows.
class Statement {
 public:
  Statement(Database& database, std::string_view sql);
  ~Statement();
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  template <class... Values>
  Statement& bind(const Values&... values) {
    (bind_next(values), ...);
    return *this;
  }
  // Moves to the next row; false behind the last one. Throws DatabaseError.
  bool step();
  // Runs a statement that has no rows. Returns the number of rows that it changed.
  int64_t run();

  // Columns of the row, counted from 0. NULL is 0 and "".
  int64_t whole(int column) const;
  double real(int column) const;
  std::string text(int column) const;

 private:
  void bind_next(std::string_view text);
  void bind_next(double value);
  void bind_next(int64_t value);
  template <class Value>
  void bind_next(const Value& value) {
    if constexpr (std::is_convertible_v<Value, std::string_view>) {
      bind_next(std::string_view(value));
    } else if constexpr (std::is_floating_point_v<Value>) {
      bind_next(static_cast<double>(value));
    } else {
      bind_next(static_cast<int64_t>(value));
    }
  }

  Database& database_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

// A connection, for one thread at a time.
class Database {
 public:
  // kFull: what is committed survives a loss of power. kProcess: it survives the end of the
  // process, and takes no wait for the disk.
  enum class Durability { kFull, kProcess };
  // Opens or makes the file. Throws InputError if it is no database or cannot be opened.
  Database(const std::filesystem::path& file, Durability durability);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  void run(std::string_view sql);

 private:
  friend class Statement;
  [[noreturn]] void fail() const;

  sqlite3* handle_ = nullptr;
};

// What happens until commit() happens as a whole, or not at all. Others wait to write meanwhile.
class Transaction {
 public:
  explicit Transaction(Database& database);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  void commit();

 private:
  Database& database_;
  bool is_open_ = true;
};

}  // namespace ospnext
