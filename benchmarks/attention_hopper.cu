// Checks and times the attention kernel of src/kernels/attention_hopper.cu on a Hopper GPU, without
// torch.
//
//   attention_hopper [--quick] [--check] [--time] [--runs N] [--variant NAME]
//
// --check compares every variant with a plain fp32 kernel on awkward shapes, --quick on a few small
// shapes (for compute-sanitizer). --time measures. The exit status is 1 if a case fails. A build
// with -DATTENTION_TRAP=2 gives up waits after 2 seconds and prints them: use it for --check, not
// for --time. Build (one command):
//   nvcc -O3 -std=c++20 -gencode=arch=compute_90a,code=sm_90a -Isrc -Ibenchmarks
//     benchmarks/attention_hopper.cu src/kernels/value_columns.cu
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "attention_problem.cuh"
#include "kernels/attention_hopper.cu"

namespace ospnext::cuda {
namespace {

// variants

struct Keys128 : DefaultPlan {
  static constexpr int kKeys = 128;
};
struct Turns : DefaultPlan {
  static constexpr bool kTurns = true;
};
struct Fp8NoTurns : Fp8Plan {
  static constexpr bool kTurns = false;
};
struct NotEager : DefaultPlan {
  static constexpr bool kEager = false;
};
struct NotKept : DefaultPlan {
  static constexpr bool kKeep = false;
};
struct NoSlack : DefaultPlan {
  static constexpr int kSlack = 0;
};
struct Variant {
  const char* name;
  cudaError_t (*launch)(const AttentionArgs&, cudaStream_t);
};
const Variant kVariants[] = {
    {"default", launch_with<DefaultPlan, false>}, {"keys-128", launch_with<Keys128, false>},
    {"turns", launch_with<Turns, false>},         {"not-eager", launch_with<NotEager, false>},
    {"not-kept", launch_with<NotKept, false>},    {"no-slack", launch_with<NoSlack, false>},
};
const Variant kWithBias{"bias", launch_with<WithBias<DefaultPlan>, true>};
// For E4M3 queries and keys.
const Variant kFp8{"fp8", launch_with<Fp8Plan, false>};
const Variant kFp8NoTurns{"fp8-no-turns", launch_with<Fp8NoTurns, false>};
const Variant kFp8WithBias{"fp8-bias", launch_with<WithBias<Fp8Plan>, true>};
// For E4M3 queries, keys and values.
struct Fp8ValuesNoTurns : Fp8ValuesPlan {
  static constexpr bool kTurns = false;
};
struct Fp8ValuesNotEager : Fp8ValuesPlan {
  static constexpr bool kEager = false;
};
const Variant kFp8Values[] = {{"p8", launch_with<Fp8ValuesPlan, false>},
                              {"p8-no-turns", launch_with<Fp8ValuesNoTurns, false>},
                              {"p8-not-eager", launch_with<Fp8ValuesNotEager, false>}};
const Variant kFp8ValuesWithBias{"p8-bias", launch_with<WithBias<Fp8ValuesPlan>, true>};

// Whether waits of the last launch never ended. Prints them.
bool deadlocked() {
#ifdef ATTENTION_TRAP
  unsigned count = 0;
  CHECK_CUDA(cudaMemcpyFromSymbol(&count, hopper::deadlock_count, sizeof(count)));
  if (count == 0) {
    return false;
  }
  std::vector<hopper::Deadlock> waits(hopper::kDeadlocks);
  CHECK_CUDA(cudaMemcpyFromSymbol(waits.data(), hopper::deadlocks,
                                  waits.size() * sizeof(hopper::Deadlock)));
  static const char* const kNames[] = {"query full", "query empty", "key full",
                                       "key empty",  "value full",  "value empty"};
  std::printf("  DEADLOCK: %u waits gave up\n", count);
  for (unsigned i = 0; i < std::min<unsigned>(count, hopper::kDeadlocks); ++i) {
    const unsigned place = waits[i].barrier % 128 / 8, kind = place / kStages;
    if (i < 8 || waits[i].thread % 128 == 0) {
      std::printf("    block %u thread %u: %s %u, parity %u\n", waits[i].block, waits[i].thread,
                  kind < 6 ? kNames[kind] : "?", place % kStages, waits[i].parity);
    }
  }
  const unsigned none = 0;
  CHECK_CUDA(cudaMemcpyToSymbol(hopper::deadlock_count, &none, sizeof(none)));
  return true;
#else
  return false;
#endif
}

// Runs a variant on a case `repeats` times. Returns whether all runs completed, and prints why not.
// `same`: whether all outputs were equal.
bool run_repeatedly(const Variant& variant, Problem& problem, int repeats, bool& same) {
  const AttentionArgs& args = problem.args;
  uint64_t first = 0;
  same = true;
  for (int i = 0; i < repeats; ++i) {
    problem.poison();
    const cudaError_t error = variant.launch(args, nullptr);
    if (error != cudaSuccess) {
      std::printf("FAIL %-27s %-24s launch: %s\n", variant.name, problem.what.name.c_str(),
                  cudaGetErrorString(error));
      cudaGetLastError();
      return false;
    }
    if (const cudaError_t failure = cudaDeviceSynchronize()) {
      std::printf("FAIL %-27s %-24s kernel: %s; nothing more can run in this process\n",
                  variant.name, problem.what.name.c_str(), cudaGetErrorString(failure));
      std::exit(2);
    }
    if (deadlocked()) {
      std::printf("FAIL %-27s %s\n", variant.name, problem.what.name.c_str());
      return false;
    }
    const uint64_t sum = checksum(problem.out.get(), args.B * args.L * args.H * kHead);
    first = i == 0 ? sum : first;
    same = same && sum == first;
  }
  return true;
}

// Whether the elements after the outputs are untouched.
bool is_guarded(const Problem& problem) {
  const AttentionArgs& args = problem.args;
  return untouched(problem.out.get() + args.B * args.L * args.H * kHead, kGuard) &&
         untouched(reinterpret_cast<__nv_bfloat16*>(problem.lse.get() + args.B * args.H * args.L),
                   2 * kGuard);
}

// Prints where a failed case is wrong.
void print_errors(const Comparison& c, bool guarded, bool same) {
  std::printf("  not finite: %llu, beyond the output written: %s, same every time: %s\n",
              c.not_finite, guarded ? "no" : "YES", same ? "yes" : "NO");
  std::printf(
      "  relative error by rows of a tile (16 each, down) and channels (32 each, across):\n");
  for (int row = 0; row < 8; ++row) {
    std::printf("   ");
    for (int part = 0; part < 4; ++part) {
      const double* cell = c.cells[row][part];
      std::printf(" %8.1e", std::sqrt(cell[0] / std::max(cell[1], 1e-300)));
    }
    std::printf("\n");
  }
  for (unsigned i = 0; i < std::min(c.samples, 8U); ++i) {
    const Sample& s = c.sample[i];
    std::printf("    b %d h %d l %d channel %d: %g, expected %g\n", s.b, s.h, s.l, s.channel,
                s.actual, s.expected);
  }
}

// Runs a variant on a case `repeats` times and compares about `rows` of its rows (0: all) with the
// reference. Prints one line, or more if it fails. Returns whether it passed.
bool check(const Variant& variant, Problem& problem, int64_t rows = 0, int repeats = 3) {
  bool same = true;
  if (!run_repeatedly(variant, problem, repeats, same)) {
    return false;
  }
  const Comparison c = compare(problem.args, problem.ranges(), rows);
  CHECK_CUDA(cudaDeviceSynchronize());
  const double error = std::sqrt(c.error / std::max(c.norm, 1e-300));
  const double rounding = std::sqrt(c.rounding / std::max(c.norm, 1e-300));
  const bool guarded = is_guarded(problem);
  // FP8 products are summed with about 14 bits. Outliers make logits in the hundreds, which are
  // then wrong by up to 0.05.
  const bool coarse = problem.what.codes != Codes::kNone && problem.what.data == Data::kOutliers;
  const bool close = error <= std::max((coarse ? 4 : 2) * rounding, 5e-4);
  const bool good =
      close && c.not_finite == 0 && c.lse_error <= (coarse ? 2e-3 : 1e-3) && guarded && same;
  std::printf("%s %-27s %-24s rel L2 %.2e (rounding %.2e)  max %.1e of %.1e  lse %.1e\n",
              good ? "PASS" : "FAIL", variant.name, problem.what.name.c_str(), error, rounding,
              c.largest_error, c.largest, c.lse_error);
  if (!good) {
    print_errors(c, guarded, same);
  }
  std::fflush(stdout);
  return good;
}

std::vector<Case> quick_cases() {
  return {{"1", 1, 1, {1}},
          {"129", 1, 2, {129}},
          {"200 0 63", 1, 2, {200, 0, 63}, -1, true},
          {"2 x 370", 2, 1, {370}},
          {"cross 70 to 130", 1, 2, {70}, 130, false, true},
          {"200 0 63, fp8", 2, 2, {200, 0, 63}, -1, false, false, Data::kRandom, Codes::kScores},
          {"2 x 570, fp8", 2, 1, {570}, -1, false, false, Data::kRandom, Codes::kScores},
          {"cross 70 to 130, fp8", 1, 2, {70}, 130, false, true, Data::kRandom, Codes::kScores},
          {"200 0 63, p8", 2, 2, {200, 0, 63}, -1, false, false, Data::kRandom, Codes::kAll},
          {"2 x 570, p8", 2, 1, {570}, -1, false, false, Data::kRandom, Codes::kAll},
          {"cross 70 to 130, p8", 1, 2, {70}, 130, false, true, Data::kRandom, Codes::kAll}};
}

std::vector<Case> all_cases() {
  std::vector<Case> cases{{"1000, q = 0", 1, 1, {1000}, -1, false, false, Data::kZeroQueries},
                          {"1000, v = 1", 1, 1, {1000}, -1, false, false, Data::kOneValues}};
  for (const int64_t length : {1, 63, 64, 127, 128, 129, 191, 192, 193, 200, 384, 385, 1000}) {
    cases.push_back({std::to_string(length), 1, 3, {length}});
  }
  const std::vector<int64_t> mixed{0, 1, 63, 64, 127, 0, 128, 129, 200, 1000, 300, 0};
  cases.push_back({"mixed, B 2 H 1", 2, 1, mixed});
  cases.push_back({"mixed, B 2 H 3 packed", 2, 3, mixed, -1, true});
  cases.push_back({"mixed, B 2 H 40 packed", 2, 40, mixed, -1, true});
  cases.push_back({"mixed, outliers", 2, 3, mixed, -1, true, false, Data::kOutliers});
  cases.push_back({"5000, H 8", 1, 8, {5000}});
  cases.push_back({"4 x 1181, H 12 packed", 1, 12, {1181, 1181, 1181, 1181}, -1, true});
  cases.push_back({"cross 1000 to 512", 2, 3, {1000}, 512});
  cases.push_back({"cross 5 to 1000", 2, 3, {5}, 1000});
  cases.push_back({"cross 300 to 1", 1, 2, {300}, 1});
  cases.push_back({"cross 300 to 0", 1, 2, {300}, 0});
  cases.push_back({"cross 300 to 0, bias", 1, 2, {300}, 0, false, true});
  for (const int64_t keys : {1, 77, 128, 129, 512, 1000}) {
    cases.push_back(
        {"cross 300 to " + std::to_string(keys) + ", bias", 2, 3, {300}, keys, false, true});
  }
  cases.push_back({"cross 3000 to 512, bias", 2, 40, {3000}, 512, false, true});
  const std::vector<Case> plain = cases;
  for (const Codes codes : {Codes::kScores, Codes::kAll}) {
    for (Case c : plain) {
      c.name += codes == Codes::kAll ? ", p8" : ", fp8";
      c.packed = false;
      c.codes = codes;
      cases.push_back(c);
    }
  }
  return cases;
}

double flops(const Case& c) {
  double pairs = 0;
  for (const int64_t length : c.lengths) {
    pairs += static_cast<double>(length) * static_cast<double>(c.keys >= 0 ? c.keys : length);
  }
  return 4.0 * pairs * static_cast<double>(c.B * c.H * kHead);
}

// Times variants in turn, after one launch of each that does not count. Prints medians, the clock
// during the launches, and the share of the tensor cores' peak at this clock: 4096 FLOPs per cycle
// and multiprocessor.
void time_all(const std::vector<Variant>& variants, const Case& shape, int runs) {
  Problem problem(shape, /*with_lse=*/false);
  cudaEvent_t begin, end;
  CHECK_CUDA(cudaEventCreate(&begin));
  CHECK_CUDA(cudaEventCreate(&end));
  Memory<unsigned long long> clocks(4);
  std::vector<std::vector<float>> times(variants.size());
  std::vector<double> cycles(variants.size()), nanoseconds(variants.size());
  for (int run = -1; run < runs; ++run) {
    for (size_t i = 0; i < variants.size(); ++i) {
      clock_kernel<<<1024, 32>>>(clocks.get());
      CHECK_CUDA(cudaEventRecord(begin));
      CHECK_CUDA(variants[i].launch(problem.args, nullptr));
      CHECK_CUDA(cudaEventRecord(end));
      clock_kernel<<<1024, 32>>>(clocks.get() + 2);
      CHECK_CUDA(cudaEventSynchronize(end));
      float ms = 0;
      CHECK_CUDA(cudaEventElapsedTime(&ms, begin, end));
      const std::vector<unsigned long long> now = clocks.copy();
      if (run >= 0) {
        times[i].push_back(ms);
        cycles[i] += static_cast<double>(now[2] - now[0]);
        nanoseconds[i] += static_cast<double>(now[3] - now[1]);
      }
    }
  }
  int multiprocessors = 0;
  CHECK_CUDA(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0));
  for (size_t i = 0; i < variants.size(); ++i) {
    std::sort(times[i].begin(), times[i].end());
    const double median = times[i][times[i].size() / 2];
    const double rate = flops(shape) / median * 1e-9;       // TFLOP/s
    const double clock = cycles[i] / nanoseconds[i] * 1e3;  // MHz
    const double peak = multiprocessors * 4096 * clock * 1e-6;
    std::printf(
        "TIME %-27s %-20s median %8.3f ms (%.3f to %.3f)  %6.1f TFLOP/s  %4.0f MHz, %.1f %%\n",
        variants[i].name, shape.name.c_str(), median, times[i].front(), times[i].back(), rate,
        clock, 100 * rate / peak);
  }
  std::fflush(stdout);
  CHECK_CUDA(cudaEventDestroy(begin));
  CHECK_CUDA(cudaEventDestroy(end));
}

// Times launch_value_columns().
void time_turning(const Case& shape, int runs) {
  Problem problem(shape, /*with_lse=*/false);
  cudaEvent_t begin, end;
  CHECK_CUDA(cudaEventCreate(&begin));
  CHECK_CUDA(cudaEventCreate(&end));
  problem.turn_values();
  CHECK_CUDA(cudaEventRecord(begin));
  for (int i = 0; i < runs; ++i) {
    problem.turn_values();
  }
  CHECK_CUDA(cudaEventRecord(end));
  CHECK_CUDA(cudaEventSynchronize(end));
  float ms = 0;
  CHECK_CUDA(cudaEventElapsedTime(&ms, begin, end));
  ms /= static_cast<float>(runs);
  const AttentionArgs& args = problem.args;
  const auto bytes =
      static_cast<double>(args.B * args.H * kHead) *
      static_cast<double>(args.T + value_columns(args.offsets, args.segments, args.T));
  std::printf("TIME %-27s %-20s mean   %8.3f ms  %6.0f GB/s\n", "value columns", shape.name.c_str(),
              ms, bytes / ms * 1e-6);
  CHECK_CUDA(cudaEventDestroy(begin));
  CHECK_CUDA(cudaEventDestroy(end));
}

// The variant that computes cases with a bias or E4M3 operands.
const Variant& special_variant(const Case& c) {
  switch (c.codes) {
    case Codes::kNone:
      return kWithBias;
    case Codes::kScores:
      return c.bias ? kFp8WithBias : kFp8;
    case Codes::kAll:
      break;
  }
  return c.bias ? kFp8ValuesWithBias : kFp8Values[0];
}

// Checks all variants on all cases that they take. Returns the number of failures.
int check_all(const std::vector<Variant>& variants, const std::vector<Case>& cases) {
  int failures = 0;
  std::vector<int> failed(variants.size());
  for (const Case& c : cases) {
    Problem problem(c);
    if (c.bias || c.codes != Codes::kNone) {
      failures += check(special_variant(c), problem) ? 0 : 1;
      continue;
    }
    for (size_t i = 0; i < variants.size(); ++i) {
      if (failed[i] < 6) {  // after 6 failures, skip the variant
        failed[i] += check(variants[i], problem) ? 0 : 1;
      }
    }
  }
  for (size_t i = 0; i < variants.size(); ++i) {
    failures += failed[i];
    std::printf("%s %s: %d failures\n", failed[i] == 0 ? "PASS" : "FAIL", variants[i].name,
                failed[i]);
  }
  return failures;
}

// Checks variants once on 500 rows of a large case. Returns the number of failures.
int check_some_rows(const std::vector<Variant>& variants, const Case& c) {
  Problem problem(c);
  int failures = 0;
  for (const Variant& variant : variants) {
    failures += check(variant, problem, 500, 1) ? 0 : 1;
  }
  return failures;
}

// The cases of the 14B model at 720P: segments of a sparse block, and a full block.
const Case kRagged{"4 x 18900", 1, 40, {18900, 18900, 18900, 18900}, -1, true};
const Case kDense{"75600", 1, 40, {75600}, -1, true};
constexpr int64_t kQuarter = 20160;  // a quarter of 80640 tokens

// Checks and times the variants in bf16. Returns the number of failures.
int time_bf16(const std::vector<Variant>& variants, int runs) {
  const int failures = check_some_rows(variants, kRagged) + check_some_rows(variants, kDense);
  time_all(variants, kRagged, runs);
  time_all(variants, kDense, std::max(runs / 4, 1));
  const std::vector<Variant> first{variants.front()};
  const int64_t q = kQuarter;
  for (const Case& c :
       {kRagged, kDense, Case{"80640", 1, 40, {4 * q}, -1, true},
        Case{"32760", 1, 40, {32760}, -1, true}, Case{"4 x 20160", 1, 40, {q, q, q, q}, -1, true},
        Case{"16 x 4725", 1, 40, std::vector<int64_t>(16, 4725), -1, true},
        Case{"cross 75600 to 512", 1, 40, {75600}, 512}}) {
    time_all(first, c, runs);
  }
  time_all({kWithBias}, Case{"cross, bias", 1, 40, {75600}, 512, false, true}, runs);
  return failures;
}

// Checks and times the variants with E4M3 operands, and launch_value_columns(). Returns the number
// of failures.
int time_fp8(int runs) {
  int failures = 0;
  const int64_t q = kQuarter;
  for (Case c :
       {kRagged, kDense, Case{"80640", 1, 40, {4 * q}}, Case{"4 x 20160", 1, 40, {q, q, q, q}},
        Case{"cross 75600 to 512", 1, 40, {75600}, 512}}) {
    c.packed = false;
    c.codes = Codes::kScores;
    std::vector<Variant> fp8{kFp8, kFp8NoTurns}, p8{std::begin(kFp8Values), std::end(kFp8Values)};
    for (const std::vector<Variant>& some : {fp8, p8}) {
      failures += check_some_rows(some, c);
      time_all(some, c, runs);
      c.codes = Codes::kAll;
    }
    time_turning(c, runs);
  }
  return failures;
}

struct Flags {
  bool quick = false, check = false, time = false;
  int runs = 20;
  std::string variant;  // its name; empty: all
};

// False, with a message, if a flag is unknown.
bool parse(int argc, char** argv, Flags& flags) {
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--quick") {
      flags.quick = true;
    } else if (flag == "--check") {
      flags.check = true;
    } else if (flag == "--time") {
      flags.time = true;
    } else if (flag == "--runs" && i + 1 < argc) {
      flags.runs = std::atoi(argv[++i]);
    } else if (flag == "--variant" && i + 1 < argc) {
      flags.variant = argv[++i];
    } else {
      std::printf("unknown flag %s\n", flag.c_str());
      return false;
    }
  }
  return true;
}

int benchmark(int argc, char** argv) {
  Flags flags;
  if (!parse(argc, argv, flags)) {
    return 2;
  }
  cudaDeviceProp device;
  CHECK_CUDA(cudaGetDeviceProperties(&device, 0));
  std::printf("%s, %d multiprocessors\n", device.name, device.multiProcessorCount);
  std::vector<Variant> variants;
  for (const Variant& variant : kVariants) {
    if (flags.variant.empty() || flags.variant == variant.name) {
      variants.push_back(variant);
    }
  }
  if (variants.empty() || flags.runs < 1) {
    std::printf("found no variant %s, or fewer than one run\n", flags.variant.c_str());
    return 2;
  }
  int failures = 0;
  if (flags.quick || flags.check) {
    failures += check_all(variants, flags.quick ? quick_cases() : all_cases());
  }
  if (flags.time) {
    failures += time_bf16(variants, flags.runs);
    failures += time_fp8(flags.runs);
  }
  std::printf("%s: %d failures\n", failures == 0 ? "PASS" : "FAIL", failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace ospnext::cuda

int main(int argc, char** argv) {
  return ospnext::cuda::benchmark(argc, argv);
}
