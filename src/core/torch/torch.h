// The part of LibTorch that most files use: tensors, modules, devices. torch/torch.h would add
// every layer, optimiser and data loader, which doubles the compile time of each file (by 3 s).
// Files that need one of them include its own header.
#pragma once

#include <torch/cuda.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>
#include <torch/utils.h>
