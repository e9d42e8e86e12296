// Instructions of Hopper (sm_90a) as functions: barriers in shared memory, copies of boxes of
// tensors, matrix products of a warp group. Addresses are 32-bit addresses in shared memory.
// Source: the PTX manual, chapters on mbarrier, cp.async.bulk.tensor and wgmma.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace ospnext::cuda::hopper {

constexpr int kWarp = 32, kWarpgroup = 128;  // threads
constexpr int kSwizzleRow = 128;             // bytes of a row under the 128-byte swizzle
constexpr int kSwizzleBlock =
    8 * kSwizzleRow;  // the swizzle repeats every 8 rows; tiles start at multiples of this

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// barriers

__device__ __forceinline__ void barrier_init(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// Makes initialised barriers visible to the copy engine.
__device__ __forceinline__ void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Arrives at the barrier. Its phase then also waits for `bytes` bytes of copies.
__device__ __forceinline__ void barrier_expect(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Whether the phase of this parity is complete. May wait for a short time.
__device__ __forceinline__ bool barrier_try(uint32_t barrier, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}\n"
      : "=r"(done)
      : "r"(barrier), "r"(parity)
      : "memory");
  return done != 0;
}

// ATTENTION_TRAP: seconds after which a wait counts as a deadlock. Each such wait is recorded and
// given up. After kDeadlocks of them, every wait is given up at once.
#ifdef ATTENTION_TRAP
struct Deadlock {
  unsigned barrier, parity, block, thread;
};
constexpr unsigned kDeadlocks = 64;
__device__ Deadlock deadlocks[kDeadlocks];
__device__ unsigned deadlock_count = 0;

__device__ __forceinline__ uint64_t nanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}
#endif

// Returns when the phase of this parity is complete.
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
#ifdef ATTENTION_TRAP
  const uint64_t limit = nanoseconds() + ATTENTION_TRAP * 1'000'000'000ULL;
  while (!barrier_try(barrier, parity)) {
    const bool late = nanoseconds() > limit;
    if (late) {
      const unsigned at = atomicAdd(&deadlock_count, 1U);
      if (at < kDeadlocks) {
        deadlocks[at] = {barrier, parity, blockIdx.x, threadIdx.x};
      }
    }
    if (late || *static_cast<volatile unsigned*>(&deadlock_count) > kDeadlocks) {
      break;
    }
  }
#else
  while (!barrier_try(barrier, parity)) {
  }
#endif
}

// Named barriers order warps. named_arrive() counts the caller and returns; named_sync() counts the
// caller and waits until `threads` threads are counted.
__device__ __forceinline__ void named_sync(int name, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(name), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_arrive(int name, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(name), "r"(threads) : "memory");
}

// copies

struct Box {
  int x, y, z, w;  // first element in each dimension of the tensor map
};

__device__ __forceinline__ void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// Policies of copies for the L2 cache.
__device__ __forceinline__ uint64_t keep_in_cache() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ __forceinline__ uint64_t treat_as_any() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ __forceinline__ uint64_t pass_through_cache() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// Starts the copy of a box to `to`; `barrier` counts its bytes. Elements outside the tensor are
// written as zeros and are counted too.
__device__ __forceinline__ void copy_box(uint32_t to, const CUtensorMap& map, Box box,
                                         uint32_t barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3, %4, %5}], [%6], %7;" ::"r"(to),
      "l"(&map), "r"(box.x), "r"(box.y), "r"(box.z), "r"(box.w), "r"(barrier), "l"(policy)
      : "memory");
}

// registers of a warp group

template <int kCount>
__device__ __forceinline__ void give_registers_back() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

// matrix products

// Must precede products that use registers written by other instructions.
__device__ __forceinline__ void products_begin() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void products_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most kPending groups of products are unfinished.
template <int kPending>
__device__ __forceinline__ void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Stops the compiler from moving uses of these registers across this point. The compiler does not
// see that products write them asynchronously.
template <int kCount>
__device__ __forceinline__ void pin(float (&registers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    asm volatile("" : "+f"(registers[i])::"memory");
  }
}
template <int kCount>
__device__ __forceinline__ void pin(uint32_t (&registers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    asm volatile("" : "+r"(registers[i])::"memory");
  }
}

// The descriptor of a swizzled operand in shared memory. `block_stride`: bytes from one group of 8
// rows to the next. `half_stride`: bytes from 64 columns to the next 64; used only for a transposed
// operand.
__device__ __forceinline__ uint64_t operand(uint32_t address, uint32_t block_stride,
                                            uint32_t half_stride) {
  constexpr uint64_t kSwizzle128 = 1ULL << 62;
  return kSwizzle128 | uint64_t{block_stride >> 4} << 32 | uint64_t{half_stride >> 4} << 16 |
         uint64_t{address >> 4};
}
// The same operand `bytes` bytes further. The sum always fits the 14 bits of the address, because
// shared memory is smaller.
__device__ __forceinline__ uint64_t advance(uint64_t operand, uint32_t bytes) {
  return operand + (bytes >> 4);
}

#define OSPNEXT_EIGHT(a, i)                                                                   \
  "+f"(a[i]), "+f"(a[i + 1]), "+f"(a[i + 2]), "+f"(a[i + 3]), "+f"(a[i + 4]), "+f"(a[i + 5]), \
      "+f"(a[i + 6]), "+f"(a[i + 7])
#define OSPNEXT_64(a)                                                                      \
  OSPNEXT_EIGHT(a, 0), OSPNEXT_EIGHT(a, 8), OSPNEXT_EIGHT(a, 16), OSPNEXT_EIGHT(a, 24),    \
      OSPNEXT_EIGHT(a, 32), OSPNEXT_EIGHT(a, 40), OSPNEXT_EIGHT(a, 48), OSPNEXT_EIGHT(a, 56)
#define OSPNEXT_96(a) \
  OSPNEXT_64(a), OSPNEXT_EIGHT(a, 64), OSPNEXT_EIGHT(a, 72), OSPNEXT_EIGHT(a, 80), OSPNEXT_EIGHT(a, 88)
#define OSPNEXT_NAMES_64 \
  "%0, %1, %2, %3, %4, %5, %6, %7, " \
  "%8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, " \
  "%24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, " \
  "%40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, " \
  "%56, %57, %58, %59, %60, %61, %62, %63"
#define OSPNEXT_NAMES_96 \
  OSPNEXT_NAMES_64 ", " \
  "%64, %65, %66, %67, %68, %69, %70, %71, " \
  "%72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, " \
  "%88, %89, %90, %91, %92, %93, %94, %95"

// Types of operands.
struct Bf16 {
  static constexpr int kBytes = 2;
};
struct E4m3 {
  static constexpr int kBytes = 1;
};

// s = Q Kᵀ, or s += Q Kᵀ if `accumulate`, for 64 queries, 2·`registers` keys and 32 bytes of
// channels. Both operands are row-major in shared memory.
#define OSPNEXT_MULTIPLY_SCORES(Type, registers, shape, q_name, k_name, accumulate_name, more)  \
  __device__ __forceinline__ void multiply_scores(Type, float(&s)[registers], uint64_t q,       \
                                                  uint64_t k, int accumulate) {                 \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " accumulate_name                            \
                 ", 0;\nwgmma.mma_async.sync.aligned." shape " {" OSPNEXT_NAMES_##registers      \
                 "}, " q_name ", " k_name ", p, 1, 1" more ";\n}\n"                             \
                 : OSPNEXT_##registers(s)                                                       \
                 : "l"(q), "l"(k), "r"(accumulate));                                            \
  }
OSPNEXT_MULTIPLY_SCORES(Bf16, 64, "m64n128k16.f32.bf16.bf16", "%64", "%65", "%66", ", 0, 0")
OSPNEXT_MULTIPLY_SCORES(Bf16, 96, "m64n192k16.f32.bf16.bf16", "%96", "%97", "%98", ", 0, 0")
OSPNEXT_MULTIPLY_SCORES(E4m3, 64, "m64n128k32.f32.e4m3.e4m3", "%64", "%65", "%66", "")
OSPNEXT_MULTIPLY_SCORES(E4m3, 96, "m64n192k32.f32.e4m3.e4m3", "%96", "%97", "%98", "")

// o += P V for 64 queries, 16 keys and 128 channels in bf16. P is in registers. V is in shared
// memory with one key per row; the tensor core transposes it.
__device__ __forceinline__ void multiply_values(float (&o)[64], uint32_t p0, uint32_t p1,
                                                uint32_t p2, uint32_t p3, uint64_t v) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" OSPNEXT_NAMES_64
      "}, {%64, %65, %66, %67}, %68, p, 1, 1, 1;\n}\n"
      : OSPNEXT_64(o)
      : "r"(p0), "r"(p1), "r"(p2), "r"(p3), "l"(v));
}

// o = P V, or o += P V if `accumulate`, for 64 queries, 32 keys and 128 channels in E4M3. P is in
// registers. V is in shared memory with one channel per row.
__device__ __forceinline__ void multiply_values(float (&o)[64], uint32_t p0, uint32_t p1,
                                                uint32_t p2, uint32_t p3, uint64_t v,
                                                int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 {" OSPNEXT_NAMES_64
      "}, {%64, %65, %66, %67}, %68, p, 1, 1;\n}\n"
      : OSPNEXT_64(o)
      : "r"(p0), "r"(p1), "r"(p2), "r"(p3), "l"(v), "r"(accumulate));
}

#undef OSPNEXT_MULTIPLY_SCORES
#undef OSPNEXT_NAMES_96
#undef OSPNEXT_NAMES_64
#undef OSPNEXT_96
#undef OSPNEXT_64
#undef OSPNEXT_EIGHT

}  // namespace ospnext::cuda::hopper
