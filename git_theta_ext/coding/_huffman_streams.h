/* Streams of codes, written 64 symbols at a time if the processor has AVX-512, and else two.

   _huffman.c includes it. */

#pragma once

#include "_huffman_tables.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define VECTORS 1
#else
#define VECTORS 0
#endif

#define TOGETHER 64 /* symbols that are looked up at the same time */
#define PIECE 256   /* symbols that are compared with the ends of a run at the same time */

/* The last codes are in the highest bits, above those before them. The lowest six bits of the size count. */
typedef struct {
    uint64_t bits, size;
    uint8_t *at;
} writer;

static inline void add(writer *to, uint64_t codes, int size) {
    to->bits = to->bits >> size | codes << (64 - size);
    to->size += (uint64_t)size;
}

/* Add a pair of symbols by its entry in the table, or a symbol by its own if the table is wide. */
static inline void add_entry(writer *to, const table *table, unsigned entry) {
    uint64_t codes = table->entries[entry];
    to->bits = to->bits >> (codes & 63) | codes;
    to->size += codes;
}

/* Write up to 56 bits, and keep the last few. */
static inline void flush(writer *to) {
    uint64_t size = to->size & 63, bits = to->bits >> (-size & 63);
    memcpy(to->at, &bits, 8);
    to->at += size >> 3;
    to->size = size & 7;
}

static inline void add_four(writer *to, const table *table, int wide, const uint8_t *data) {
    uint32_t four;
    memcpy(&four, data, 4);
    if (wide) {
        for (int at = 24; at >= 0; at -= 8)
            add_entry(to, table, four >> at & 255);
    } else {
        add_entry(to, table, four >> 16);
        add_entry(to, table, four & 0xffff);
    }
    flush(to);
}

/* Count the symbols without codes, and return their number. Most symbols are in one run of those with codes: then a piece is
   compared with its ends, by instructions for many bytes. */
static Py_ssize_t count_lacking(const table *table, const uint8_t *data, Py_ssize_t size, uint32_t *counts) {
    Py_ssize_t number = 0;
    uint8_t lacking[257], low = 0;
    int run = 0;
    for (int key = 0, start = 0; key <= 256; key++) {
        lacking[key] = key > table->last || !table->bits[key];
        if (lacking[key] && key - start > run) {
            low = (uint8_t)start;
            run = key - start;
        }
        start = lacking[key] ? key + 1 : start;
    }
    for (Py_ssize_t start = 0; run < 256 && start < size; start += PIECE) {
        Py_ssize_t end = start + PIECE < size ? start + PIECE : size;
        uint8_t outside = 0;
        for (Py_ssize_t at = start; at < end; at++)
            outside |= (uint8_t)(data[at] - low) >= (uint8_t)run;
        for (Py_ssize_t at = start; outside && at < end; at++)
            if (lacking[data[at]]) {
                counts[data[at]]++;
                number++;
            }
    }
    return number;
}

#if VECTORS

#define INSTRUCTIONS "avx512f,avx512bw,avx512vl,avx512vbmi,bmi2"
#define AVX512_CALLED __attribute__((target(INSTRUCTIONS))) static
#define AVX512 AVX512_CALLED inline __attribute__((always_inline))

static int has_vectors(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("bmi2");
}

/* 256 bytes, of which 64 are looked up at the same time. */
typedef struct {
    __m512i rows[4];
} lookup;

AVX512 lookup lookup_of(const uint8_t *bytes) {
    lookup made;
    for (int row = 0; row < 4; row++)
        made.rows[row] = _mm512_loadu_si512(bytes + 64 * row);
    return made;
}

AVX512 __m512i look_up(const lookup *from, __m512i keys) {
    __m512i low = _mm512_permutex2var_epi8(from->rows[0], keys, from->rows[1]);
    __m512i high = _mm512_permutex2var_epi8(from->rows[2], keys, from->rows[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(keys), low, high);
}

typedef struct {
    lookup bits, low, high;
} vector_table;

AVX512 void load_table(const table *table, vector_table *loaded) {
    uint8_t bits[256] = {0}, low[256] = {0}, high[256] = {0};
    for (int key = 0; key <= table->last; key++) {
        bits[key] = table->bits[key];
        low[key] = (uint8_t)table->codes[key];
        high[key] = (uint8_t)(table->codes[key] >> 8);
    }
    loaded->bits = lookup_of(bits);
    loaded->low = lookup_of(low);
    loaded->high = lookup_of(high);
}

/* Join the codes of neighbours, of which the second one is in the lower bits: pairs of 16 bits to 32, then those to 64. */
AVX512 __m512i joined_pairs(__m512i codes, __m512i sizes) {
    return _mm512_madd_epi16(codes, _mm512_sllv_epi16(_mm512_set1_epi16(1), _mm512_srli_epi32(sizes, 16)));
}

AVX512 __m512i joined_fours(__m512i pairs, __m512i sizes) {
    __m512i first = _mm512_and_si512(pairs, _mm512_set1_epi64(0xffffffff));
    return _mm512_or_si512(_mm512_srli_epi64(pairs, 32), _mm512_sllv_epi64(first, _mm512_srli_epi64(sizes, 32)));
}

/* The codes of 64 symbols joined by four, with their sizes in bits: the first four of each eight, and the second four. */
typedef struct {
    __m512i first, second, first_sizes, second_sizes;
} fours;

AVX512 fours join_codes(const vector_table *table, const uint8_t *data) {
    const __m512i none = _mm512_setzero_si512();
    __m512i keys = _mm512_loadu_si512(data), sizes = look_up(&table->bits, keys);
    __m512i low = look_up(&table->low, keys), high = look_up(&table->high, keys);
    __m512i pair_sizes = _mm512_maddubs_epi16(sizes, _mm512_set1_epi8(1));
    /* Unpacked are the first and the second eight of each sixteen. */
    __m512i one = joined_pairs(_mm512_unpacklo_epi8(low, high), _mm512_unpacklo_epi8(sizes, none));
    __m512i other = joined_pairs(_mm512_unpackhi_epi8(low, high), _mm512_unpackhi_epi8(sizes, none));
    one = joined_fours(one, _mm512_unpacklo_epi16(pair_sizes, none));
    other = joined_fours(other, _mm512_unpackhi_epi16(pair_sizes, none));
    __m512i four_sizes = _mm512_madd_epi16(pair_sizes, _mm512_set1_epi16(1));
    fours made = {_mm512_unpacklo_epi64(one, other), _mm512_unpackhi_epi64(one, other),
                  _mm512_and_si512(four_sizes, _mm512_set1_epi64(0xffffffff)), _mm512_srli_epi64(four_sizes, 32)};
    return made;
}

/* Return whether the codes of all eights fit what add_joined adds at once. */
AVX512 int fit(const fours *codes) {
    __m512i sizes = _mm512_add_epi64(codes->first_sizes, codes->second_sizes);
    return _mm512_cmpgt_epu64_mask(sizes, _mm512_set1_epi64(56)) == 0;
}

typedef struct {
    uint64_t codes[16], sizes[16];
} joined;

/* Keep a compiler from taking numbers out of vectors one by one, which takes longer than reading them from the cache. */
#define KEEP_IN_MEMORY(codes) __asm__ volatile("" : : "r"(codes) : "memory")

AVX512 void store_eights(const fours *codes, joined *out) {
    __m512i first = _mm512_sllv_epi64(codes->first, codes->second_sizes);
    _mm512_storeu_si512(out->codes, _mm512_or_si512(codes->second, first));
    _mm512_storeu_si512(out->sizes, _mm512_add_epi64(codes->first_sizes, codes->second_sizes));
    KEEP_IN_MEMORY(out);
}

AVX512 void store_fours(const fours *codes, joined *out) {
    const __m512i low = _mm512_set_epi64(11, 3, 10, 2, 9, 1, 8, 0), high = _mm512_set_epi64(15, 7, 14, 6, 13, 5, 12, 4);
    _mm512_storeu_si512(out->codes, _mm512_permutex2var_epi64(codes->first, low, codes->second));
    _mm512_storeu_si512(out->codes + 8, _mm512_permutex2var_epi64(codes->first, high, codes->second));
    _mm512_storeu_si512(out->sizes, _mm512_permutex2var_epi64(codes->first_sizes, low, codes->second_sizes));
    _mm512_storeu_si512(out->sizes + 8, _mm512_permutex2var_epi64(codes->first_sizes, high, codes->second_sizes));
    KEEP_IN_MEMORY(out);
}

/* A writer whose bits are the lowest ones. */
typedef struct {
    uint64_t bits, size;
    uint8_t *at;
} low_writer;

AVX512 low_writer begin_low(const writer *from) {
    low_writer made = {from->size ? from->bits >> (64 - from->size) : 0, from->size, from->at};
    return made;
}

AVX512 void end_low(const low_writer *from, writer *to) {
    to->bits = from->size ? from->bits << (64 - from->size) : 0;
    to->size = from->size;
    to->at = from->at;
}

AVX512 void add_joined(low_writer *to, const joined *codes, int n) {
    uint64_t all = to->bits | codes->codes[n] << to->size, size = to->size + codes->sizes[n];
    memcpy(to->at, &all, 8);
    to->at += size >> 3;
    to->bits = all >> (size & 56);
    to->size = size & 7;
}

/* Write the first symbols of two streams, multiples of TOGETHER, after those that follow them. */
AVX512_CALLED void write_vectors(const table *table, writer *one, const uint8_t *first, Py_ssize_t size, writer *other,
                                 const uint8_t *second, Py_ssize_t other_size) {
    vector_table loaded;
    load_table(table, &loaded);
    low_writer a = begin_low(one), b = begin_low(other);
    while (size > 0 || other_size > 0) {
        fours codes = {0}, others = {0};
        joined stored, others_stored;
        if (size > 0)
            codes = join_codes(&loaded, first + (size -= TOGETHER));
        if (other_size > 0)
            others = join_codes(&loaded, second + (other_size -= TOGETHER));
        if (fit(&codes) && fit(&others)) {
            store_eights(&codes, &stored);
            store_eights(&others, &others_stored);
            _Pragma("GCC unroll 8") for (int n = 7; n >= 0; n--) {
                add_joined(&a, &stored, n);
                add_joined(&b, &others_stored, n);
            }
        } else {
            store_fours(&codes, &stored);
            store_fours(&others, &others_stored);
            _Pragma("GCC unroll 16") for (int n = 15; n >= 0; n--) {
                add_joined(&a, &stored, n);
                add_joined(&b, &others_stored, n);
            }
        }
    }
    end_low(&a, one);
    end_low(&b, other);
}

AVX512_CALLED Py_ssize_t count_lacking_by_vectors(const table *table, const uint8_t *data, Py_ssize_t size, uint32_t *counts) {
    Py_ssize_t number = 0;
    vector_table loaded;
    load_table(table, &loaded);
    for (Py_ssize_t at = 0; at < size; at += TOGETHER) {
        __m512i sizes = look_up(&loaded.bits, _mm512_loadu_si512(data + at));
        for (uint64_t lacking = _mm512_testn_epi8_mask(sizes, sizes); lacking; lacking &= lacking - 1) {
            counts[data[at + __builtin_ctzll(lacking)]]++;
            number++;
        }
    }
    return number;
}

#else

static int has_vectors(void) { return 0; }
static Py_ssize_t count_lacking_by_vectors(const table *table, const uint8_t *data, Py_ssize_t size, uint32_t *counts) { return 0; }
static void write_vectors(const table *table, writer *one, const uint8_t *first, Py_ssize_t size, writer *other,
                          const uint8_t *second, Py_ssize_t other_size) {}

#endif
