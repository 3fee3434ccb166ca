/* The code of residuals, but for the compression of planes: one call before it, one before it is undone, and one after.
   A tensor of a few kilobytes takes a hundred calls of numpy, each of which costs more than its arithmetic, and threads
   wait for each other at the interpreter lock between calls. residual.py, stripe_plan.py and stripes.py have the same in
   numpy, with the same bits.

   Integers are little-endian and may begin at any address, so they are read and written by memcpy. Every function checks
   the sizes of its buffers, and runs without the interpreter lock. What is read twice, such as the keys of elements, is
   read from memory that no other thread can write to. */

#include "_extension.h"

#include <stdlib.h>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__)
#include <immintrin.h>
#define COMPRESSES 1 /* some processors can move elements of a vector together */
#else
#define COMPRESSES 0
#endif

/* Vector instructions of newer processors are used if the processor has them. */
#define KERNEL ALSO_WITH("avx2") OPTIMIZED static

#define RUN 64
#define SIZES 4     /* numbers of bits of a symbol */
#define RECORD 8    /* bytes of a stripe in a payload */
#define GAPS 0x80
#define BLOCK 128   /* elements that are counted in a byte */
#define VALUES 256  /* values of a byte */
#define STREAMS 4   /* parts of the elements that are grouped at the same time: each addition waits for the one before */
#define OFTEN 8     /* keys that vectors are compared with */
#define RARE 24     /* part of the elements of which fewer take longer as vectors than one by one */
#define SAMPLE 4096 /* elements in the sample that shows which keys are frequent, and the fewest for which it pays */
#define BATCH 4096  /* elements after which those with other keys are moved one by one */

static const int SYMBOL_BITS[SIZES] = {1, 2, 4, 8};
static const int TOPS[SIZES] = {1, 3, 15, 255};

typedef struct {
    int last, low, bits, wide;
    Py_ssize_t start, end, excesses;
} stripe;

/* How the key of an element follows from its prediction: bits of it, or its position in a block of so many bytes. */
typedef struct {
    int width, mantissa, mask, block;
} kind;

#define EACH_BYTE 0x0101010101010101u

#define LOW_BITS (0x7F * EACH_BYTE)

/* Pack eight symbols, one in a byte, into so many bytes as a symbol has bits. */
static inline uint64_t packed_word(uint64_t word, const int bits) {
    if (bits == 1) /* bit 8 i moves to 56 + i, and no other two meet */
        return word * 0x0102040810204080u >> 56;
    /* Bytes halve their distance to the lowest byte, then bits do. */
    if (bits == 2) {
        word = (word | word >> 6) & 0x000F000F000F000Fu;
        word = (word | word >> 12) & 0x000000FF000000FFu;
        return (word | word >> 24) & 0xFFFF;
    }
    word = (word | word >> 4) & 0x00FF00FF00FF00FFu;
    word = (word | word >> 8) & 0x0000FFFF0000FFFFu;
    return (word | word >> 16) & 0xFFFFFFFF;
}

/* Undo packed_word. */
static inline uint64_t unpacked_word(uint64_t word, const int bits) {
    if (bits == 1)
        return ((word * EACH_BYTE & 0x8040201008040201u) + 0x7F * EACH_BYTE) >> 7 & EACH_BYTE;
    if (bits == 2) {
        word = (word | word << 24) & 0x000000FF000000FFu;
        word = (word | word << 12) & 0x000F000F000F000Fu;
        return (word | word << 6) & 0x03 * EACH_BYTE;
    }
    word = (word | word << 16) & 0x0000FFFF0000FFFFu;
    word = (word | word << 8) & 0x00FF00FF00FF00FFu;
    return (word | word << 4) & 0x0F * EACH_BYTE;
}

/* Return a bit for each of up to 64 bytes that has a value, the first one in the lowest bit. */
static inline uint64_t equal_bytes(const uint8_t *bytes, Py_ssize_t count, uint8_t value) {
    uint64_t equal = 0;
    if (count < 64) {
        for (Py_ssize_t i = 0; i < count; i++)
            equal |= (uint64_t)(bytes[i] == value) << i;
        return equal;
    }
    for (int at = 0; at < 8; at++) {
        LOAD(uint64_t, word, bytes, at);
        word ^= EACH_BYTE * value;
        word = ~(((word & LOW_BITS) + LOW_BITS) | word | LOW_BITS) >> 7; /* a one for each byte that is zero */
        equal |= packed_word(word, 1) << 8 * at;
    }
    return equal;
}

/* Return the place of the lowest bit. */
static inline int lowest(uint64_t bits) {
#if defined(__GNUC__)
    return __builtin_ctzll(bits);
#else
    int at = 0;
    for (; !(bits & 1); bits >>= 1)
        at++;
    return at;
#endif
}

static inline void pack_bits(uint8_t *restrict symbols, Py_ssize_t count, const int bits, uint8_t *restrict out) {
    Py_ssize_t words = count / 8, size = (count * bits + 7) / 8;
    for (Py_ssize_t at = 0; at < words; at++) {
        LOAD(uint64_t, word, symbols, at);
        word = packed_word(word, bits);
        memcpy(out + at * bits, &word, (size_t)bits); /* the lower bytes come first */
    }
    if (words * bits < size) {
        memset(symbols + count, 0, 7);
        LOAD(uint64_t, word, symbols, words);
        word = packed_word(word, bits);
        memcpy(out + words * bits, &word, (size_t)(size - words * bits));
    }
}

static inline void unpack_bits(const uint8_t *restrict packed, Py_ssize_t count, const int bits, uint8_t *restrict symbols) {
    Py_ssize_t words = count / 8, size = (count * bits + 7) / 8;
    for (Py_ssize_t at = 0; at < words; at++) {
        uint64_t word = 0;
        memcpy(&word, packed + at * bits, (size_t)bits);
        word = unpacked_word(word, bits);
        STORE(symbols, at, word);
    }
    if (words * bits < size) {
        uint64_t word = 0;
        memcpy(&word, packed + words * bits, (size_t)(size - words * bits));
        word = unpacked_word(word, bits);
        STORE(symbols, words, word);
    }
}

/* Pack symbols, one in a byte, and return the number of bytes. The seven bytes after the symbols are overwritten. */
static Py_ssize_t pack_symbols(uint8_t *symbols, Py_ssize_t count, int bits, uint8_t *out) {
    switch (bits) {
    case 1: pack_bits(symbols, count, 1, out); break;
    case 2: pack_bits(symbols, count, 2, out); break;
    case 4: pack_bits(symbols, count, 4, out); break;
    default: memcpy(out, symbols, (size_t)count);
    }
    return (count * bits + 7) / 8;
}

/* Undo pack_symbols. */
static void unpack_symbols(const uint8_t *packed, Py_ssize_t count, int bits, uint8_t *symbols) {
    switch (bits) {
    case 1: unpack_bits(packed, count, 1, symbols); break;
    case 2: unpack_bits(packed, count, 2, symbols); break;
    case 4: unpack_bits(packed, count, 4, symbols); break;
    default: memcpy(symbols, packed, (size_t)count);
    }
}

/* Functions for integers of 8, 16, 32 and 64 bits. */
#define OF_WIDTH(N) \
    KERNEL int differences_##N(const void *values, const void *guesses, Py_ssize_t count, char *out) { \
        uint##N##_t any = 0; \
        for (Py_ssize_t i = 0; i < count; i++) { \
            LOAD(uint##N##_t, value, values, i); \
            LOAD(uint##N##_t, guess, guesses, i); \
            uint##N##_t missed = (uint##N##_t)(value - guess); \
            uint##N##_t sign = (uint##N##_t)(0 - (missed >> (N - 1))); \
            missed = (uint##N##_t)((uint##N##_t)(missed << 1) ^ sign); \
            any |= missed; \
            STORE(out, i, missed); \
        } \
        return any != 0; \
    } \
    KERNEL void add_differences_##N(const void *missed, const void *guesses, Py_ssize_t count, char *out) { \
        for (Py_ssize_t i = 0; i < count; i++) { \
            LOAD(uint##N##_t, zigzag, missed, i); \
            LOAD(uint##N##_t, guess, guesses, i); \
            uint##N##_t sign = (uint##N##_t)(0 - (zigzag & 1)); \
            uint##N##_t value = (uint##N##_t)(((uint##N##_t)(zigzag >> 1) ^ sign) + guess); \
            STORE(out, i, value); \
        } \
    } \
    KERNEL void keys_##N(const void *guesses, Py_ssize_t count, int mantissa, int mask, uint8_t *out) { \
        for (Py_ssize_t i = 0; i < count; i++) { \
            LOAD(uint##N##_t, guess, guesses, i); \
            out[i] = (uint8_t)((guess >> mantissa) & mask); \
        } \
    } \
    static void histogram_##N(const void *missed, const uint8_t *keys, Py_ssize_t count, Py_ssize_t step, int lows, \
                                 const uint8_t *ranks, int groups, int32_t *counts) { \
        for (Py_ssize_t i = 0; i < count; i += step) { \
            LOAD(uint##N##_t, value, missed, i); \
            int32_t *table = counts + ranks[keys[i]] * VALUES; \
            for (int low = 0; low < lows; low++, table += groups * VALUES) { \
                uint##N##_t rest = (uint##N##_t)(value >> 8 * low); \
                table[rest < VALUES ? rest : VALUES - 1]++; \
            } \
        } \
    } \
    KERNEL void measure_##N(const void *missed, stripe *one) { \
        const uint##N##_t top = (uint##N##_t)((1 << one->bits) - 1); \
        const int shift = 8 * one->low; \
        uint##N##_t largest = 0; \
        Py_ssize_t excesses = 0; \
        for (Py_ssize_t i = one->start; i < one->end;) { \
            Py_ssize_t end = one->end - i < BLOCK ? one->end : i + BLOCK; \
            uint##N##_t some = 0; /* as wide as the elements, so that one instruction adds to several */ \
            for (; i < end; i++) { \
                LOAD(uint##N##_t, value, missed, i); \
                value = (uint##N##_t)(value >> shift); \
                some = (uint##N##_t)(some + (value >= top)); \
                largest = value > largest ? value : largest; \
            } \
            excesses += (Py_ssize_t)some; \
        } \
        one->excesses = excesses; \
        largest = (uint##N##_t)(excesses ? largest - top : 0); \
        for (one->wide = 0; largest; one->wide++) \
            largest = (uint##N##_t)((uint64_t)largest >> 8); \
    } \
    /* Write the planes of a stripe. There is a byte for each of its symbols, and seven more. */ \
    KERNEL void write_##N(const char *restrict missed, const stripe *one, uint8_t *restrict symbols, \
                          uint8_t *restrict out) { \
        const Py_ssize_t count = one->end - one->start, excesses = one->excesses; \
        const int shift = 8 * one->low, wide = one->wide; \
        Py_ssize_t beyond = 0; \
        missed += one->start * (N / 8); \
        const uint##N##_t top = (uint##N##_t)((1 << one->bits) - 1); \
        for (int low = 0; low < one->low; low++, out += count) { \
            for (Py_ssize_t i = 0; i < count; i++) { \
                LOAD(uint##N##_t, value, missed, i); \
                out[i] = (uint8_t)(value >> 8 * low); \
            } \
        } \
        for (Py_ssize_t i = 0; i < count; i++) { \
            LOAD(uint##N##_t, value, missed, i); \
            value = (uint##N##_t)(value >> shift); \
            symbols[i] = (uint8_t)(value < top ? value : top); \
        } \
        out += pack_symbols(symbols, count, one->bits, out); \
        for (Py_ssize_t i = 0; wide && i < count; i += 64) { \
            uint64_t equal = equal_bytes(symbols + i, count - i, (uint8_t)top); \
            for (; equal && beyond < excesses; equal &= equal - 1, beyond++) { \
                LOAD(uint##N##_t, value, missed, i + lowest(equal)); \
                value = (uint##N##_t)(value >> shift); \
                uint64_t excess = (uint64_t)(uint##N##_t)(value - top); \
                for (int at = 0; at < wide; at++) \
                    out[at * excesses + beyond] = (uint8_t)(excess >> 8 * (wide - 1 - at)); \
            } \
        } \
    } \
    /* Read the planes of a stripe, and return whether their number of excesses is as stated; symbols as for write. */ \
    KERNEL int read_##N(const uint8_t *const *planes, const stripe *one, uint8_t *restrict symbols, \
                        char *restrict missed) { \
        const Py_ssize_t count = one->end - one->start, number = one->excesses; \
        const int wide = one->wide; \
        Py_ssize_t beyond = 0; \
        const uint8_t top = (uint8_t)((1 << one->bits) - 1); \
        const uint8_t *const *excesses = planes + one->low + 1; \
        missed += one->start * (N / 8); \
        unpack_symbols(planes[one->low], count, one->bits, symbols); \
        for (Py_ssize_t i = 0; i < count;) { \
            Py_ssize_t end = count - i < BLOCK ? count : i + BLOCK; \
            uint8_t some = 0; \
            for (; i < end; i++) { \
                uint##N##_t symbol = symbols[i]; \
                STORE(missed, i, symbol); \
                some = (uint8_t)(some + (symbols[i] == top)); \
            } \
            beyond += some; \
        } \
        if (beyond != number) \
            return 0; \
        beyond = 0; \
        for (Py_ssize_t i = 0; wide && i < count; i += 64) { \
            uint64_t equal = equal_bytes(symbols + i, count - i, top); \
            for (; equal && beyond < number; equal &= equal - 1, beyond++) { \
                uint64_t excess = 0; \
                for (int at = 0; at < wide; at++) \
                    excess = excess << 8 | excesses[at][beyond]; \
                uint##N##_t value = (uint##N##_t)(top + excess); \
                STORE(missed, i + lowest(equal), value); \
            } \
        } \
        for (int low = one->low - 1; low >= 0; low--) { \
            const uint8_t *rest = planes[low]; \
            for (Py_ssize_t i = 0; i < count; i++) { \
                LOAD(uint##N##_t, value, missed, i); \
                value = (uint##N##_t)((uint64_t)value << 8 | rest[i]); \
                STORE(missed, i, value); \
            } \
        } \
        return 1; \
    } \
    static void group_##N(const void *values, const uint8_t *keys, Py_ssize_t count, Py_ssize_t next[STREAMS][VALUES], \
                          char *out) { \
        Py_ssize_t part = count / STREAMS; \
        for (Py_ssize_t i = 0; i < part; i++) { \
            for (int stream = 0; stream < STREAMS; stream++) { \
                LOAD(uint##N##_t, value, values, stream * part + i); \
                STORE(out, next[stream][keys[stream * part + i]]++, value); \
            } \
        } \
        for (Py_ssize_t i = STREAMS * part; i < count; i++) { \
            LOAD(uint##N##_t, value, values, i); \
            STORE(out, next[STREAMS - 1][keys[i]]++, value); \
        } \
    } \
    static void ungroup_##N(const void *values, const uint8_t *keys, Py_ssize_t count, Py_ssize_t next[STREAMS][VALUES], \
                            char *out) { \
        Py_ssize_t part = count / STREAMS; \
        for (Py_ssize_t i = 0; i < part; i++) { \
            for (int stream = 0; stream < STREAMS; stream++) { \
                LOAD(uint##N##_t, value, values, next[stream][keys[stream * part + i]]++); \
                STORE(out, stream * part + i, value); \
            } \
        } \
        for (Py_ssize_t i = STREAMS * part; i < count; i++) { \
            LOAD(uint##N##_t, value, values, next[STREAMS - 1][keys[i]]++); \
            STORE(out, i, value); \
        } \
    }

OF_WIDTH(8)
OF_WIDTH(16)
OF_WIDTH(32)
OF_WIDTH(64)

/* The keys that most elements have; none if vectors are not worth it. */
typedef struct {
    int number;
    uint8_t keys[OFTEN];
} frequent;

static int without_vectors; /* whether the portable code is used on every processor, as in tests */

#if COMPRESSES

/* Group 16-bit elements by key with AVX-512 VBMI2. Most elements have one of a few keys, because exponents of weights do.
   Vectors of elements are compared with each of these keys, and those that match are written with one store. The others
   are collected, and moved one by one. The order is that of group and ungroup. */

#define VECTORS __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt"))) static
#define INLINE VECTORS inline __attribute__((always_inline))
#define EACH_FREQUENT _Pragma("GCC unroll 8") for (int at = 0; at < number; at++)

static int has_vectors(void) {
    return !without_vectors && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("popcnt");
}

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

INLINE void count_for(const int number, const uint8_t *keys, Py_ssize_t count, const frequent *often, Py_ssize_t *counts) {
    Py_ssize_t many[OFTEN] = {0}, i = 0;
    uint8_t others[BATCH + 64];
    __m512i wanted[OFTEN];
    EACH_FREQUENT wanted[at] = _mm512_set1_epi8((char)often->keys[at]);
    while (i + 64 <= count) {
        Py_ssize_t last = count - i < BATCH ? count - 63 : i + BATCH, collected = 0;
        for (; i < last; i += 64) {
            __m512i here = _mm512_loadu_si512(keys + i);
            uint64_t left = ~(uint64_t)0;
            EACH_FREQUENT {
                uint64_t equal = _mm512_cmpeq_epi8_mask(here, wanted[at]);
                many[at] += __builtin_popcountll(equal);
                left ^= equal;
            }
            _mm512_storeu_si512(others + collected, _mm512_maskz_compress_epi8(left, here));
            collected += __builtin_popcountll(left);
        }
        for (Py_ssize_t at = 0; at < collected; at++)
            counts[others[at]]++;
    }
    for (; i < count; i++)
        counts[keys[i]]++;
    EACH_FREQUENT counts[often->keys[at]] += many[at];
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
    const __m512i lanes = _mm512_set_epi16(31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12,
                                           11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
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

/* Write excesses, of so many bytes each, to their planes. A whole vector is written unless it would be too long. */
INLINE void write_excesses(__m512i some, Py_ssize_t count, Py_ssize_t at, const stripe *one, uint8_t *out) {
    for (int plane = 0; plane < one->wide; plane++, out += one->excesses) {
        __m256i bytes = _mm512_cvtepi16_epi8(plane + 1 < one->wide ? _mm512_srli_epi16(some, 8) : some);
        if (at + 32 <= one->excesses)
            _mm256_storeu_si256((__m256i *)(out + at), bytes);
        else
            _mm256_mask_storeu_epi8(out + at, (uint32_t)(((uint64_t)1 << count) - 1), bytes);
    }
}

/* Pack the symbols of 64 elements, and write their excesses, of which at precede them. Return the number of these. */
INLINE Py_ssize_t write_block(const int bits, const uint16_t *missed, const stripe *one, Py_ssize_t at, uint8_t *packed,
                              uint8_t *excesses) {
    const __m512i top = _mm512_set1_epi16((short)((1 << bits) - 1));
    __m512i values[2] = {_mm512_loadu_si512(missed), _mm512_loadu_si512(missed + 32)};
    __m256i symbols[2];
    uint32_t beyond[2];
    for (int half = 0; half < 2; half++) {
        beyond[half] = _mm512_cmpge_epu16_mask(values[half], top);
        symbols[half] = _mm512_cvtepi16_epi8(_mm512_min_epu16(values[half], top));
    }
    __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(symbols[0]), symbols[1], 1);
    if (bits == 1) {
        memcpy(packed, beyond, sizeof beyond);
    } else if (bits == 2) { /* twos, then fours of symbols are added to each other */
        both = _mm512_madd_epi16(_mm512_maddubs_epi16(both, _mm512_set1_epi16(0x0401)), _mm512_set1_epi32(0x00100001));
        _mm_storeu_si128((__m128i *)packed, _mm512_cvtepi32_epi8(both));
    } else if (bits == 4) {
        both = _mm512_maddubs_epi16(both, _mm512_set1_epi16(0x1001));
        _mm256_storeu_si256((__m256i *)packed, _mm512_cvtepi16_epi8(both));
    } else {
        _mm512_storeu_si512(packed, both);
    }
    for (int half = 0; half < 2; half++) {
        Py_ssize_t count = __builtin_popcount(beyond[half]);
        __m512i some = _mm512_maskz_compress_epi16(beyond[half], _mm512_sub_epi16(values[half], top));
        write_excesses(some, count, at, one, excesses);
        at += count;
    }
    return at;
}

INLINE void write_for(const int bits, const uint16_t *missed, const stripe *one, uint8_t *out) {
    Py_ssize_t count = one->end - one->start, i = 0, at = 0;
    uint8_t *excesses = out + (count * bits + 7) / 8;
    for (; i + 64 <= count; i += 64)
        at = write_block(bits, missed + i, one, at, out + i / 8 * bits, excesses);
    if (i < count) {
        uint16_t last[64] = {0};
        uint8_t packed[64];
        memcpy(last, missed + i, (size_t)(count - i) * sizeof *last);
        write_block(bits, last, one, at, packed, excesses);
        memcpy(out + i / 8 * bits, packed, (size_t)(((count - i) * bits + 7) / 8));
    }
}

/* Do as write_16 for a stripe of which no low bytes are split off. */
VECTORS void write_vectors(const void *missed, const stripe *one, uint8_t *out) {
    const uint16_t *first = (const uint16_t *)missed + one->start;
    switch (one->bits) {
    case 1: write_for(1, first, one, out); break;
    case 2: write_for(2, first, one, out); break;
    case 4: write_for(4, first, one, out); break;
    default: write_for(8, first, one, out);
    }
}

INLINE __m512i read_excesses(const uint8_t *const *planes, const stripe *one, Py_ssize_t at) {
    __m512i some = _mm512_setzero_si512();
    for (int plane = 0; plane < one->wide; plane++) {
        uint8_t last[32] = {0};
        const uint8_t *from = planes[plane] + at;
        if (at + 32 > one->excesses) {
            memcpy(last, from, (size_t)(one->excesses - at));
            from = last;
        }
        __m512i bytes = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)from));
        some = _mm512_or_si512(_mm512_slli_epi16(some, 8), bytes);
    }
    return some;
}

/* Undo write_block for those of 64 elements that are there; return -1 if there are more excesses than stated. */
INLINE Py_ssize_t read_block(const int bits, const uint8_t *packed, const uint8_t *const *planes, const stripe *one,
                             Py_ssize_t at, uint64_t there, uint16_t *missed) {
    const __m512i top = _mm512_set1_epi16((short)((1 << bits) - 1));
    __m512i both;
    if (bits == 1) {
        uint64_t word;
        memcpy(&word, packed, sizeof word);
        both = _mm512_maskz_set1_epi8(word, 1);
    } else if (bits == 2) {
        both = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)packed));
        both = _mm512_or_si512(both, _mm512_slli_epi32(both, 12));
        both = _mm512_and_si512(both, _mm512_set1_epi32(0x000F000F));
        both = _mm512_and_si512(_mm512_or_si512(both, _mm512_slli_epi32(both, 6)), _mm512_set1_epi8(3));
    } else if (bits == 4) {
        both = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)packed));
        both = _mm512_and_si512(_mm512_or_si512(both, _mm512_slli_epi16(both, 4)), _mm512_set1_epi8(15));
    } else {
        both = _mm512_loadu_si512(packed);
    }
    for (int half = 0; half < 2; half++) {
        __m512i some = _mm512_cvtepu8_epi16(half ? _mm512_extracti64x4_epi64(both, 1) : _mm512_castsi512_si256(both));
        uint32_t beyond = _mm512_cmpeq_epi16_mask(some, top) & (uint32_t)(there >> 32 * half);
        Py_ssize_t count = __builtin_popcount(beyond);
        if (count > one->excesses - at)
            return -1;
        if (one->wide)
            some = _mm512_mask_expand_epi16(some, beyond, _mm512_add_epi16(top, read_excesses(planes, one, at)));
        _mm512_storeu_si512(missed + 32 * half, some);
        at += count;
    }
    return at;
}

INLINE int read_for(const int bits, const uint8_t *const *planes, const stripe *one, uint16_t *missed) {
    Py_ssize_t count = one->end - one->start, i = 0, at = 0;
    for (; i + 64 <= count && at >= 0; i += 64)
        at = read_block(bits, planes[0] + i / 8 * bits, planes + 1, one, at, ~(uint64_t)0, missed + i);
    if (i < count && at >= 0) {
        uint8_t packed[64] = {0};
        uint16_t last[64];
        memcpy(packed, planes[0] + i / 8 * bits, (size_t)(((count - i) * bits + 7) / 8));
        at = read_block(bits, packed, planes + 1, one, at, ((uint64_t)1 << (count - i)) - 1, last);
        memcpy(missed + i, last, (size_t)(count - i) * sizeof *last);
    }
    return at == one->excesses;
}

/* Do as read_16 for a stripe of which no low bytes are split off. */
VECTORS int read_vectors(const uint8_t *const *planes, const stripe *one, void *missed) {
    uint16_t *first = (uint16_t *)missed + one->start;
    switch (one->bits) {
    case 1: return read_for(1, planes, one, first);
    case 2: return read_for(2, planes, one, first);
    case 4: return read_for(4, planes, one, first);
    default: return read_for(8, planes, one, first);
    }
}

#else

static int has_vectors(void) { return 0; }
static void count_vectors(const uint8_t *keys, Py_ssize_t count, const frequent *often, Py_ssize_t *counts) {}
static void group_vectors(const void *values, const uint8_t *keys, Py_ssize_t count, const frequent *often,
                          Py_ssize_t next[STREAMS][VALUES], void *out) {}
static void ungroup_vectors(const void *values, const uint8_t *keys, Py_ssize_t count, const frequent *often,
                            Py_ssize_t next[STREAMS][VALUES], const char *guesses, char *out) {}
static void write_vectors(const void *missed, const stripe *one, uint8_t *out) {}
static int read_vectors(const uint8_t *const *planes, const stripe *one, void *missed) { return 0; }

#endif

/* Find the keys that most elements have. */
static void find_frequent(const uint8_t *keys, Py_ssize_t count, frequent *often) {
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
        if (counts[most] * RARE < sampled)
            break;
        often->keys[often->number] = (uint8_t)most;
        covered += counts[most];
        counts[most] = 0;
    }
    if (4 * covered < 3 * sampled)
        often->number = 0;
}

#define BY_WIDTH(name) {name##_8, name##_16, name##_32, name##_64}

/* The place of a width in bytes in tables of functions; -1 for what is no width. */
static int place(int width) {
    return width == 1 ? 0 : width == 2 ? 1 : width == 4 ? 2 : width == 8 ? 3 : -1;
}

static void release(Py_buffer *buffers, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++) {
        if (buffers[i].obj != NULL)
            PyBuffer_Release(&buffers[i]);
    }
}

static PyObject *bad_sizes(Py_buffer *buffers, Py_ssize_t count) {
    release(buffers, count);
    PyErr_SetString(PyExc_ValueError, "the sizes of the buffers do not fit each other");
    return NULL;
}

static int differ(int width, const void *values, const void *guesses, Py_ssize_t count, char *out) {
    static int (*const functions[SIZES])(const void *, const void *, Py_ssize_t, char *) = BY_WIDTH(differences);
    return functions[place(width)](values, guesses, count, out);
}

static void add_differences(int width, const void *missed, const void *guesses, Py_ssize_t count, char *out) {
    static void (*const functions[SIZES])(const void *, const void *, Py_ssize_t, char *) = BY_WIDTH(add_differences);
    functions[place(width)](missed, guesses, count, out);
}

static void make_keys(const kind *how, const void *guesses, Py_ssize_t count, uint8_t *keys) {
    static void (*const functions[SIZES])(const void *, Py_ssize_t, int, int, uint8_t *) = BY_WIDTH(keys);
    if (how->block) {
        for (Py_ssize_t i = 0, position = 0; i < count; i++) {
            keys[i] = (uint8_t)position;
            position = position + 1 < how->block ? position + 1 : 0;
        }
    } else if (how->mask) {
        functions[place(how->width)](guesses, count, how->mantissa, how->mask, keys);
    } else {
        memset(keys, 0, (size_t)count);
    }
}

static int is_kind(const kind *how) {
    return place(how->width) >= 0 && how->mantissa >= 0 && how->mantissa < 8 * how->width && how->mask >= 0 &&
           how->mask < VALUES && how->block >= 0 && how->block < VALUES;
}

static int in_map(const uint8_t *map, Py_ssize_t run) { return map[run / 8] >> run % 8 & 1; }

/* Note for each complete run in a map of bits whether any of its elements is not zero, and return the number of these. */
static Py_ssize_t map_runs(const char *missed, int width, Py_ssize_t runs, uint8_t *map) {
    Py_ssize_t some = 0;
    memset(map, 0, (size_t)(runs + 7) / 8);
    for (Py_ssize_t run = 0; run < runs; run++) {
        uint64_t any = 0;
        for (int word = 0; word < RUN / 8 * width; word++) {
            LOAD(uint64_t, here, missed, run * (RUN / 8) * width + word);
            any |= here;
        }
        map[run / 8] |= (uint8_t)((any != 0) << run % 8);
        some += any != 0;
    }
    return some;
}

/* Move the elements of the runs in a map, and those after the last complete run, together; return their number. */
static Py_ssize_t select_runs(char *values, int width, Py_ssize_t count, const uint8_t *map) {
    Py_ssize_t kept = 0;
    for (Py_ssize_t run = 0; run < count / RUN; run++) {
        if (in_map(map, run)) {
            memmove(values + kept * width, values + run * RUN * width, (size_t)(RUN * width));
            kept += RUN;
        }
    }
    memmove(values + kept * width, values + count / RUN * RUN * width, (size_t)(count % RUN * width));
    return kept + count % RUN;
}

/* Add numbers in the order in which numpy does. */
static double sum(const double *values, Py_ssize_t count) {
    double parts[8], total = 0;
    Py_ssize_t at = 8, half = count / 2 - count / 2 % 8;
    if (count > 128)
        return sum(values, half) + sum(values + half, count - half);
    if (count < 8) {
        for (at = 0; at < count; at++)
            total += values[at];
        return total;
    }
    memcpy(parts, values, sizeof parts);
    for (; at < count - count % 8; at += 8) {
        for (int i = 0; i < 8; i++)
            parts[i] += values[at + i];
    }
    total = ((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7]));
    for (; at < count; at++)
        total += values[at];
    return total;
}

static double loss(double share) { return 0.03 + 1.4 * (share - 0.4 > 0 ? share - 0.4 : 0); }

/* See _costs of stripe_plan.py. */
static void estimate(const int32_t *counts, int width, int low, const double *logs, double costs[SIZES]) {
    double terms[VALUES], shares[SIZES];
    int64_t excesses[SIZES + 1] = {0}, total = 0;
    for (int value = 0; value < VALUES; value++)
        terms[value] = logs[counts[value]];
    for (int size = SIZES - 1, value = VALUES; size >= 0; size--) {
        excesses[size] = excesses[size + 1];
        while (value > TOPS[size])
            excesses[size] += counts[--value];
    }
    total = counts[0] + excesses[0];
    double ideal = logs[total] - sum(terms, VALUES) + (double)(counts[VALUES - 1] * (int64_t)8 * (width - 1)) +
                   (double)(8 * low * total);
    shares[3] = (double)counts[0] / (double)(total ? total : 1);
    for (int size = SIZES - 2; size >= 0; size--)
        shares[size] = shares[size + 1] * shares[size + 1];
    for (int size = 0; size < SIZES; size++) {
        double often = (double)counts[TOPS[size]] / (double)(excesses[size] ? excesses[size] : 1);
        costs[size] = ideal + (double)(total * SYMBOL_BITS[size]) / 8 * loss(shares[size]);
        costs[size] += (double)excesses[size] * loss(often);
    }
}

/* Find the ends of stripes as in _bounds of stripe_plan.py, and return their number. */
static int bound(const double *bits, int groups, double least, double most, int *bounds) {
    double filled = 0, share = sum(bits, groups) / most;
    int count = 0;
    least = least > share ? least : share;
    for (int at = 0; at < groups; at++) {
        filled += bits[at];
        if (filled >= least) {
            bounds[count++] = at + 1;
            filled = 0;
        }
    }
    if (!count || bounds[count - 1] < groups)
        bounds[count++] = groups;
    return count;
}

/* Choose the stripes, given the counts by number of low bytes, rank of the key and value; return their number. */
static int choose(int32_t *counts, int lows, int groups, int width, Py_ssize_t step, const double *logs, double least,
                  double most, const uint8_t *used, stripe *chosen) {
    double bits[VALUES], costs[SIZES];
    int bounds[VALUES], count;
    for (int at = 0; at < groups; at++) {
        double best = 0;
        for (int low = 0; low < lows; low++) {
            estimate(counts + (low * groups + at) * VALUES, width, low, logs, costs);
            for (int size = 0; size < SIZES; size++)
                best = (low || size) && best <= costs[size] ? best : costs[size];
        }
        bits[at] = best * (double)step;
    }
    count = bound(bits, groups, least, most, bounds);
    for (int at = 0, start = 0; at < count; start = bounds[at++]) {
        double best = 0;
        for (int low = 0; low < lows; low++) {
            int32_t *table = counts + (low * groups + start) * VALUES;
            for (int other = 1; other < bounds[at] - start; other++) {
                for (int value = 0; value < VALUES; value++)
                    table[value] += table[other * VALUES + value];
            }
            estimate(table, width, low, logs, costs);
            for (int size = 0; size < SIZES; size++) {
                if ((low || size) && best <= costs[size])
                    continue;
                best = costs[size];
                chosen[at].low = low;
                chosen[at].bits = SYMBOL_BITS[size];
            }
        }
        chosen[at].last = at + 1 < count ? used[bounds[at] - 1] : VALUES - 1;
    }
    return count;
}

/* See stripe_plan.py. Return the number of stripes; 0 if there is no memory. */
static int plan(const char *missed, const uint8_t *keys, Py_ssize_t count, int width, Py_ssize_t sample, const double *logs,
                double least, double most, stripe *chosen) {
    static void (*const functions[SIZES])(const void *, const uint8_t *, Py_ssize_t, Py_ssize_t, int, const uint8_t *, int,
                                          int32_t *) = BY_WIDTH(histogram);
    uint8_t seen[VALUES] = {0}, ranks[VALUES] = {0}, used[VALUES];
    Py_ssize_t step = count / sample | 1;
    int groups = 0, lows = width > 2 ? width - 1 : 1;
    for (Py_ssize_t i = 0; i < count; i += step)
        seen[keys[i]] = 1;
    for (int value = 0; value < VALUES; value++) {
        if (seen[value]) {
            ranks[value] = (uint8_t)groups;
            used[groups++] = (uint8_t)value;
        }
    }
    int32_t *counts = calloc((size_t)(lows * groups) * VALUES, sizeof *counts);
    if (counts == NULL)
        return 0;
    functions[place(width)](missed, keys, count, step, lows, ranks, groups, counts);
    int number = choose(counts, lows, groups, width, step, logs, least, most, used, chosen);
    free(counts);
    return number;
}

static Py_ssize_t planes_of(const stripe *one, Py_ssize_t sizes[]) {
    Py_ssize_t count = one->end - one->start, number = 0;
    for (int low = 0; low < one->low; low++)
        sizes[number++] = count;
    sizes[number++] = (count * one->bits + 7) / 8;
    for (int at = 0; at < one->wide; at++)
        sizes[number++] = one->excesses;
    return number;
}

static PyObject *sizes_of(const stripe *stripes, int number) {
    Py_ssize_t sizes[2 * 8 + 1];
    PyObject *list = PyList_New(0);
    for (int at = 0; list != NULL && at < number; at++) {
        Py_ssize_t planes = planes_of(stripes + at, sizes);
        for (Py_ssize_t plane = 0; list != NULL && plane < planes; plane++) {
            PyObject *size = PyLong_FromSsize_t(sizes[plane]);
            if (size == NULL || PyList_Append(list, size) < 0)
                Py_CLEAR(list);
            Py_XDECREF(size);
        }
    }
    return list;
}

static Py_ssize_t planes_bytes(const stripe *stripes, int number) {
    Py_ssize_t sizes[2 * 8 + 1], total = 0;
    for (int at = 0; at < number; at++) {
        for (Py_ssize_t plane = planes_of(stripes + at, sizes); plane > 0; plane--)
            total += sizes[plane - 1];
    }
    return total;
}

static PyObject *records_of(const stripe *stripes, int number, int gaps) {
    uint8_t head[1 + VALUES * RECORD], *out = head + 1;
    head[0] = (uint8_t)(number | gaps);
    for (int at = 0; at < number; at++, out += RECORD) {
        uint32_t excesses = (uint32_t)stripes[at].excesses;
        out[0] = (uint8_t)stripes[at].last;
        out[1] = (uint8_t)stripes[at].low;
        out[2] = (uint8_t)stripes[at].bits;
        out[3] = (uint8_t)stripes[at].wide;
        STORE(out + 4, 0, excesses);
    }
    return PyBytes_FromStringAndSize((char *)head, 1 + number * RECORD);
}

/* The elements of a chunk that differ from the prediction, grouped. */
typedef struct {
    char *missed, *grouped;
    uint8_t *keys, *map;
    Py_ssize_t all, count; /* elements of the chunk, and those that are coded */
    int width, gaps, number, done;
    frequent often;
    Py_ssize_t next[STREAMS][VALUES];
    stripe stripes[VALUES];
} residual;

#define RESIDUAL "git_theta_ext.coding._residuals.residual"

static void discard(residual *made) {
    if (made != NULL)
        free(made->missed);
    free(made);
}

static int reserve(residual *made, Py_ssize_t count, int width) {
    made->all = made->count = count;
    made->width = width;
    made->missed = malloc((size_t)(count * (2 * width + 1) + count / RUN / 8 + 1 + 2 * 8));
    made->grouped = made->missed + count * width + 8; /* symbols are written eight at a time */
    made->keys = (uint8_t *)made->grouped + count * width;
    made->map = made->keys + count + 8;
    return made->missed != NULL;
}

/* Count the elements of each key in each part. */
static void count_keys(residual *made) {
    Py_ssize_t count = made->count, part = count / STREAMS, (*next)[VALUES] = made->next;
    const uint8_t *keys = made->keys;
    memset(made->next, 0, sizeof made->next);
    find_frequent(keys, count, &made->often);
    if (made->often.number) {
        for (int stream = 0; stream + 1 < STREAMS; stream++, count -= part)
            count_vectors(keys + stream * part, part, &made->often, next[stream]);
        count_vectors(keys + (STREAMS - 1) * part, count, &made->often, next[STREAMS - 1]);
        return;
    }
    for (Py_ssize_t i = 0; i < part; i++) {
        for (int stream = 0; stream < STREAMS; stream++)
            next[stream][keys[stream * part + i]]++;
    }
    for (Py_ssize_t i = STREAMS * part; i < count; i++)
        next[STREAMS - 1][keys[i]]++;
}

/* Find out where the elements of each key go when they are grouped, and the end of each stripe. */
static void place_keys(residual *made) {
    Py_ssize_t ends[VALUES], end = 0, (*next)[VALUES] = made->next;
    stripe *stripes = made->stripes;
    count_keys(made);
    for (int key = 0; key < VALUES; key++) {
        for (int stream = 0; stream < STREAMS; stream++) {
            Py_ssize_t here = next[stream][key];
            next[stream][key] = end;
            end += here;
        }
        ends[key] = end;
    }
    for (int at = 0; at < made->number; at++) {
        stripes[at].start = at ? stripes[at - 1].end : 0;
        stripes[at].end = ends[stripes[at].last];
    }
}

/* Fill in what is planned, and return whether any element differs; -1 if there is no memory. */
static int fill(residual *made, const char *values, const char *guesses, const kind *how, Py_ssize_t sample,
                const double *logs, double least, double most, double worth) {
    static void (*const groups[SIZES])(const void *, const uint8_t *, Py_ssize_t, Py_ssize_t[STREAMS][VALUES], char *) =
        BY_WIDTH(group);
    static void (*const measures[SIZES])(const void *, stripe *) = BY_WIDTH(measure);
    Py_ssize_t runs = made->count / RUN;
    if (!differ(how->width, values, guesses, made->count, made->missed))
        return 0;
    make_keys(how, guesses, made->count, made->keys);
    if ((double)map_runs(made->missed, how->width, runs, made->map) < worth * (double)runs) {
        made->gaps = GAPS;
        select_runs((char *)made->keys, 1, made->count, made->map);
        made->count = select_runs(made->missed, how->width, made->count, made->map);
    }
    made->number = plan(made->missed, made->keys, made->count, how->width, sample, logs, least, most, made->stripes);
    if (made->number > 1) {
        place_keys(made);
        if (how->width == 2 && made->often.number)
            group_vectors(made->missed, made->keys, made->count, &made->often, made->next, made->grouped);
        else
            groups[place(how->width)](made->missed, made->keys, made->count, made->next, made->grouped);
    } else {
        made->grouped = made->missed;
        made->stripes[0].start = 0;
        made->stripes[0].end = made->count;
    }
    for (int at = 0; at < made->number; at++)
        measures[place(how->width)](made->grouped, made->stripes + at);
    return made->number ? 1 : -1;
}

/* Return the head of a payload, the map of runs or None, the planes one after another, and their sizes; None if the
   values are equal to the prediction. */
static PyObject *arrange(PyObject *module, PyObject *args) {
    static void (*const functions[SIZES])(const char *, const stripe *, uint8_t *, uint8_t *) = BY_WIDTH(write);
    Py_buffer b[3] = {{0}};
    kind how;
    residual made = {0};
    Py_ssize_t sample;
    double least, most, worth;
    int any = 0;
    if (!PyArg_ParseTuple(args, "y*y*(iiii)ny*ddd", &b[0], &b[1], &how.width, &how.mantissa, &how.mask, &how.block, &sample,
                          &b[2], &least, &most, &worth)) {
        release(b, 3);
        return NULL;
    }
    /* There are less than twice as many elements in a sample. */
    if (!is_kind(&how) || b[0].len % how.width || b[1].len != b[0].len || b[0].len / how.width > UINT32_MAX || sample < 1 ||
        b[2].len / 2 / (Py_ssize_t)sizeof(double) < sample)
        return bad_sizes(b, 3);
    if (b[0].len && !reserve(&made, b[0].len / how.width, how.width)) {
        release(b, 3);
        return PyErr_NoMemory();
    }
    Py_ssize_t runs = made.count / RUN;
    Py_BEGIN_ALLOW_THREADS
    if (made.count)
        any = fill(&made, b[0].buf, b[1].buf, &how, sample, b[2].buf, least, most, worth);
    Py_END_ALLOW_THREADS
    release(b, 3);
    if (any <= 0) {
        free(made.missed);
        if (any < 0)
            return PyErr_NoMemory();
        Py_RETURN_NONE;
    }
    PyObject *head = records_of(made.stripes, made.number, made.gaps);
    PyObject *map = made.gaps ? PyBytes_FromStringAndSize((char *)made.map, (runs + 7) / 8) : Py_NewRef(Py_None);
    PyObject *planes = PyBytes_FromStringAndSize(NULL, planes_bytes(made.stripes, made.number));
    PyObject *sizes = sizes_of(made.stripes, made.number);
    const int vectors = has_vectors();
    if (planes != NULL) {
        uint8_t *out = (uint8_t *)PyBytes_AsString(planes);
        Py_BEGIN_ALLOW_THREADS
        for (int at = 0; at < made.number; at++) {
            if (how.width == 2 && !made.stripes[at].low && vectors)
                write_vectors(made.grouped, made.stripes + at, out);
            else
                functions[place(how.width)](made.grouped, made.stripes + at, made.keys, out);
            out += planes_bytes(made.stripes + at, 1);
        }
        Py_END_ALLOW_THREADS
    }
    free(made.missed);
    if (head == NULL || map == NULL || planes == NULL || sizes == NULL) {
        Py_XDECREF(head);
        Py_XDECREF(map);
        Py_XDECREF(planes);
        Py_XDECREF(sizes);
        return NULL;
    }
    return Py_BuildValue("(NNNN)", head, map, planes, sizes);
}

/* Read the head of a payload; return what is wrong with it, or NULL. */
static const char *read_head(const Py_buffer *head, int width, residual *made) {
    const uint8_t *from = head->buf;
    made->number = head->len ? from[0] & ~GAPS : 0;
    made->gaps = head->len ? from[0] & GAPS : 0;
    if (!made->number || head->len != 1 + made->number * RECORD)
        return "a residual is truncated";
    from++;
    int known = 1;
    for (int at = 0; at < made->number; at++, from += RECORD) {
        stripe *one = made->stripes + at;
        LOAD(uint32_t, excesses, from + 4, 0);
        *one = (stripe){.last = from[0], .low = from[1], .bits = from[2], .wide = from[3], .excesses = excesses};
        known &= one->bits == 1 || one->bits == 2 || one->bits == 4 || one->bits == 8;
        known &= one->low < width && one->low + one->wide <= width;
        if (at && made->stripes[at - 1].last >= one->last)
            return "the stripes of a residual are not in order";
    }
    if (made->stripes[made->number - 1].last != VALUES - 1)
        return "the stripes of a residual are not in order";
    return known ? NULL : "a residual has an unknown arrangement";
}

/* Find the elements of each stripe; return what is wrong with the stripes, or NULL. */
static const char *find_elements(residual *made, const kind *how, const char *guesses) {
    make_keys(how, guesses, made->count, made->keys);
    if (made->gaps)
        made->count = select_runs((char *)made->keys, 1, made->count, made->map);
    if (made->number > 1) {
        place_keys(made);
    } else {
        made->stripes[0].start = 0;
        made->stripes[0].end = made->count;
    }
    for (int at = 0; at < made->number; at++) {
        if (made->stripes[at].excesses > made->stripes[at].end - made->stripes[at].start)
            return "a residual has more elements than its tensor";
    }
    return NULL;
}

static void forget(PyObject *capsule) { discard(PyCapsule_GetPointer(capsule, RESIDUAL)); }

/* Begin to restore a residual of a prediction: return what restore needs, and the sizes of the planes. */
static PyObject *begin(PyObject *module, PyObject *args) {
    Py_buffer b[3] = {{0}};
    kind how;
    const char *wrong = "the sizes of the buffers do not fit each other";
    residual *made = calloc(1, sizeof *made);
    if (made == NULL)
        return PyErr_NoMemory();
    if (!PyArg_ParseTuple(args, "y*(iiii)y*y*", &b[0], &how.width, &how.mantissa, &how.mask, &how.block, &b[1], &b[2])) {
        discard(made);
        release(b, 3);
        return NULL;
    }
    Py_ssize_t count = is_kind(&how) ? b[0].len / how.width : 0;
    if (count * how.width == b[0].len && (wrong = read_head(&b[1], how.width, made)) == NULL) {
        if (b[2].len != (made->gaps ? (count / RUN + 7) / 8 : 0)) {
            wrong = "the sizes of the buffers do not fit each other";
        } else if (!reserve(made, count, how.width)) {
            discard(made);
            release(b, 3);
            return PyErr_NoMemory();
        } else {
            if (b[2].len)
                memcpy(made->map, b[2].buf, (size_t)b[2].len);
            Py_BEGIN_ALLOW_THREADS
            wrong = find_elements(made, &how, b[0].buf);
            Py_END_ALLOW_THREADS
        }
    }
    release(b, 3);
    if (wrong != NULL) {
        discard(made);
        PyErr_SetString(PyExc_ValueError, wrong);
        return NULL;
    }
    PyObject *sizes = sizes_of(made->stripes, made->number), *capsule = PyCapsule_New(made, RESIDUAL, forget);
    if (capsule == NULL)
        discard(made);
    if (capsule == NULL || sizes == NULL) {
        Py_XDECREF(capsule);
        Py_XDECREF(sizes);
        return NULL;
    }
    return Py_BuildValue("(NN)", capsule, sizes);
}

/* Get the buffers of a list of planes and compare their sizes with those of the stripes; return whether they fit. */
static int get_planes(PyObject *list, const residual *made, Py_buffer *buffers, const uint8_t **data) {
    Py_ssize_t number = 0, left = PyList_Size(list), expected[2 * 8 + 1];
    for (int at = 0; at < made->number; at++) {
        Py_ssize_t planes = planes_of(made->stripes + at, expected);
        for (Py_ssize_t plane = 0; plane < planes; plane++, number++) {
            if (number >= left || PyObject_GetBuffer(PyList_GetItem(list, number), buffers + number, PyBUF_SIMPLE) < 0 ||
                buffers[number].len != expected[plane])
                return 0;
            data[number] = buffers[number].buf;
        }
    }
    return number == left;
}

/* Write the values of a chunk, given its planes; return whether the number of excesses is as stated. */
static int write_values(residual *made, const uint8_t *const *planes, const char *guesses, char *out) {
    static int (*const reads[SIZES])(const uint8_t *const *, const stripe *, uint8_t *, char *) = BY_WIDTH(read);
    static void (*const ungroups[SIZES])(const void *, const uint8_t *, Py_ssize_t, Py_ssize_t[STREAMS][VALUES], char *) =
        BY_WIDTH(ungroup);
    Py_ssize_t runs = made->all / RUN, rest = made->all % RUN;
    int width = made->width, vectors = has_vectors();
    const char *missed = made->grouped;
    for (int at = 0; at < made->number; at++) {
        const stripe *one = made->stripes + at;
        int good = width == 2 && !one->low && vectors
                       ? read_vectors(planes, one, made->grouped)
                       : reads[place(width)](planes, one, (uint8_t *)made->missed, made->grouped);
        if (!good)
            return 0;
        planes += made->stripes[at].low + 1 + made->stripes[at].wide;
    }
    if (made->number > 1) {
        if (width == 2 && made->often.number && !made->gaps) {
            /* The keys come after the values, and are more than 64 bytes. */
            ungroup_vectors(made->grouped, made->keys, made->count, &made->often, made->next, guesses, out);
            return 1;
        }
        ungroups[place(width)](made->grouped, made->keys, made->count, made->next, made->missed);
        missed = made->missed;
    }
    if (!made->gaps) {
        add_differences(width, missed, guesses, made->all, out);
        return 1;
    }
    for (Py_ssize_t run = 0; run < runs; run++, guesses += RUN * width, out += RUN * width) {
        if (in_map(made->map, run)) {
            add_differences(width, missed, guesses, RUN, out);
            missed += RUN * width;
        } else {
            memcpy(out, guesses, (size_t)(RUN * width));
        }
    }
    add_differences(width, missed, guesses, rest, out);
    return 1;
}

/* Write the values of a chunk, given what begin has returned, once, and the planes of the payload. */
static PyObject *restore(PyObject *module, PyObject *args) {
    Py_buffer b[2] = {{0}};
    PyObject *capsule, *planes;
    int good = 0;
    if (!PyArg_ParseTuple(args, "Oy*O!w*", &capsule, &b[0], &PyList_Type, &planes, &b[1])) {
        release(b, 2);
        return NULL;
    }
    residual *made = PyCapsule_GetPointer(capsule, RESIDUAL);
    if (made == NULL) {
        release(b, 2);
        return NULL;
    }
    if (made->done || b[0].len != made->all * made->width || b[1].len != b[0].len)
        return bad_sizes(b, 2);
    Py_ssize_t number = PyList_Size(planes);
    Py_buffer *buffers = calloc((size_t)number + 1, sizeof *buffers);
    const uint8_t **data = calloc((size_t)number + 1, sizeof *data);
    if (buffers == NULL || data == NULL) {
        PyErr_NoMemory();
    } else if (!get_planes(planes, made, buffers, data)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "the sizes of the buffers do not fit each other");
    } else {
        made->done = 1; /* the places of elements have moved on */
        Py_BEGIN_ALLOW_THREADS
        good = write_values(made, data, b[0].buf, b[1].buf);
        Py_END_ALLOW_THREADS
        if (!good)
            PyErr_SetString(PyExc_ValueError, "a residual has an unexpected number of large elements");
    }
    if (buffers != NULL)
        release(buffers, number);
    free(buffers);
    free(data);
    release(b, 2);
    if (!good)
        return NULL;
    Py_RETURN_NONE;
}

/* Use vectors if the processor has them, or only the portable code; the bits are the same. */
static PyObject *use_vectors(PyObject *module, PyObject *args) {
    int use;
    if (!PyArg_ParseTuple(args, "p", &use))
        return NULL;
    without_vectors = !use;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"arrange", arrange, METH_VARARGS,
     "arrange(values, guesses, kind, sample, logs, least, most, worth) -> (head, map, planes, sizes) or None"},
    {"begin", begin, METH_VARARGS, "begin(guesses, kind, head, map) -> (state, sizes)"},
    {"restore", restore, METH_VARARGS, "restore(state, guesses, planes, out)"},
    {"use_vectors", use_vectors, METH_VARARGS, "use_vectors(use)"},
    {NULL, NULL, 0, NULL},
};

/* Of the functions in this file. kernels.py does without the module if it was built from another version. */
static int add_version(PyObject *module) { return PyModule_AddIntConstant(module, "VERSION", 4); }

EXTENSION(_residuals, add_version)
