// ospnext launch: runs a command in several processes of this host that work together.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "cli/commands.h"
#include "cli/exit_status.h"
#include "core/error.h"
#include "core/number_check.h"
#include "parallel/child_processes.h"
#include "parallel/process_group.h"
#include "parallel/process_place.h"

namespace ospnext {
namespace {

struct LaunchConfig {
  int64_t processes = 0;
  int64_t port = 0;
  int64_t grace = 300;  // seconds

  template <class Visitor>
  void visit(Visitor&& field) {
    field("processes", processes, "how many processes to start; also -n");
    field("port", port, "port of the store that connects the processes; 0: any free port");
    field("grace", grace,
          "seconds that the processes have after an interrupt, before they are killed; a training "
          "finishes its step in them and writes a checkpoint");
  }
};

// Removes "--" and the command after it from `arguments`, and returns the command.
Arguments take_command(Arguments& arguments) {
  const auto dashes = std::find(arguments.begin(), arguments.end(), "--");
  if (dashes == arguments.end()) {
    return {};
  }
  Arguments command(dashes + 1, arguments.end());
  arguments.erase(dashes, arguments.end());
  return command;
}

void set_default(std::map<std::string, std::string>& variables, const char* name,
                 const std::string& value) {
  const char* const given = std::getenv(name);
  if (given == nullptr || is_blank(given)) {
    variables.insert_or_assign(name, value);
  }
}

// The environment variables that torchrun sets. The store runs in this process.
std::map<std::string, std::string> variables_of(int64_t rank, int64_t processes, int port) {
  const int64_t cores = std::max<int64_t>(std::thread::hardware_concurrency(), 1);
  std::map<std::string, std::string> variables = {{"RANK", std::to_string(rank)},
                                                  {"LOCAL_RANK", std::to_string(rank)},
                                                  {"WORLD_SIZE", std::to_string(processes)},
                                                  {"LOCAL_WORLD_SIZE", std::to_string(processes)},
                                                  {"MASTER_ADDR", "127.0.0.1"},
                                                  {"MASTER_PORT", std::to_string(port)},
                                                  {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
  set_default(variables, "OMP_NUM_THREADS",
              std::to_string(std::max<int64_t>(cores / processes, 1)));
  set_default(variables, "GLOO_SOCKET_IFNAME", "lo");
  return variables;
}

// Throws an error that says how a failed process ended.
[[noreturn]] void fail(const ChildEnd& end) {
  const std::string name = "rank " + std::to_string(end.child);
  if (end.status == kBadInput) {
    throw InputError(name + " refused its input, as it says above");
  }
  if (end.status < 0) {
    throw RunError(name + " was killed by signal " + std::to_string(-end.status) + " (" +
                   ::strsignal(-end.status) + "); the others were stopped");
  }
  throw RunError(name + " ended with status " + std::to_string(end.status) +
                 "; the others were stopped");
}

}  // namespace

void run_launch(const Arguments& arguments, const CancellationToken& cancel) {
  constexpr int64_t kMostProcesses = 1024, kMostPort = 65535, kMostGrace = 86400;
  Arguments own = arguments;
  const Arguments command = take_command(own);
  std::replace(own.begin(), own.end(), std::string("-n"), std::string("--processes"));
  LaunchConfig config;
  if (!parse_flags("launch",
                   "Run a command in several processes of this host that work together: ospnext "
                   "launch -n 4 -- generate ...",
                   own, config)) {
    return;
  }
  check_range<int64_t>("--processes", config.processes, 1, kMostProcesses);
  check_range<int64_t>("--port", config.port, 0, kMostPort);
  check_range<int64_t>("--grace", config.grace, 1, kMostGrace);
  if (command.empty()) {
    throw InputError("launch: found no command, expected one behind --, as in \"-- generate\"");
  }
  const Store store = Store::host(static_cast<int>(config.port), "--port");
  ChildProcesses children;
  for (int64_t rank = 0; rank < config.processes; ++rank) {
    children.start(command, variables_of(rank, config.processes, store.port()));
  }
  const ChildEnd end = children.wait(cancel, std::chrono::seconds(config.grace));
  if (end.status == kInterrupted) {
    throw Cancelled();
  }
  if (end.status != 0) {
    fail(end);
  }
}

}  // namespace ospnext
