// The headers nearly every file reads; parsing them takes longer than most files.
#pragma once

#include <nlohmann/json.hpp>

#include "core/torch/torch.h"
