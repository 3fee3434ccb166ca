/* Products of thin factors, added to a parent, and the search for such factors. factors.py offers them, and its callers do the same in numpy.

   The prediction has the bits of numpy: products are added one by one in float64, and the sum is rounded once. Where a
   value is not finite, it declines. Every function checks the sizes of its buffers and all indexes, and runs without the
   interpreter lock. Buffers of numbers are aligned arrays of numpy.

   This file has the prediction, and what Python calls. _factors_search.h has the steps of the search. */

#include "_factors_search.h"

#include <stdlib.h>

#define BLOCK 512 /* elements of a prediction, which stay in the cache */

KERNEL void weigh_row(double factor, const double *restrict values, Py_ssize_t count, double *restrict sums) {
    for (Py_ssize_t i = 0; i < count; i++)
        sums[i] = factor * values[i];
}

KERNEL void add_row(double factor, const double *restrict values, Py_ssize_t count, double *restrict sums) {
    for (Py_ssize_t i = 0; i < count; i++) {
        double product = factor * values[i];
        sums[i] = sums[i] + product;
    }
}

/* Both return something other than 0 if a result is not finite. */
KERNEL uint32_t finish_two(const double *restrict sums, double scale, const char *parent, Py_ssize_t count,
                           char *restrict out) {
    uint32_t bad = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, parent + 2 * i, 2);
        uint32_t bits = (uint32_t)half << 16;
        float base;
        memcpy(&base, &bits, 4);
        double exact = sums[i] * scale;
        exact = exact + (double)base;
        float single = (float)exact;
        memcpy(&bits, &single, 4);
        /* The rounding to float32 may move a value exactly to the middle between two BF16 values. */
        double size = single < 0 ? -(double)single : (double)single, wanted = exact < 0 ? -exact : exact;
        uint32_t middle = (bits & 0xffff) == 0x8000;
        bad |= (bits & 0x7f800000) == 0x7f800000;
        bits += middle & (wanted > size);
        bits -= middle & (wanted < size);
        bits += 0x7fff + (bits >> 16 & 1);
        bad |= (bits & 0x7f800000) == 0x7f800000;
        half = (uint16_t)(bits >> 16);
        memcpy(out + 2 * i, &half, 2);
    }
    return bad;
}

KERNEL uint32_t finish_four(const double *restrict sums, double scale, const char *parent, Py_ssize_t count,
                            char *restrict out) {
    uint32_t bad = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        float base;
        memcpy(&base, parent + 4 * i, 4);
        double exact = sums[i] * scale;
        exact = exact + (double)base;
        float single = (float)exact;
        uint32_t bits;
        memcpy(&bits, &single, 4);
        bad |= (bits & 0x7f800000) == 0x7f800000;
        memcpy(out + 4 * i, &bits, 4);
    }
    return bad;
}

static uint32_t predict_all(const double *left, const double *right, Py_ssize_t rank, Py_ssize_t columns, double scale,
                            Py_ssize_t start, Py_ssize_t count, const char *parent, int width, char *out) {
    double sums[BLOCK];
    uint32_t bad = 0;
    Py_ssize_t row = start / columns, column = start % columns;
    for (Py_ssize_t done = 0; done < count && !bad;) {
        Py_ssize_t size = columns - column < BLOCK ? columns - column : BLOCK;
        size = count - done < size ? count - done : size;
        weigh_row(left[row * rank], right + column, size, sums);
        for (Py_ssize_t k = 1; k < rank; k++)
            add_row(left[row * rank + k], right + k * columns + column, size, sums);
        bad = (width == 2 ? finish_two : finish_four)(sums, scale, parent + done * width, size, out + done * width);
        done += size;
        column += size;
        if (column == columns) {
            column = 0;
            row++;
        }
    }
    return bad;
}

static PyObject *predict(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer b[4];
    Py_ssize_t rank, start;
    double scale;
    int width;
    if (!PyArg_ParseTuple(args, "y*y*ndniy*w*", &b[0], &b[1], &rank, &scale, &start, &width, &b[2], &b[3]))
        return NULL;
    Py_ssize_t count = width == 2 || width == 4 ? b[3].len / width : 0, of_row = rank * (Py_ssize_t)sizeof(double);
    if (rank < 1 || rank > PY_SSIZE_T_MAX / 16 || count * width != b[3].len || b[2].len != b[3].len || b[0].len % of_row ||
        b[1].len % of_row || start < 0)
        return bad_sizes(b, 4);
    Py_ssize_t rows = b[0].len / of_row, columns = b[1].len / of_row;
    if (count && (!columns || !rows || start / columns >= rows || count > (rows - start / columns) * columns - start % columns))
        return bad_sizes(b, 4);
    uint32_t bad;
    Py_BEGIN_ALLOW_THREADS
    bad = count ? predict_all(b[0].buf, b[1].buf, rank, columns, scale, start, count, b[2].buf, width, b[3].buf) : 0;
    Py_END_ALLOW_THREADS
    release(b, 4);
    return PyBool_FromLong(!bad);
}

static PyObject *narrowest(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer b[5];
    Py_ssize_t rows;
    if (!PyArg_ParseTuple(args, "y*y*nw*w*w*", &b[0], &b[1], &rows, &b[2], &b[3], &b[4]))
        return NULL;
    Py_ssize_t columns = rows > 0 ? b[0].len / 4 / rows : 0, count = rows > 0 ? b[2].len / 4 / rows : 0;
    if (rows < 1 || columns > INT32_MAX || columns * rows * 4 != b[0].len || b[1].len != b[0].len ||
        count * rows * 4 != b[2].len || b[3].len != b[2].len || b[4].len != b[2].len || count < 1 || count > columns)
        return bad_sizes(b, 5);
    uint32_t *room = malloc(((size_t)columns + 1) * sizeof *room);
    if (room == NULL) {
        release(b, 5);
        return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS
    const uint32_t *half = b[0].buf, *centre = b[1].buf;
    int32_t *chosen = b[2].buf;
    uint32_t *halves = b[3].buf, *centres = b[4].buf;
    for (Py_ssize_t i = 0; i < rows; i++) {
        Py_ssize_t found = select_row(half, columns, count, room, chosen);
        for (Py_ssize_t at = 0; at < found; at++) {
            *halves++ = half[chosen[at]];
            *centres++ = centre[chosen[at]];
        }
        half += columns;
        centre += columns;
        chosen += count;
    }
    Py_END_ALLOW_THREADS
    free(room);
    release(b, 5);
    Py_RETURN_NONE;
}

static PyObject *improve(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer b[5];
    int rank;
    float aim, unit, inside;
    if (!PyArg_ParseTuple(args, "y*y*y*y*iw*fff", &b[0], &b[1], &b[2], &b[3], &rank, &b[4], &aim, &unit, &inside))
        return NULL;
    if (rank < 1 || rank > MOST_RANKS)
        return refuse(b, 5, "the rank is too large");
    int width = (rank + 3) / 4 * 4;
    Py_ssize_t rows = b[4].len / rank / (Py_ssize_t)sizeof(double), others = b[3].len / width / (Py_ssize_t)sizeof(double);
    Py_ssize_t count = rows ? b[0].len / 4 / rows : 0;
    if (!rows || rows * rank * (Py_ssize_t)sizeof(double) != b[4].len ||
        others * width * (Py_ssize_t)sizeof(double) != b[3].len || count < 1 || count > MOST_COUNT ||
        count * rows * 4 != b[0].len || b[1].len != b[0].len || b[2].len != b[0].len)
        return bad_sizes(b, 5);
    Py_ssize_t missing = 0;
    int outside = 0;
    Py_BEGIN_ALLOW_THREADS
    const int32_t *columns = b[2].buf;
    for (Py_ssize_t i = 0; i < rows * count; i++)
        outside |= columns[i] < 0 || columns[i] >= others;
    if (!outside)
        missing = improvers[width / 4 - 1](b[0].buf, b[1].buf, columns, rows, count, b[3].buf, rank, b[4].buf, aim, unit, inside);
    Py_END_ALLOW_THREADS
    if (outside)
        return refuse(b, 5, "a column is out of range");
    release(b, 5);
    return PyLong_FromSsize_t(missing);
}

static PyMethodDef methods[] = {
    {"predict", predict, METH_VARARGS, "predict(left, right, rank, scale, start, width, parent, out) -> bool"},
    {"narrowest", narrowest, METH_VARARGS, "narrowest(half, centre, rows, chosen, halves, centres)"},
    {"improve", improve, METH_VARARGS, "improve(centre, half, columns, vectors, rank, left, aim, unit, inside) -> int"},
    {NULL, NULL, 0, NULL},
};

/* Of the functions in this file. kernels.py does without the module if it was built from another version. */
static int add_version(PyObject *module) { return PyModule_AddIntConstant(module, "VERSION", 1); }

EXTENSION(_factors, add_version)
