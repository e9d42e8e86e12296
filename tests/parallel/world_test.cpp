// Failures between processes: errors name, in time, the rank that does not arrive, dies, hangs or
// runs something else.
#include "parallel/world.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <iostream>
#include <thread>

#include "core/error.h"
#include "parallel/peer_error.h"
#include "support/hosted_store.h"
#include "support/text.h"

namespace ospnext {
namespace {

using std::chrono::milliseconds;

// Runs `work` on all ranks. Returns the message that rank 0's work throws, or "" if it throws none.
// Kills the other ranks at the end.
std::string failure_at_rank_0(int size, int started, const WorldOptions& options,
                              const std::function<void(World& world)>& work) {
  at::set_num_threads(1);
  ::setenv("GLOO_SOCKET_IFNAME", "lo", 0);
  const HostedStore store;
  const auto place_of = [&](int rank) {
    ProcessPlace place;
    place.rank = rank;
    place.size = size;
    place.port = store.port();
    place.hosts_store = false;
    return place;
  };
  std::fflush(nullptr);
  std::vector<pid_t> others;
  for (int rank = 1; rank < started; ++rank) {
    const pid_t child = ::fork();
    if (child == 0) {
      try {
        WorldOptions own = options;
        own.fingerprint += own.fingerprint.ends_with('?') ? std::to_string(rank) : "";
        World world(place_of(rank), own);
        work(world);
        world.finish();
      } catch (const std::exception&) {
      }
      ::_exit(0);
    }
    others.push_back(child);
  }
  std::string failure;
  try {
    World world(place_of(0), options);
    work(world);
    world.finish();
  } catch (const RunError& error) {
    failure = error.what();
  }
  for (const pid_t other : others) {
    ::kill(other, SIGKILL);
    ::waitpid(other, nullptr, 0);
  }
  return failure;
}

TEST(World, WorksAndEnds) {
  EXPECT_EQ(failure_at_rank_0(3, 3, {},
                              [](World& world) {
                                world.meet();
                                world.all().all_sum(at::ones({2}), "sum");
                                world.meet();
                              }),
            "");
}

TEST(World, OfOneNeedsNobody) {
  World world;
  world.meet();
  world.finish();
  EXPECT_EQ(world.all().size(), 1);
}

TEST(World, NamesARankThatDoesNotArrive) {
  const std::string failure =
      failure_at_rank_0(3, 2, {.timeout = milliseconds(1500)}, [](World&) {});
  EXPECT_TRUE(holds(failure, "rank 2 of 3 did not arrive within 1.5 s")) << failure;
}

TEST(World, NamesARankOfAnotherConfiguration) {
  const std::string failure = failure_at_rank_0(2, 2, {.fingerprint = "v?"}, [](World&) {});
  EXPECT_TRUE(holds(failure, "rank 1 runs \"v?1\", but rank 0 \"v?\"")) << failure;
}

TEST(World, NamesARankThatDiesWithinTenSeconds) {
  const auto start = std::chrono::steady_clock::now();
  const std::string failure = failure_at_rank_0(3, 3, {}, [](World& world) {
    world.all().all_sum(at::ones({2}), "sum");
    world.journal().at_step(4);
    if (world.all().rank() == 2) {
      std::this_thread::sleep_for(milliseconds(1500));  // so that others read its position
      ::raise(SIGKILL);
    }
    world.all().all_sum(at::ones({2}), "sum");
  });
  EXPECT_TRUE(holds(failure, "rank 2 has died or was stopped; it was last seen at step 5"))
      << failure;
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(11));
}

TEST(World, NamesARankThatHangs) {
  const std::string failure =
      failure_at_rank_0(3, 3, {.timeout = milliseconds(3000)}, [](World& world) {
        world.journal().at_block(7);
        if (world.all().rank() == 1) {
          std::this_thread::sleep_for(std::chrono::seconds(30));
        }
        world.all().all_sum(at::ones({2}), "sum");
      });
  EXPECT_TRUE(holds(failure, "rank 1 hangs or is too slow")) << failure;
  EXPECT_TRUE(holds(failure, "block 7")) << failure;
}

TEST(Journal, SaysWhereTheWorkIs) {
  Journal journal;
  EXPECT_EQ(journal.position(), "the start");
  journal.at_step(2);
  journal.at_block(5);
  EXPECT_EQ(journal.position(), "step 3, block 5");
  journal.at_decoding();
  journal.begin("rows");
  EXPECT_EQ(journal.position(), "the decoding, in the exchange \"rows\"");
  journal.end("rows", 8);
  journal.at_step(0);
  EXPECT_EQ(journal.position(), "step 1, block 5");
}

TEST(World, AnErrorOfOneEndsTheOthersMeeting) {
  const std::string failure = failure_at_rank_0(2, 2, {}, [](World& world) {
    if (world.all().rank() == 1) {
      throw RunError("disk full");
    }
    world.meet();
  });
  EXPECT_TRUE(holds(failure, "rank 1 has ended with an error of its own")) << failure;
}

TEST(World, ARankThatCouldNotDoItsPartTellsTheOthersAtTheirNextMeeting) {
  const std::string failure = failure_at_rank_0(3, 3, {}, [](World& world) {
    world.meet();
    if (world.all().rank() == 1) {
      world.meet_failed("no memory");
    } else {
      try {
        world.meet();
        throw InputError("nobody told it");
      } catch (const RankFailure& error) {
        EXPECT_STREQ(error.what(), "no memory");
      }
    }
    world.meet();  // all go on
    world.check();
    const at::Tensor ranks = world.all().all_sum(at::ones({1}), "sum");
    EXPECT_EQ(ranks.item<float>(), 3);
  });
  EXPECT_EQ(failure, "");
}

TEST(World, NamesARankThatFailedInTheMiddleOfWhatOthersGoOnWith) {
  const std::string failure =
      failure_at_rank_0(3, 3, {.timeout = milliseconds(2000)}, [](World& world) {
        if (world.all().rank() == 2) {
          world.journal().at_step(6);
          world.meet_failed("no memory");
        }
        world.all().all_sum(at::ones({2}), "sum");
      });
  EXPECT_EQ(failure, "rank 2 failed where the others went on (no memory); it was at step 7");
}

TEST(World, ARankThatWaitsForSomethingElseNoticesALostOne) {
  const std::string failure = failure_at_rank_0(2, 2, {}, [](World& world) {
    if (world.all().rank() == 1) {
      throw RunError("disk full");
    }
    for (int i = 0; i < 1000; ++i) {
      world.check();
      std::this_thread::sleep_for(milliseconds(20));
    }
  });
  EXPECT_TRUE(holds(failure, "rank 1 has ended with an error of its own")) << failure;
}

}  // namespace
}  // namespace ospnext
