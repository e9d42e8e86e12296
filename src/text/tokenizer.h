// The UMT5 tokenizer: turns a prompt into the token ids that the text encoder reads. Also trains
// small tokenizers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ospnext {

// A SentencePiece unigram model with T5's special tokens: <pad>, </s>, and 300 tokens <extra_id_k>.
// The ids of the latter follow those of the pieces, in descending order of k. Control and
// user-defined pieces of the model are special tokens too. Special tokens are recognised in the
// text. Each part of the text between them is tokenised on its own, with a blank put in front. A
// run of characters that no piece covers becomes one <unk>, or bytes if the model has byte
// fallback.
// Source: transformers 4.57 convert_slow_tokenizer.py:T5Converter with add_prefix_space.
class Tokenizer {
 public:
  struct Tokens {
    std::vector<int64_t> ids;   // [max_length]
    std::vector<int64_t> mask;  // [max_length] ones, then zeros for padding
    int64_t found = 0;          // tokens of the whole text, </s> among them
  };

  // Reads a spiece.model, or the one in the folder `file`. Throws an InputError that names the file
  // when it does not exist or is not a model that this class can use.
  explicit Tokenizer(const std::filesystem::path& file);
  // Takes the bytes of a spiece.model, such as a checkpoint's tensor "spiece_model". Errors begin
  // with `origin`.
  Tokenizer(std::string_view bytes, const std::string& origin);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // The ids of `cleaned`, a prompt after clean_prompt(), truncated to max_length - 1, then </s>,
  // then <pad> up to max_length >= 1.
  Tokens encode(std::string_view cleaned, int64_t max_length) const;

  // The number of pieces and extra ids. All ids are below it. 256300 for UMT5.
  int64_t vocab_size() const;

 private:
  struct Model;
  std::unique_ptr<const Model> model_;
};

// Trains a unigram model with at most `vocab_size` pieces (fewer if the sentences do not contain
// enough) and returns the bytes of its spiece.model. Ids 0 to 3 are <pad>, </s>, <s>, <unk>. All
// printable ASCII characters are pieces, so that every English word can be spelled; words of the
// sentences are pieces as far as `vocab_size` allows. The model does not normalise text. The same
// arguments give the same bytes. Throws InputError when the sentences do not suffice or the size is
// too small.
std::string trained_tokenizer(const std::vector<std::string>& sentences, int64_t vocab_size,
                              uint64_t seed);
// Writes the bytes of trained_tokenizer() to `output`. Also throws RunError, when the file cannot
// be written.
void train_tokenizer(const std::vector<std::string>& sentences, int64_t vocab_size,
                     const std::filesystem::path& output, uint64_t seed);

}  // namespace ospnext
