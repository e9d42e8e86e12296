#include "server/database.h"

#include <sqlite3.h>

#include "core/error.h"

namespace ospnext {
namespace {

constexpr int kPatienceMs = 5000;  // for another connection that writes

}  // namespace

Database::Database(const std::filesystem::path& file, Durability durability) {
  constexpr int kFlags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  const int status = sqlite3_open_v2(file.c_str(), &handle_, kFlags, nullptr);
  try {
    if (status != SQLITE_OK) {
      fail();
    }
    sqlite3_busy_timeout(handle_, kPatienceMs);
    run("PRAGMA journal_mode = WAL");
    run(durability == Durability::kFull ? "PRAGMA synchronous = FULL"
                                        : "PRAGMA synchronous = NORMAL");
  } catch (const DatabaseError& error) {
    sqlite3_close(handle_);
    throw InputError(file.string() + ": cannot open this database: " + error.what());
  }
}

Database::~Database() {
  sqlite3_close(handle_);
}

void Database::fail() const {
  throw DatabaseError(sqlite3_errmsg(handle_));
}

void Database::run(std::string_view sql) {
  if (sqlite3_exec(handle_, std::string(sql).c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
    fail();
  }
}

Statement::Statement(Database& database, std::string_view sql) : database_(database) {
  if (sqlite3_prepare_v2(database.handle_, sql.data(), static_cast<int>(sql.size()), &statement_,
                         nullptr) != SQLITE_OK) {
    database.fail();
  }
}

Statement::~Statement() {
  sqlite3_finalize(statement_);
}

void Statement::bind_next(std::string_view text) {
  sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()),
                    SQLITE_TRANSIENT);
}

void Statement::bind_next(double value) {
  sqlite3_bind_double(statement_, ++bound_, value);
}

void Statement::bind_next(int64_t value) {
  sqlite3_bind_int64(statement_, ++bound_, value);
}

bool Statement::step() {
  const int status = sqlite3_step(statement_);
  if (status != SQLITE_ROW && status != SQLITE_DONE) {
    database_.fail();
  }
  return status == SQLITE_ROW;
}

int64_t Statement::run() {
  step();
  return sqlite3_changes64(database_.handle_);
}

int64_t Statement::whole(int column) const {
  return sqlite3_column_int64(statement_, column);
}

double Statement::real(int column) const {
  return sqlite3_column_double(statement_, column);
}

std::string Statement::text(int column) const {
  const auto* const bytes = sqlite3_column_text(statement_, column);
  return bytes == nullptr ? ""
                          : std::string(reinterpret_cast<const char*>(bytes),
                                        sqlite3_column_bytes(statement_, column));
}

Transaction::Transaction(Database& database) : database_(database) {
  database.run("BEGIN IMMEDIATE");
}

Transaction::~Transaction() {
  if (is_open_) {
    try {
      database_.run("ROLLBACK");
    } catch (const DatabaseError&) {
      // SQLite has rolled back already
    }
  }
}

void Transaction::commit() {
  database_.run("COMMIT");
  is_open_ = false;
}

}  // namespace ospnext
