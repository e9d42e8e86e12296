// The API of videos: routes, who may use them, and their answers. It knows no sockets.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "server/http/router.h"
#include "server/job_store.h"
#include "server/key_ring.h"
#include "server/metrics.h"
#include "server/model_card.h"
#include "server/video_request.h"

namespace ospnext {

struct ApiSettings {
  ModelCard model;
  RequestLimits limits;
  int64_t creations_per_minute = 0;  // of each key; 0: any number
  std::vector<std::string> origins;  // of pages on other hosts that may use the API
  // The only values of Host that are answered, without the port; empty: all. It keeps pages of
  // other hosts, whose names were made to lead here, away from a server without keys.
  std::vector<std::string> hosts;
  bool logs_requests = false;
};

class VideoApi final : public HttpApplication {
 public:
  using Log = std::function<void(const std::string& line)>;
  // All references outlive the API. `log` is called by several threads, `on_new_job` after a job
  // was accepted.
  VideoApi(ApiSettings settings, KeyRing keys, JobStore& store, Metrics& metrics, Log log,
           std::function<void()> on_new_job);

  std::optional<HttpResponse> refuse(const HttpRequest& head) override;
  HttpResponse answer(const HttpRequest& request) override;
  HttpResponse malformed(int status, const std::string& message) override;

  // From here on no video is accepted; everything else is answered.
  void drain() { is_draining_ = true; }
  const std::vector<Route>& routes() const { return routes_; }

 private:
  std::vector<Route> make_routes();
  std::vector<Route> video_routes();
  std::string owner_of(const HttpRequest& request) const;
  void check_host(const HttpRequest& request) const;
  // The Origin of the request if it is another host's and allowed, else "". Throws ApiError.
  std::string foreign_origin(const HttpRequest& request) const;
  HttpResponse guarded(const HttpRequest& request, const std::function<HttpResponse()>& work) const;
  HttpResponse finish(HttpResponse response, const HttpRequest& request) const;
  HttpResponse preflight(const HttpRequest& request) const;

  Job job_of(const HttpRequest& request, const PathValues& values);
  nlohmann::json body_of(const HttpRequest& request, bool& is_form) const;
  HttpResponse submit(const HttpRequest& request, const VideoSettings& settings,
                      const std::string& remixed_from, const nlohmann::json& body);
  HttpResponse create(const HttpRequest& request);
  HttpResponse list(const HttpRequest& request);
  HttpResponse retrieve(const HttpRequest& request, const PathValues& values);
  HttpResponse remove(const HttpRequest& request, const PathValues& values);
  HttpResponse cancel(const HttpRequest& request, const PathValues& values);
  HttpResponse remix(const HttpRequest& request, const PathValues& values);
  HttpResponse content(const HttpRequest& request, const PathValues& values);
  HttpResponse events(const HttpRequest& request, const PathValues& values);
  HttpResponse models() const;
  HttpResponse model(const PathValues& values) const;
  HttpResponse loras() const;
  HttpResponse health();
  HttpResponse metrics();

  ApiSettings settings_;
  KeyRing keys_;
  JobStore& store_;
  Metrics& metrics_;
  Log log_;
  std::function<void()> on_new_job_;
  RateLimit rate_;
  std::atomic<bool> is_draining_{false};
  std::vector<Route> routes_;
};

}  // namespace ospnext
