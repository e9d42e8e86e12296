// The choice of meshes. Impossible ones are refused, and the message names the nearest possible
// ones.
#include "parallel/mesh.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace ospnext {
namespace {

const MeshSubject kLarge = {.videos = 1, .two_passes = true, .num_heads = 40, .segments = 4};

std::string refusal_of(int ranks, const MeshFields& flags, const MeshSubject& subject) {
  try {
    choose_mesh(ranks, flags, subject);
  } catch (const InputError& error) {
    return error.what();
  }
  return "none";
}

TEST(Mesh, IsChosenByTheNumberOfRanks) {
  EXPECT_EQ(choose_mesh(1, {}, kLarge), (Mesh{1, 1, {1, 1, 1}}));
  EXPECT_EQ(choose_mesh(2, {}, kLarge), (Mesh{1, 2, {1, 1, 1}}));
  EXPECT_EQ(choose_mesh(4, {}, kLarge), (Mesh{1, 2, {2, 1, 1}}));
  EXPECT_EQ(choose_mesh(8, {}, kLarge), (Mesh{1, 2, {4, 1, 1}}));
  EXPECT_EQ(choose_mesh(16, {}, kLarge), (Mesh{1, 2, {4, 2, 1}}));
  EXPECT_EQ(choose_mesh(3, {}, kLarge), (Mesh{1, 1, {1, 1, 3}}));
}

TEST(Mesh, SeveralVideosComeFirst) {
  MeshSubject subject = kLarge;
  subject.videos = 5;
  EXPECT_EQ(choose_mesh(8, {}, subject), (Mesh{4, 2, {1, 1, 1}}));
  EXPECT_EQ(choose_mesh(8, {.data_parallel = 1}, subject), (Mesh{1, 2, {4, 1, 1}}));
}

TEST(Mesh, IsTheFastestOfThoseWithTheMostVideosWhereSecondsAreGiven) {
  MeshSubject subject = kLarge;
  const auto fastest_of_owners = [](const Mesh& mesh) { return 1.0 / mesh.sequence.ssp; };
  EXPECT_EQ(choose_mesh(4, {}, subject, fastest_of_owners), (Mesh{1, 1, {4, 1, 1}}));
  EXPECT_EQ(choose_mesh(4, {.cfg_parallel = 2}, subject, fastest_of_owners),
            (Mesh{1, 2, {2, 1, 1}}));
  const auto hardly = [](const Mesh& mesh) { return 1 - 0.004 * mesh.sequence.ssp; };
  EXPECT_EQ(choose_mesh(4, {}, subject, hardly), choose_mesh(4, {}, subject));
  subject.videos = 2;
  EXPECT_EQ(choose_mesh(4, {}, subject, fastest_of_owners), (Mesh{2, 1, {2, 1, 1}}));
}

TEST(Mesh, FollowsTheFlags) {
  EXPECT_EQ(choose_mesh(8, {.cfg_parallel = 1, .ssp = 4, .ulysses = 1}, kLarge),
            (Mesh{1, 1, {4, 1, 2}}));
  EXPECT_EQ(choose_mesh(4, {.ssp = 4}, kLarge), (Mesh{1, 1, {4, 1, 1}}));
  EXPECT_EQ(choose_mesh(4, {.ring = 4}, kLarge), (Mesh{1, 1, {1, 1, 4}}));
}

TEST(Mesh, OfADenseModelOrOnePassHasNoSuchSides) {
  EXPECT_EQ(choose_mesh(4, {}, {.two_passes = false, .num_heads = 12, .segments = 1}),
            (Mesh{1, 1, {1, 4, 1}}));
}

TEST(Mesh, ThatIsImpossibleIsRefusedWithTheNearest) {
  const std::string three = refusal_of(8, {.ssp = 3}, kLarge);
  EXPECT_NE(three.find("found `ssp` 3 for 8 process(es)"), std::string::npos) << three;
  EXPECT_NE(three.find("\"`cfg_parallel` 2 `ssp` 4\""), std::string::npos) << three;
  EXPECT_NE(refusal_of(2, {.cfg_parallel = 2, .ssp = 2}, kLarge).find("`cfg_parallel` 2"),
            std::string::npos);
  EXPECT_NE(refusal_of(4, {.ssp = 4}, {.num_heads = 4, .segments = 1}).find("1 segment(s)"),
            std::string::npos);
  EXPECT_NE(refusal_of(2, {.ssp = -1}, kLarge).find("`ssp`"), std::string::npos);
}

TEST(Mesh, SaysItsSides) {
  EXPECT_EQ(choose_mesh(8, {}, kLarge).text(), "data 1 x CFG 2 x SSP 4 x Ulysses 1 x ring 1");
}

}  // namespace
}  // namespace ospnext
