// Makes the videos of jobs with an open model: in one process, or in the ranks of a mesh.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/generate_config.h"
#include "engine/text_to_video.h"
#include "engine/video_model.h"
#include "server/model_card.h"
#include "server/video_request.h"

namespace ospnext {

// Gives the receiver of videos that these configurations describe, which are without `output`.
using ReceiverOf = std::function<VideoReceiver&(const std::vector<GenerateConfig>& configs)>;

// On a mesh each rank has one. The leader send()s what to make, the others receive() it, and then
// all make() it. Belongs to one thread.
class VideoMaker {
 public:
  // `base`: what all videos have in common, the model and how it computes. `by_videos`: how the
  // ranks divide 1, 2, … videos, as divide_work_by_videos() says; more are divided as the last
  // entry says. Loads the transformer and waits until all ranks have it. `card` and `source`
  // outlive the maker. Throws as VideoModel does.
  VideoMaker(GenerateConfig base, const ModelCard& card, const ModelSource& source,
             const ComputeOptions& compute, std::vector<WorkRanks> by_videos);

  const VideoModel& model() const { return model_; }

  // The leader tells the other ranks which videos come next; none: that there are no more. The
  // others wait for that without a time limit. Both throw PeerError when a rank is lost.
  void send(const std::vector<VideoSettings>& videos) const;
  std::vector<VideoSettings> receive() const;
  // For a leader that waits for jobs. Throws PeerError when a rank is lost.
  void check_ranks() const { model_.ranks().world->check(); }

  // Makes videos that differ in no more than prompt, seed and frames a second, as one batch, or as
  // several where the ranks are divided into groups. Ends alike on all ranks, and is ready for the
  // next videos then: with Cancelled, if the job's token on any rank said so, or with JobFailure,
  // whatever else went wrong on any rank. `receiver_of` is called once, before anything is
  // computed. Throws PeerError when a rank is lost, or failed alone in the middle of what the
  // others computed with it.
  void make(const std::vector<VideoSettings>& videos, const ReceiverOf& receiver_of,
            const JobControl& job);

 private:
  std::vector<GenerateConfig> configs_of(const std::vector<VideoSettings>& videos) const;
  const std::string& lora_file(const std::string& name) const;
  void set_adapter(const VideoSettings& video);
  void make_together(const std::vector<VideoSettings>& videos, const ReceiverOf& receiver_of,
                     const JobControl& job);

  GenerateConfig base_;
  const ModelCard& card_;
  std::vector<WorkRanks> by_videos_;
  VideoModel model_;
  std::map<std::string, std::shared_ptr<const Adapter>> adapters_;  // by name; few
};

// Makes what the leader sends, on another rank, until there is no more. `log` gets the reasons of
// this rank's own failures.
void follow(VideoMaker& maker, const std::function<void(const std::string& line)>& log);

}  // namespace ospnext
