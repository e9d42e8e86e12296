// Processes that work on one thing together, and how they exchange tensors. Only process_group.cpp knows c10d.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/torch/torch.h"
#include "parallel/journal.h"

namespace ospnext {

// A small map from names to texts that all processes of a run see, over TCP. Copies are one connection.
class Store {
 public:
  // Keeps a store in this process for others to connect to, as long as a copy of it lives. `port` 0: any
  // free one. Throws InputError, naming `origin`, for a port that is taken.
  static Store host(int port, const std::string& origin);
  // Throws RunError when there is none within the time.
  static Store connect(const std::string& host, int port, std::chrono::milliseconds patience);

  // Another connection to the same store, for another thread.
  Store another() const;
  int port() const;

  // These throw RunError when the store has gone.
  void set(const std::string& key, const std::string& text) const;
  std::optional<std::string> find(const std::string& key) const;

 private:
  friend class ProcessGroup;
  struct Connection;
  explicit Store(std::shared_ptr<Connection> connection) : connection_(std::move(connection)) {}
  std::shared_ptr<Connection> connection_;
};

enum class Transport {
  kGloo,  // over TCP, through host memory
  kNccl,  // between GPUs; in CUDA builds
};

// How a group does its collectives.
struct GroupOptions {
  Transport transport = Transport::kGloo;
  std::chrono::milliseconds timeout =
      std::chrono::seconds(50);  // for others to come to a collective
  std::shared_ptr<Journal> journal = std::make_shared<Journal>();
  bool engine_for_one = false;  // whether a group of one exchanges with itself
  // Says, given the engine's own message, why a collective failed.
  std::function<std::string(const std::string& message)> explain = {};
};

// The result of a collective that goes on beside computation. What it reads and writes is kept alive but must not be
// changed until then.
class Pending {
 public:
  Pending() = default;
  explicit Pending(std::function<at::Tensor()> finish) : finish_(std::move(finish)) {}
  // Waits for it, once. On a GPU it is the current stream that waits. Counts the collective, and as its time what is
  // waited here. Throws RunError as the collective itself would.
  at::Tensor wait() { return std::exchange(finish_, {})(); }

 private:
  std::function<at::Tensor()> finish_;
};

// A collective is called by all ranks of a group, in the same order, with the same `purpose`, a literal
// under which it is counted. Tensors of any dtype and any of the device's memory; rows are slices of the
// first dimension. Of a process alone every collective is the identity and nothing is counted. Throws
// RunError when another rank does not come or is gone. Copies are the same group. Not differentiable.
class ProcessGroup {
 public:
  ProcessGroup() = default;  // this process alone
  // Called by all `size` processes, which share the store.
  ProcessGroup(const Store& store, const std::string& name, int rank, int size,
               const GroupOptions& options);

  int rank() const { return rank_; }
  int size() const { return size_; }
  // Whether nothing is exchanged: a group of one, unless it was given an engine.
  bool alone() const { return !engine_; }

  // The group of some ranks of this one, in that order; this process is one of them. Called by them alone. Asked
  // for again it is the same group.
  ProcessGroup subgroup(const std::vector<int>& ranks) const;
  // All ranks of this one again, with connections of their own: collectives of the two groups do not wait for each other.
  // Called by all, each time with another name.
  ProcessGroup twin(const std::string& name) const;

  // x's rows in order, sent[i] of them for rank i -> received[i] rows from rank i, in order.
  at::Tensor all_to_all(const at::Tensor& x, const std::vector<int64_t>& sent,
                        const std::vector<int64_t>& received, const char* purpose) const;
  Pending start_all_to_all(const at::Tensor& x, const std::vector<int64_t>& sent,
                           const std::vector<int64_t>& received, const char* purpose) const;
  // x [rows[rank()], ...] -> all ranks' rows, in order.
  at::Tensor all_gather(const at::Tensor& x, const std::vector<int64_t>& rows,
                        const char* purpose) const;
  // part [bytes] of each rank -> `whole` [size() * bytes], given by the caller, all of them in order; uint8 both.
  Pending start_gather_into(const at::Tensor& whole, const at::Tensor& part,
                            const char* purpose) const;
  // Elementwise over the ranks.
  at::Tensor all_max(const at::Tensor& x, const char* purpose) const;
  at::Tensor all_sum(const at::Tensor& x, const char* purpose) const;
  // Rank `from`'s x; the others' gives shape, dtype and device.
  at::Tensor broadcast(const at::Tensor& x, int from, const char* purpose) const;
  void send(const at::Tensor& x, int to, const char* purpose) const;
  // What `to` was sent, of x's shape, dtype and device.
  at::Tensor receive_like(const at::Tensor& x, int from, const char* purpose) const;
  void barrier(const char* purpose) const;

  // For the others to see where this rank is: in this block of the model, or with -1 in none. No exchange.
  void at_block(int64_t block) const;

 private:
  struct Engine;
  enum class Reduction { kMax, kSum };
  at::Tensor all_reduce(const at::Tensor& x, Reduction reduction, const char* purpose) const;

  int rank_ = 0, size_ = 1;
  std::shared_ptr<Engine> engine_;  // null for a process alone
};

}  // namespace ospnext
