// The index of a training's checkpoint, a JSON file beside the files of its tensors, and the note
// in each of these files of where the parts that it has begin.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace ospnext {

struct TrainingIndex {
  int64_t step = 0;                                    // finished steps
  std::vector<std::string> files;                      // beside the index, as file_of_rank() names
  std::map<std::string, double> numbers;               // for example, of the clipping
  std::map<std::string, std::vector<int64_t>> shapes;  // of the whole trained tensors, by name
  // Of any form, checked by those who read them: the state of what is trained on, and what the
  // tensors belong to.
  nlohmann::json objective = {}, model = {};

  nlohmann::json json() const;
};

// "rank-00003.safetensors"
std::string file_of_rank(int rank);

// Both throw an InputError that begins with `where` for JSON of another form, and for numbers that
// no training writes.
TrainingIndex training_index_from_json(const nlohmann::json& json, const std::string& where);
// {"NAME": 1200, ...}: the place in the whole tensor, read as one row, of the first element of a
// part.
std::map<std::string, int64_t> first_elements_from_json(const nlohmann::json& json,
                                                        const std::string& where);

}  // namespace ospnext
