// The UMT5 tokenizer: a prompt to the ids the text encoder reads, and training of a small one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ospnext {

// A SentencePiece unigram model with T5's special tokens: <pad>, </s> and 300 <extra_id_k>, whose ids
// follow the pieces in falling order of k. Special tokens, the model's own control and user-defined
// pieces among them, are recognised in the text; the text between them is tokenised piece by piece with
// a leading blank each. Characters that the pieces cannot spell become one <unk> a run, or bytes where
// the model has byte fallback.
// Source: transformers 4.57 convert_slow_tokenizer.py:T5Converter with add_prefix_space.
class Tokenizer {
 public:
  struct Tokens {
    std::vector<int64_t> ids;   // [max_length]
    std::vector<int64_t> mask;  // [max_length] ones, then zeros for padding
  };

  // From a spiece.model, or the folder that holds it. Throws InputError naming the file when there is
  // none, or when it is not a model this class can use.
  explicit Tokenizer(const std::filesystem::path& file);
  // From the bytes of a spiece.model, such as a checkpoint's tensor "spiece_model"; `origin` names them
  // in errors.
  Tokenizer(std::string_view bytes, const std::string& origin);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // Ids of `cleaned` (see clean_prompt) and </s> behind them, cut so that </s> is always last, filled up
  // with <pad>. max_length >= 1.
  Tokens encode(std::string_view cleaned, int64_t max_length) const;

  // Pieces and extra ids: all ids are below it. UMT5's is 256300.
  int64_t vocab_size() const;

 private:
  struct Model;
  std::unique_ptr<const Model> model_;
};

// Trains a unigram model of at most `vocab_size` pieces (fewer when the sentences do not give them); the bytes of
// its spiece.model: ids 0..3 are <pad>, </s>, <s>, <unk>; words of the sentences are pieces as far
// as `vocab_size` allows, and so are all printable ASCII characters, so that any English word can be
// spelled; text is not normalised. The same arguments give the
// same bytes. Throws InputError when the sentences or the size do not allow it.
std::string trained_tokenizer(const std::vector<std::string>& sentences, int64_t vocab_size,
                              uint64_t seed);
// Writes one to `output`. Throws RunError, too, when the file cannot be written.
void train_tokenizer(const std::vector<std::string>& sentences, int64_t vocab_size,
                     const std::filesystem::path& output, uint64_t seed);

}  // namespace ospnext
