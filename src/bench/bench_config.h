// The flags of `ospnext bench`: the model, the video, and how often each case is timed.
#pragma once

#include <cstdint>
#include <string>

#include "bench/cases.h"
#include "packages/random_model.h"

namespace ospnext {

// For commands that need only the size of a model, not its files.
struct ModelSizeFields {
  std::string size = "14b";
  std::string model_type = "dual_end";
  int64_t sparse_ratio = 2;
  int64_t num_full_blocks = 8;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("size", size, "14b or 1.3b, as Wan2.1's, or small, for CPUs");
    field("model_type", model_type, "full, dual_end or uniform");
    field("sparse_ratio", sparse_ratio, "P: a sparse block attends within each of P*P segments");
    field("num_full_blocks", num_full_blocks, "full blocks of dual_end");
  }

  // Throws InputError with the flag or field, the value and the rule.
  PartConfigs parts(const std::string& command) const;
};

struct TimingFields {
  int64_t runs = 20;
  int64_t warmup = 3;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("runs", runs, "timed runs of each case; the table shows their median");
    field("warmup", warmup, "runs before them that are not timed");
  }

  // Throws InputError with the flag, the value and the rule.
  void check() const;
};

struct BenchModelFields {
  ModelSizeFields model_size;
  int64_t width = 1280;
  int64_t height = 720;
  int64_t num_frames = 81;
  std::string device = "auto";
  std::string precision = "auto";

  template <class Visitor>
  void visit(Visitor&& field) {
    model_size.visit(field);
    field("width", width, "pixels");
    field("height", height, "pixels");
    field("num_frames", num_frames, "frames");
    field("device", device, "cpu, cuda, cuda:N or auto");
    field("precision", precision,
          "float32, bf16 or auto; for pieces with layers of the transformer also hif8, hif8-p8 and "
          "hif8-simulated");
  }

  // Throws InputError with the flag, the value and the rule.
  BenchModel model() const;
  // "14b dual_end, 1280 x 720 x 81 frames: 75600 tokens, cuda:0, bf16"
  std::string title(const BenchModel& model) const;
};

}  // namespace ospnext
