/* Decode planes of exponents that _huffman.c coded: frames of zstd (RFC 8878) that have literals and no sequences.

   zstd decodes two symbols with each look-up at most. Exponents take less than three bits, so that eleven bits are often four
   of them and more. What _huffman.c does not write for exponents is declined; stored_planes.py then calls zstd, which also says
   what is wrong with a frame. Damaged streams give other bytes, or are declined.

   Values of bf16 are joined from exponents and the rest in the same pass: a block of exponents is still in the cache then. */

#include "_extension.h"

#include "_joins.h"

#if !defined(__GNUC__)
#error "the decoder needs a function that counts zeros"
#endif

#define FRAME_HEAD 9
#define BLOCK_HEAD 3
#define LITERALS_HEAD 5
#define JUMPS 6
#define BLOCK 131072
#define PLAIN 129         /* symbols of a table that is not compressed itself */
#define LONGEST 11        /* bits of a code */
#define STATES (1 << LONGEST)
#define STREAMS 4
#define LINE 64           /* bytes of the cache */
#define MOST 6            /* symbols of a look-up */
#define LOOK_UPS 5        /* before more bits are read: they take 55 of the 57 that there are at least */
#define ROOM (LOOK_UPS * MOST + 8 - MOST)
#define BYTES 7           /* of a stream that are taken at most before more bits are read */

/* Shifts take less time with the instructions of newer processors. */
#define KERNEL ALSO_WITH("bmi2") static

enum { STORED = 0, COMPRESSED = 2, SAME_TABLE = 3 };

/* By the next bits: in the lowest byte how many bits are taken, in the next one the number of symbols, then the symbols. */
typedef struct {
    uint64_t entries[STATES];
    uint8_t symbols[STATES], bits[STATES]; /* of the first symbol */
} table;

static uint64_t get(const uint8_t *from, int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)from[i] << 8 * i;
    return value;
}

static void enter(table *table) {
    for (int state = 0; state < STATES; state++) {
        uint64_t symbols = 0, number = 0;
        int bits = 0;
        while (number < MOST) {
            int rest = state << bits & (STATES - 1);
            if (bits + table->bits[rest] > LONGEST)
                break;
            symbols |= (uint64_t)table->symbols[rest] << (16 + 8 * number++);
            bits += table->bits[rest];
        }
        table->entries[state] = symbols | number << 8 | (uint64_t)bits;
    }
}

/* Read the weights of symbols, and return how many bytes they take; 0 if the table is another one than _huffman.c writes. */
static Py_ssize_t read_table(const uint8_t *data, Py_ssize_t size, table *table) {
    uint8_t weights[PLAIN];
    int last = size ? data[0] - 127 : 0;
    Py_ssize_t taken = 1 + (last + 1) / 2;
    if (last < 1 || taken > size)
        return 0;
    uint32_t used = 0, rarest = 0;
    for (int key = 0; key < last; key++) {
        weights[key] = key & 1 ? data[1 + key / 2] & 15 : data[1 + key / 2] >> 4;
        if (weights[key] > LONGEST)
            return 0;
        used += weights[key] ? 1u << (weights[key] - 1) : 0;
        rarest += weights[key] == 1;
    }
    int longest = 0;
    while (longest <= LONGEST && 1u << longest <= used)
        longest++;
    uint32_t left = (1u << longest) - used;
    if (longest < 1 || longest > LONGEST || left & (left - 1))
        return 0;
    weights[last] = 1;
    while (1u << (weights[last] - 1) < left)
        weights[last]++;
    if (rarest + (weights[last] == 1) < 2) /* a tree has two of them at least */
        return 0;
    /* Codes of equal length follow each other by symbol, the longest ones first. */
    int state = 0;
    for (int weight = 1; weight <= longest; weight++)
        for (int key = 0; key <= last; key++)
            if (weights[key] == weight)
                for (int n = 0; n < 1 << (weight - 1 + LONGEST - longest); n++, state++) {
                    table->symbols[state] = (uint8_t)key;
                    table->bits[state] = (uint8_t)(longest + 1 - weight);
                }
    if (state != STATES)
        return 0;
    enter(table);
    return taken;
}

/* A stream is read from its end. The next bits are the highest ones; the lowest one that is set is no part of them. */
typedef struct {
    uint64_t bits;
    const uint8_t *start, *at;
    uint8_t *out, *end;
} stream;

static int begin(stream *from, const uint8_t *data, Py_ssize_t size, uint8_t *out, Py_ssize_t room) {
    if (size < 8 || !data[size - 1])
        return 0;
    from->start = data;
    from->at = data + size - 8;
    from->out = out;
    from->end = out + room;
    memcpy(&from->bits, from->at, 8);
    from->bits = (from->bits | 1) << (__builtin_clzll(from->bits) + 1);
    return 1;
}

static inline Py_ssize_t least(Py_ssize_t one, Py_ssize_t other) { return one < other ? one : other; }

static inline int is_far_from_its_ends(const stream *from) {
    return from->at - from->start >= BYTES && from->end - from->out >= ROOM;
}

/* These are no functions of a stream, so that compilers keep four of them in registers. */
#define LOOK_UP(bits, out) \
    do { \
        uint64_t entry = entries[bits >> (64 - LONGEST)], symbols = entry >> 16; \
        memcpy(out, &symbols, 8); \
        out += (uint8_t)(entry >> 8); \
        bits <<= entry & 63; \
    } while (0)

#define READ_MORE(bits, from) \
    do { \
        int taken = __builtin_ctzll(bits); \
        (from).at -= taken >> 3; \
        memcpy(&bits, (from).at, 8); \
        bits = (bits | 1) << (taken & 7); \
    } while (0)

/* Decode the last symbols of a stream one by one, and return whether its bits end with them. */
static int finish(stream *from, const table *table) {
    const uint64_t *entries = table->entries;
    while (is_far_from_its_ends(from)) {
        for (int n = 0; n < LOOK_UPS; n++)
            LOOK_UP(from->bits, from->out);
        READ_MORE(from->bits, *from);
    }
    Py_ssize_t left = (from->at - from->start) * 8 + 64 - __builtin_ctzll(from->bits);
    while (from->out < from->end) {
        Py_ssize_t byte = left / 8 - 7, shift = left & 7; /* the next bits end below the bit left of the stream */
        uint64_t bits = 0;
        if (byte >= 0)
            memcpy(&bits, from->start + byte, shift ? 8 : 7);
        else
            memcpy((uint8_t *)&bits - byte, from->start, (size_t)((left + 7) / 8));
        uint64_t state = bits << (8 - shift) >> (64 - LONGEST);
        *from->out++ = table->symbols[state];
        left -= table->bits[state];
        if (left < 0)
            return 0;
    }
    return left == 0;
}

/* What is read and written after a block is decoded, one and two bytes for each byte of it. It is brought into the
   cache meanwhile, because decoding itself waits for no memory. An address that is not used does no harm. */
typedef struct {
    uintptr_t read, written;
} upcoming;

/* Decode four streams in turn, so that none waits for itself, until one is near an end. */
KERNEL void decode_together(stream *streams, const uint64_t *entries, upcoming next) {
    stream a = streams[0], b = streams[1], c = streams[2], d = streams[3];
    uint64_t a_bits = a.bits, b_bits = b.bits, c_bits = c.bits, d_bits = d.bits;
    uint8_t *a_out = a.out, *b_out = b.out, *c_out = c.out, *d_out = d.out;
    for (;;) {
        Py_ssize_t bytes = least(least(a.at - a.start, b.at - b.start), least(c.at - c.start, d.at - d.start));
        Py_ssize_t room = least(least(a.end - a_out, b.end - b_out), least(c.end - c_out, d.end - d_out));
        Py_ssize_t times = least(bytes / BYTES, room / ROOM);
        if (!times)
            break;
        while (times--) {
            __builtin_prefetch((const void *)next.read);
            __builtin_prefetch((const void *)next.written, 1);
            __builtin_prefetch((const void *)(next.written + LINE), 1);
            next.read += LINE; /* about as many bytes as are decoded here */
            next.written += 2 * LINE;
            _Pragma("GCC unroll 5") for (int n = 0; n < LOOK_UPS; n++) {
                LOOK_UP(a_bits, a_out);
                LOOK_UP(b_bits, b_out);
                LOOK_UP(c_bits, c_out);
                LOOK_UP(d_bits, d_out);
            }
            READ_MORE(a_bits, a);
            READ_MORE(b_bits, b);
            READ_MORE(c_bits, c);
            READ_MORE(d_bits, d);
        }
    }
    a.bits = a_bits, b.bits = b_bits, c.bits = c_bits, d.bits = d_bits;
    a.out = a_out, b.out = b_out, c.out = c_out, d.out = d_out;
    streams[0] = a, streams[1] = b, streams[2] = c, streams[3] = d;
}

/* What is left of a frame. */
typedef struct {
    const uint8_t *data;
    Py_ssize_t size, room; /* bytes to read and bytes to write */
    int has_table;
    upcoming next;
    table table;
} frame;

/* Decode the literals of a block after the head, and return whether they have the size. */
static int decode_literals(const uint8_t *data, Py_ssize_t size, const frame *from, uint8_t *out, Py_ssize_t room) {
    const table *table = &from->table;
    stream streams[STREAMS];
    Py_ssize_t part = (room + 3) / STREAMS, start = JUMPS;
    if (size < JUMPS || room < STREAMS * 3)
        return 0;
    for (int n = 0; n < STREAMS; n++) {
        Py_ssize_t length = n < 3 ? (Py_ssize_t)get(data + 2 * n, 2) : size - start;
        if (length > size - start || !begin(&streams[n], data + start, length, out + n * part, n < 3 ? part : room - 3 * part))
            return 0;
        start += length;
    }
    decode_together(streams, table->entries, from->next);
    for (int n = 0; n < STREAMS; n++)
        if (!finish(&streams[n], table))
            return 0;
    return 1;
}

/* Decode a block with literals, and return whether that was possible. */
static int decode_block(frame *from, const uint8_t *data, Py_ssize_t size, uint8_t *out, Py_ssize_t room) {
    if (size < LITERALS_HEAD + 1 || data[size - 1] != 0) /* no sequences */
        return 0;
    uint64_t head = get(data, LITERALS_HEAD);
    int type = head & 3;
    if ((head >> 2 & 3) != 3 || (Py_ssize_t)(head >> 4 & 0x3ffff) != room || (Py_ssize_t)(head >> 22) != size - LITERALS_HEAD - 1)
        return 0;
    data += LITERALS_HEAD;
    size -= LITERALS_HEAD + 1;
    if (type == COMPRESSED) {
        Py_ssize_t taken = read_table(data, size, &from->table);
        if (!taken)
            return 0;
        from->has_table = 1;
        data += taken;
        size -= taken;
    } else if (type != SAME_TABLE || !from->has_table) {
        return 0;
    }
    return decode_literals(data, size, from, out, room);
}

/* Begin to decode a frame, and return whether its head is one that _huffman.c writes for so many bytes. */
static int begin_frame(frame *from, const uint8_t *data, Py_ssize_t size, Py_ssize_t room) {
    if (room < 1 || size < FRAME_HEAD || get(data, 4) != 0xFD2FB528 || data[4] != 0xa0 || (Py_ssize_t)get(data + 5, 4) != room)
        return 0;
    from->data = data + FRAME_HEAD;
    from->size = size - FRAME_HEAD;
    from->room = room;
    from->has_table = 0;
    from->next = (upcoming){0, 0};
    return 1;
}

/* Decode the next block, of BLOCK bytes or of all that are left; return whether that was possible, and nothing follows the
   last one. */
static int decode_next(frame *from, uint8_t *out) {
    if (from->size < BLOCK_HEAD)
        return 0;
    uint64_t head = get(from->data, BLOCK_HEAD);
    const uint8_t *data = from->data + BLOCK_HEAD;
    Py_ssize_t length = (Py_ssize_t)(head >> 3), decoded = least(from->room, BLOCK);
    from->size -= BLOCK_HEAD;
    if (length > from->size || length > BLOCK)
        return 0;
    if ((head >> 1 & 3) == STORED && length == decoded)
        memcpy(out, data, (size_t)length);
    else if ((head >> 1 & 3) != COMPRESSED || !decode_block(from, data, length, out, decoded))
        return 0;
    from->data = data + length;
    from->size -= length;
    from->room -= decoded;
    int is_last = head & 1;
    return from->room ? !is_last : is_last && !from->size;
}

static int decode_frame(frame *from, uint8_t *out) {
    for (; from->room; out += BLOCK)
        if (!decode_next(from, out))
            return 0;
    return 1;
}

static PyObject *decode(PyObject *module, PyObject *args) {
    Py_buffer data = {0};
    Py_ssize_t size;
    PyObject *plane = NULL;
    int decoded = 0;
    if (!PyArg_ParseTuple(args, "y*n", &data, &size))
        return NULL;
    frame *from = PyMem_Malloc(sizeof *from);
    if (from == NULL) {
        PyErr_NoMemory();
    } else if (begin_frame(from, data.buf, data.len, size)) {
        plane = PyBytes_FromStringAndSize(NULL, size);
        if (plane != NULL) {
            uint8_t *out = (uint8_t *)PyBytes_AsString(plane);
            Py_BEGIN_ALLOW_THREADS
            decoded = decode_frame(from, out);
            Py_END_ALLOW_THREADS
        }
    }
    PyMem_Free(from);
    PyBuffer_Release(&data);
    if (PyErr_Occurred())
        return NULL;
    if (!decoded) {
        Py_XDECREF(plane);
        Py_RETURN_NONE;
    }
    return plane;
}

enum { EXPONENTS, TOPS, PLANES };

/* A plane of exponents or tops, a block at a time: as it is, or from a frame by way of memory in the cache. */
typedef struct {
    const uint8_t *raw; /* NULL for a frame */
    frame frame;
    uint8_t block[BLOCK];
} plane;

static int begin_plane(plane *from, const Py_buffer *data, int is_coded, Py_ssize_t count) {
    from->raw = is_coded ? NULL : data->buf;
    return !is_coded || begin_frame(&from->frame, data->buf, data->len, count);
}

/* Return the bytes of the next block, which begins at a place of the plane; NULL if they cannot be decoded. */
static const uint8_t *next_of(plane *from, Py_ssize_t at) {
    if (from->raw != NULL)
        return from->raw + at;
    return decode_next(&from->frame, from->block) ? from->block : NULL;
}

static int join_all(plane *planes, Py_ssize_t count, char *out) {
    for (Py_ssize_t at = 0; at < count; at += BLOCK) {
        planes[EXPONENTS].frame.next = (upcoming){(uintptr_t)planes[TOPS].raw + (uintptr_t)at, (uintptr_t)(out + 2 * at)};
        const uint8_t *exponents = next_of(&planes[EXPONENTS], at), *tops = next_of(&planes[TOPS], at);
        if (exponents == NULL || tops == NULL)
            return 0;
        join_two(exponents, tops, least(count - at, BLOCK), out + 2 * at);
    }
    return 1;
}

static PyObject *join(PyObject *module, PyObject *args) {
    Py_buffer b[3] = {{0}};
    int are_coded[PLANES], joined = 0;
    if (!PyArg_ParseTuple(args, "y*py*pw*", &b[0], &are_coded[0], &b[1], &are_coded[1], &b[2]))
        return NULL;
    Py_ssize_t count = b[2].len / 2;
    if (b[2].len % 2 || (!are_coded[0] && b[0].len != count) || (!are_coded[1] && b[1].len != count)) {
        bad_sizes(NULL, 0);
    } else {
        plane *planes = PyMem_Malloc(PLANES * sizeof *planes);
        if (planes == NULL) {
            PyErr_NoMemory();
        } else if (begin_plane(&planes[EXPONENTS], &b[0], are_coded[0], count) &&
                   begin_plane(&planes[TOPS], &b[1], are_coded[1], count)) {
            Py_BEGIN_ALLOW_THREADS
            joined = join_all(planes, count, b[2].buf);
            Py_END_ALLOW_THREADS
        }
        PyMem_Free(planes);
    }
    for (int n = 0; n < 3; n++)
        PyBuffer_Release(&b[n]);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(joined);
}

static PyMethodDef methods[] = {
    {"decode", decode, METH_VARARGS, "decode(frame, size)"},
    {"join", join, METH_VARARGS, "join(exponents, are_coded, tops, are_coded, out)"},
    {NULL, NULL, 0, NULL},
};

/* Raised with every change of the functions above; kernels.py uses no module of another version. */
static int add_version(PyObject *module) { return PyModule_AddIntConstant(module, "VERSION", 2); }

EXTENSION(_literals, add_version)
