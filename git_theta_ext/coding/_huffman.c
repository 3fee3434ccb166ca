/* Code planes of bytes by their frequencies alone, as frames of zstd (RFC 8878) that have literals and no sequences.

   zstd's encoder also looks for repetitions, which a plane of exponents has none of, and writes a symbol at a time. This one
   writes two symbols with each look-up, and decoders of zstd read the result faster, because blocks share tables. It declines
   what zstd may make smaller; planes.py then calls zstd. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the coder is for little-endian machines"
#endif

#define BLOCK 131072      /* the most bytes of a block */
#define LEAST 1024        /* bytes of a block below which it is stored */
#define SYMBOLS 129       /* a table of weights that is not compressed itself has up to 128 and implies the last */
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

enum { STORED = 0, COMPRESSED = 2, SAME_TABLE = 3 };

typedef struct {
    int last;                    /* the largest symbol */
    uint8_t bits[SYMBOLS];       /* of the code of each symbol, 0 for a symbol without one */
    uint16_t codes[SYMBOLS];
    uint64_t pairs[SYMBOLS * 256]; /* by the second and the first symbol: both codes in the highest bits, their size in the lowest */
} table;

typedef struct {
    uint32_t counts[4][256];
    table table;
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

/* Count the bytes of a block in the first row, of which none is missing. If they are within a narrow range, a sample of
   them is enough, and every byte of the range counts at least once. */
static void count(const uint8_t *data, Py_ssize_t size, uint32_t (*counts)[256]) {
    uint8_t least = 255, most = 0;
    for (Py_ssize_t at = 0; at < size; at++) {
        least = data[at] < least ? data[at] : least;
        most = data[at] > most ? data[at] : most;
    }
    memset(counts, 0, 4 * sizeof counts[0]);
    int sampled = size == BLOCK && most - least <= NARROW;
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
        counts[0][key] = counts[0][key] ? 4 * counts[0][key] : 1;
}

/* Find the lengths of a code without redundancy of minimal size, of at most LONGEST bits. Return the number of symbols. */
static int measure(const uint32_t *counts, table *table) {
    int order[SYMBOLS], number = 0;
    for (int key = 0; key <= table->last; key++) {
        table->bits[key] = 0;
        if (counts[key]) { /* sorted by insertion, the rarest first */
            int at = number++;
            for (; at > 0 && counts[order[at - 1]] > counts[key]; at--)
                order[at] = order[at - 1];
            order[at] = key;
        }
    }
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
    int depths[2 * SYMBOLS], of_length[SYMBOLS] = {0};
    depths[2 * number - 2] = 0;
    for (int at = 2 * number - 3; at >= 0; at--)
        depths[at] = depths[parents[at]] + 1;
    for (int at = 0; at < number; at++)
        of_length[depths[at] < LONGEST ? depths[at] : LONGEST]++;
    /* Codes that were too long take more than there is; each step gives back the smallest unit. */
    uint32_t taken = 0;
    for (int length = 1; length <= LONGEST; length++)
        taken += (uint32_t)of_length[length] << (LONGEST - length);
    for (; taken > 1u << LONGEST; taken--) {
        int length = LONGEST - 1;
        while (!of_length[length])
            length--;
        of_length[LONGEST]--;
        of_length[length]--;
        of_length[length + 1] += 2;
    }
    for (int length = LONGEST, at = 0; length > 0; length--)
        for (int n = 0; n < of_length[length]; n++)
            table->bits[order[at++]] = (uint8_t)length;
    return number;
}

/* Assign codes as RFC 8878, 4.2.1.3: the longest first, and among codes of equal length by symbol. */
static void assign(table *table) {
    uint32_t code = 0;
    for (int length = LONGEST; length > 0; length--, code >>= 1)
        for (int key = 0; key <= table->last; key++)
            if (table->bits[key] == length)
                table->codes[key] = (uint16_t)code++;
    for (int second = 0; second <= table->last; second++)
        for (int first = 0; table->bits[second] && first <= table->last; first++)
            if (table->bits[first]) {
                int bits = table->bits[first] + table->bits[second];
                uint64_t both = (uint64_t)table->codes[first] << table->bits[second] | table->codes[second];
                table->pairs[second << 8 | first] = both << (64 - bits) | (uint64_t)bits;
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

/* Write the weights of all symbols but the last, which they imply, and return the number of bytes. */
static Py_ssize_t describe(const table *table, uint8_t *out) {
    int longest = 0;
    for (int key = 0; key <= table->last; key++)
        longest = table->bits[key] > longest ? table->bits[key] : longest;
    out[0] = (uint8_t)(127 + table->last);
    for (int key = 0; key < table->last; key += 2) {
        int one = table->bits[key] ? longest + 1 - table->bits[key] : 0;
        int other = key + 1 < table->last && table->bits[key + 1] ? longest + 1 - table->bits[key + 1] : 0;
        out[1 + key / 2] = (uint8_t)(one << 4 | other);
    }
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

static inline void add_pair(writer *to, const table *table, unsigned pair) {
    uint64_t codes = table->pairs[pair];
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

static inline void add_four(writer *to, const table *table, const uint8_t *data) {
    uint32_t four;
    memcpy(&four, data, 4);
    add_pair(to, table, four >> 16);
    add_pair(to, table, four & 0xffff);
    flush(to);
}

/* Write a few symbols one by one, the last one first, down to a multiple of four. */
static Py_ssize_t begin(writer *to, const table *table, const uint8_t *data, Py_ssize_t size) {
    for (; size & 3; size--)
        add(to, table->codes[data[size - 1]], table->bits[data[size - 1]]);
    flush(to);
    return size;
}

static Py_ssize_t finish(writer *to, const uint8_t *start) {
    add(to, 1, 1);
    flush(to);
    return to->at + (to->size > 0) - start;
}

/* Write two streams of about equal size in turn, so that neither waits for itself. */
static void write_two(const table *table, const uint8_t *one, Py_ssize_t size, const uint8_t *other, Py_ssize_t other_size,
                      uint8_t *const *out, Py_ssize_t *sizes) {
    writer a = {0, 0, out[0]}, b = {0, 0, out[1]};
    Py_ssize_t i = begin(&a, table, one, size), j = begin(&b, table, other, other_size);
    for (; i > 0 && j > 0; i -= 4, j -= 4) {
        add_four(&a, table, one + i - 4);
        add_four(&b, table, other + j - 4);
    }
    for (; i > 0; i -= 4)
        add_four(&a, table, one + i - 4);
    for (; j > 0; j -= 4)
        add_four(&b, table, other + j - 4);
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
        write_two(table, data + n * part, part, data + (n + 1) * part, second, rooms, sizes + n);
    }
    uint8_t *at = out + LITERALS_HEAD;
    if (type == COMPRESSED)
        at += describe(table, at);
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

/* Code a plane, and return the number of bytes; 0 if zstd may make it smaller. */
static Py_ssize_t code(const uint8_t *data, Py_ssize_t size, workspace *space, uint8_t *out) {
    table *table = &space->table, fresh;
    put(out, 0xFD2FB528, 4);
    out[4] = 0xa0; /* the content size follows in four bytes, and is the window */
    put(out + 5, (uint64_t)size, 4);
    uint8_t *at = out + FRAME_HEAD;
    table->last = -1;
    for (Py_ssize_t start = 0; start < size; start += BLOCK) {
        Py_ssize_t length = size - start < BLOCK ? size - start : BLOCK;
        const uint8_t *block = data + start;
        int last = start + length == size, type = SAME_TABLE;
        if (length < LEAST) {
            at += write_block(STORED, block, length, last, at);
            continue;
        }
        count(block, length, space->counts);
        const uint32_t *counts = space->counts[0];
        fresh.last = 255;
        while (!counts[fresh.last])
            fresh.last--;
        for (int key = 0; key <= fresh.last; key++)
            if (counts[key] > (uint32_t)length / 2) /* such symbols are in runs, which take less than a bit for each */
                return 0;
        if (fresh.last >= SYMBOLS || measure(counts, &fresh) < 2)
            return 0;
        uint64_t bits = cost(counts, &fresh) + 8 * (1 + ((uint64_t)fresh.last + 1) / 2), before = cost(counts, table);
        if (bits < before) {
            type = COMPRESSED;
            table->last = fresh.last;
            memcpy(table->bits, fresh.bits, sizeof fresh.bits);
            assign(table);
        }
        if ((bits < before ? bits : before) / 8 + 64 >= (uint64_t)length)
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
    if (!PyArg_ParseTuple(args, "y*", &data))
        return NULL;
    if (data.len < LEAST || data.len > LARGEST_FRAME) {
        PyBuffer_Release(&data);
        Py_RETURN_NONE;
    }
    workspace *space = PyMem_Malloc(sizeof *space);
    uint8_t *out = PyMem_Malloc((size_t)(data.len / BLOCK + 1) * BLOCK_ROOM + FRAME_HEAD);
    if (space == NULL || out == NULL) {
        PyErr_NoMemory();
    } else {
        Py_ssize_t coded;
        Py_BEGIN_ALLOW_THREADS
        coded = code(data.buf, data.len, space, out);
        Py_END_ALLOW_THREADS
        frame = coded ? PyBytes_FromStringAndSize((const char *)out, coded) : Py_NewRef(Py_None);
    }
    PyMem_Free(space);
    PyMem_Free(out);
    PyBuffer_Release(&data);
    return frame;
}

static PyMethodDef methods[] = {
    {"encode", encode, METH_VARARGS, "encode(plane)"},
    {NULL, NULL, 0, NULL},
};

/* Raised with every change of the functions above; kernels.py uses no module of another version. */
static int add_version(PyObject *module) { return PyModule_AddIntConstant(module, "VERSION", 1); }

static PyModuleDef_Slot slots[] = {{Py_mod_exec, add_version}, {0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_huffman", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__huffman(void) { return PyModuleDef_Init(&definition); }
