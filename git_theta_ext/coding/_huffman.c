/* Code planes of bytes by their frequencies alone, as frames of zstd (RFC 8878) that have literals and no sequences.

   zstd's encoder also looks for repetitions, which a plane of exponents has none of, and writes a symbol at a time. This one
   looks up 64 symbols at the same time if the processor has AVX-512, and two if not; the bytes are the same. Decoders of zstd
   read them faster than zstd's, because blocks share tables. It declines what zstd may make smaller; planes.py then calls
   zstd.

   This file has blocks and frames, and what Python calls. _huffman_tables.h chooses the codes, _huffman_weights.h describes
   them, and _huffman_streams.h writes symbols. */

#include "_huffman_streams.h"
#include "_huffman_tables.h"
#include "_huffman_weights.h"

#define LEAST 1024        /* bytes of a block below which it is stored */
#define STREAMS 4
#define STREAM_ROOM (BLOCK / STREAMS * LONGEST / 8 + 16)
#define FRAME_HEAD 9
#define BLOCK_HEAD 3
#define BLOCK_ROOM (BLOCK / 8 * LONGEST + 512)
#define LITERALS_HEAD 5
#define LARGEST_FRAME (1 << 30)

enum { STORED = 0, COMPRESSED = 2, SAME_TABLE = 3 };

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
