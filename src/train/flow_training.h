// Flow-matching training of a transformer and its text encoder on procedural clips, or of a
// transformer on encoded ones.
#pragma once

#include "engine/join_world.h"
#include "train/lora_training.h"
#include "train/sample_clips.h"
#include "train/training_blocks.h"
#include "train/training_ranks.h"
#include "train/training_run.h"

namespace ospnext {

struct FlowTrainingConfig : TrainingConfig {
  std::string initial_model;           // model folder to start from; empty: random weights
  std::vector<int64_t> insert_blocks;  // of the initial model, each followed by a new one
  std::vector<std::string> trained;    // patterns of names of weights; empty: all are trained
  LoraTrainingFields lora;
  std::string transformer_config = "configs/tiny/transformer.json";
  std::string text_encoder_config = "configs/tiny/text_encoder.json";
  // Defaults of generate for the finished model.
  std::string generation_config = "configs/tiny/generation_config.json";
  // Trained on captions if the file does not exist.
  std::string tokenizer = "models/tiny/tokenizer/spiece.model";
  std::string vae = "models/tiny/vae";  // folder
  std::string encoded_clips;            // folder of clips to train on instead of procedural ones
  std::string latent_cache;  // file that keeps the encoded clips; empty: encode at every start
  std::vector<std::string> sizes = {"128x128", "112x144", "144x112"};  // height x width
  int64_t clips = 24000;      // training clips, if they are procedural
  double two_objects = 0.25;  // share of clips with two objects
  double patterned = 0.5;     // share of clips with a patterned background
  // How often circle, square, triangle, star, cross and ring are shown, relative to each other.
  std::vector<double> shape_shares = {1, 1, 1, 1, 1, 1};
  int64_t batch_size = 256;
  int64_t validation_clips = 16;
  double shift = 3.0;          // of the noise level; a larger shift trains more at high noise
  bool dynamic_shift = false;  // OSP-Next's, instead of `shift`
  double text_dropout = 0.1;   // share of captions replaced by the empty one, for guidance
  bool cuda_graph = true;      // on one GPU, record a step once per frame size and replay it
  SampleFields samples;
  TrainingMeshFields mesh;
  CheckpointingFields checkpointing;
  WorldFields world;

  // Throws InputError naming flag, value and rule.
  void check() const;

  template <class Visitor>
  void visit(Visitor&& field) {
    TrainingConfig::visit(field);
    field("initial_model", initial_model, "model folder to go on from, instead of from nothing");
    field("insert_blocks", insert_blocks,
          "blocks of the initial model behind which a new one is put, a number for each new one");
    field("trained", trained,
          "train only weights of these names, the others stay frozen: transformer.blocks.0.ffn.0"
          ".weight, text_encoder.norm.weight, with * for any characters; may be repeated");
    lora.visit(field);
    field("transformer_config", transformer_config, "JSON file of the transformer's sizes");
    field("text_encoder_config", text_encoder_config, "JSON file of the text encoder's sizes");
    field("generation_config", generation_config, "JSON file of the finished model's defaults");
    field("tokenizer", tokenizer, "SentencePiece model; made from captions when it is not there");
    field("vae", vae, "folder of the VAE that encodes the clips");
    field("encoded_clips", encoded_clips,
          "folder that encode wrote: train the transformer of `initial_model` on its clips and "
          "captions, instead of on procedural clips");
    field("latent_cache", latent_cache, "file that keeps the encoded clips between runs");
    field("sizes", sizes, "frame sizes, height x width; the first takes half of the clips");
    field("clips", clips, "training clips");
    field("two_objects", two_objects, "share of the clips that show two objects");
    field("patterned", patterned, "share of the clips with a pattern on the background");
    field("shape_shares", shape_shares,
          "how often circle, square, triangle, star, cross and ring are shown, relative to each "
          "other");
    field("batch_size", batch_size, "clips of a pass, of all processes together");
    field("validation_clips", validation_clips, "held-out clips of a validation");
    field("shift", shift, "shift of the noise level; larger trains more at high noise");
    field("dynamic_shift", dynamic_shift,
          "let the size of the latent decide on the shift instead of `shift`, as OSP-Next does");
    field("text_dropout", text_dropout, "share of captions replaced by the empty one");
    field("cuda_graph", cuda_graph,
          "on one GPU, record a step's kernels and replay them; not with `offload_weights`");
    samples.visit(field);
    mesh.visit(field);
    checkpointing.visit(field);
    world.visit(field);
  }
};

// Trains, then writes the model folder `output`/model/ that generate reads, or the LoRA
// `output`/lora/ that it takes beside the initial model. Returns true when all
// steps are done, false when max_seconds ended the run with a checkpoint. All processes of the run
// (ospnext launch) call it. Throws InputError, RunError and Cancelled.
bool train_flow(const FlowTrainingConfig& config, Progress& progress,
                const CancellationToken& cancel);

}  // namespace ospnext
