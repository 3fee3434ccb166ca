/* Differences of 16-bit elements as bytes, with vectors of 64. Most are so small that a byte holds them: others are 255 in
   the bytes, and apart in full, in the same order. Grouping bytes takes half of the time that grouping elements takes.

   _residuals_chunk.h includes it, and calls these functions only if has_vectors says so. */

#pragma once

#include "_residuals_vector_byte_planes.h"
#include "_residuals_vector_groups.h"
#include "_residuals_widths.h"

#define APART 16 /* part of the elements of which more that are apart take longer than elements of 16 bits */
#define SPARE 64 /* elements after those that may be apart: whole vectors are written */

#if COMPRESSES

/* Write the keys of 32 elements. */
INLINE __m512i write_keys(__m512i guess, const kind *how, uint8_t *keys) {
    __m512i key = _mm512_srl_epi16(guess, _mm_cvtsi32_si128(how->mantissa));
    key = _mm512_and_si512(key, _mm512_set1_epi16((short)how->mask));
    _mm256_storeu_si256((__m256i *)keys, _mm512_cvtepi16_epi8(key));
    return key;
}

/* As make_keys, for integers of 16 bits that are no blocks. */
VECTORS void make_keys_by_vectors(const kind *how, const char *guesses, Py_ssize_t count, uint8_t *keys) {
    Py_ssize_t i = 0;
    for (; i + 32 <= count; i += 32)
        write_keys(_mm512_loadu_si512(guesses + 2 * i), how, keys + i);
    make_keys(how, guesses + 2 * i, count - i, keys + i);
}

/* Write the differences and keys of 64 elements, and return whether any differs. */
INLINE int differ_block(const char *values, const char *guesses, const kind *how, uint8_t *missed, uint8_t *keys,
                        larges *apart) {
    uint32_t any = 0;
    for (int half = 0; half < 2; half++) {
        __m512i guess = _mm512_loadu_si512(guesses + 64 * half), key = write_keys(guess, how, keys + 32 * half);
        __m512i some = _mm512_sub_epi16(_mm512_loadu_si512(values + 64 * half), guess);
        some = _mm512_xor_si512(_mm512_slli_epi16(some, 1), _mm512_srai_epi16(some, 15));
        any |= _mm512_test_epi16_mask(some, some);
        _mm256_storeu_si256((__m256i *)(missed + 32 * half), _mm512_cvtusepi16_epi8(some));
        uint32_t large = _mm512_cmpge_epu16_mask(some, _mm512_set1_epi16(LARGE));
        if (large) {
            __m512i their_keys = _mm512_maskz_compress_epi16(large, key);
            _mm512_storeu_si512(apart->values + apart->number, _mm512_maskz_compress_epi16(large, some));
            _mm256_storeu_si256((__m256i *)(apart->keys + apart->number), _mm512_cvtepi16_epi8(their_keys));
            apart->number += __builtin_popcount(large);
        }
    }
    return any != 0;
}

/* Write the differences and keys of all elements, and note for each complete run of 64 in a map of bits whether any of its
   elements differs. Return the number of these, and one more if an element after them differs; -1 if too many are large. */
VECTORS Py_ssize_t differ_as_bytes(const char *values, const char *guesses, Py_ssize_t count, const kind *how,
                                   uint8_t *missed, uint8_t *keys, uint8_t *map, larges *apart) {
    Py_ssize_t some = 0, runs = count / 64, rest = count % 64;
    memset(map, 0, (size_t)(runs + 7) / 8);
    for (Py_ssize_t run = 0; run < runs; run++) {
        int any = differ_block(values + 128 * run, guesses + 128 * run, how, missed + 64 * run, keys + 64 * run, apart);
        map[run / 8] |= (uint8_t)(any << run % 8);
        some += any;
        if (apart->number > apart->most)
            return -1;
    }
    if (rest) {
        char last[2][128] = {{0}};
        uint8_t made[2][64];
        memcpy(last[0], values + 128 * runs, (size_t)rest * 2);
        memcpy(last[1], guesses + 128 * runs, (size_t)rest * 2);
        some += differ_block(last[0], last[1], how, made[0], made[1], apart);
        memcpy(missed + 64 * runs, made[0], (size_t)rest);
        memcpy(keys + 64 * runs, made[1], (size_t)rest);
    }
    return apart->number > apart->most ? -1 : some;
}

/* As group_for. */
INLINE void group_bytes_for(const int number, const uint8_t *values, const uint8_t *keys, Py_ssize_t i, Py_ssize_t end,
                            const frequent *often, const Py_ssize_t *ends, Py_ssize_t *next, uint8_t *out) {
    Py_ssize_t places[OFTEN];
    __m512i wanted[OFTEN];
    uint8_t others[BATCH + 64], other_keys[BATCH + 64];
    EACH_FREQUENT {
        wanted[at] = _mm512_set1_epi8((char)often->keys[at]);
        places[at] = next[often->keys[at]];
    }
    while (i + 64 <= end) {
        Py_ssize_t last = end - i < BATCH ? end - 63 : i + BATCH, collected = 0;
        for (; i < last; i += 64) {
            __m512i here = _mm512_loadu_si512(keys + i), some = _mm512_loadu_si512(values + i);
            uint64_t left = ~(uint64_t)0;
            EACH_FREQUENT {
                uint64_t equal = _mm512_cmpeq_epi8_mask(here, wanted[at]);
                if (places[at] + 64 <= ends[at])
                    _mm512_storeu_si512(out + places[at], _mm512_maskz_compress_epi8(equal, some));
                else
                    _mm512_mask_compressstoreu_epi8(out + places[at], equal, some);
                places[at] += __builtin_popcountll(equal);
                left ^= equal;
            }
            _mm512_storeu_si512(others + collected, _mm512_maskz_compress_epi8(left, some));
            _mm512_storeu_si512(other_keys + collected, _mm512_maskz_compress_epi8(left, here));
            collected += __builtin_popcountll(left);
        }
        for (Py_ssize_t at = 0; at < collected; at++)
            out[next[other_keys[at]]++] = others[at];
    }
    EACH_FREQUENT next[often->keys[at]] = places[at];
    for (; i < end; i++)
        out[next[keys[i]]++] = values[i];
}

/* As group_vectors. */
VECTORS void group_bytes(const uint8_t *values, const uint8_t *keys, Py_ssize_t count, const frequent *often,
                         Py_ssize_t next[STREAMS][VALUES], uint8_t *out) {
    Py_ssize_t part = count / STREAMS, ends[OFTEN];
    for (int at = 0; at < often->number; at++)
        ends[at] = often->keys[at] + 1 < VALUES ? next[0][often->keys[at] + 1] : count;
    for (int stream = 0; stream < STREAMS; stream++) {
        Py_ssize_t start = stream * part, end = stream + 1 < STREAMS ? start + part : count;
        FOR_NUMBER(group_bytes_for, often->number, values, keys, start, end, often, ends, next[stream], out)
    }
}

/* Find the place of the first large difference of each key, given where the bytes of each key start. */
VECTORS void place_larges(const uint8_t *values, Py_ssize_t count, const Py_ssize_t *starts, Py_ssize_t *next) {
    Py_ssize_t number = 0;
    int largest = 0;
    for (int key = 0; key < VALUES; key++) {
        next[key] = number;
        number += count_beyond(values + starts[key], (key + 1 < VALUES ? starts[key + 1] : count) - starts[key], LARGE,
                               &largest);
    }
}

/* The large differences of each key that were not used yet. */
typedef struct {
    const uint16_t *values;
    Py_ssize_t next[VALUES];
} placed_larges;

/* Write the value of an element, given the next byte of its key. */
INLINE void restore_next(const uint8_t *values, uint8_t key, Py_ssize_t *next, placed_larges *large, const char *guesses,
                         Py_ssize_t at, char *out) {
    /* Large differences have such keys mostly, so a branch would often be predicted wrong. */
    uint16_t missed = values[next[key]++], apart = large->values[large->next[key]];
    large->next[key] += missed == LARGE;
    restore_one(guesses, at, missed == LARGE ? apart : missed, out);
}

/* As ungroup_for. */
INLINE void ungroup_bytes_for(const int number, const uint8_t *values, const uint8_t *keys, Py_ssize_t i, Py_ssize_t end,
                              const frequent *often, Py_ssize_t *next, placed_larges *large, const char *guesses, char *out) {
    const __m512i one = _mm512_set1_epi16(1), lanes = LANES;
    Py_ssize_t places[OFTEN];
    __m512i wanted[OFTEN];
    uint16_t others[BATCH + 32];
    EACH_FREQUENT {
        wanted[at] = _mm512_set1_epi8((char)often->keys[at]);
        places[at] = next[often->keys[at]];
    }
    while (i + 64 <= end) {
        Py_ssize_t first = i, last = end - i < BATCH ? end - 63 : i + BATCH, collected = 0;
        for (; i < last; i += 64) {
            __m512i here = _mm512_loadu_si512(keys + i), some = _mm512_setzero_si512();
            uint64_t left = ~(uint64_t)0;
            EACH_FREQUENT {
                uint64_t equal = _mm512_cmpeq_epi8_mask(here, wanted[at]);
                some = _mm512_or_si512(some, _mm512_maskz_expand_epi8(equal, _mm512_loadu_si512(values + places[at])));
                places[at] += __builtin_popcountll(equal);
                left ^= equal;
            }
            for (int half = 0; half < 2; half++) {
                __m512i indices = _mm512_add_epi16(lanes, _mm512_set1_epi16((short)(i - first + 32 * half)));
                uint32_t here_left = (uint32_t)(left >> 32 * half);
                _mm512_storeu_si512(others + collected, _mm512_maskz_compress_epi16(here_left, indices));
                collected += __builtin_popcount(here_left);
                __m256i bytes = half ? _mm512_extracti64x4_epi64(some, 1) : _mm512_castsi512_si256(some);
                __m512i zigzag = _mm512_cvtepu8_epi16(bytes), guess = _mm512_loadu_si512(guesses + 2 * i + 64 * half);
                __m512i signs = _mm512_sub_epi16(_mm512_setzero_si512(), _mm512_and_si512(zigzag, one));
                __m512i value = _mm512_xor_si512(_mm512_srli_epi16(zigzag, 1), signs);
                _mm512_storeu_si512(out + 2 * i + 64 * half, _mm512_add_epi16(value, guess));
            }
            uint64_t are_large = _mm512_cmpeq_epi8_mask(some, _mm512_set1_epi8((char)LARGE));
            for (; are_large; are_large &= are_large - 1) {
                Py_ssize_t at = i + __builtin_ctzll(are_large);
                restore_one(guesses, at, large->values[large->next[keys[at]]++], out);
            }
        }
        for (Py_ssize_t at = 0; at < collected; at++)
            restore_next(values, keys[first + others[at]], next, large, guesses, first + others[at], out);
    }
    EACH_FREQUENT next[often->keys[at]] = places[at];
    for (; i < end; i++)
        restore_next(values, keys[i], next, large, guesses, i, out);
}

/* As ungroup_vectors. 64 bytes after the values are read, too. */
VECTORS void ungroup_bytes(const uint8_t *values, const uint8_t *keys, Py_ssize_t count, const frequent *often,
                           Py_ssize_t next[STREAMS][VALUES], const larges *apart, const char *guesses, char *out) {
    Py_ssize_t part = count / STREAMS;
    placed_larges large = {.values = apart->values};
    place_larges(values, count, next[0], large.next);
    for (int stream = 0; stream < STREAMS; stream++) {
        Py_ssize_t start = stream * part, end = stream + 1 < STREAMS ? start + part : count;
        FOR_NUMBER(ungroup_bytes_for, often->number, values, keys, start, end, often, next[stream], &large, guesses, out)
    }
}

#else

static void make_keys_by_vectors(const kind *how, const char *guesses, Py_ssize_t count, uint8_t *keys) {}
static Py_ssize_t differ_as_bytes(const char *values, const char *guesses, Py_ssize_t count, const kind *how,
                                  uint8_t *missed, uint8_t *keys, uint8_t *map, larges *apart) { return -1; }
static void group_bytes(const uint8_t *values, const uint8_t *keys, Py_ssize_t count, const frequent *often,
                        Py_ssize_t next[STREAMS][VALUES], uint8_t *out) {}
static void ungroup_bytes(const uint8_t *values, const uint8_t *keys, Py_ssize_t count, const frequent *often,
                          Py_ssize_t next[STREAMS][VALUES], const larges *apart, const char *guesses, char *out) {}

#endif
