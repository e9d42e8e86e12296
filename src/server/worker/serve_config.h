// What `ospnext serve` can be told, by flags or in the file of --config.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/join_world.h"
#include "packages/model_fields.h"
#include "parallel/mesh.h"

namespace ospnext {

struct ServeConfig {
  ModelFields model;
  std::string model_name;
  std::string loras;
  std::vector<std::string> devices{"auto"};
  std::string precision = "auto";
  bool offload = false;
  int64_t batch = 1;
  MeshFields mesh;
  WorldFields world;
  std::string host = "127.0.0.1";
  int64_t port = 8000;
  std::string data = "serve";
  std::string keys;
  std::string new_key;
  bool open_to_all = false;
  std::vector<std::string> origins;
  std::vector<std::string> webhooks;
  std::string webhook_secret;
  std::string container = "mp4";
  int64_t preview = 10;
  int64_t max_queued = 64;
  int64_t max_prompt = 4000;
  int64_t max_width = 1280;
  int64_t max_height = 1280;
  int64_t max_frames = 161;
  int64_t max_steps = 100;
  int64_t max_minutes = 120;
  int64_t max_per_minute = 60;
  int64_t max_body = 1 << 20;
  int64_t max_connections = 1024;
  double max_disk_gb = 100;
  double keep_hours = 168;
  int64_t lease_seconds = 10;
  int64_t drain_seconds = 60;
  bool log_requests = false;
  bool log_prompts = false;

  template <class Visitor>
  void visit(Visitor&& field) {
    model.visit(field);
    field("model_name", model_name, "the model's name for clients; without it, its folder's");
    field("loras", loras, "folder of LoRAs that clients may name, by the names of its files");
    field("devices", devices, "cpu, cuda or cuda:N; a worker for each that is named; auto: one");
    field("precision", precision, "as that of generate");
    field("offload", offload, "keep the transformer's blocks in host memory, as generate does");
    field(
        "batch", batch,
        "videos of the same size, length and steps that are made together, at most: as one batch, "
        "or by groups of the processes at the same time");
    mesh.visit(field);
    world.visit(field);
    field("host", host, "address to listen on; others than the own machine's need `keys`");
    field("port", port, "port to listen on; 0: a free one");
    field("data", data, "folder of the database and the videos; it may belong to several servers");
    field("keys", keys, "file of the keys that open the API, from `new_key`");
    field("new_key", new_key, "name of a key to draw and print, with its line for `keys`, instead");
    field("open_to_all", open_to_all, "listen on any address without keys");
    field("origins", origins, "pages of other hosts that may use the API: https://example.org");
    field("webhooks", webhooks,
          "addresses that may be told of the end of videos: https://hooks.example.org");
    field("webhook_secret", webhook_secret,
          "file with whsec_ and the base64 of the key that signs webhooks");
    field("container", container, "of the videos: mp4 or webm");
    field("preview", preview, "steps between two previews; 0: none");
    field("max_queued", max_queued, "videos that may wait; more are refused with status 429");
    field("max_prompt", max_prompt, "characters of a prompt");
    field("max_width", max_width, "pixels");
    field("max_height", max_height, "pixels");
    field("max_frames", max_frames, "frames of a video");
    field("max_steps", max_steps, "denoising steps");
    field("max_minutes", max_minutes, "time to make a video, after which it fails");
    field("max_per_minute", max_per_minute, "videos that a key may ask for in a minute; 0: any");
    field("max_body", max_body, "bytes of a request");
    field("max_connections", max_connections, "clients at a time");
    field("max_disk_gb", max_disk_gb, "size of the videos together, above which none is accepted");
    field("keep_hours", keep_hours, "time that a video is kept after its end; 0: for ever");
    field("lease_seconds", lease_seconds,
          "silence of a server after which another one, or the same after a restart, makes its "
          "videos");
    field("drain_seconds", drain_seconds,
          "time that a video may still take after SIGTERM; then it goes back into the queue");
    field("log_requests", log_requests, "a line for each request on standard error");
    field("log_prompts", log_prompts, "prompts in the log, too");
  }

  // Throws InputError with the field, the value and the rule.
  void check() const;
};

}  // namespace ospnext
