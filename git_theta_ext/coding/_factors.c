/* Products of thin factors, added to a parent, and the search for such factors. factors.py offers them, and its callers do the same in numpy.

   The prediction has the bits of numpy: products are added one by one in float64, and the sum is rounded once. Where a
   value is not finite, it declines. Every function checks the sizes of its buffers and all indexes, and runs without the
   interpreter lock. Buffers of numbers are aligned arrays of numpy. */

#define EXACT_FLOATS
#include "_extension.h"

#include <stdlib.h>

/* Vector instructions of newer processors are used if the processor has them; none that fuses a product and a sum. */
#define KERNEL ALSO_WITH("avx2") OPTIMIZED static
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

#define BLOCK 512        /* elements of a prediction, which stay in the cache */
#define MOST_RANKS 16    /* for improve; matrix products of numpy are as fast for higher ranks */
#define MOST_COUNT 4096  /* intervals of a row, for improve */

/* --- prediction --- */

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

/* --- the search --- */

typedef double four __attribute__((vector_size(32)));

/* The bits of positive float32 are in the order of the numbers. */
static uint32_t kth(uint32_t *values, Py_ssize_t count, Py_ssize_t k) {
    Py_ssize_t low = 0, high = count - 1;
    while (low < high) {
        uint32_t pivot = values[low + (high - low) / 2];
        Py_ssize_t i = low, j = high;
        while (i <= j) {
            while (values[i] < pivot)
                i++;
            while (values[j] > pivot)
                j--;
            if (i <= j) {
                uint32_t swapped = values[i];
                values[i++] = values[j];
                values[j--] = swapped;
            }
        }
        if (k <= j)
            high = j;
        else if (k >= i)
            low = i;
        else
            break;
    }
    return values[k];
}

#define BINS 4096 /* by the exponent and the upper bits of the mantissa */
#define BIN(bits) ((bits) >> 19 & (BINS - 1))

/* Values below zero may hide others; there are none. */
static Py_ssize_t select_row(const uint32_t *half, Py_ssize_t columns, Py_ssize_t count, uint32_t *room, int32_t *chosen) {
    int32_t counts[BINS] = {0};
    for (Py_ssize_t i = 0; i < columns; i++)
        counts[BIN(half[i])]++;
    uint32_t bin = 0;
    Py_ssize_t below = 0, inside = 0;
    while (below + counts[bin] < count)
        below += counts[bin++];
    for (Py_ssize_t i = 0; i < columns; i++) {
        room[inside] = half[i];
        inside += BIN(half[i]) == bin;
    }
    uint32_t last = kth(room, inside, count - below - 1);
    for (Py_ssize_t i = 0; i < inside; i++)
        below += room[i] < last;
    Py_ssize_t equal = count - below, found = 0;
    for (Py_ssize_t i = 0; i < columns && found < count; i++) {
        int is_equal = half[i] == last && equal > 0;
        chosen[found] = (int32_t)i;
        found += half[i] < last || is_equal;
        equal -= is_equal;
    }
    return found;
}

/* See misses of _intervals.py. Also multiply the distances by their weights. */
INLINE Py_ssize_t weigh_misses(const float *centre, const float *half, Py_ssize_t count, float aim, float unit, float inside,
                               double *restrict products, double *restrict weights) {
    Py_ssize_t missing = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        float off = (float)((double)centre[i] - products[i]), inner = half[i] * aim;
        float nearest = off > -inner ? off : -inner;
        nearest = nearest < inner ? nearest : inner;
        float missed = off - nearest, weight = unit / half[i];
        weight *= weight;
        weight = missed != 0 ? weight : weight * inside;
        missing += missed != 0;
        weights[i] = (double)weight;
        products[i] = (double)weight * (double)missed;
    }
    return missing;
}

/* Solve normal * step = towards for a symmetric positive definite matrix; return 0 if it is not. */
INLINE int solve(double *restrict normal, double *restrict towards, int rank, int width) {
    double mean = 0;
    for (int i = 0; i < rank; i++)
        mean += normal[i * width + i] / rank;
    for (int i = 0; i < rank; i++)
        normal[i * width + i] = normal[i * width + i] * (1 + 1e-12) + 1e-12 * mean + 1e-300;
    /* The upper triangle becomes that of R, with normal = R^T R; the diagonal, its inverse. */
    for (int i = 0; i < rank; i++) {
        double pivot = normal[i * width + i];
        if (!(pivot > 0))
            return 0;
        double root = __builtin_sqrt(pivot), inverse = 1 / root;
        for (int j = i; j < rank; j++)
            normal[i * width + j] *= inverse;
        towards[i] *= inverse;
        for (int k = i + 1; k < rank; k++) {
            double factor = normal[i * width + k];
            for (int j = k; j < rank; j++)
                normal[k * width + j] -= factor * normal[i * width + j];
            towards[k] -= factor * towards[i];
        }
    }
    for (int i = rank - 1; i >= 0; i--) {
        for (int j = i + 1; j < rank; j++)
            towards[i] -= normal[i * width + j] * towards[j];
        towards[i] /= normal[i * width + i];
    }
    return 1;
}

INLINE Py_ssize_t improve_row(const float *centre, const float *half, const int32_t *columns, Py_ssize_t count,
                              const double *vectors, int rank, int width, double *row, float aim, float unit, float inside,
                              double *restrict products, double *restrict weights) {
    double normal[MOST_RANKS * MOST_RANKS], towards[MOST_RANKS], own[MOST_RANKS] = {0};
    memcpy(own, row, (size_t)rank * sizeof *own);
    for (Py_ssize_t i = 0; i < count; i++) {
        const double *vector = vectors + (Py_ssize_t)columns[i] * width;
        four sum = {0};
        for (int j = 0; j < width; j += 4) {
            four one, other;
            memcpy(&one, own + j, sizeof one);
            memcpy(&other, vector + j, sizeof other);
            sum += one * other;
        }
        products[i] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    }
    Py_ssize_t missing = weigh_misses(centre, half, count, aim, unit, inside, products, weights);
    /* The sums of a block of 4 x 4 stay in registers. Those below the diagonal are not needed. */
    for (int k = 0; k < width; k += 4) {
        for (int j = 0; j <= k; j += 4) {
            four first = {0}, second = {0}, third = {0}, fourth = {0}, pulled = {0};
            for (Py_ssize_t i = 0; i < count; i++) {
                const double *from = vectors + (Py_ssize_t)columns[i] * width;
                four vector;
                memcpy(&vector, from + k, sizeof vector);
                if (j == k)
                    pulled += products[i] * vector;
                vector *= weights[i];
                first += from[j] * vector;
                second += from[j + 1] * vector;
                third += from[j + 2] * vector;
                fourth += from[j + 3] * vector;
            }
            if (j == k)
                memcpy(towards + k, &pulled, sizeof pulled);
            memcpy(normal + j * width + k, &first, sizeof first);
            memcpy(normal + (j + 1) * width + k, &second, sizeof second);
            memcpy(normal + (j + 2) * width + k, &third, sizeof third);
            memcpy(normal + (j + 3) * width + k, &fourth, sizeof fourth);
        }
    }
    if (solve(normal, towards, rank, width))
        for (int j = 0; j < rank; j++)
            row[j] += towards[j];
    return missing;
}

#define OF_WIDTH(N) \
    KERNEL Py_ssize_t improve_##N(const float *centre, const float *half, const int32_t *columns, Py_ssize_t rows, \
                                  Py_ssize_t count, const double *vectors, int rank, double *left, float aim, float unit, \
                                  float inside) { \
        double products[MOST_COUNT], weights[MOST_COUNT]; \
        Py_ssize_t missing = 0; \
        for (Py_ssize_t i = 0; i < rows; i++) \
            missing += improve_row(centre + i * count, half + i * count, columns + i * count, count, vectors, rank, N, \
                                   left + i * rank, aim, unit, inside, products, weights); \
        return missing; \
    }

OF_WIDTH(4)
OF_WIDTH(8)
OF_WIDTH(12)
OF_WIDTH(16)

static Py_ssize_t (*const improvers[])(const float *, const float *, const int32_t *, Py_ssize_t, Py_ssize_t,
                                       const double *, int, double *, float, float, float) = {improve_4, improve_8,
                                                                                               improve_12, improve_16};

/* --- what Python calls --- */

static void release(Py_buffer *buffers, int count) {
    for (int i = 0; i < count; i++)
        PyBuffer_Release(&buffers[i]);
}

static PyObject *refuse(Py_buffer *buffers, int count, const char *why) {
    release(buffers, count);
    PyErr_SetString(PyExc_ValueError, why);
    return NULL;
}

static const char SIZES[] = "the sizes of the buffers do not fit each other";

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
        return refuse(b, 4, SIZES);
    Py_ssize_t rows = b[0].len / of_row, columns = b[1].len / of_row;
    if (count && (!columns || !rows || start / columns >= rows || count > (rows - start / columns) * columns - start % columns))
        return refuse(b, 4, SIZES);
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
        return refuse(b, 5, SIZES);
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
        return refuse(b, 5, SIZES);
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
