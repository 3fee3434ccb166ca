/* What the extension modules have in common. A source that has headers of its own includes it through them. */

#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the extensions are for little-endian machines"
#endif

/* A function that is compiled a second time with some instructions, for processors that have them; and one that is compiled
   with -O3 whatever the options of the compiler are. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define ALSO_WITH(instructions) __attribute__((target_clones(instructions, "default")))
#define OPTIMIZED __attribute__((optimize("O3")))
#else
#define ALSO_WITH(instructions)
#define OPTIMIZED
#endif

/* An integer that may begin at any address, by memcpy, which compilers turn into plain instructions. */
#define LOAD(type, name, from, at) \
    type name; \
    memcpy(&name, (const char *)(from) + (at) * (Py_ssize_t)sizeof name, sizeof name)
#define STORE(to, at, name) memcpy((char *)(to) + (at) * (Py_ssize_t)sizeof name, &name, sizeof name)

/* Release buffers. Those that were not filled have no object, for which nothing is done. */
static inline void release(Py_buffer *buffers, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++)
        PyBuffer_Release(&buffers[i]);
}

/* Release buffers, and set an exception that says why they are refused. */
static inline PyObject *refuse(Py_buffer *buffers, Py_ssize_t count, const char *why) {
    release(buffers, count);
    PyErr_SetString(PyExc_ValueError, why);
    return NULL;
}

static inline PyObject *bad_sizes(Py_buffer *buffers, Py_ssize_t count) {
    return refuse(buffers, count, "the sizes of the buffers do not fit each other");
}

/* Define the module with the functions in methods, for which prepare adds VERSION. It is raised with every change of these
   functions, because kernels.py uses no module of another version. */
#define EXTENSION(name, prepare) \
    static PyModuleDef_Slot slots[] = {{Py_mod_exec, prepare}, {0, NULL}}; \
    static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, #name, NULL, 0, methods, slots, NULL, NULL, NULL}; \
    PyMODINIT_FUNC PyInit_##name(void) { return PyModuleDef_Init(&definition); }
