// Code shared by tests of commands on a model: a tiny random model, made once per suite, and an
// empty folder.
#pragma once

#include <memory>
#include <string>

#include "cli/run_ospnext.h"
#include "support/tiny_model.h"

namespace ospnext {

class WithTinyModel : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = std::make_unique<TemporaryFolder>();
    write_tiny_diffusers_model(model_->path());
  }
  static void TearDownTestSuite() { model_.reset(); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  static std::string model() { return model_->path().string(); }
  static std::string part(const std::string& name) { return (*model_ / name).string(); }

  const TemporaryFolder folder_;
  static inline std::unique_ptr<TemporaryFolder> model_;
};

}  // namespace ospnext
