#include "parallel/world.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <vector>

#include "parallel/peer_error.h"

namespace ospnext {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kBeat{1000};     // between two signs of life
constexpr milliseconds kSilence{6000};  // after this long without one, a rank counts as dead
constexpr milliseconds kPoll{20};

std::string seconds_text(milliseconds time) {
  const auto count = std::chrono::duration<double>(time).count();
  std::string text = std::to_string(count);
  text.erase(text.find_last_not_of('0') + 1);
  return (text.ends_with('.') ? text.substr(0, text.size() - 1) : text) + " s";
}

std::string key_of(const std::string& kind, int rank) {
  return kind + "/" + std::to_string(rank);
}

std::string meeting_key(int64_t meeting, int rank) {
  return key_of("met/" + std::to_string(meeting), rank);
}

// The state of a rank, as it publishes it in the store.
struct Sign {
  int64_t beat = 0;
  int64_t collectives = 0;
  bool waits = false;
  bool finished = false;
  std::string position;
  std::string failure;  // that ends the run
  std::string trouble;  // why it could not do its part, as meet_failed() says

  std::string text() const {
    return nlohmann::json({beat, collectives, waits, finished, position, failure, trouble})
        .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  static Sign read(const std::string& text) {
    const auto json = nlohmann::json::parse(text);
    return {json.at(0), json.at(1), json.at(2), json.at(3), json.at(4), json.at(5), json.at(6)};
  }
};

}  // namespace

// Publishes the state of this rank in the store once a second, from a thread of its own, and reads
// the states of the other ranks.
class World::Watch {
 public:
  Watch(Store store, int rank, int size, const WorldOptions& options,
        std::shared_ptr<const Journal> journal)
      : store_(std::move(store)),
        rank_(rank),
        options_(options),
        journal_(std::move(journal)),
        seen_(size) {
    for (Seen& seen : seen_) {
      seen.when = Clock::now();
    }
    thread_ = std::thread([this, own = store_.another()] { run(own); });
  }

  ~Watch() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  // Comes with the reason why this rank cannot do its part, or "". Returns that of another rank.
  std::string meet(int64_t meeting, const std::string& trouble, bool cancellable) {
    store_.set(meeting_key(meeting, rank_), trouble);
    if (meeting >= 2) {
      store_.remove(meeting_key(meeting - 2, rank_));  // all have left that one
    }
    std::string others;
    for (int rank = 0; rank < size(); ++rank) {
      std::optional<std::string> word;
      while (!(word = store_.find(meeting_key(meeting, rank)))) {
        if (cancellable && options_.cancel != nullptr) {
          options_.cancel->check();
        }
        check();
        std::this_thread::sleep_for(kPoll);
      }
      others = others.empty() && rank != rank_ ? *word : others;
    }
    return others;
  }
  // Tells the others of trouble, or with "" that it is over.
  void tell_trouble(const std::string& trouble) {
    const std::lock_guard lock(mutex_);
    own_.trouble = trouble;
    tell(store_);
  }
  void check() {
    if (const auto found = failure()) {
      failed(*found);
      throw PeerError(*found);
    }
  }

  // On rank 0, returns when no other rank needs the store any more.
  void finish() {
    {
      const std::lock_guard lock(mutex_);
      own_.finished = true;
      tell(store_);
    }
    for (int rank = 0; rank_ == 0 && rank < size(); ++rank) {
      while (works(rank) && !cancelled()) {
        std::this_thread::sleep_for(kPoll);
      }
    }
  }
  void failed(const std::string& failure) {
    const std::lock_guard lock(mutex_);
    if (own_.failure.empty() && !own_.finished) {
      own_.failure = failure;
      tell(store_);
    }
  }

  // Whether another rank is still at work, as far as is known.
  bool works(int rank) {
    const std::lock_guard lock(mutex_);
    return rank != rank_ && !seen_[rank].sign.finished && seen_[rank].sign.failure.empty() &&
           !is_silent(rank);
  }

  // The reason why the run cannot go on: another rank failed or died, or the store is gone.
  std::optional<std::string> failure() {
    const std::lock_guard lock(mutex_);
    for (int rank = 0; rank < size(); ++rank) {
      if (rank != rank_ && !seen_[rank].sign.failure.empty()) {
        return seen_[rank].sign.failure;
      }
    }
    for (int rank = 0; rank < size(); ++rank) {
      if (rank != rank_ && !seen_[rank].sign.finished && is_silent(rank)) {
        return "rank " + std::to_string(rank) + " has died or was stopped; it was last seen " +
               where(rank);
      }
    }
    return lost_;
  }

  // Finds out why a collective failed: waits until a dead, failed or late rank is known. Falls back
  // to the engine's message.
  std::string explain(const std::string& message) {
    const bool late = message.find("imed out") != std::string::npos ||
                      message.find("imeout") != std::string::npos;
    const auto start = Clock::now();
    std::optional<std::string> found;
    while (!found && Clock::now() < start + kSilence + 2 * kBeat && !cancelled()) {
      std::this_thread::sleep_for(kPoll);
      found = failure();
      if (!found && late && Clock::now() > start + kBeat * 3 / 2) {  // all ranks have published
        found = troubled();
        found = found ? found : latecomer();
      }
    }
    const std::string text = found.value_or("an exchange between ranks failed: " + message);
    failed(text);
    return text;
  }

  bool cancelled() const { return options_.cancel != nullptr && options_.cancel->cancelled(); }

 private:
  struct Seen {
    Sign sign;
    Clock::time_point when;
  };

  int size() const { return static_cast<int>(seen_.size()); }
  bool is_silent(int rank) const { return Clock::now() - seen_[rank].when > kSilence; }
  std::string where(int rank) const {
    const std::string& position = seen_[rank].sign.position;
    return position.empty() ? "when it arrived" : "at " + position;
  }

  // Names a rank that failed at what the others go on with.
  std::optional<std::string> troubled() {
    const std::lock_guard lock(mutex_);
    for (int rank = 0; rank < size(); ++rank) {
      if (rank != rank_ && !seen_[rank].sign.trouble.empty()) {
        return "rank " + std::to_string(rank) + " failed where the others went on (" +
               seen_[rank].sign.trouble + "); it was " + where(rank);
      }
    }
    return std::nullopt;
  }

  // Names the rank that has finished the fewest collectives and waits in none.
  std::optional<std::string> latecomer() {
    const std::lock_guard lock(mutex_);
    int last = -1;
    for (int rank = 0; rank < size(); ++rank) {
      const Sign& sign = seen_[rank].sign;
      if (rank != rank_ && !sign.waits &&
          (last < 0 || sign.collectives < seen_[last].sign.collectives)) {
        last = rank;
      }
    }
    if (last < 0) {
      return std::nullopt;
    }
    return "rank " + std::to_string(last) + " hangs or is too slow: for " +
           seconds_text(options_.timeout) + " it has not come where the others wait; it is " +
           where(last);
  }

  void tell(const Store& store) {
    own_.beat += 1;
    own_.collectives = journal_->collectives();
    own_.waits = journal_->waits();
    own_.position = journal_->position();
    try {
      store.set(key_of("sign", rank_), own_.text());
    } catch (const RunError& error) {
      lost_ = error.what();
    }
  }

  void run(const Store& store) {
    std::unique_lock lock(mutex_);
    while (!stopped_) {
      tell(store);
      lock.unlock();
      std::vector<std::optional<std::string>> texts(seen_.size());
      try {
        for (int rank = 0; rank < size(); ++rank) {
          texts[rank] = rank == rank_ ? std::nullopt : store.find(key_of("sign", rank));
        }
      } catch (const RunError&) {
        // tell() has noted it in lost_
      }
      lock.lock();
      for (int rank = 0; rank < size(); ++rank) {
        if (texts[rank]) {
          note(rank, Sign::read(*texts[rank]));
        }
      }
      wake_.wait_for(lock, kBeat, [this] { return stopped_; });
    }
  }

  void note(int rank, const Sign& sign) {
    if (sign.beat != seen_[rank].sign.beat) {
      seen_[rank] = {sign, Clock::now()};
    }
  }

  const Store store_;
  const int rank_;
  const WorldOptions options_;
  const std::shared_ptr<const Journal> journal_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopped_ = false;
  Sign own_;
  std::vector<Seen> seen_;
  std::optional<std::string> lost_;
  std::thread thread_;
};

namespace {

Store reach_store(const ProcessPlace& place, const WorldOptions& options) {
  const int port = place.size == 1 ? 0 : place.port;  // any free port: no other process connects
  return place.hosts_store ? Store::host(port, "MASTER_PORT")
                           : Store::connect(place.host, place.port, options.timeout);
}

// Waits until ready(rank) is true for all ranks. Returns the ranks that are not ready in time.
template <class Ready>
std::vector<int> wait_for_all(int size, milliseconds timeout, const CancellationToken* cancel,
                              const Ready& ready) {
  std::vector<int> missing;
  const auto until = Clock::now() + timeout;
  for (int rank = 0; rank < size; ++rank) {
    while (!ready(rank)) {
      if (cancel != nullptr) {
        cancel->check();
      }
      if (Clock::now() > until) {
        missing.push_back(rank);
        break;
      }
      std::this_thread::sleep_for(kPoll);
    }
  }
  return missing;
}

std::string list_of(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
  }
  return text;
}

std::string own_error(int rank) {
  return "rank " + std::to_string(rank) + " has ended with an error of its own";
}

// All are there and run the same thing.
void arrive(const Store& store, const ProcessPlace& place, const WorldOptions& options) {
  store.set(key_of("arrived", place.rank), options.fingerprint);
  const auto missing = wait_for_all(place.size, options.timeout, options.cancel, [&](int rank) {
    return store.find(key_of("arrived", rank)).has_value();
  });
  if (!missing.empty()) {
    throw RunError(list_of(missing) + " of " + std::to_string(place.size) +
                   " did not arrive within " + seconds_text(options.timeout));
  }
  const std::string first = *store.find(key_of("arrived", 0));
  for (int rank = 1; rank < place.size; ++rank) {
    const std::string other = *store.find(key_of("arrived", rank));
    if (other != first) {
      throw RunError("rank " + std::to_string(rank) + " runs \"" + other + "\", but rank 0 \"" +
                     first + "\"; expected the same version and configuration in all");
    }
  }
}

}  // namespace

World::World() : journal_(std::make_shared<Journal>()) {}

World::World(const ProcessPlace& place, const WorldOptions& options) : World() {
  device_ = options.device;
  if (place.size == 1 && !options.engine_for_one) {
    return;
  }
  const Store store = reach_store(place, options);
  arrive(store, place, options);
  watch_ = std::make_shared<Watch>(store, place.rank, place.size, options, journal_);
  try {
    all_ = ProcessGroup(
        store, "all", place.rank, place.size,
        {options.transport, options.timeout, journal_, options.engine_for_one,
         [watch = watch_](const std::string& message) { return watch->explain(message); }});
  } catch (const InputError&) {
    watch_->failed(own_error(place.rank));
    throw;
  }
}

World::~World() {
  if (watch_) {
    watch_->failed(own_error(all_.rank()));
  }
}

void World::meet(bool cancellable) {
  if (!watch_) {
    return;
  }
  const std::string trouble = watch_->meet(meetings_++, "", cancellable);
  if (!trouble.empty()) {
    throw RankFailure(trouble);
  }
}

void World::meet_failed(const std::string& reason) {
  if (watch_) {
    watch_->tell_trouble(reason);
    watch_->meet(meetings_++, reason, /*cancellable=*/false);
    watch_->tell_trouble("");
  }
}

void World::check() const {
  if (watch_) {
    watch_->check();
  }
}

void World::finish() {
  if (!watch_) {
    return;
  }
  if (device_.is_cuda()) {
    const c10::impl::VirtualGuardImpl gpu(device_.type());
    gpu.synchronizeDevice(device_.has_index() ? device_.index() : gpu.getDevice().index());
    meet(/*cancellable=*/false);
  }
  watch_->finish();
}

}  // namespace ospnext
