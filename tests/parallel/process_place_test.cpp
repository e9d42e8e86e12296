// Ranks from the environment variables of launchers.
#include "parallel/process_place.h"

#include <gtest/gtest.h>

#include <map>

#include "core/error.h"

namespace ospnext {
namespace {

using Variables = std::map<std::string, std::string>;

ProcessPlace place_in(const Variables& variables) {
  return process_place([&](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional<std::string>(found->second);
  });
}

Variables changed(Variables variables, const std::string& name, const std::string& value) {
  variables.insert_or_assign(name, value);
  return variables;
}

std::string refusal_of(const Variables& variables) {
  try {
    place_in(variables);
  } catch (const InputError& error) {
    return error.what();
  }
  return "none";
}

TEST(ProcessPlace, IsAloneWithoutALauncher) {
  EXPECT_EQ(place_in({}).size, 1);
  EXPECT_EQ(place_in({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}}).size, 1);  // in a batch script
}

TEST(ProcessPlace, TakesABlankVariableForNone) {
  const Variables blank = {{"RANK", ""},
                           {"WORLD_SIZE", " "},
                           {"LOCAL_RANK", ""},
                           {"LOCAL_WORLD_SIZE", ""},
                           {"MASTER_ADDR", ""},
                           {"MASTER_PORT", ""},
                           {"OMPI_COMM_WORLD_SIZE", ""},
                           {"SLURM_STEP_NUM_TASKS", ""},
                           {"SLURM_JOB_ID", ""}};
  EXPECT_EQ(place_in(blank).size, 1);
  Variables slurm = blank;
  slurm.insert_or_assign("SLURM_PROCID", "1");
  slurm.insert_or_assign("SLURM_STEP_NUM_TASKS", "2");
  slurm.insert_or_assign("SLURM_STEP_NODELIST", "gpu[07-08]");
  const ProcessPlace place = place_in(slurm);
  EXPECT_EQ(place.size, 2);
  EXPECT_EQ(place.host, "gpu07");
  EXPECT_EQ(place.port, 29500);
  EXPECT_NE(refusal_of(changed(blank, "RANK", "0")).find("WORLD_SIZE: found nothing"),
            std::string::npos);
  EXPECT_NE(refusal_of(changed(changed(blank, "RANK", "1"), "WORLD_SIZE", "2")).find("MASTER_ADDR"),
            std::string::npos);
}

TEST(ProcessPlace, UnderstandsTorchrun) {
  const Variables variables = {{"RANK", "5"},
                               {"WORLD_SIZE", "8"},
                               {"LOCAL_RANK", "1"},
                               {"LOCAL_WORLD_SIZE", "4"},
                               {"MASTER_ADDR", "node3"},
                               {"MASTER_PORT", "1234"}};
  const ProcessPlace place = place_in(variables);
  EXPECT_EQ(place.rank, 5);
  EXPECT_EQ(place.size, 8);
  EXPECT_EQ(place.local_rank, 1);
  EXPECT_EQ(place.local_size, 4);
  EXPECT_EQ(place.host, "node3");
  EXPECT_EQ(place.port, 1234);
  EXPECT_FALSE(place.hosts_store);
  const Variables first = changed(variables, "RANK", "0");
  EXPECT_TRUE(place_in(first).hosts_store);
  EXPECT_FALSE(place_in(changed(first, "TORCHELASTIC_USE_AGENT_STORE", "True")).hosts_store);
}

TEST(ProcessPlace, UnderstandsSlurm) {
  const ProcessPlace place = place_in({{"SLURM_PROCID", "3"},
                                       {"SLURM_STEP_NUM_TASKS", "4"},
                                       {"SLURM_LOCALID", "1"},
                                       {"SLURM_NTASKS_PER_NODE", "2"},
                                       {"SLURM_STEP_NODELIST", "gpu[07-08]"},
                                       {"SLURM_JOB_ID", "2123"}});
  EXPECT_EQ(place.rank, 3);
  EXPECT_EQ(place.size, 4);
  EXPECT_EQ(place.local_rank, 1);
  EXPECT_EQ(place.local_size, 2);
  EXPECT_EQ(place.host, "gpu07");
  EXPECT_EQ(place.port, 29500 + 123);
}

TEST(ProcessPlace, UnderstandsOpenMpi) {
  const Variables variables = {{"OMPI_COMM_WORLD_RANK", "1"},
                               {"OMPI_COMM_WORLD_SIZE", "2"},
                               {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                               {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
  EXPECT_EQ(place_in(variables).rank, 1);
  EXPECT_EQ(place_in(variables).local_size, 2);
  EXPECT_EQ(place_in(variables).host, "127.0.0.1");
  EXPECT_NE(refusal_of(changed(variables, "OMPI_COMM_WORLD_LOCAL_SIZE", "1")).find("MASTER_ADDR"),
            std::string::npos);
}

TEST(ProcessPlace, RefusesWhatIsMissingOrWrong) {
  EXPECT_NE(refusal_of({{"RANK", "0"}}).find("WORLD_SIZE: found nothing"), std::string::npos);
  EXPECT_NE(refusal_of({{"RANK", "2"}, {"WORLD_SIZE", "2"}}).find("RANK: found \"2\""),
            std::string::npos);
  EXPECT_NE(refusal_of({{"RANK", "x"}, {"WORLD_SIZE", "2"}}).find("RANK: found \"x\""),
            std::string::npos);
  EXPECT_NE(refusal_of({{"RANK", "1"}, {"WORLD_SIZE", "2"}}).find("MASTER_ADDR"),
            std::string::npos);
}

TEST(ProcessPlace, FindsTheFirstHostOfAList) {
  EXPECT_EQ(first_host("node1"), "node1");
  EXPECT_EQ(first_host("node1,node2"), "node1");
  EXPECT_EQ(first_host("node[07-09,12],other"), "node07");
  EXPECT_EQ(first_host("node[3,5]"), "node3");
  EXPECT_EQ(first_host("node[3]"), "node3");
  EXPECT_EQ(first_host(""), "");
}

}  // namespace
}  // namespace ospnext
