// ospnext score: scores video files by rewards.
#include <unistd.h>

#include <iostream>

#include "cli/commands.h"
#include "core/extension.h"
#include "core/log.h"
#include "io/output_file.h"
#include "rl/file_scores.h"

namespace ospnext {
namespace {

struct ScoreCommand {
  FileScoringConfig scoring;
  std::string output;

  void check_output() const {
    if (output.empty()) {
      return;
    }
    const std::string ending = extension_of(output);
    if (ending != ".json" && ending != ".csv") {
      throw InputError("`output`: found " + output +
                       ", expected a name that ends in .json or .csv");
    }
    check_writable(output, "`output`");
  }

  template <class Visitor>
  void visit(Visitor&& field) {
    scoring.visit(field);
    field("output", output, "file of all numbers, .json or .csv");
  }
};

void warn_of_errors(const std::vector<ScoredFile>& files) {
  for (const ScoredFile& file : files) {
    for (const VideoScore& score : file.scores) {
      if (!score.error.empty()) {
        warn(file.video + ": no score: " + score.error);
      }
    }
  }
}

}  // namespace

void run_score(const Arguments& arguments, const CancellationToken& cancel) {
  ScoreCommand config;
  if (!parse_flags("score", "Score video files by rewards.", arguments, config)) {
    return;
  }
  config.scoring.check();
  config.check_output();
  Progress progress(&std::cerr, isatty(STDERR_FILENO) != 0);
  const FileScores scores = score_files(config.scoring, progress, cancel);
  warn_of_errors(scores.files);
  if (!config.output.empty()) {
    const bool is_json = extension_of(config.output) == ".json";
    write_text_file(config.output,
                    is_json ? scores_to_json(scores).dump(
                                  1, ' ', false, nlohmann::json::error_handler_t::replace) +
                                  "\n"
                            : scores_to_csv(scores));
  }
  std::cout << score_table(scores);
}

}  // namespace ospnext
