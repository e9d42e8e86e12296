// Compares the tokenizer with transformers and sentencepiece (tools/make_text_fixtures.py).
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "core/error.h"
#include "support/paths.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

using Ids = std::vector<int64_t>;
const std::filesystem::path kFolder = fixture_path("text");

std::string bytes_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream bytes;
  bytes << stream.rdbuf();
  return bytes.str();
}

nlohmann::json cases_of(const char* model) {
  std::ifstream file(kFolder / "tokens.json");
  return nlohmann::json::parse(file).at(model);
}

bool contains(const Ids& ids, int64_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// The ids of sentencepiece, truncated, with </s> and padding.
Ids finished(Ids ids, size_t length) {
  ids.resize(std::min(ids.size(), length - 1));
  ids.push_back(1);
  ids.resize(length, 0);
  return ids;
}

bool has_special_token(const std::string& text) {
  for (const char* token : {"<pad>", "</s>", "<s>", "<unk>", "<extra_id_"}) {
    if (text.find(token) != std::string::npos) {
      return true;
    }
  }
  return false;
}

TEST(Tokenizer, EqualsTransformersOnAModelWithoutByteFallback) {
  const Tokenizer tokenizer(kFolder / "nfkc.model");
  int64_t compared = 0;
  for (const auto& item : cases_of("nfkc.model")) {
    const auto tokens = tokenizer.encode(item.at("text").get<std::string>(), item.at("max_length"));
    EXPECT_EQ(tokens.ids, item.at("fast").get<Ids>()) << item.at("text");
    EXPECT_EQ(tokens.mask, item.at("mask").get<Ids>()) << item.at("text");
    ++compared;
  }
  std::printf("tokens equal to transformers in %ld cases\n", compared);
  EXPECT_GT(compared, 300);
}

TEST(Tokenizer, EqualsSentencepieceWhereBytesSpellTheUnknown) {
  const Tokenizer tokenizer(kFolder / "bytes.model");
  int64_t as_transformers = 0;
  int64_t as_sentencepiece = 0;
  for (const auto& item : cases_of("bytes.model")) {
    const auto text = item.at("text").get<std::string>();
    const size_t length = item.at("max_length");
    const Ids ids = tokenizer.encode(text, static_cast<int64_t>(length)).ids;
    const auto fast = item.at("fast").get<Ids>();  // from a tokenizer without byte fallback
    if (!contains(fast, 3) && text.find("<0x") == std::string::npos) {
      EXPECT_EQ(ids, fast) << text;
      ++as_transformers;
    }
    if (!has_special_token(text)) {
      EXPECT_EQ(ids, finished(item.at("pieces").get<Ids>(), length)) << text;
      ++as_sentencepiece;
    }
  }
  std::printf("tokens equal to transformers in %ld, to sentencepiece in %ld cases\n",
              as_transformers, as_sentencepiece);
  EXPECT_GT(as_transformers, 100);
  EXPECT_GT(as_sentencepiece, 200);
}

TEST(Tokenizer, EmptyTextIsTheEndAndPadding) {
  const Tokenizer tokenizer(kFolder / "nfkc.model");
  EXPECT_EQ(tokenizer.encode("", 4).ids, (Ids{1, 0, 0, 0}));
  EXPECT_EQ(tokenizer.encode("", 4).mask, (Ids{1, 0, 0, 0}));
  EXPECT_EQ(tokenizer.encode("a small red circle", 1).ids, (Ids{1}));
}

TEST(Tokenizer, ExtraIdsFollowThePiecesInFallingOrder) {
  const Tokenizer tokenizer(kFolder / "nfkc.model");
  const int64_t size = tokenizer.vocab_size();
  for (const int64_t k : {0, 1, 42, 299}) {
    EXPECT_EQ(tokenizer.encode("<extra_id_" + std::to_string(k) + ">", 2).ids,
              (Ids{size - 1 - k, 1}));
  }
}

TEST(Tokenizer, ReadsBytesAndFoldersToo) {
  const std::string bytes = bytes_of(kFolder / "bytes.model");
  const Tokenizer from_bytes(bytes, "spiece_model");
  const TemporaryFolder folder;
  std::ofstream(folder / "spiece.model", std::ios::binary) << bytes;
  EXPECT_EQ(Tokenizer(folder.path()).encode("a red circle", 9).ids,
            from_bytes.encode("a red circle", 9).ids);
}

TEST(Tokenizer, ABrokenFileIsRefusedByName) {
  const TemporaryFolder folder;
  const auto file = folder / "broken.model";
  const std::string sound = bytes_of(kFolder / "nfkc.model");
  for (const std::string& bytes : {std::string(), std::string("no model"), sound.substr(0, 5000),
                                   sound.substr(0, sound.size() - 1), sound.substr(1)}) {
    std::ofstream(file, std::ios::binary) << bytes;
    try {
      Tokenizer tokenizer(file);
      FAIL() << "accepted " << bytes.size() << " bytes";
    } catch (const InputError& error) {
      EXPECT_EQ(std::string(error.what()).rfind(file.string(), 0), 0U) << error.what();
    }
  }
  EXPECT_THROW(Tokenizer(std::filesystem::path("/nowhere/spiece.model")), InputError);
  std::ofstream(file, std::ios::binary) << "version https://git-lfs.github.com/spec/v1\n";
  try {
    Tokenizer tokenizer(file);
    FAIL() << "accepted a pointer";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("Git LFS pointer"), std::string::npos) << error.what();
  }
}

// Models with random wrong bytes are refused or work. They never read outside their own memory.
TEST(Tokenizer, SurvivesHostileModels) {
  std::mt19937_64 random(17);
  int refused = 0;
  constexpr int kRounds = 400;
  for (int round = 0; round < kRounds; ++round) {
    std::string bytes = bytes_of(kFolder / (round % 2 == 0 ? "bytes.model" : "nfkc.model"));
    for (int flips = 1 + static_cast<int>(random() % 8); flips > 0; --flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    try {
      Tokenizer(bytes, "hostile").encode("a small ｆull é 🐉 <extra_id_1> circle", 32);
    } catch (const InputError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 0);
  EXPECT_LT(refused, kRounds);
}

TEST(TrainTokenizer, GivesTheSameBytesTwiceAndSpellsAnyEnglishWord) {
  std::vector<std::string> captions;
  for (const char* colour : {"red", "green", "blue"}) {
    for (const char* shape : {"circle", "square", "star"}) {
      captions.push_back(std::string("a ") + colour + " " + shape + " moves to the right");
    }
  }
  const TemporaryFolder folder;
  train_tokenizer(captions, 160, folder / "first.model", 1);
  train_tokenizer(captions, 160, folder / "second.model", 1);
  EXPECT_EQ(bytes_of(folder / "first.model"), bytes_of(folder / "second.model"));
  EXPECT_FALSE(std::filesystem::exists(folder / "first.model.partial"));

  const Tokenizer tokenizer(folder / "first.model");
  EXPECT_LE(tokenizer.vocab_size(), 160 + 300);
  for (const char* word : {"red", "green", "blue", "circle", "square", "star", "moves", "right"}) {
    const Ids ids = tokenizer.encode(word, 3).ids;  // each word of the captions is one piece
    EXPECT_GT(ids[0], 3) << word;
    EXPECT_EQ(ids[1], 1) << word;
  }
  EXPECT_FALSE(contains(tokenizer.encode("Zebras, \"quixotic\" & fast: 99% [~]!", 64).ids, 3));
  EXPECT_TRUE(contains(tokenizer.encode("雪", 4).ids, 3));
}

TEST(TrainTokenizer, RefusesTooFewPiecesAndNoSentences) {
  const TemporaryFolder folder;
  const auto file = folder / "refused.model";
  EXPECT_THROW(train_tokenizer({"a red circle"}, 8, file, 1), InputError);
  EXPECT_THROW(train_tokenizer({}, 200, file, 1), InputError);
  EXPECT_FALSE(std::filesystem::exists(file));
  EXPECT_THROW(train_tokenizer({"a red circle"}, 200, "/nowhere/refused.model", 1), RunError);
}

}  // namespace
}  // namespace ospnext
