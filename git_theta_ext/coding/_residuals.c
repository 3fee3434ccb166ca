/* The code of residuals, but for the compression of planes: one call before it, one before it is undone, and one after.
   A tensor of a few kilobytes takes a hundred calls of numpy, each of which costs more than its arithmetic, and threads
   wait for each other at the interpreter lock between calls. residual.py, stripe_plan.py and stripes.py have the same in
   numpy, with the same bits.

   Integers are little-endian and may begin at any address, so they are read and written by memcpy. Every function checks
   the sizes of its buffers, and runs without the interpreter lock. What is read twice, such as the keys of elements, is
   read from memory that no other thread can write to.

   This file has what Python calls, and the head of a payload. _residuals_chunk.h has the steps, and includes the headers with
   their loops. */

#include "_residuals_chunk.h"

#define RECORD 8 /* bytes of a stripe in the head of a payload */
#define RESIDUAL "git_theta_ext.coding._residuals.residual"

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

/* Return the head of a payload, the map of runs or None, the planes one after another, and their sizes; None if the
   values are equal to the prediction. */
static PyObject *arrange(PyObject *module, PyObject *args) {
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
    if (planes != NULL) {
        uint8_t *out = (uint8_t *)PyBytes_AsString(planes);
        Py_BEGIN_ALLOW_THREADS
        write_planes(&made, out);
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
            bad_sizes(NULL, 0);
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

/* Of the functions in this file and its headers. kernels.py does without the module if it was built from another version. */
static int add_version(PyObject *module) { return PyModule_AddIntConstant(module, "VERSION", 4); }

EXTENSION(_residuals, add_version)
