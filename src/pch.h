// The headers nearly every file reads; torch's alone cost 24 s a file without precompiling.
#pragma once

#include <torch/torch.h>

#include <nlohmann/json.hpp>
