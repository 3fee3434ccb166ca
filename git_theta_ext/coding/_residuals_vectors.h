/* The choice between vectors of AVX-512 VBMI2, which can move elements of a vector together, and the portable code.

   _residuals_chunk.h and the headers whose names begin with _residuals_vector_ include it. */

#pragma once

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__)
#include <immintrin.h>
#define COMPRESSES 1 /* some processors can move elements of a vector together */
#else
#define COMPRESSES 0
#endif

static int without_vectors; /* whether the portable code is used on every processor, as in tests */

#if COMPRESSES

#define VECTORS __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt"))) static
#define INLINE VECTORS inline __attribute__((always_inline))

static int has_vectors(void) {
    return !without_vectors && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("popcnt");
}

#else

static int has_vectors(void) { return 0; }

#endif
