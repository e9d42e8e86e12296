// The part of LibTorch that most files here use: tensors, modules, devices. torch/torch.h adds every layer, optimiser and
// data loader there is, which each file would pay for with twice the time (3 s) to compile; those who use one of them
// include its own header.
#pragma once

#include <torch/cuda.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>
#include <torch/utils.h>
