// The rewards there are, one in each source file.
#pragma once

#include <memory>
#include <string>

#include "rl/rewards/reward.h"

namespace ospnext {

// Whether a clip of the procedural world shows what its caption asks for: "background" (colour and
// pattern, half each), "colour", "size", "shape", "motion" (the share of the objects that are
// right), each from 0 to 1; "total" is their mean, "all_five" is 1 if all are right. An error where
// the prompt is no caption of the world (clip_of_caption()) or the clip has fewer than five frames.
std::unique_ptr<Reward> make_world_reward();

// The three rewards below look at the luma Y = 0.2126·R + 0.7152·G + 0.0722·B of pixels (BT.709).
// They also serve as guards of other rewards.

// How much moves. "total": the mean of |Y of the next frame - Y|; "frozen": the share of the frames
// where this is under 1/255. An error for a single frame.
std::unique_ptr<Reward> make_motion_reward();
// How much is neither black nor white. "dark": the share of pixels with Y < 0.02; "bright": with
// Y > 0.98; "total": the rest; "mean": the mean of Y.
std::unique_ptr<Reward> make_exposure_reward();
// How sharp the frames are. "total": the standard deviation of the Laplacian of Y, the sum of the
// four neighbours minus 4·Y, averaged over frames. An error for frames under 3 x 3 pixels.
// Source: Pech-Pacheco et al. 2000, Diatom autofocusing in brightfield microscopy (the variance).
std::unique_ptr<Reward> make_sharpness_reward();

// The scores of a program, which the shell starts once for each batch. It reads a line of JSON with
// "videos" (their number), "frames", "height", "width" and "prompts", and after it the pixels
// [B, F, H, W, 3] uint8 RGB. It writes what parse_reward_scores() reads. If it fails in any way or
// takes longer than `seconds`, each video has this as its error.
std::unique_ptr<Reward> make_command_reward(const std::string& command, double seconds);

// What is asked of a service that may have several rewards.
struct ServiceReward {
  std::string name;  // empty: the only one that it has
  std::string part;  // the number that counts; empty: as parse_unirl_scores() says
};
// The scores of a service that speaks as UniRL's does: POST `url`/score with the prompts and the
// videos as MP4 files of `fps` frames a second. The service is asked as HttpService says. Throws
// InputError for a URL of another form, and where no MP4 files can be written.
// Source: UniRL, unirl-reward-service/reward_service/schemas.py.
std::unique_ptr<Reward> make_score_reward(const std::string& url, const ServiceReward& asked,
                                          double seconds, double fps);

// The scores of a service that speaks as Flow-Factory's do: POST `url`/compute with the prompts and
// a PNG file of each frame. Throws InputError for a URL of another form.
// Source: Flow-Factory, src/flow_factory/rewards/my_reward_remote.py.
std::unique_ptr<Reward> make_compute_reward(const std::string& url, double seconds);

}  // namespace ospnext
