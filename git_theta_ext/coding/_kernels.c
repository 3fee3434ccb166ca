/* Elementwise kernels of the coders in single passes. kernels.py has the same in numpy and chooses.

   Integers are little-endian and may begin at any address, so they are read and written by memcpy, which compilers turn
   into plain vector instructions. Every function checks the sizes of its buffers, and runs without the interpreter lock. */

#include "_extension.h"

#include "_joins.h"

/* Vector instructions of newer processors are used if the processor has them. */
#define KERNEL ALSO_WITH("avx2") OPTIMIZED static

#define WIDEST 255 /* bytes of an element that is split into bytes */

KERNEL void split_two(const void *data, Py_ssize_t count, uint8_t *restrict exponent, uint8_t *restrict top) {
    for (Py_ssize_t i = 0; i < count; i++) {
        LOAD(uint16_t, value, data, i);
        exponent[i] = (uint8_t)(value >> 7);
        top[i] = (uint8_t)(value << 1 | value >> 15);
    }
}

KERNEL void split_four(const void *data, Py_ssize_t count, uint8_t *restrict exponent, uint8_t *restrict top,
                       uint8_t *restrict low) {
    for (Py_ssize_t i = 0; i < count; i++) {
        LOAD(uint32_t, value, data, i);
        uint16_t rest = (uint16_t)value;
        exponent[i] = (uint8_t)(value >> 23);
        top[i] = (uint8_t)(value >> 15 & 0xfe) | (uint8_t)(value >> 31);
        STORE(low, i, rest);
    }
}

KERNEL void join_four(const uint8_t *exponent, const uint8_t *top, const void *low, Py_ssize_t count,
                      char *restrict out) {
    for (Py_ssize_t i = 0; i < count; i++) {
        LOAD(uint16_t, rest, low, i);
        uint32_t value = (uint32_t)top[i] << 31 | (uint32_t)exponent[i] << 23 | (uint32_t)(top[i] >> 1) << 16 | rest;
        STORE(out, i, value);
    }
}

#define TILE 512

/* Deal the bytes of elements out to planes, and collect them again, a tile at a time, so that what is read and written stays
   in the cache. */
static inline void deal(const uint8_t *data, Py_ssize_t count, Py_ssize_t width, uint8_t *const *planes) {
    for (Py_ssize_t start = 0; start < count; start += TILE) {
        Py_ssize_t end = count - start < TILE ? count : start + TILE;
        for (Py_ssize_t at = 0; at < width; at++) {
            uint8_t *restrict plane = planes[at];
            for (Py_ssize_t i = start; i < end; i++)
                plane[i] = data[i * width + at];
        }
    }
}

static void collect(const uint8_t *const *planes, Py_ssize_t count, Py_ssize_t width, uint8_t *restrict out) {
    for (Py_ssize_t start = 0; start < count; start += TILE) {
        Py_ssize_t end = count - start < TILE ? count : start + TILE;
        for (Py_ssize_t at = 0; at < width; at++) {
            const uint8_t *plane = planes[at];
            for (Py_ssize_t i = start; i < end; i++)
                out[i * width + at] = plane[i];
        }
    }
}

#define DEAL(width) \
    KERNEL void deal_##width(const uint8_t *data, Py_ssize_t count, uint8_t *const *planes) { \
        deal(data, count, width, planes); \
    }

DEAL(2)
DEAL(4)
DEAL(8)

KERNEL void collect_2(const uint8_t *const *planes, Py_ssize_t count, uint8_t *restrict out) {
    const uint8_t *a = planes[0], *b = planes[1];
    for (Py_ssize_t i = 0; i < count; i++) {
        uint16_t value = (uint16_t)(a[i] | b[i] << 8);
        STORE(out, i, value);
    }
}

KERNEL void collect_4(const uint8_t *const *planes, Py_ssize_t count, uint8_t *restrict out) {
    const uint8_t *a = planes[0], *b = planes[1], *c = planes[2], *d = planes[3];
    for (Py_ssize_t i = 0; i < count; i++) {
        uint32_t value = a[i] | (uint32_t)b[i] << 8 | (uint32_t)c[i] << 16 | (uint32_t)d[i] << 24;
        STORE(out, i, value);
    }
}

KERNEL void collect_8(const uint8_t *const *planes, Py_ssize_t count, uint8_t *restrict out) {
    const uint8_t *a = planes[0], *b = planes[1], *c = planes[2], *d = planes[3];
    const uint8_t *e = planes[4], *f = planes[5], *g = planes[6], *h = planes[7];
    for (Py_ssize_t i = 0; i < count; i++) {
        uint64_t value = a[i] | (uint64_t)b[i] << 8 | (uint64_t)c[i] << 16 | (uint64_t)d[i] << 24 |
                         (uint64_t)e[i] << 32 | (uint64_t)f[i] << 40 | (uint64_t)g[i] << 48 | (uint64_t)h[i] << 56;
        STORE(out, i, value);
    }
}

/* Return new objects of so many bytes as a tuple, and where their bytes are. */
static PyObject *new_planes(Py_ssize_t number, const Py_ssize_t *sizes, uint8_t **places) {
    PyObject *planes = PyTuple_New(number);
    for (Py_ssize_t at = 0; planes != NULL && at < number; at++) {
        PyObject *plane = PyBytes_FromStringAndSize(NULL, sizes[at]);
        if (plane == NULL || PyTuple_SetItem(planes, at, plane) < 0) {
            Py_DECREF(planes);
            return NULL;
        }
        places[at] = (uint8_t *)PyBytes_AsString(plane);
    }
    return planes;
}

static PyObject *split(PyObject *module, PyObject *args) {
    Py_buffer data = {0};
    Py_ssize_t width;
    uint8_t *places[3];
    if (!PyArg_ParseTuple(args, "y*n", &data, &width)) {
        release(&data, 1);
        return NULL;
    }
    if ((width != 2 && width != 4) || data.len % width)
        return bad_sizes(&data, 1);
    Py_ssize_t count = data.len / width, sizes[3] = {count, count, 2 * count};
    PyObject *planes = new_planes(width == 4 ? 3 : 2, sizes, places);
    if (planes != NULL) {
        Py_BEGIN_ALLOW_THREADS
        if (width == 4)
            split_four(data.buf, count, places[0], places[1], places[2]);
        else
            split_two(data.buf, count, places[0], places[1]);
        Py_END_ALLOW_THREADS
    }
    release(&data, 1);
    return planes;
}

static PyObject *split_bytes(PyObject *module, PyObject *args) {
    Py_buffer data = {0};
    Py_ssize_t width, sizes[WIDEST];
    uint8_t *places[WIDEST];
    if (!PyArg_ParseTuple(args, "y*n", &data, &width)) {
        release(&data, 1);
        return NULL;
    }
    if (width < 1 || width > WIDEST || data.len % width)
        return bad_sizes(&data, 1);
    Py_ssize_t count = data.len / width;
    for (Py_ssize_t at = 0; at < width; at++)
        sizes[at] = count;
    PyObject *planes = new_planes(width, sizes, places);
    if (planes != NULL) {
        Py_BEGIN_ALLOW_THREADS
        if (width == 2)
            deal_2(data.buf, count, places);
        else if (width == 4)
            deal_4(data.buf, count, places);
        else if (width == 8)
            deal_8(data.buf, count, places);
        else
            deal(data.buf, count, width, places);
        Py_END_ALLOW_THREADS
    }
    release(&data, 1);
    return planes;
}

static PyObject *join_bytes(PyObject *module, PyObject *args) {
    Py_buffer b[WIDEST + 1] = {{0}};
    const uint8_t *places[WIDEST];
    PyObject *planes;
    if (!PyArg_ParseTuple(args, "O!w*", &PyTuple_Type, &planes, &b[WIDEST])) {
        release(b + WIDEST, 1);
        return NULL;
    }
    Py_ssize_t width = PyTuple_Size(planes);
    if (width < 1 || width > WIDEST || b[WIDEST].len % width)
        return bad_sizes(b, WIDEST + 1);
    Py_ssize_t count = b[WIDEST].len / width;
    for (Py_ssize_t at = 0; at < width; at++) {
        if (PyObject_GetBuffer(PyTuple_GetItem(planes, at), &b[at], PyBUF_SIMPLE) < 0) {
            release(b, WIDEST + 1);
            return NULL;
        }
        if (b[at].len != count)
            return bad_sizes(b, WIDEST + 1);
        places[at] = b[at].buf;
    }
    Py_BEGIN_ALLOW_THREADS
    if (width == 2)
        collect_2(places, count, b[WIDEST].buf);
    else if (width == 4)
        collect_4(places, count, b[WIDEST].buf);
    else if (width == 8)
        collect_8(places, count, b[WIDEST].buf);
    else
        collect(places, count, width, b[WIDEST].buf);
    Py_END_ALLOW_THREADS
    release(b, WIDEST + 1);
    Py_RETURN_NONE;
}

static PyObject *join(PyObject *module, PyObject *args) {
    Py_buffer b[4] = {{0}};
    if (!PyArg_ParseTuple(args, "y*y*y*w*", &b[0], &b[1], &b[2], &b[3])) {
        release(b, 4);
        return NULL;
    }
    Py_ssize_t count = b[0].len, width = b[2].len ? 4 : 2;
    if (b[1].len != count || b[3].len / width != count || b[3].len % width || (b[2].len && b[2].len / 2 != count) ||
        b[2].len % 2)
        return bad_sizes(b, 4);
    Py_BEGIN_ALLOW_THREADS
    if (width == 4)
        join_four(b[0].buf, b[1].buf, b[2].buf, count, b[3].buf);
    else
        join_two(b[0].buf, b[1].buf, count, b[3].buf);
    Py_END_ALLOW_THREADS
    release(b, 4);
    Py_RETURN_NONE;
}

/* Sum a weight for each byte by how often it occurs in evenly spaced runs of a plane: weights[n] if it occurs n times. */
static PyObject *weigh(PyObject *module, PyObject *args) {
    Py_buffer b[2] = {{0}};
    Py_ssize_t runs, size, counts[256] = {0};
    if (!PyArg_ParseTuple(args, "y*nny*", &b[0], &runs, &size, &b[1])) {
        release(b, 2);
        return NULL;
    }
    if (runs < 1 || size < 1 || size > b[0].len / runs || b[1].len / (Py_ssize_t)sizeof(int64_t) <= runs * size)
        return bad_sizes(b, 2);
    Py_ssize_t step = b[0].len / runs;
    int64_t sum = 0;
    for (Py_ssize_t run = 0; run < runs; run++) {
        const uint8_t *bytes = (const uint8_t *)b[0].buf + run * step;
        for (Py_ssize_t i = 0; i < size; i++)
            counts[bytes[i]]++;
    }
    for (int key = 0; key < 256; key++) {
        LOAD(int64_t, weight, b[1].buf, counts[key]);
        sum += weight;
    }
    release(b, 2);
    return PyLong_FromLongLong(sum);
}

#define PLACES 8192
#define FACTOR 0x9E3779B97F4A7C15 /* 2^64 divided by the golden ratio */

/* Define a function that counts the words at multiples of a step that are equal to the last word before them with the same
   hash. places has the number of the last word by hash; where there was none it is the first word, which is another one. */
#define COUNT_REPEATED(name, type) \
    static Py_ssize_t name(const char *data, Py_ssize_t words, Py_ssize_t step) { \
        uint16_t places[PLACES] = {0}; \
        Py_ssize_t count = 0; \
        for (Py_ssize_t at = 1; at < words; at++) { \
            LOAD(type, word, data + at * step, 0); \
            uint16_t *place = &places[word * FACTOR >> 51]; \
            LOAD(type, other, data + *place * step, 0); \
            count += word == other; \
            *place = (uint16_t)at; \
        } \
        return count; \
    }

COUNT_REPEATED(count_fours, uint32_t)
COUNT_REPEATED(count_eights, uint64_t)

static PyObject *repeated_words(PyObject *module, PyObject *args) {
    Py_buffer data = {0};
    Py_ssize_t width, step, count;
    if (!PyArg_ParseTuple(args, "y*nn", &data, &width, &step)) {
        release(&data, 1);
        return NULL;
    }
    Py_ssize_t words = step > 0 && data.len >= width ? (data.len - width) / step + 1 : 0;
    if ((width != 4 && width != 8) || step < 1 || words > UINT16_MAX)
        return bad_sizes(&data, 1);
    Py_BEGIN_ALLOW_THREADS
    count = (width == 4 ? count_fours : count_eights)(data.buf, words, step);
    Py_END_ALLOW_THREADS
    release(&data, 1);
    return PyLong_FromSsize_t(count);
}

/* Return memory that its user writes as a whole: clearing it first takes as long as half of the writing. */
static PyObject *uncleared(PyObject *module, PyObject *args) {
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "n", &size))
        return NULL;
    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "a negative size");
        return NULL;
    }
    return PyByteArray_FromStringAndSize(NULL, size);
}

static PyMethodDef methods[] = {
    {"split", split, METH_VARARGS, "split(data, width)"},
    {"join", join, METH_VARARGS, "join(exponent, top, low, out)"},
    {"split_bytes", split_bytes, METH_VARARGS, "split_bytes(data, width)"},
    {"join_bytes", join_bytes, METH_VARARGS, "join_bytes(planes, out)"},
    {"weigh", weigh, METH_VARARGS, "weigh(plane, runs, size, weights)"},
    {"repeated_words", repeated_words, METH_VARARGS, "repeated_words(data, width, step)"},
    {"uncleared", uncleared, METH_VARARGS, "uncleared(size)"},
    {NULL, NULL, 0, NULL},
};

/* Raised with every change of the functions above; kernels.py uses no module of another version. */
static int add_version(PyObject *module) { return PyModule_AddIntConstant(module, "VERSION", 4); }

EXTENSION(_kernels, add_version)
