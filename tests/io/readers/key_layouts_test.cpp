// Names of diffusers, transformers and wrapped checkpoints map one to one to Wan's names.
#include "io/readers/key_layouts.h"

#include <algorithm>
#include <set>

#include "io/readers/bounded_json.h"
#include "io/readers/key_rewriting.h"
#include "io/readers/reader_support.h"

namespace ospnext {
namespace {

using Names = std::set<std::string>;

// Tensor names of the library's module, from the fixture.
std::vector<std::string> library_names(const std::string& title) {
  const auto json = read_json_file(fixture_path("readers/names.json"));
  std::vector<std::string> names;
  for (const auto& [name, shape] : json.at(title).items()) {
    names.push_back(name);
  }
  return names;
}

void add(Names& names, const std::string& prefix, const std::vector<std::string>& ends) {
  for (const std::string& end : ends) {
    names.insert(prefix + end);
  }
}

const std::vector<std::string> kWeightBias{"weight", "bias"};

// Names of Wan's transformer. Source: Wan2.1 wan/modules/model.py.
Names wan_transformer_names(int layers) {
  Names names;
  for (const char* layer :
       {"patch_embedding.", "text_embedding.0.", "text_embedding.2.", "time_embedding.0.",
        "time_embedding.2.", "time_projection.1.", "head.head."}) {
    add(names, layer, kWeightBias);
  }
  names.insert("head.modulation");
  for (int n = 0; n < layers; ++n) {
    const std::string block = "blocks." + std::to_string(n) + ".";
    for (const std::string attention : {"self_attn.", "cross_attn."}) {
      for (const std::string layer : {"q.", "k.", "v.", "o."}) {
        add(names, block + attention + layer, kWeightBias);
      }
      add(names, block + attention, {"norm_q.weight", "norm_k.weight"});
    }
    for (const std::string layer : {"norm3.", "ffn.0.", "ffn.2."}) {
      add(names, block + layer, kWeightBias);
    }
    names.insert(block + "modulation");
  }
  return names;
}

// Names of Wan's UMT5. Source: Wan2.1 wan/modules/t5.py.
Names wan_umt5_names(int layers) {
  Names names{"token_embedding.weight", "norm.weight"};
  for (int n = 0; n < layers; ++n) {
    add(names, "blocks." + std::to_string(n) + ".",
        {"norm1.weight", "attn.q.weight", "attn.k.weight", "attn.v.weight", "attn.o.weight",
         "norm2.weight", "ffn.gate.0.weight", "ffn.fc1.weight", "ffn.fc2.weight",
         "pos_embedding.embedding.weight"});
  }
  return names;
}

void add_residual(Names& names, const std::string& place, bool shortcut) {
  add(names, place, {".residual.0.gamma", ".residual.3.gamma"});
  add(names, place + ".residual.2.", kWeightBias);
  add(names, place + ".residual.6.", kWeightBias);
  if (shortcut) {
    add(names, place + ".shortcut.", kWeightBias);
  }
}

void add_resample(Names& names, const std::string& place, bool temporal) {
  add(names, place + ".resample.1.", kWeightBias);
  if (temporal) {
    add(names, place + ".time_conv.", kWeightBias);
  }
}

void add_coder_ends(Names& names, const std::string& coder) {
  add(names, coder + "conv1.", kWeightBias);
  add(names, coder + "head.2.", kWeightBias);
  names.insert(coder + "head.0.gamma");
  add_residual(names, coder + "middle.0", false);
  names.insert(coder + "middle.1.norm.gamma");
  add(names, coder + "middle.1.to_qkv.", kWeightBias);
  add(names, coder + "middle.1.proj.", kWeightBias);
  add_residual(names, coder + "middle.2", false);
}

// Names of Wan's VAE: flat lists of residual blocks and resamplings. Upsampling halves the
// channels. Source: Wan2.1 wan/modules/vae.py:Encoder3d, Decoder3d.
Names wan_vae_names(const std::vector<int>& dim_mult, int blocks, const std::vector<bool>& down) {
  Names names;
  add(names, "conv1.", kWeightBias);
  add(names, "conv2.", kWeightBias);
  add_coder_ends(names, "encoder.");
  add_coder_ends(names, "decoder.");
  const size_t levels = dim_mult.size();
  int place = 0;
  int channels = 1;
  for (size_t i = 0; i < levels; ++i) {
    for (int j = 0; j < blocks; ++j, ++place, channels = dim_mult[i]) {
      add_residual(names, "encoder.downsamples." + std::to_string(place), channels != dim_mult[i]);
    }
    if (i + 1 < levels) {
      add_resample(names, "encoder.downsamples." + std::to_string(place++), down[i]);
    }
  }
  place = 0;
  double wide = dim_mult.back();
  for (size_t i = 0; i < levels; ++i) {
    const int out = dim_mult[levels - 1 - i];
    for (int j = 0; j <= blocks; ++j, ++place, wide = out) {
      add_residual(names, "decoder.upsamples." + std::to_string(place), wide != out);
    }
    if (i + 1 < levels) {
      add_resample(names, "decoder.upsamples." + std::to_string(place++), down[levels - 2 - i]);
      wide = out / 2.0;
    }
  }
  return names;
}

// The results of `rename` for the names, without "". Two equal results fail the test.
template <class Rename>
Names renamed(const std::vector<std::string>& names, Rename&& rename) {
  Names results;
  for (const std::string& name : names) {
    const std::string key = rename(name);
    if (!key.empty() && !results.insert(key).second) {
      results.insert("twice: " + key);
    }
  }
  return results;
}

// Expects that `rename` maps `from` to `to`, one to one, and leaves `to` unchanged.
template <class Rename>
void expect_onto(const std::vector<std::string>& from, const Names& to, Rename&& rename) {
  EXPECT_EQ(renamed(from, rename), to);
  EXPECT_EQ(renamed({to.begin(), to.end()}, rename), to);
}

TEST(KeyLayouts, TransformerOfDiffusersMapsOntoWan) {
  const Names wan = wan_transformer_names(30);
  EXPECT_EQ(wan.size(), 825U);
  expect_onto(library_names("transformer"), wan, canonical_transformer_key);
}

TEST(KeyLayouts, NormBeforeCrossAttentionChangesItsNumber) {
  EXPECT_EQ(canonical_transformer_key("blocks.7.norm2.weight"), "blocks.7.norm3.weight");
}

TEST(KeyLayouts, Umt5OfTransformersMapsOntoWan) {
  const Names wan = wan_umt5_names(24);
  EXPECT_EQ(wan.size(), 242U);
  expect_onto(library_names("umt5"), wan, canonical_umt5_key);
}

TEST(KeyLayouts, VaeOfDiffusersMapsOntoWanForAnyConfiguration) {
  const Names full = wan_vae_names({1, 2, 4, 4}, 2, {false, true, true});
  EXPECT_EQ(full.size(), 194U);
  const std::pair<const char*, Names> cases[] = {
      {"vae", full},
      {"vae_one_block", wan_vae_names({1, 2, 4, 4}, 1, {false, true, true})},
      {"vae_three_levels", wan_vae_names({1, 2, 2}, 3, {true, false})},
  };
  for (const auto& [title, wan] : cases) {
    SCOPED_TRACE(title);
    const auto names = library_names(title);
    const auto offsets = up_block_offsets(names);
    expect_onto(names, wan,
                [&](const std::string& name) { return canonical_vae_key(name, offsets); });
  }
}

TEST(KeyLayouts, PlantedMistakesAreSeen) {
  const Names transformer = wan_transformer_names(30);
  const auto without_swap = [](const std::string& name) {
    const bool swapped = name.find(".norm2.") != name.npos;
    return swapped ? name : canonical_transformer_key(name);
  };
  EXPECT_NE(renamed(library_names("transformer"), without_swap), transformer);
  // offsets counted with two residual blocks, names of a VAE with one
  const auto names = library_names("vae_one_block");
  const auto offsets = up_block_offsets(library_names("vae"));
  EXPECT_NE(
      renamed(names, [&](const std::string& name) { return canonical_vae_key(name, offsets); }),
      wan_vae_names({1, 2, 4, 4}, 1, {false, true, true}));
}

TEST(KeyLayouts, WrappersAreStripped) {
  for (const char* prefix : {"module.", "_orig_mod.", "model.", "model.diffusion_model.", "net.",
                             "state_dict.module._orig_mod.", "model.module.", "model.model."}) {
    EXPECT_EQ(canonical_transformer_key(prefix + std::string("blocks.0.ffn.0.bias")),
              "blocks.0.ffn.0.bias");
  }
  EXPECT_EQ(canonical_transformer_key("blocks.3._orig_mod.attn1.to_q.weight"),
            "blocks.3.self_attn.q.weight");
  EXPECT_EQ(canonical_umt5_key("module.encoder.block.1.layer.0.SelfAttention.q.weight"),
            "blocks.1.attn.q.weight");
  EXPECT_EQ(canonical_vae_key("state_dict.encoder.conv_in.bias", {}), "encoder.conv1.bias");
}

// A checkpoint with tensors of these names.
Checkpoint checkpoint_of(const std::vector<std::string>& names) {
  TensorMap tensors;
  for (const std::string& name : names) {
    tensors[name] = TensorRecord{DType::kU8, {0}, {1}, nullptr, 0};
  }
  return Checkpoint("file", {}, std::move(tensors), {});
}

// The names of `title` with the prefix `wrapper` and, inside layers, `inner` before the last part.
std::vector<std::string> wrapped_names(const std::string& title, const std::string& wrapper,
                                       const std::string& inner) {
  std::vector<std::string> names;
  for (std::string name : library_names(title)) {
    const size_t dot = name.rfind('.');
    names.push_back(wrapper + name.insert(dot == name.npos ? 0 : dot + 1, inner));
  }
  return names;
}

constexpr std::pair<const char*, KeyMap (*)(const Checkpoint&)> kKinds[] = {
    {"transformer", transformer_keys}, {"umt5", umt5_keys}, {"vae", vae_keys}};

TEST(KeyLayouts, WhatStandsBeforeAllNamesAlikeIsAWrapper) {
  for (const auto& [title, keys_of] : kKinds) {
    const auto plain = library_names(title);
    const Names expected = renamed(plain, keys_of(checkpoint_of(plain)));
    for (const std::string wrapper :
         {"_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module.",
          "generator_ema.model.", "ema.", "model_state_dict.", "dit.", "transformer.",
          "base_model.model.", "what.nobody.has.heard.of.", "model.diffusion_model.",
          "_forward_module.module._fsdp_wrapped_module._orig_mod.", "state_dict.module.model."}) {
      for (const std::string inner :
           {"", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.module.",
            "base_layer.", "_fsdp_wrapped_module._checkpoint_wrapped_module."}) {
        const auto names = wrapped_names(title, wrapper, inner);
        EXPECT_EQ(renamed(names, keys_of(checkpoint_of(names))), expected)
            << title << " " << wrapper << " " << inner;
      }
    }
  }
}

TEST(KeyLayouts, NamesBehindNoWrapperOfTheModelStayAsTheyAre) {
  auto names = wrapped_names("transformer", "model.", "");
  names.push_back("optimizer.state.blocks.0.attn1.to_q.weight.exp_avg");
  names.push_back("step");
  const KeyMap keys = transformer_keys(checkpoint_of(names));
  EXPECT_EQ(keys("optimizer.state.blocks.0.attn1.to_q.weight.exp_avg"),
            "optimizer.state.blocks.0.attn1.to_q.weight.exp_avg");
  EXPECT_EQ(keys("step"), "step");
  EXPECT_EQ(keys("model.blocks.0.attn1.to_q.weight"), "blocks.0.self_attn.q.weight");
}

TEST(KeyLayouts, TwoModelsInOneFileAreRefusedByTheirWrappers) {
  for (const auto& [title, keys_of] : kKinds) {
    for (const auto& [one, other] :
         {std::pair<std::string, std::string>{"generator.model.", "generator_ema.model."},
          {"model.", "ema."},
          {"", "ema."}}) {
      auto names = wrapped_names(title, one, "");
      const auto more = wrapped_names(title, other, "");
      names.insert(names.end(), more.begin(), more.end());
      expect_refused([&, keys = keys_of] { keys(checkpoint_of(names)); }, "file",
                     "found 2, with names behind ");
      expect_refused([&, keys = keys_of] { keys(checkpoint_of(names)); }, "file",
                     "\"" + other + "\"");
    }
  }
}

TEST(KeyLayouts, AWrapperLetsNoOtherModelIn) {
  for (const auto& names : std::vector<std::vector<std::string>>{
           {"model.diffusion_model.transformer_blocks.0.attn.to_q.weight"},
           {"diffusion_model.vace_blocks.0.modulation"},
           {"model.blocks_0.modulation", "xhead.modulation", "my_patch_embedding.weight"},
           {"optimizer.blocks.0.modulation.exp_avg", "patch_embedding.weight.exp_avg"}}) {
    for (const auto& [title, keys_of] : kKinds) {
      expect_refused([&, keys = keys_of] { keys(checkpoint_of(names)); }, "file", "expected a ");
    }
  }
}

TEST(KeyLayouts, BlocksAreCountedByTheLargestNumber) {
  const auto count = [](const std::vector<std::string>& names) {
    TensorShapes shapes;
    for (const std::string& name : names) {
      shapes[name] = {};
    }
    return count_blocks(shapes, "blocks.", "file");
  };
  EXPECT_EQ(count({}), 0);
  EXPECT_EQ(count({"blocks.x", "blocks.1e3.a", "blocks.-1.a", "xblocks.7.a", "blocks.123456.a"}),
            0);
  EXPECT_EQ(count({"blocks.0.a", "blocks.1.b", "blocks.2.a", "blocks.10", "head.a"}), 3);
  expect_refused(
      [&] {
        count({"blocks.0.a", "blocks.2.a", "blocks.4.a"});
      },
      "file", "2 of 5 blocks are missing: blocks.1, blocks.3");
  expect_refused(
      [&] {
        count({"blocks.0.a", "blocks.9999.x"});
      },
      "file",
      "9998 of 10000 blocks are missing: blocks.1, blocks.2, blocks.3, blocks.4, "
      "blocks.5 and 9993 more");
}

TEST(KeyLayouts, EachModelIsRecognisedAndOthersAreRefused) {
  for (const auto& [title, unused] : kKinds) {
    for (const auto& [kind, keys] : kKinds) {
      const Checkpoint checkpoint = checkpoint_of(library_names(title));
      if (std::string(title) == kind) {
        EXPECT_NO_THROW(keys(checkpoint));
      } else {
        expect_refused([&] { keys(checkpoint); }, "file", "expected a ");
      }
    }
  }
  expect_refused([] { vae_keys(checkpoint_of({})); }, "file", "found no tensors");
}

TEST(KeyLayouts, TheWayBackGivesTheLibrariesNames) {
  const auto there_and_back = [](const std::string& title, const KeyMap& there,
                                 const auto& way_back) {
    const std::vector<std::string> names = library_names(title);
    std::vector<std::string> ours;
    for (const std::string& name : names) {
      ours.push_back(there(name));
    }
    const KeyMap back = way_back(ours);
    for (size_t i = 0; i < names.size(); ++i) {
      EXPECT_EQ(ours[i].empty() ? names[i] : back(ours[i]), names[i]) << title;
    }
  };
  there_and_back("transformer", canonical_transformer_key,
                 [](const auto&) { return diffusers_transformer_key; });
  there_and_back("umt5", canonical_umt5_key, [](const auto&) { return hugging_face_umt5_key; });
  for (const char* title : {"vae", "vae_one_block", "vae_three_levels"}) {
    const auto offsets = up_block_offsets(library_names(title));
    there_and_back(
        title, [&](const std::string& name) { return canonical_vae_key(name, offsets); },
        diffusers_vae_keys);
  }
}

TEST(KeyLayouts, EncodersOwnEmbeddingServesWhenItIsTheOnlyOne) {
  const std::string tied = "encoder.embed_tokens.weight";
  const std::string block = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight";
  EXPECT_EQ(umt5_keys(checkpoint_of({tied, block, "shared.weight"}))(tied), "");
  EXPECT_EQ(umt5_keys(checkpoint_of({tied, block}))(tied), "token_embedding.weight");
  EXPECT_EQ(canonical_umt5_key("spiece_model"), "");
}

TEST(KeyLayouts, ModelsOfOtherKindsAreRefusedWithTheReason) {
  const auto refused = [](KeyMap (*keys)(const Checkpoint&), std::vector<std::string> names,
                          const std::string& what) {
    expect_refused([&] { keys(checkpoint_of(names)); }, "file", what);
  };
  refused(transformer_keys, {"head.modulation", "img_emb.proj.0.bias"}, "image-to-video");
  refused(transformer_keys, {"head.modulation", "blocks.0.cross_attn.k_img.weight"},
          "image-to-video");
  refused(transformer_keys, {"scale_shift_table", "blocks.0.attn2.add_k_proj.weight"},
          "image-to-video");
  refused(vae_keys, {"decoder.conv1.weight", "decoder.upsamples.0.upsamples.0.residual.2.weight"},
          "Wan2.2");
  refused(vae_keys, {"decoder.conv_in.weight", "decoder.up_blocks.0.upsampler.resample.1.weight"},
          "Wan2.2");
}

TEST(KeyLayouts, HostileNumbersStayNames) {
  const std::vector<std::string> names{
      "decoder.up_blocks.99999999999999999999.resnets.0.norm1.gamma",
      "decoder.up_blocks.-1.resnets.0.norm1.gamma",
      "decoder.up_blocks.0.resnets.123456789.norm1.gamma",
      "decoder.up_blocks.",
      "decoder.up_blocks.0",
      "decoder.up_blocks.0."};
  const auto offsets = up_block_offsets(names);
  for (const std::string& name : names) {
    EXPECT_EQ(canonical_vae_key(name, offsets), name);
  }
}

}  // namespace
}  // namespace ospnext
