// Packages of other pipelines are refused because of their model_index.json.
#include "packages/model_index.h"

#include "io/readers/reader_support.h"
#include "packages/model_folder.h"

namespace ospnext {
namespace {

class ModelIndex : public ReaderTest {
 protected:
  void expect_read(const std::string& index) const {
    write("model_index.json", index);
    EXPECT_NO_THROW(refuse_other_pipelines(folder_)) << index;
  }
  void expect_other(const std::string& index, const std::string& what) const {
    const auto file = write("model_index.json", index);
    expect_refused([&] { refuse_other_pipelines(folder_); }, file, what);
  }
};

TEST_F(ModelIndex, OfOurPipelinesIsRead) {
  EXPECT_NO_THROW(refuse_other_pipelines(folder_));  // no model_index.json
  expect_read("{}");
  expect_read(R"({"_class_name":"OSPNextPipeline","transformer":["ospnext","OSPNextModel"]})");
  expect_read(R"({"_class_name":"WanPipeline","transformer_2":[null,null],"boundary_ratio":null,
                  "expand_timesteps":false})");
  expect_read(R"({"_class_name":"WanPipeline","transformer_2":null,"expand_timesteps":null})");
}

TEST_F(ModelIndex, OfAnotherPipelineIsRefused) {
  for (const char* name :
       {"WanImageToVideoPipeline", "WanVideoToVideoPipeline", "WanVACEPipeline", "FluxPipeline"}) {
    expect_other(std::string(R"({"_class_name":")") + name + "\"}",
                 std::string("_class_name: found \"") + name + "\", expected \"WanPipeline\"");
  }
  expect_other(R"({"_class_name":["WanPipeline"]})", "_class_name: found [\"WanPipeline\"]");
  expect_other("[]", "expected a JSON object, found array");
}

TEST_F(ModelIndex, OfTwoTransformersIsRefused) {
  expect_other(
      R"({"_class_name":"WanPipeline",
                   "transformer_2":["diffusers","WanTransformer3DModel"]})",
      "transformer_2: found [\"diffusers\",\"WanTransformer3DModel\"], expected a model of "
      "one transformer");
  expect_other(R"({"_class_name":"WanPipeline","boundary_ratio":0.875})",
               "boundary_ratio: found 0.875, expected a model of one transformer");
  expect_other(R"({"_class_name":"WanPipeline","expand_timesteps":true})",
               "expand_timesteps: found true, expected false");
}

TEST_F(ModelIndex, FoldersOfTwoTransformersAreRefused) {
  for (const std::string name : {"high_noise_model", "low_noise_model", "transformer_2"}) {
    write(name + "/config.json", "{}");
    expect_refused([&] { refuse_other_pipelines(folder_); }, folder_ / name,
                   "expected a model of one transformer");
    std::filesystem::remove_all(folder_ / name);
  }
  write("transformer_2/config.json", "{}");
  expect_read(R"({"transformer_2":[null,null]})");  // the index takes precedence
}

TEST_F(ModelIndex, IsReadWhereverAPackageIsNamed) {
  const auto file = write("model_index.json", R"({"_class_name":"WanVACEPipeline"})");
  write("transformer/a.safetensors", "x");
  write("vae/a.safetensors", "x");
  expect_refused([&] { find_model_files({.model = folder_}); }, file, "WanVACEPipeline");
  const ModelFiles whole = find_model_files({.transformer = folder_});
  expect_refused([&] { whole.require(ModelPart::kTransformer); }, file, "WanVACEPipeline");
  const ModelFiles parts =  // folders of single parts are not checked
      find_model_files({.transformer = folder_ / "transformer", .vae = folder_});
  EXPECT_TRUE(parts.has(ModelPart::kTransformer));
  EXPECT_TRUE(parts.has(ModelPart::kVae));
}

}  // namespace
}  // namespace ospnext
