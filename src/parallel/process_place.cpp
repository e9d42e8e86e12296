#include "parallel/process_place.h"

#include <charconv>
#include <cstdlib>

#include "core/error.h"

namespace ospnext {
namespace {

constexpr int kMostProcesses = 1 << 16;
constexpr int kMostPort = 65535;

// Reads variables, of which a blank one is as if it were not set.
class Variables {
 public:
  explicit Variables(const Environment& environment) : environment_(environment) {}

  bool has(const std::string& name) const { return value(name).has_value(); }
  std::string text(const std::string& name, const std::string& otherwise) const {
    return value(name).value_or(otherwise);
  }
  int number(const std::string& name, int least, int most) const {
    const auto value = this->value(name);
    int number = 0;
    const std::string digits = value.value_or("");
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error != std::errc() || end != digits.data() + digits.size() || number < least ||
        number > most) {
      throw InputError(name + ": found " + (value ? "\"" + digits + "\"" : "nothing") +
                       " in the environment, expected " + std::to_string(least) + " to " +
                       std::to_string(most));
    }
    return number;
  }
  int number_or(const std::string& name, int otherwise, int least, int most) const {
    return has(name) ? number(name, least, most) : otherwise;
  }

 private:
  std::optional<std::string> value(const std::string& name) const {
    const auto found = environment_(name);
    return found && !is_blank(*found) ? found : std::nullopt;
  }

  const Environment& environment_;
};

// Reads rank and size from the variables of these names. The local ones may be missing.
ProcessPlace numbered(const Variables& variables, const std::string& rank, const std::string& size,
                      const std::string& local_rank, const std::string& local_size) {
  ProcessPlace place;
  place.size = variables.number(size, 1, kMostProcesses);
  place.rank = variables.number(rank, 0, place.size - 1);
  place.local_rank = variables.number_or(local_rank, place.rank, 0, kMostProcesses);
  place.local_size = variables.number_or(local_size, place.local_rank + 1, 1, kMostProcesses);
  place.port = variables.number_or("MASTER_PORT", place.port, 1, kMostPort);
  place.hosts_store = place.rank == 0;
  return place;
}

ProcessPlace from_torchrun(const Variables& variables) {
  ProcessPlace place = numbered(variables, "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE");
  if (place.size > 1 && !variables.has("MASTER_ADDR")) {
    throw InputError("MASTER_ADDR: found nothing in the environment, expected rank 0's host");
  }
  place.host = variables.text("MASTER_ADDR", place.host);
  // torchrun's agent and `ospnext launch` host the store themselves.
  place.hosts_store =
      place.hosts_store && variables.text("TORCHELASTIC_USE_AGENT_STORE", "False") != "True";
  return place;
}

ProcessPlace from_open_mpi(const Variables& variables) {
  ProcessPlace place = numbered(variables, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                                "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE");
  const bool one_host =
      variables.number_or("OMPI_COMM_WORLD_LOCAL_SIZE", 0, 0, kMostProcesses) == place.size;
  if (!one_host && !variables.has("MASTER_ADDR")) {
    throw InputError(
        "MASTER_ADDR: found nothing in the environment, expected rank 0's host (mpirun -x "
        "MASTER_ADDR=...), since the processes are on several hosts");
  }
  place.host = variables.text("MASTER_ADDR", place.host);
  return place;
}

ProcessPlace from_slurm(const Variables& variables) {
  constexpr int kPorts = 1000;  // so that jobs that share a host take different ports
  ProcessPlace place = numbered(variables, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID",
                                "SLURM_NTASKS_PER_NODE");
  place.host = variables.text("MASTER_ADDR", first_host(variables.text("SLURM_STEP_NODELIST", "")));
  if (place.host.empty()) {
    throw InputError("SLURM_STEP_NODELIST: found nothing in the environment, expected the nodes");
  }
  if (!variables.has("MASTER_PORT")) {
    place.port += variables.number_or("SLURM_JOB_ID", 0, 0, 1 << 30) % kPorts;
  }
  return place;
}

}  // namespace

bool is_blank(const std::string& value) {
  return value.find_first_not_of(" \t\r\n") == std::string::npos;
}

ProcessPlace process_place(const Environment& environment) {
  const Variables variables(environment);
  if (variables.has("RANK") || variables.has("WORLD_SIZE")) {
    return from_torchrun(variables);
  }
  if (variables.has("OMPI_COMM_WORLD_SIZE")) {
    return from_open_mpi(variables);
  }
  if (variables.has("SLURM_STEP_NUM_TASKS")) {  // set by srun only, not in a batch script
    return from_slurm(variables);
  }
  return {};
}

ProcessPlace process_place() {
  return process_place([](const std::string& name) -> std::optional<std::string> {
    const char* const value = std::getenv(name.c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  });
}

std::string first_host(const std::string& node_list) {
  const size_t end = node_list.find_first_of("[,");
  if (end == std::string::npos || node_list[end] == ',') {
    return node_list.substr(0, end);
  }
  const size_t number = end + 1;
  const size_t number_end = node_list.find_first_of("-,]", number);
  if (number_end == std::string::npos) {
    return node_list.substr(0, end);
  }
  return node_list.substr(0, end) + node_list.substr(number, number_end - number);
}

}  // namespace ospnext
