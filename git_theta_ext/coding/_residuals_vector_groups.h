/* 16-bit elements grouped by key with vectors. Most elements have one of a few keys, because exponents of weights do. Vectors
   of elements are compared with each of these keys, and those that match are written with one store. The others are
   collected, and moved one by one. The order is that of group and ungroup in _residuals_widths.h.

   _residuals_chunk.h includes it. Without vectors no key is frequent, and only find_frequent is called. */

#pragma once

#include "_residuals_stripes.h"
#include "_residuals_vectors.h"

#define OFTEN 8     /* keys that vectors are compared with */
#define RARE 24     /* part of the elements of which fewer take longer as vectors than one by one */
#define RARE_BYTE 64 /* the same for vectors of bytes */
#define SAMPLE 4096 /* elements in the sample that shows which keys are frequent, and the fewest for which it pays */
#define BATCH 4096  /* elements after which those with other keys are moved one by one */

/* The keys that most elements have; none if vectors are not worth it. */
typedef struct {
    int number;
    uint8_t keys[OFTEN];
} frequent;

#if COMPRESSES

#define LANES \
    _mm512_set_epi16(31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, \
                     4, 3, 2, 1, 0)

#define EACH_FREQUENT _Pragma("GCC unroll 8") for (int at = 0; at < number; at++)

/* Call a function for the number of keys, so that its loops over them are unrolled and their places are in registers. */
#define FOR_NUMBER(function, number, ...) \
    switch (number) { \
    case 1: function(1, __VA_ARGS__); break; \
    case 2: function(2, __VA_ARGS__); break; \
    case 3: function(3, __VA_ARGS__); break; \
    case 4: function(4, __VA_ARGS__); break; \
    case 5: function(5, __VA_ARGS__); break; \
    case 6: function(6, __VA_ARGS__); break; \
    case 7: function(7, __VA_ARGS__); break; \
    default: function(8, __VA_ARGS__); \
    }

/* Count keys. A vector has a counter of one byte for each lane, to which no more than BATCH / 64 is added. */
INLINE void count_for(const int number, const uint8_t *keys, Py_ssize_t count, const frequent *often, Py_ssize_t *counts) {
    const __m512i one = _mm512_set1_epi8(1), none = _mm512_setzero_si512();
    Py_ssize_t i = 0;
    uint8_t others[BATCH + 64];
    __m512i wanted[OFTEN], many[OFTEN];
    EACH_FREQUENT {
        wanted[at] = _mm512_set1_epi8((char)often->keys[at]);
        many[at] = none;
    }
    while (i + 64 <= count) {
        Py_ssize_t last = count - i < BATCH ? count - 63 : i + BATCH, collected = 0;
        __m512i some[OFTEN];
        EACH_FREQUENT some[at] = none;
        for (; i < last; i += 64) {
            __m512i here = _mm512_loadu_si512(keys + i);
            __mmask64 found = 0;
            EACH_FREQUENT {
                __mmask64 equal = _mm512_cmpeq_epi8_mask(here, wanted[at]);
                some[at] = _mm512_mask_add_epi8(some[at], equal, some[at], one);
                found = _kor_mask64(found, equal);
            }
            uint64_t left = ~(uint64_t)found;
            _mm512_storeu_si512(others + collected, _mm512_maskz_compress_epi8(left, here));
            collected += __builtin_popcountll(left);
        }
        EACH_FREQUENT many[at] = _mm512_add_epi64(many[at], _mm512_sad_epu8(some[at], none));
        for (Py_ssize_t at = 0; at < collected; at++)
            counts[others[at]]++;
    }
    for (; i < count; i++)
        counts[keys[i]]++;
    EACH_FREQUENT counts[often->keys[at]] += _mm512_reduce_add_epi64(many[at]);
}

/* Group the elements from i to end. Before ends less one vector, a whole vector may be written. */
INLINE void group_for(const int number, const uint16_t *values, const uint8_t *keys, Py_ssize_t i, Py_ssize_t end,
                      const frequent *often, const Py_ssize_t *ends, Py_ssize_t *next, uint16_t *out) {
    Py_ssize_t places[OFTEN];
    __m256i wanted[OFTEN];
    uint16_t others[BATCH + 32];
    uint8_t other_keys[BATCH + 32];
    EACH_FREQUENT {
        wanted[at] = _mm256_set1_epi8((char)often->keys[at]);
        places[at] = next[often->keys[at]];
    }
    while (i + 32 <= end) {
        Py_ssize_t last = end - i < BATCH ? end - 31 : i + BATCH, collected = 0;
        for (; i < last; i += 32) {
            __m256i here = _mm256_loadu_si256((const __m256i *)(keys + i));
            __m512i some = _mm512_loadu_si512(values + i);
            uint32_t left = ~(uint32_t)0;
            EACH_FREQUENT {
                uint32_t equal = _mm256_cmpeq_epi8_mask(here, wanted[at]);
                if (places[at] + 32 <= ends[at])
                    _mm512_storeu_si512(out + places[at], _mm512_maskz_compress_epi16(equal, some));
                else
                    _mm512_mask_compressstoreu_epi16(out + places[at], equal, some);
                places[at] += __builtin_popcount(equal);
                left ^= equal;
            }
            _mm512_storeu_si512(others + collected, _mm512_maskz_compress_epi16(left, some));
            _mm256_storeu_si256((__m256i *)(other_keys + collected), _mm256_maskz_compress_epi8(left, here));
            collected += __builtin_popcount(left);
        }
        for (Py_ssize_t at = 0; at < collected; at++)
            out[next[other_keys[at]]++] = others[at];
    }
    EACH_FREQUENT next[often->keys[at]] = places[at];
    for (; i < end; i++)
        out[next[keys[i]]++] = values[i];
}

/* Write the value of a difference in zigzag order. */
static inline void restore_one(const char *guesses, Py_ssize_t at, uint16_t missed, char *out) {
    LOAD(uint16_t, guess, guesses, at);
    uint16_t value = (uint16_t)(((missed >> 1) ^ -(missed & 1)) + guess);
    STORE(out, at, value);
}

/* Add the differences from i to end to the predictions, after they are no longer grouped. */
INLINE void ungroup_for(const int number, const uint16_t *values, const uint8_t *keys, Py_ssize_t i, Py_ssize_t end,
                        const frequent *often, Py_ssize_t *next, const char *guesses, char *out) {
    const __m512i lanes = LANES;
    Py_ssize_t places[OFTEN];
    __m256i wanted[OFTEN];
    uint16_t others[BATCH + 32];
    EACH_FREQUENT {
        wanted[at] = _mm256_set1_epi8((char)often->keys[at]);
        places[at] = next[often->keys[at]];
    }
    while (i + 32 <= end) {
        Py_ssize_t first = i, last = end - i < BATCH ? end - 31 : i + BATCH, collected = 0;
        for (; i < last; i += 32) {
            __m256i here = _mm256_loadu_si256((const __m256i *)(keys + i));
            __m512i some = _mm512_setzero_si512(), indices = _mm512_add_epi16(lanes, _mm512_set1_epi16((short)(i - first)));
            uint32_t left = ~(uint32_t)0;
            EACH_FREQUENT {
                uint32_t equal = _mm256_cmpeq_epi8_mask(here, wanted[at]);
                some = _mm512_mask_expand_epi16(some, equal, _mm512_loadu_si512(values + places[at]));
                places[at] += __builtin_popcount(equal);
                left ^= equal;
            }
            __m512i signs = _mm512_sub_epi16(_mm512_setzero_si512(), _mm512_and_si512(some, _mm512_set1_epi16(1)));
            some = _mm512_xor_si512(_mm512_srli_epi16(some, 1), signs);
            some = _mm512_add_epi16(some, _mm512_loadu_si512(guesses + 2 * i));
            _mm512_storeu_si512(out + 2 * i, some);
            _mm512_storeu_si512(others + collected, _mm512_maskz_compress_epi16(left, indices));
            collected += __builtin_popcount(left);
        }
        for (Py_ssize_t at = 0; at < collected; at++)
            restore_one(guesses, first + others[at], values[next[keys[first + others[at]]]++], out);
    }
    EACH_FREQUENT next[often->keys[at]] = places[at];
    for (; i < end; i++)
        restore_one(guesses, i, values[next[keys[i]]++], out);
}

VECTORS void count_vectors(const uint8_t *keys, Py_ssize_t count, const frequent *often, Py_ssize_t *counts) {
    FOR_NUMBER(count_for, often->number, keys, count, often, counts)
}

VECTORS void group_vectors(const void *values, const uint8_t *keys, Py_ssize_t count, const frequent *often,
                           Py_ssize_t next[STREAMS][VALUES], void *out) {
    Py_ssize_t part = count / STREAMS, ends[OFTEN];
    for (int at = 0; at < often->number; at++)
        ends[at] = often->keys[at] + 1 < VALUES ? next[0][often->keys[at] + 1] : count;
    for (int stream = 0; stream < STREAMS; stream++) {
        Py_ssize_t start = stream * part, end = stream + 1 < STREAMS ? start + part : count;
        FOR_NUMBER(group_for, often->number, values, keys, start, end, often, ends, next[stream], out)
    }
}

/* Undo group_vectors, and add the differences to the predictions. 64 bytes after the values are read, too. */
VECTORS void ungroup_vectors(const void *values, const uint8_t *keys, Py_ssize_t count, const frequent *often,
                             Py_ssize_t next[STREAMS][VALUES], const char *guesses, char *out) {
    Py_ssize_t part = count / STREAMS;
    for (int stream = 0; stream < STREAMS; stream++) {
        Py_ssize_t start = stream * part, end = stream + 1 < STREAMS ? start + part : count;
        FOR_NUMBER(ungroup_for, often->number, values, keys, start, end, often, next[stream], guesses, out)
    }
}

#else

static void count_vectors(const uint8_t *keys, Py_ssize_t count, const frequent *often, Py_ssize_t *counts) {}
static void group_vectors(const void *values, const uint8_t *keys, Py_ssize_t count, const frequent *often,
                          Py_ssize_t next[STREAMS][VALUES], void *out) {}
static void ungroup_vectors(const void *values, const uint8_t *keys, Py_ssize_t count, const frequent *often,
                            Py_ssize_t next[STREAMS][VALUES], const char *guesses, char *out) {}

#endif

/* Find the keys that most elements have: each at least one in so many. */
static void find_frequent(const uint8_t *keys, Py_ssize_t count, int rare, frequent *often) {
    int counts[VALUES] = {0}, sampled = 0, covered = 0;
    often->number = 0;
    if (count < SAMPLE || !has_vectors())
        return;
    for (Py_ssize_t i = 0, step = count / SAMPLE | 1; i < count; i += step, sampled++)
        counts[keys[i]]++;
    for (; often->number < OFTEN; often->number++) {
        int most = 0;
        for (int key = 1; key < VALUES; key++)
            most = counts[key] > counts[most] ? key : most;
        if (counts[most] * rare < sampled)
            break;
        often->keys[often->number] = (uint8_t)most;
        covered += counts[most];
        counts[most] = 0;
    }
    if (4 * covered < 3 * sampled)
        often->number = 0;
}
