// Forks several processes from a test, which are the ranks of one world over Gloo.
#pragma once

#include <functional>
#include <memory>

#include "parallel/world.h"
#include "support/run_ranks.h"

namespace ospnext {

// As run_ranks(), with a world in each process. Each process finishes it after `work`.
inline void run_worlds(int size, const std::function<void(std::shared_ptr<World> world)>& work) {
  const HostedStore hosted;
  run_ranks(size, [&](const ProcessGroup& all) {
    ProcessPlace place;
    place.rank = all.rank();
    place.size = size;
    place.port = hosted.port();
    place.hosts_store = false;
    const auto world = std::make_shared<World>(place, WorldOptions());
    work(world);
    world->finish();
  });
}

}  // namespace ospnext
