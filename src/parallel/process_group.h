// Groups of processes and their collectives. Only process_group.cpp uses c10d, torch's
// communication library.
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

// A small key-value store of texts, shared by all processes of a run over TCP. Copies share one
// connection.
class Store {
 public:
  // Hosts a store in this process, which lasts as long as a copy of the result. `port` 0 means any
  // free port. Throws an InputError that begins with `origin` when the port is taken.
  static Store host(int port, const std::string& origin);
  // Connects to a hosted store. Throws RunError when there is none within `patience`.
  static Store connect(const std::string& host, int port, std::chrono::milliseconds patience);

  // A second connection to the same store, for another thread.
  Store another() const;
  int port() const;

  // All throw RunError when the store is gone. find() returns nothing for an unknown key.
  void set(const std::string& key, const std::string& text) const;
  void remove(const std::string& key) const;
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

struct GroupOptions {
  Transport transport = Transport::kGloo;
  // how long a collective waits for the other ranks
  std::chrono::milliseconds timeout = std::chrono::seconds(50);
  std::shared_ptr<Journal> journal = std::make_shared<Journal>();
  bool engine_for_one = false;  // whether a group of one runs real collectives with itself
  // Turns the engine's error message into the reason why a collective failed.
  std::function<std::string(const std::string& message)> explain = {};
};

// An asynchronous collective, which runs while the caller computes. It keeps its tensors alive.
// Before wait(), its input must not be changed and its output must not be read.
class Pending {
 public:
  Pending() = default;
  explicit Pending(std::function<at::Tensor()> finish) : finish_(std::move(finish)) {}
  // Waits for the end and returns the result. Call it once. On a GPU, the current stream waits, not
  // the host. The journal counts the collective here; its time is the time spent in wait().
  // Throws RunError as the collective would.
  at::Tensor wait() { return std::exchange(finish_, {})(); }

 private:
  std::function<at::Tensor()> finish_;
};

// A group of processes (ranks) and its collectives. All ranks call the same collectives in the same
// order, with the same `purpose`: a string literal under which the journal counts the call.
// Tensors have any dtype and lie on the CPU or a GPU; rows are slices along the first dimension.
// For a single process every collective returns its input and nothing is counted. Collectives throw
// RunError when another rank is gone or does not call them in time. Copies are the same group.
// Not differentiable: a tensor that needs a gradient fails a TORCH_CHECK where gradients are
// recorded (parallel/exchanges.h has collectives with gradients).
class ProcessGroup {
 public:
  ProcessGroup() = default;  // this process alone
  // Called by all `size` processes, which share the store. Throws InputError for a network
  // interface that c10d is told to use and that is not there (GLOO_SOCKET_IFNAME).
  ProcessGroup(const Store& store, const std::string& name, int rank, int size,
               const GroupOptions& options);

  int rank() const { return rank_; }
  int size() const { return size_; }
  // Whether collectives send nothing: a group of one without an engine (GroupOptions).
  bool alone() const { return !engine_; }

  // The group of the given ranks of this group, in the given order; this process must be one of
  // them. Called by exactly these ranks. A second call with the same ranks returns the same group.
  ProcessGroup subgroup(const std::vector<int>& ranks) const;
  // A second group of the same ranks with connections of its own: collectives of the two groups do
  // not wait for each other. Called by all ranks, each time with a new name.
  ProcessGroup twin(const std::string& name) const;

  // All-to-all with uneven parts. x [sum of sent, ...]: its rows in order, sent[i] of them for
  // rank i -> [sum of received, ...]: received[i] rows from rank i, in order of i.
  at::Tensor all_to_all(const at::Tensor& x, const std::vector<int64_t>& sent,
                        const std::vector<int64_t>& received, const char* purpose) const;
  Pending start_all_to_all(const at::Tensor& x, const std::vector<int64_t>& sent,
                           const std::vector<int64_t>& received, const char* purpose) const;
  // All-gather with uneven parts. x [rows[rank()], ...] -> [sum of rows, ...], in order of ranks.
  at::Tensor all_gather(const at::Tensor& x, const std::vector<int64_t>& rows,
                        const char* purpose) const;
  // All-gather with equal parts, in place. part [bytes] uint8 -> `whole` [size()·bytes] uint8, in
  // order of ranks; the caller allocates `whole`.
  Pending start_gather_into(const at::Tensor& whole, const at::Tensor& part,
                            const char* purpose) const;
  // All-reduce: elementwise maximum and sum over the ranks. x of equal shapes -> same shape.
  at::Tensor all_max(const at::Tensor& x, const char* purpose) const;
  at::Tensor all_sum(const at::Tensor& x, const char* purpose) const;
  // Returns the x of rank `from`. On other ranks x only gives shape, dtype and device.
  at::Tensor broadcast(const at::Tensor& x, int from, const char* purpose) const;
  // Point-to-point: only the two ranks call these. x of receive_like() gives shape, dtype, device.
  void send(const at::Tensor& x, int to, const char* purpose) const;
  at::Tensor receive_like(const at::Tensor& x, int from, const char* purpose) const;
  void barrier(const char* purpose) const;

  // Writes into the journal which block of the model this rank runs, -1 for none, so that error
  // messages of other ranks can say it. Sends nothing itself.
  void at_block(int64_t block) const;

 private:
  struct Engine;
  enum class Reduction { kMax, kSum };
  at::Tensor all_reduce(const at::Tensor& x, Reduction reduction, const char* purpose) const;

  int rank_ = 0, size_ = 1;
  std::shared_ptr<Engine> engine_;  // null when collectives send nothing
};

}  // namespace ospnext
