// Training of a small tokenizer with the sentencepiece library.
#include <sentencepiece_trainer.h>

#include <fstream>
#include <sstream>
#include <unordered_map>

#include "core/error.h"
#include "text/tokenizer.h"

namespace ospnext {
namespace {

// Iterates over all sentences, then over all sentences with a comma after each word. The trainer
// accepts a run of characters as a piece only if it occurs in two different words, and a small
// corpus has few words. With "red," as the second word, "red" becomes one piece instead of letters.
class Sentences : public sentencepiece::SentenceIterator {
 public:
  explicit Sentences(const std::vector<std::string>& sentences) : sentences_(sentences) { read(); }
  bool done() const override { return next_ == 2 * sentences_.size(); }
  void Next() override {
    ++next_;
    read();
  }
  const std::string& value() const override { return value_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  void read() {
    if (next_ < sentences_.size()) {
      value_ = sentences_[next_];
    } else if (!done()) {
      std::istringstream words(sentences_[next_ - sentences_.size()]);
      value_.clear();
      for (std::string word; words >> word;) {
        value_ += (value_.empty() ? "" : " ") + word + ",";
      }
    }
  }

  const std::vector<std::string>& sentences_;
  size_t next_ = 0;
  std::string value_;
};

std::string printable_ascii() {
  std::string characters;
  for (char c = '!'; c <= '~'; ++c) {
    characters.push_back(c);
  }
  return characters;
}

// Writes a temporary file first and renames it, so that a failure leaves no incomplete `output`.
void write_file(const std::filesystem::path& output, const std::string& bytes) {
  std::filesystem::path temporary = output;
  temporary += ".partial";
  std::ofstream file(temporary, std::ios::binary);
  file << bytes;
  file.close();
  std::error_code error;
  if (file) {
    std::filesystem::rename(temporary, output, error);
  }
  if (!file || error) {
    std::filesystem::remove(temporary, error);
    throw RunError(output.string() + ": the tokenizer could not be written");
  }
}

}  // namespace

std::string trained_tokenizer(const std::vector<std::string>& sentences, int64_t vocab_size,
                              uint64_t seed) {
  const std::unordered_map<std::string, std::string> options{
      {"model_type", "unigram"},
      {"vocab_size", std::to_string(vocab_size)},
      {"hard_vocab_limit", "false"},
      {"pad_id", "0"},
      {"eos_id", "1"},
      {"bos_id", "2"},
      {"unk_id", "3"},
      {"character_coverage", "1.0"},
      {"required_chars", printable_ascii()},
      {"normalization_rule_name", "identity"},
      {"max_sentence_length", "65536"},
      {"num_threads", "1"},  // a fixed order of summation
      {"minloglevel", "2"},
  };
  sentencepiece::SetRandomGeneratorSeed(static_cast<unsigned int>(seed));
  Sentences iterator(sentences);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &iterator, &model);
  if (!status.ok()) {
    throw InputError("tokenizer training: found " + std::to_string(sentences.size()) +
                     " sentences for " + std::to_string(vocab_size) +
                     " pieces, which sentencepiece refuses (" + status.ToString() +
                     "); expected enough of both");
  }
  return model;
}

void train_tokenizer(const std::vector<std::string>& sentences, int64_t vocab_size,
                     const std::filesystem::path& output, uint64_t seed) {
  write_file(output, trained_tokenizer(sentences, vocab_size, seed));
}

}  // namespace ospnext
