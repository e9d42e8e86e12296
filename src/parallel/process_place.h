// The rank of this process among the processes that a launcher started together.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace ospnext {

struct ProcessPlace {
  int rank = 0;
  int size = 1;
  int local_rank = 0;  // among the processes of this host
  int local_size =
      1;  // processes of this host; at least local_rank + 1 if the launcher does not say it
  std::string host =
      "127.0.0.1";  // the host of the store, through which the processes find each other
  int port = 29500;
  bool hosts_store = true;  // true on rank 0, unless the launcher hosts the store
};

// Returns the value of an environment variable, or nothing if it is not set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;

// Reads the variables of torchrun and `ospnext launch` (RANK, WORLD_SIZE, LOCAL_RANK,
// LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT), Open MPI (OMPI_COMM_WORLD_*) and Slurm's srun
// (SLURM_PROCID, ...), in this order. Without them the process is alone. A blank variable counts as
// not set. Throws InputError naming the variable that is missing or wrong.
ProcessPlace process_place(const Environment& environment);
// The same with the environment of this process.
ProcessPlace process_place();

// Whether the value of a variable has only white space.
bool is_blank(const std::string& value);

// The first host of a Slurm node list: "node[07-09,12],other" -> "node07".
std::string first_host(const std::string& node_list);

}  // namespace ospnext
