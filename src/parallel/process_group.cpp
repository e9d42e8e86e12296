#include "parallel/process_group.h"

#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef OSPNEXT_CUDA
#define USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <net/if.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <numeric>
#include <string>

#include "core/error.h"
#include "core/torch/shape_check.h"
#include "parallel/peer_error.h"

namespace ospnext {
namespace {

// The network interfaces of this host: "lo, eth0".
std::string interface_names() {
  std::string names;
  if (struct if_nameindex* const all = ::if_nameindex()) {
    for (const struct if_nameindex* one = all; one->if_name != nullptr; ++one) {
      names.append(names.empty() ? "" : ", ").append(one->if_name);
    }
    ::if_freenameindex(all);
  }
  return names;
}

// Calls only functions of Gloo that are compiled into LibTorch: Debian's headers are older.
c10::intrusive_ptr<c10d::ProcessGroupGloo::Options> gloo_options(
    std::chrono::milliseconds timeout) {
  constexpr const char* kInterface = "GLOO_SOCKET_IFNAME";  // which c10d reads
  try {
    return c10d::ProcessGroupGloo::Options::create_default(timeout);
  } catch (const std::exception&) {
    const char* const given = std::getenv(kInterface);
    if (given == nullptr || *given == '\0') {
      throw;
    }
    throw InputError(std::string(kInterface) + ": found \"" + given +
                     "\" in the environment, expected a network interface of this host that has an "
                     "address, of " +
                     interface_names());
  }
}

c10::intrusive_ptr<c10d::Backend> make_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                               int rank, int size, const GroupOptions& options) {
  if (options.transport == Transport::kGloo) {
    return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size,
                                                       gloo_options(options.timeout));
  }
#ifdef OSPNEXT_CUDA
  auto nccl = c10d::ProcessGroupNCCL::Options::create();
  nccl->timeout = options.timeout;
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, nccl);
#else
  throw InputError("NCCL: this program was built without CUDA");
#endif
}

int64_t row_bytes(const at::Tensor& x) {
  const int64_t elements =
      std::accumulate(x.sizes().begin() + 1, x.sizes().end(), int64_t{1}, std::multiplies<>());
  return elements * static_cast<int64_t>(x.element_size());
}

std::vector<int64_t> scaled(std::vector<int64_t> counts, int64_t factor) {
  for (int64_t& count : counts) {
    count *= factor;
  }
  return counts;
}

void refuse_gradient(const at::Tensor& x, const char* purpose) {
  TORCH_CHECK(!at::GradMode::is_enabled() || !x.requires_grad(), purpose,
              ": the tensor needs a gradient, which this collective does not have");
}

int64_t sum(const std::vector<int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

}  // namespace

struct Store::Connection {
  c10::intrusive_ptr<c10d::TCPStore> tcp;
};

Store Store::host(int port, const std::string& origin) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(port);
  options.isServer = true;
  options.waitWorkers = false;
  try {
    return Store(std::make_shared<Connection>(
        Connection{c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options)}));
  } catch (const std::exception&) {
    throw InputError(origin + ": port " + std::to_string(port) +
                     " is in use or not allowed, expected a free one");
  }
}

Store Store::connect(const std::string& host, int port, std::chrono::milliseconds patience) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(port);
  options.waitWorkers = false;
  options.timeout = patience;
  try {
    return Store(std::make_shared<Connection>(
        Connection{c10::make_intrusive<c10d::TCPStore>(host, options)}));
  } catch (const std::exception&) {
    throw RunError("no process of the run keeps a store at " + host + ":" + std::to_string(port));
  }
}

Store Store::another() const {
  return connect(connection_->tcp->getHost(), port(), std::chrono::seconds(10));
}

int Store::port() const {
  return connection_->tcp->getPort();
}

void Store::set(const std::string& key, const std::string& text) const {
  try {
    connection_->tcp->set(key, std::vector<uint8_t>(text.begin(), text.end()));
  } catch (const std::exception&) {
    throw PeerError("the store of the run has gone");
  }
}

void Store::remove(const std::string& key) const {
  try {
    connection_->tcp->deleteKey(key);
  } catch (const std::exception&) {
    throw PeerError("the store of the run has gone");
  }
}

std::optional<std::string> Store::find(const std::string& key) const {
  try {
    if (!connection_->tcp->check({key})) {
      return std::nullopt;
    }
    const std::vector<uint8_t> bytes = connection_->tcp->get(key);
    return std::string(bytes.begin(), bytes.end());
  } catch (const std::exception&) {
    throw PeerError("the store of the run has gone");
  }
}

struct ProcessGroup::Engine {
  Engine(const Store& store, const std::string& name, int rank, int size,
         const GroupOptions& options)
      : store(store), name(name), options(options) {
    run("start", [&] {
      backend = make_backend(c10::make_intrusive<c10d::PrefixStore>(name, store.connection_->tcp),
                             rank, size, options);
      return c10::intrusive_ptr<c10d::Work>();
    });
  }

  // Starts a collective, waits for its end and counts it.
  template <class Start>
  void run(const char* purpose, const Start& start, int64_t bytes = 0) const {
    options.journal->begin(purpose);
    explained([&] {
      if (const auto work = start()) {
        work->wait();
      }
    });
    options.journal->end(purpose, bytes);
  }

  // Starts a collective and returns without waiting. run() counts it later.
  template <class Start>
  c10::intrusive_ptr<c10d::Work> started(const char* purpose, const Start& start) const {
    c10::intrusive_ptr<c10d::Work> work;
    options.journal->start(purpose);
    explained([&] { work = start(); });
    options.journal->leave(purpose);
    return work;
  }

  // Calls the function. Turns its exceptions into a PeerError with the reason from options.explain.
  template <class Function>
  void explained(const Function& function) const {
    try {
      function();
    } catch (const InputError&) {
      throw;
    } catch (const std::exception& error) {
      throw PeerError(options.explain ? options.explain(error.what()) : error.what());
    }
  }

  // Whether x is copied through pinned host memory: a GPU tensor with Gloo.
  bool stages(const at::Tensor& x) const {
    return options.transport == Transport::kGloo && x.is_cuda();
  }
  // An uninitialised tensor that the engine can read and write, in x's dtype.
  at::Tensor like(const at::Tensor& x, at::IntArrayRef shape) const {
    const at::TensorOptions made = x.options().requires_grad(false);
    return stages(x) ? at::empty(shape, made.device(at::kCPU).pinned_memory(true))
                     : at::empty(shape, made);
  }
  // x, contiguous and where the engine can read it. With `may_write` always a copy.
  at::Tensor staged(const at::Tensor& x, bool may_write = false) const {
    if (!may_write && !stages(x)) {
      return x.contiguous();
    }
    at::Tensor copy = like(x, x.sizes());
    copy.copy_(x);
    return copy;
  }

  Store store;
  std::string name;
  GroupOptions options;
  c10::intrusive_ptr<c10d::Backend> backend;
  std::map<std::vector<int>, std::shared_ptr<Engine>> subgroups;
};

ProcessGroup::ProcessGroup(const Store& store, const std::string& name, int rank, int size,
                           const GroupOptions& options)
    : rank_(rank), size_(size) {
  TORCH_CHECK(0 <= rank && rank < size, "process group: rank ", rank, " of ", size);
  if (size > 1 || options.engine_for_one) {
    engine_ = std::make_shared<Engine>(store, name, rank, size, options);
  }
}

ProcessGroup ProcessGroup::subgroup(const std::vector<int>& ranks) const {
  const auto mine = std::find(ranks.begin(), ranks.end(), rank_);
  TORCH_CHECK(mine != ranks.end(), "subgroup: rank ", rank_, " is not in it");
  if (std::ssize(ranks) == size_ && std::is_sorted(ranks.begin(), ranks.end())) {
    return *this;
  }
  if (ranks.size() == 1) {
    return {};
  }
  ProcessGroup group;
  group.rank_ = static_cast<int>(mine - ranks.begin());
  group.size_ = static_cast<int>(ranks.size());
  std::shared_ptr<Engine>& engine = engine_->subgroups[ranks];
  if (!engine) {
    std::string name = engine_->name;
    for (const int rank : ranks) {
      TORCH_CHECK(0 <= rank && rank < size_, "subgroup: rank ", rank, " of ", size_);
      name.append(rank == ranks.front() ? "/" : ",").append(std::to_string(rank));
    }
    engine =
        std::make_shared<Engine>(engine_->store, name, group.rank_, group.size_, engine_->options);
  }
  group.engine_ = engine;
  return group;
}

ProcessGroup ProcessGroup::twin(const std::string& name) const {
  if (alone()) {
    return {};
  }
  return {engine_->store, engine_->name + "/" + name, rank_, size_, engine_->options};
}

at::Tensor ProcessGroup::all_to_all(const at::Tensor& x, const std::vector<int64_t>& sent,
                                    const std::vector<int64_t>& received,
                                    const char* purpose) const {
  return start_all_to_all(x, sent, received, purpose).wait();
}

Pending ProcessGroup::start_all_to_all(const at::Tensor& x, const std::vector<int64_t>& sent,
                                       const std::vector<int64_t>& received,
                                       const char* purpose) const {
  refuse_gradient(x, purpose);
  TORCH_CHECK(std::ssize(sent) == size_ && std::ssize(received) == size_ && sum(sent) == x.size(0),
              "all_to_all: the counts do not fit ", shape_text(x.sizes()));
  if (alone()) {
    return Pending([x] { return x; });
  }
  std::vector<int64_t> shape = x.sizes().vec();
  shape[0] = sum(received);
  const int64_t bytes = row_bytes(x);
  std::vector<int64_t> out_bytes = scaled(received, bytes), in_bytes = scaled(sent, bytes);
  at::Tensor out = engine_->like(x, shape);
  // as bytes: the engine needs to know no dtype
  at::Tensor out_flat = out.view({-1}).view(at::kByte);                // [sum of out_bytes]
  at::Tensor in_flat = engine_->staged(x).view({-1}).view(at::kByte);  // [sum of in_bytes]
  // before the call, which takes the counts as mutable references
  const int64_t sent_bytes = sum(in_bytes) - in_bytes[rank_];
  const auto work = engine_->started(purpose, [&] {
    return engine_->backend->alltoall_base(out_flat, in_flat, out_bytes, in_bytes);
  });
  return Pending([engine = engine_, work, purpose, sent_bytes, in_flat, out, device = x.device()] {
    engine->run(
        purpose, [&] { return work; }, sent_bytes);
    return out.to(device);
  });
}

Pending ProcessGroup::start_gather_into(const at::Tensor& whole, const at::Tensor& part,
                                        const char* purpose) const {
  refuse_gradient(part, purpose);
  TORCH_CHECK(part.scalar_type() == at::kByte && whole.scalar_type() == at::kByte &&
                  whole.is_contiguous() && whole.numel() == size_ * part.numel(),
              "gather: expected ", size_, " parts of bytes like ", shape_text(part.sizes()),
              ", got room for ", shape_text(whole.sizes()));
  if (alone()) {
    whole.copy_(part);
    return Pending([whole] { return whole; });
  }
  at::Tensor in = engine_->staged(part);
  at::Tensor out = engine_->stages(whole) ? engine_->like(whole, whole.sizes()) : whole;
  const auto work =
      engine_->started(purpose, [&] { return engine_->backend->_allgather_base(out, in); });
  const int64_t sent_bytes = static_cast<int64_t>(part.nbytes()) * (size_ - 1);
  return Pending([engine = engine_, work, purpose, sent_bytes, in, out, whole] {
    engine->run(
        purpose, [&] { return work; }, sent_bytes);
    if (!out.is_same(whole)) {
      whole.copy_(out);
    }
    return whole;
  });
}

at::Tensor ProcessGroup::all_gather(const at::Tensor& x, const std::vector<int64_t>& rows,
                                    const char* purpose) const {
  refuse_gradient(x, purpose);
  TORCH_CHECK(std::ssize(rows) == size_ && rows[rank_] == x.size(0), "all_gather: expected ",
              rows[rank_], " rows, got ", shape_text(x.sizes()));
  if (alone()) {
    return x;
  }
  std::vector<int64_t> copies(x.dim(), 1);
  // The rows may be uneven, which the engine's all-gather does not allow. So this is an all-to-all
  // in which each rank sends the same rows to every rank.
  copies[0] = size_;
  return all_to_all(x.repeat(copies), std::vector<int64_t>(size_, x.size(0)), rows, purpose);
}

at::Tensor ProcessGroup::all_reduce(const at::Tensor& x, Reduction reduction,
                                    const char* purpose) const {
  refuse_gradient(x, purpose);
  if (alone()) {
    return x;
  }
  std::vector<at::Tensor> tensors = {engine_->staged(x, /*may_write=*/true)};
  c10d::AllreduceOptions options;
  options.reduceOp = reduction == Reduction::kMax ? c10d::ReduceOp::MAX : c10d::ReduceOp::SUM;
  const int64_t bytes = static_cast<int64_t>(x.nbytes()) * 2 * (size_ - 1) / size_;
  engine_->run(
      purpose, [&] { return engine_->backend->allreduce(tensors, options); }, bytes);
  return tensors[0].to(x.device());
}

at::Tensor ProcessGroup::all_max(const at::Tensor& x, const char* purpose) const {
  return all_reduce(x, Reduction::kMax, purpose);
}

at::Tensor ProcessGroup::all_sum(const at::Tensor& x, const char* purpose) const {
  return all_reduce(x, Reduction::kSum, purpose);
}

at::Tensor ProcessGroup::broadcast(const at::Tensor& x, int from, const char* purpose) const {
  refuse_gradient(x, purpose);
  if (alone()) {
    return x;
  }
  const at::Tensor whole = engine_->staged(x, /*may_write=*/true);
  std::vector<at::Tensor> tensors = {whole.view({-1}).view(at::kByte)};  // [bytes of x]
  c10d::BroadcastOptions options;
  options.rootRank = from;
  const int64_t bytes = rank_ == from ? static_cast<int64_t>(x.nbytes()) * (size_ - 1) : 0;
  engine_->run(
      purpose, [&] { return engine_->backend->broadcast(tensors, options); }, bytes);
  return whole.to(x.device());
}

void ProcessGroup::send(const at::Tensor& x, int to, const char* purpose) const {
  refuse_gradient(x, purpose);
  TORCH_CHECK(size_ > 1 && to != rank_, "send: rank ", to, " is this process");
  std::vector<at::Tensor> tensors = {
      engine_->staged(x).view({-1}).view(at::kByte)};  // [bytes of x]
  engine_->run(
      purpose, [&] { return engine_->backend->send(tensors, to, /*tag=*/0); },
      static_cast<int64_t>(x.nbytes()));
}

at::Tensor ProcessGroup::receive_like(const at::Tensor& x, int from, const char* purpose) const {
  TORCH_CHECK(size_ > 1 && from != rank_, "receive: rank ", from, " is this process");
  const at::Tensor whole = engine_->like(x, x.sizes());
  std::vector<at::Tensor> tensors = {whole.view({-1}).view(at::kByte)};  // [bytes of x]
  engine_->run(purpose, [&] { return engine_->backend->recv(tensors, from, /*tag=*/0); });
  return whole.to(x.device());
}

void ProcessGroup::at_block(int64_t block) const {
  if (!alone()) {
    engine_->options.journal->at_block(block);
  }
}

void ProcessGroup::barrier(const char* purpose) const {
  if (!alone()) {
    engine_->run(purpose, [&] { return engine_->backend->barrier(); });
  }
}

}  // namespace ospnext
