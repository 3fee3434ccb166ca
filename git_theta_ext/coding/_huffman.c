/* Code planes of bytes by their frequencies alone, as frames of zstd (RFC 8878) that have literals and no sequences.

   zstd's encoder also looks for repetitions, which a plane of exponents has none of, and writes a symbol at a time. This one
   looks up 64 symbols at the same time if the processor has AVX-512, and two if not; the bytes are the same. Decoders of zstd
   read them faster than zstd's, because blocks share tables. It declines what zstd may make smaller; planes.py then calls
   zstd. */

#include "_extension.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define VECTORS 1
#else
#define VECTORS 0
#endif

#define BLOCK 131072      /* the most bytes of a block */
#define LEAST 1024        /* bytes of a block below which it is stored */
#define SYMBOLS 256
#define PLAIN 129         /* symbols of a table that is not compressed itself: it has up to 128 and implies the last */
#define LONGEST 11        /* bits of a code, as decoders require */
#define STREAMS 4
#define STREAM_ROOM (BLOCK / STREAMS * LONGEST / 8 + 16)
#define FRAME_HEAD 9
#define BLOCK_HEAD 3
#define BLOCK_ROOM (BLOCK / 8 * LONGEST + 512)
#define LITERALS_HEAD 5
#define JUMPS 6
#define LARGEST_FRAME (1 << 30)
#define LINE 64 /* bytes that are counted of every four times as many */
#define NARROW 40
#define TOGETHER 64       /* symbols that are looked up at the same time */
#define WEIGHTS 12        /* different weights of symbols: a table has codes of up to 11 bits */
#define WEIGHT_LOG 6      /* of the size of the tables of finite-state entropy by which weights are compressed */
#define WEIGHT_STATES (1 << WEIGHT_LOG)

enum { STORED = 0, COMPRESSED = 2, SAME_TABLE = 3 };

typedef struct table {
    int last;                      /* the largest symbol */
    uint8_t bits[SYMBOLS];         /* of the code of each symbol, 0 for a symbol without one */
    uint16_t codes[SYMBOLS];
    /* By the second and the first symbol, or by a symbol if the table is wide: codes in the highest bits, their size in the
       lowest. */
    uint64_t entries[PLAIN * 256];
} table;

typedef struct {
    int vectors;                   /* whether the processor has the instructions */
    uint32_t counts[4][256];
    table table;
    uint8_t description[SYMBOLS];  /* of the table */
    Py_ssize_t described;          /* its size in bytes */
    uint8_t streams[STREAMS][STREAM_ROOM];
} workspace;

static void put(uint8_t *to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

/* Count bytes in rows in turn, so that equal neighbours do not wait for each other. The size is a multiple of eight. */
static inline void count_some(const uint8_t *data, Py_ssize_t size, uint32_t (*counts)[256]) {
    for (Py_ssize_t at = 0; at < size; at += 8) {
        uint64_t some;
        memcpy(&some, data + at, 8);
        counts[0][some & 255]++;
        counts[1][some >> 8 & 255]++;
        counts[2][some >> 16 & 255]++;
        counts[3][some >> 24 & 255]++;
        counts[0][some >> 32 & 255]++;
        counts[1][some >> 40 & 255]++;
        counts[2][some >> 48 & 255]++;
        counts[3][some >> 56]++;
    }
}

/* Count the bytes of a block in the first row. A sample is enough for a whole block; return whether it may lack some. If the
   bytes are within a narrow range, every byte of it counts at least once, so that none is missing. */
static int count(const uint8_t *data, Py_ssize_t size, uint32_t (*counts)[256]) {
    uint8_t least = 255, most = 0;
    for (Py_ssize_t at = 0; at < size; at++) {
        least = data[at] < least ? data[at] : least;
        most = data[at] > most ? data[at] : most;
    }
    memset(counts, 0, 4 * sizeof counts[0]);
    int sampled = size == BLOCK, narrow = most - least <= NARROW;
    if (sampled) {
        for (Py_ssize_t at = 0; at < size; at += 4 * LINE)
            count_some(data + at, LINE, counts);
    } else {
        count_some(data, size & ~(Py_ssize_t)7, counts);
        for (Py_ssize_t at = size & ~(Py_ssize_t)7; at < size; at++)
            counts[0][data[at]]++;
    }
    for (int key = 0; key < 256; key++)
        counts[0][key] += counts[1][key] + counts[2][key] + counts[3][key];
    for (int key = least; sampled && key <= most; key++)
        counts[0][key] = counts[0][key] ? 4 * counts[0][key] : (uint32_t)narrow;
    return sampled && !narrow;
}

/* Sort the symbols that occur into an order, the rarest first, and return their number. */
static int sort_symbols(const uint32_t *counts, int last, int *order) {
    uint64_t sorted[SYMBOLS];
    int number = 0;
    for (int key = 0; key <= last; key++)
        if (counts[key])
            sorted[number++] = (uint64_t)counts[key] << 8 | (uint64_t)key;
    for (int gap = number > 100 ? 57 : number > 30 ? 13 : 4; gap; gap = gap > 4 ? gap / 4 : gap / 2) /* Shell's sort */
        for (int key = gap; key < number; key++) {
            uint64_t entry = sorted[key];
            int at = key;
            for (; at >= gap && sorted[at - gap] > entry; at -= gap)
                sorted[at] = sorted[at - gap];
            sorted[at] = entry;
        }
    for (int at = 0; at < number; at++)
        order[at] = (int)(sorted[at] & 255);
    return number;
}

/* Find the lengths of the codes of minimal size of up to LONGEST bits: Larmore and Hirschberg's package-merge. Of each level,
   packages of two of the level before are merged with all symbols; a symbol's code is as long as it is often among the first. */
static void measure_limited(const uint32_t *weights, int number, int *depths) {
    uint32_t lists[2][2 * SYMBOLS];
    uint8_t are_symbols[LONGEST][2 * SYMBOLS];
    int size = 0;
    for (int level = 0; level < LONGEST; level++) {
        const uint32_t *before = lists[~level & 1];
        int packages = size / 2, symbol = 0, package = 0;
        for (size = 0; symbol < number || package < packages; size++) {
            uint32_t both = package < packages ? before[2 * package] + before[2 * package + 1] : UINT32_MAX;
            int is_symbol = symbol < number && weights[symbol] <= both;
            lists[level & 1][size] = is_symbol ? weights[symbol] : both;
            are_symbols[level][size] = (uint8_t)is_symbol;
            symbol += is_symbol;
            package += !is_symbol;
        }
    }
    memset(depths, 0, (size_t)number * sizeof *depths);
    for (int level = LONGEST - 1, first = 2 * number - 2; level >= 0; level--) {
        int symbols = 0;
        for (int at = 0; at < first; at++)
            symbols += are_symbols[level][at];
        for (int at = 0; at < symbols; at++)
            depths[at]++;
        first = 2 * (first - symbols);
    }
}

/* Find the lengths of a code without redundancy of minimal size, of at most LONGEST bits. Return the number of symbols. */
static int measure(const uint32_t *counts, table *table) {
    int order[SYMBOLS], number = sort_symbols(counts, table->last, order);
    if (number < 2)
        return number;
    /* Leaves and inner nodes are both sorted, so that the rarest two are at the front of either. */
    uint32_t weights[2 * SYMBOLS];
    int parents[2 * SYMBOLS], leaf = 0, inner = number, made = number;
    for (int at = 0; at < number; at++)
        weights[at] = counts[order[at]];
    for (; made < 2 * number - 1; made++) {
        weights[made] = 0;
        for (int child = 0; child < 2; child++) {
            int rarest = leaf < number && (inner == made || weights[leaf] <= weights[inner]) ? leaf++ : inner++;
            weights[made] += weights[rarest];
            parents[rarest] = made;
        }
    }
    int depths[2 * SYMBOLS];
    depths[2 * number - 2] = 0;
    for (int at = 2 * number - 3; at >= 0; at--)
        depths[at] = depths[parents[at]] + 1;
    if (depths[0] > LONGEST)
        measure_limited(weights, number, depths);
    memset(table->bits, 0, sizeof table->bits);
    for (int at = 0; at < number; at++)
        table->bits[order[at]] = (uint8_t)depths[at];
    return number;
}

/* Assign codes as RFC 8878, 4.2.1.3: the longest first, and among codes of equal length by symbol. */
static void assign(table *table) {
    uint32_t code = 0;
    for (int length = LONGEST; length > 0; length--, code >>= 1)
        for (int key = 0; key <= table->last; key++)
            if (table->bits[key] == length)
                table->codes[key] = (uint16_t)code++;
}

static int is_wide(const table *table) { return table->last >= PLAIN; }

/* Make the entries by which symbols are written without vectors. */
static void enter(table *table) {
    for (int second = 0; second <= table->last; second++) {
        if (is_wide(table) && table->bits[second])
            table->entries[second] = (uint64_t)table->codes[second] << (64 - table->bits[second]) | table->bits[second];
        for (int first = 0; !is_wide(table) && table->bits[second] && first <= table->last; first++)
            if (table->bits[first]) {
                int bits = table->bits[first] + table->bits[second];
                uint64_t both = (uint64_t)table->codes[first] << table->bits[second] | table->codes[second];
                table->entries[second << 8 | first] = both << (64 - bits) | (uint64_t)bits;
            }
    }
}

/* Return the bits that a block takes with a table; a large number if the table lacks a symbol. */
static uint64_t cost(const uint32_t *counts, const table *table) {
    uint64_t bits = 0;
    for (int key = 0; key < 256; key++) {
        if (counts[key] && (key > table->last || !table->bits[key]))
            return UINT64_MAX;
        bits += counts[key] ? (uint64_t)counts[key] * table->bits[key] : 0;
    }
    return bits;
}

/* Return the largest power of two that a number is not below, as its exponent. */
static int highest_bit(unsigned number) {
    int bit = 0;
    while (number >>= 1)
        bit++;
    return bit;
}

/* Bits from the lowest to the highest, whatever is above them being 0. */
typedef struct {
    uint64_t bits;
    int size;
    uint8_t *at;
} bit_writer;

static void put_bits(bit_writer *to, unsigned bits, int size) {
    to->bits |= (uint64_t)bits << to->size;
    to->size += size;
    for (; to->size >= 8; to->size -= 8, to->bits >>= 8)
        *to->at++ = (uint8_t)to->bits;
}

/* Distribute the states among weights by how often they occur. Each that occurs gets one at least, and the most frequent
   one what is left; return whether there is more than one weight, as finite-state entropy needs. */
static int share_states(const int *counts, int total, int *shares) {
    int most = 0, left = WEIGHT_STATES;
    for (int weight = 0; weight < WEIGHTS; weight++) {
        shares[weight] = counts[weight] * WEIGHT_STATES / total;
        shares[weight] += counts[weight] && !shares[weight];
        left -= shares[weight];
        most = counts[weight] > counts[most] ? weight : most;
    }
    shares[most] += left;
    return counts[most] < total && shares[most] > 0;
}

/* Write how many states weights have as RFC 8878, 4.1.1. */
static void put_shares(bit_writer *to, const int *shares) {
    int left = WEIGHT_STATES + 1, limit = WEIGHT_STATES, size = WEIGHT_LOG + 1;
    put_bits(to, WEIGHT_LOG - 5, 4);
    for (int weight = 0; left > 1; weight++) {
        int most = 2 * limit - 1 - left, value = shares[weight] + 1;
        left -= shares[weight];
        value += value >= limit ? most : 0;
        put_bits(to, (unsigned)value, size - (value < most));
        if (shares[weight] == 0) {
            int zeros = 0;
            while (shares[weight + 1 + zeros] == 0)
                zeros++;
            weight += zeros;
            for (; zeros >= 3; zeros -= 3)
                put_bits(to, 3, 2);
            put_bits(to, (unsigned)zeros, 2);
        }
        for (; left < limit; limit >>= 1)
            size--;
    }
}

typedef struct {
    uint16_t states[WEIGHT_STATES];
    int added_bits[WEIGHTS], first[WEIGHTS];
} weight_states;

/* Find which states weights have, as RFC 8878, 4.1.1, and what zstd's encoder computes from that. */
static void find_states(const int *shares, weight_states *found) {
    uint8_t weights[WEIGHT_STATES];
    int starts[WEIGHTS], position = 0, total = 0;
    for (int weight = 0; weight < WEIGHTS; weight++)
        for (int n = 0; n < shares[weight]; n++, position = (position + WEIGHT_STATES / 2 + WEIGHT_STATES / 8 + 3) % WEIGHT_STATES)
            weights[position] = (uint8_t)weight;
    for (int weight = 0; weight < WEIGHTS; weight++) {
        starts[weight] = total;
        if (!shares[weight])
            continue;
        int bits = WEIGHT_LOG - (shares[weight] > 1 ? highest_bit((unsigned)shares[weight] - 1) : 0);
        found->added_bits[weight] = (bits << 16) - (shares[weight] << bits);
        found->first[weight] = total - shares[weight];
        total += shares[weight];
    }
    for (int state = 0; state < WEIGHT_STATES; state++)
        found->states[starts[weights[state]]++] = (uint16_t)(WEIGHT_STATES + state);
}

/* Compress weights by finite-state entropy with two states in turn, and return the number of bytes; 0 if they are too many. */
static Py_ssize_t compress_weights(const uint8_t *weights, int number, uint8_t *out) {
    int counts[WEIGHTS] = {0}, shares[WEIGHTS];
    weight_states found;
    for (int at = 0; at < number; at++)
        counts[weights[at]]++;
    if (!share_states(counts, number, shares))
        return 0;
    find_states(shares, &found);
    bit_writer to = {0, 0, out};
    put_shares(&to, shares);
    put_bits(&to, 0, -to.size & 7);
    unsigned states[2];
    for (int at = number - 1; at >= 0; at--) {
        unsigned *state = &states[at & 1];
        int weight = weights[at], added = found.added_bits[weight];
        int bits = at >= number - 2 ? (added + (1 << 15)) >> 16 : ((int)*state + added) >> 16;
        unsigned before = at >= number - 2 ? (unsigned)((bits << 16) - added) : *state;
        if (at < number - 2)
            put_bits(&to, before & ((1u << bits) - 1), bits);
        *state = found.states[(int)(before >> bits) + found.first[weight]];
    }
    put_bits(&to, states[1] % WEIGHT_STATES, WEIGHT_LOG);
    put_bits(&to, states[0] % WEIGHT_STATES, WEIGHT_LOG);
    put_bits(&to, 1, 1);
    put_bits(&to, 0, -to.size & 7);
    return to.at - out < 128 ? to.at - out : 0;
}

/* Write the weights of all symbols but the last, which they imply, and return the number of bytes; 0 if they are too many. */
static Py_ssize_t describe(const table *table, uint8_t *out) {
    int longest = 0;
    uint8_t weights[SYMBOLS + 1] = {0};
    for (int key = 0; key <= table->last; key++)
        longest = table->bits[key] > longest ? table->bits[key] : longest;
    for (int key = 0; key < table->last; key++)
        weights[key] = table->bits[key] ? (uint8_t)(longest + 1 - table->bits[key]) : 0;
    if (is_wide(table)) {
        Py_ssize_t size = compress_weights(weights, table->last, out + 1);
        out[0] = (uint8_t)size;
        return size ? 1 + size : 0;
    }
    out[0] = (uint8_t)(127 + table->last);
    for (int key = 0; key < table->last; key += 2)
        out[1 + key / 2] = (uint8_t)(weights[key] << 4 | weights[key + 1]);
    return 1 + (table->last + 1) / 2;
}

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

/* Count the symbols without codes, and return their number. */
static Py_ssize_t count_lacking(const table *table, const uint8_t *data, Py_ssize_t size, uint32_t *counts) {
    Py_ssize_t number = 0;
    uint8_t lacking[256];
    for (int key = 0; key < 256; key++)
        lacking[key] = key > table->last || !table->bits[key];
    for (Py_ssize_t at = 0; at < size; at++)
        if (lacking[data[at]]) {
            counts[data[at]]++;
            number++;
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

/* Write a few symbols one by one, the last one first, down to a multiple of a number. */
static Py_ssize_t begin(writer *to, const table *table, const uint8_t *data, Py_ssize_t size, Py_ssize_t multiple) {
    for (; size % multiple; size--) {
        add(to, table->codes[data[size - 1]], table->bits[data[size - 1]]);
        flush(to);
    }
    return size;
}

static Py_ssize_t finish(writer *to, const uint8_t *start) {
    add(to, 1, 1);
    flush(to);
    return to->at + (to->size > 0) - start;
}

static inline void write_fours(const table *table, int wide, writer *one, const uint8_t *first, Py_ssize_t size, writer *other,
                               const uint8_t *second, Py_ssize_t other_size) {
    for (; size > 0 && other_size > 0; size -= 4, other_size -= 4) {
        add_four(one, table, wide, first + size - 4);
        add_four(other, table, wide, second + other_size - 4);
    }
    for (; size > 0; size -= 4)
        add_four(one, table, wide, first + size - 4);
    for (; other_size > 0; other_size -= 4)
        add_four(other, table, wide, second + other_size - 4);
}

/* Write two streams of about equal size in turn, so that neither waits for itself. */
static void write_two(const table *table, int vectors, const uint8_t *one, Py_ssize_t size, const uint8_t *other,
                      Py_ssize_t other_size, uint8_t *const *out, Py_ssize_t *sizes) {
    writer a = {0, 0, out[0]}, b = {0, 0, out[1]};
    size = begin(&a, table, one, size, vectors ? TOGETHER : 4);
    other_size = begin(&b, table, other, other_size, vectors ? TOGETHER : 4);
    if (vectors)
        write_vectors(table, &a, one, size, &b, other, other_size);
    else if (is_wide(table))
        write_fours(table, 1, &a, one, size, &b, other, other_size);
    else
        write_fours(table, 0, &a, one, size, &b, other, other_size);
    sizes[0] = finish(&a, out[0]);
    sizes[1] = finish(&b, out[1]);
}

/* Write the literals of a block, and return the number of bytes. */
static Py_ssize_t write_literals(const uint8_t *data, Py_ssize_t size, workspace *space, int type, uint8_t *out) {
    const table *table = &space->table;
    Py_ssize_t part = (size + 3) / STREAMS, sizes[STREAMS];
    for (int n = 0; n < STREAMS; n += 2) {
        uint8_t *rooms[2] = {space->streams[n], space->streams[n + 1]};
        Py_ssize_t second = n == 2 ? size - 3 * part : part;
        write_two(table, space->vectors, data + n * part, part, data + (n + 1) * part, second, rooms, sizes + n);
    }
    uint8_t *at = out + LITERALS_HEAD;
    if (type == COMPRESSED) {
        memcpy(at, space->description, (size_t)space->described);
        at += space->described;
    }
    for (int n = 0; n < 3; n++, at += 2)
        put(at, (uint64_t)sizes[n], 2);
    for (int n = 0; n < STREAMS; at += sizes[n++])
        memcpy(at, space->streams[n], (size_t)sizes[n]);
    Py_ssize_t coded = at - out - LITERALS_HEAD;
    put(out, (uint64_t)type | 3 << 2 | (uint64_t)size << 4 | (uint64_t)coded << 22, LITERALS_HEAD);
    return at - out;
}

static Py_ssize_t write_block(int type, const uint8_t *data, Py_ssize_t size, int last, uint8_t *out) {
    if (type == STORED)
        memcpy(out + BLOCK_HEAD, data, (size_t)size);
    put(out, (uint64_t)last | (uint64_t)type << 1 | (uint64_t)size << 3, BLOCK_HEAD);
    return BLOCK_HEAD + size;
}

/* Choose the table of a block, and return whether it is described with it or is that of the block before; -1 if zstd may
   make the block smaller. */
static int choose_table(const uint8_t *block, Py_ssize_t length, workspace *space) {
    table *table = &space->table, fresh;
    uint32_t *counts = space->counts[0];
    int sampled = count(block, length, space->counts);
    for (;;) { /* until a table has codes for all symbols; those that it lacks are counted then */
        fresh.last = 255;
        while (!counts[fresh.last])
            fresh.last--;
        for (int key = 0; key <= fresh.last; key++)
            if (counts[key] > (uint32_t)length / 2) /* such symbols are in runs, which take less than a bit for each */
                return -1;
        if (measure(counts, &fresh) < 2)
            return -1;
        uint8_t description[SYMBOLS];
        Py_ssize_t described = describe(&fresh, description);
        uint64_t bits = described ? cost(counts, &fresh) + 8 * (uint64_t)described : UINT64_MAX, before = cost(counts, table);
        if ((bits < before ? bits : before) / 8 + 64 >= (uint64_t)length)
            return -1;
        const struct table *chosen = bits < before ? &fresh : table;
        if (sampled && (space->vectors ? count_lacking_by_vectors : count_lacking)(chosen, block, length, counts))
            continue;
        if (bits >= before)
            return SAME_TABLE;
        table->last = fresh.last;
        memcpy(table->bits, fresh.bits, sizeof fresh.bits);
        memcpy(space->description, description, (size_t)described);
        space->described = described;
        assign(table);
        if (!space->vectors)
            enter(table);
        return COMPRESSED;
    }
}

/* Code a plane, and return the number of bytes; 0 if zstd may make it smaller. */
static Py_ssize_t code(const uint8_t *data, Py_ssize_t size, workspace *space, uint8_t *out) {
    put(out, 0xFD2FB528, 4);
    out[4] = 0xa0; /* the content size follows in four bytes, and is the window */
    put(out + 5, (uint64_t)size, 4);
    uint8_t *at = out + FRAME_HEAD;
    space->table.last = -1;
    for (Py_ssize_t start = 0; start < size; start += BLOCK) {
        Py_ssize_t length = size - start < BLOCK ? size - start : BLOCK;
        const uint8_t *block = data + start;
        int last = start + length == size;
        if (length < LEAST) {
            at += write_block(STORED, block, length, last, at);
            continue;
        }
        int type = choose_table(block, length, space);
        if (type < 0)
            return 0;
        Py_ssize_t coded = write_literals(block, length, space, type, at + BLOCK_HEAD);
        at[BLOCK_HEAD + coded++] = 0; /* no sequences */
        at += write_block(COMPRESSED, NULL, coded, last, at);
    }
    return at - out < size ? at - out : 0;
}

static PyObject *encode(PyObject *module, PyObject *args) {
    Py_buffer data = {0};
    PyObject *frame = NULL;
    int vectors = 1;
    if (!PyArg_ParseTuple(args, "y*|p", &data, &vectors))
        return NULL;
    if (data.len < LEAST || data.len > LARGEST_FRAME) {
        PyBuffer_Release(&data);
        Py_RETURN_NONE;
    }
    workspace *space = PyMem_Malloc(sizeof *space);
    frame = PyByteArray_FromStringAndSize(NULL, (data.len / BLOCK + 1) * BLOCK_ROOM + FRAME_HEAD);
    if (space == NULL || frame == NULL) {
        Py_CLEAR(frame);
        PyErr_NoMemory();
    } else {
        Py_ssize_t coded;
        uint8_t *out = (uint8_t *)PyByteArray_AsString(frame);
        space->vectors = vectors && has_vectors();
        Py_BEGIN_ALLOW_THREADS
        coded = code(data.buf, data.len, space, out);
        Py_END_ALLOW_THREADS
        if (!coded) {
            Py_DECREF(frame);
            frame = Py_NewRef(Py_None);
        } else if (PyByteArray_Resize(frame, coded) < 0) { /* gives memory back, and copies nothing */
            Py_CLEAR(frame);
        }
    }
    PyMem_Free(space);
    PyBuffer_Release(&data);
    return frame;
}

static PyMethodDef methods[] = {
    {"encode", encode, METH_VARARGS, "encode(plane, vectors=True)"},
    {NULL, NULL, 0, NULL},
};

/* Raised with every change of the functions above; kernels.py uses no module of another version. */
static int add_version(PyObject *module) { return PyModule_AddIntConstant(module, "VERSION", 4); }

EXTENSION(_huffman, add_version)
