#include "train/evaluation.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

TEST(WilsonInterval, AgreesWithPublishedValues) {
  // Expected values: the same formula in Python.
  const auto [low, high] = wilson_interval(81, 263);
  EXPECT_NEAR(low, 0.2552885, 1e-6);
  EXPECT_NEAR(high, 0.3662096, 1e-6);
  EXPECT_EQ(wilson_interval(0, 10)[0], 0.0);
  EXPECT_NEAR(wilson_interval(10, 10)[1], 1.0, 1e-12);
}

TEST(EvaluationRow, CountsARenderedClipAsRightAndAnotherOneAsWrong) {
  const ClipOptions options{.height = 128, .width = 128, .num_frames = 33};
  const ClipSpec clip = sample_clip(4, 0, ClipSplit::kSeen, options);
  ClipSpec other = clip;
  other.objects[0].colour =
      clip.objects[0].colour == ObjectColour::kRed ? ObjectColour::kBlue : ObjectColour::kRed;
  const MeasuredClip measured = measure_clip(render_clips({clip})[0], 1);
  EvaluationRow row{.name = "rendered"};
  row.add(clip, measured);
  EXPECT_EQ(row.clips, 1);
  for (size_t i = 0; i < kAttributes.size(); ++i) {
    EXPECT_EQ(row.right[i], 1) << kAttributes[i];
  }
  row.add(other, measured);
  EXPECT_EQ(row.clips, 2);
  EXPECT_EQ(row.right[0], 2) << "the background is the same";
  EXPECT_EQ(row.right[1], 1) << "the colour is another";
  EXPECT_EQ(row.right.back(), 1);
}

TEST(EvaluationTable, ShowsPerCentAndIntervalUnderItsHeader) {
  const EvaluationRow row{.name = "seen", .clips = 100, .right = {99, 95, 90, 85, 80, 65}};
  const std::string line = evaluation_line(row);
  EXPECT_EQ(line.find("| seen | 100 | 99.0 (94.6–99.8) | 95.0 ("), 0U) << line;
  const std::string header = evaluation_header();
  EXPECT_EQ(header.find("| captions | clips | background % | colour % |"), 0U) << header;
  const auto bars = [](const std::string& text) {
    return std::count(text.begin(), text.end(), '|');
  };
  EXPECT_EQ(bars(header), 2 * bars(line));
}

TEST(EvaluationDetails, TellWhatWasFoundInsteadOfWhatWasAsked) {
  ClipSpec asked;
  asked.objects = {{.shape = ObjectShape::kStar, .colour = ObjectColour::kBlue}};
  const MeasuredClip measured{.background = BackgroundColour::kGray,
                              .pattern = BackgroundPattern::kStriped,
                              .objects = {{.colour = ObjectColour::kBlue,
                                           .shape = ObjectShape::kRing,
                                           .size = ObjectSize::kMedium,
                                           .motion = std::nullopt}}};
  const std::string row = "two objects, seen", caption = "a star, medium";
  EXPECT_EQ(details_line(
                {.row = row, .caption = caption, .seed = 7, .asked = asked, .measured = measured}),
            "\"two objects, seen\",7,\"a star, medium\",0,1,1,0,0,0,\"striped gray; medium blue "
            "ring ?\"\n");
  EXPECT_EQ(details_header(),
            "captions,seed,caption,background,colour,size,shape,motion,all five,measured\n");
}

TEST(ComparePrecisions, GivesEachClipsDistanceFromTheSameNoise) {
  const TemporaryFolder folder;
  write_tiny_diffusers_model(folder / "model");
  const ModelFiles files = find_model_files({.model = folder / "model"});
  GenerationConfig generation =
      defaults_for(files, read_transformer_config(files.require(ModelPart::kTransformer)));
  generation.steps = 2;
  Progress silent(nullptr, false);
  const auto against_float = [&](const ComputeOptions& compute) {
    const std::vector<double> decibels =
        compare_precisions(files, compute, {}, generation, /*clips=*/3, /*batch_size=*/2,
                           /*seed=*/1, silent, CancellationToken());
    EXPECT_EQ(decibels.size(), 3U);
    return *std::ranges::max_element(decibels);
  };
  EXPECT_EQ(against_float({}), 100);
  const double bf16 = against_float({.dtype = at::kBFloat16});
  const double hif8 = against_float({.hif8 = Hif8Use::kSimulated});
  EXPECT_GT(bf16, 25);
  EXPECT_LT(bf16, 90);
  EXPECT_GT(hif8, 5);
  EXPECT_LT(hif8, bf16);
}

}  // namespace
}  // namespace ospnext
