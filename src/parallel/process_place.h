// Where this process stands among those that a launcher started together.
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
      1;  // how many they are; where the launcher does not tell, as many as are known of
  std::string host =
      "127.0.0.1";  // where the store is, through which the processes find each other
  int port = 29500;
  bool hosts_store = true;  // rank 0 does, unless the launcher does
};

// The value of a variable, or nothing.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;

// Understands the variables of torchrun and `ospnext launch` (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE,
// MASTER_ADDR, MASTER_PORT), Open MPI (OMPI_COMM_WORLD_*) and Slurm's srun (SLURM_PROCID, ...), in this order. A process
// alone where there are none. Throws InputError naming the variable that is missing or wrong.
ProcessPlace process_place(const Environment& environment);
// Of this process.
ProcessPlace process_place();

// The first host of a Slurm node list: "node[07-09,12],other" -> "node07".
std::string first_host(const std::string& node_list);

}  // namespace ospnext
