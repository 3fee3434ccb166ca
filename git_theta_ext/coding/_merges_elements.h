/* Elements of bf16, f16 and f32, read as float32, rounded and written.

   _merges.c and its other headers include it. */

#pragma once

#include "_exact_floats.h"
#include "_extension.h"

/* Vector instructions of newer processors are used if the processor has them; none that fuses a product and a sum. */
#define KERNEL ALSO_WITH("avx2") static

#define INFINITE 0x7f800000u

enum { BF16, F16, F32, KINDS };

static const Py_ssize_t widths[KINDS] = {2, 2, 4};
static const float largest[KINDS] = {3.3895313892515355e38f, 65504.0f, FLT_MAX};

static inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Read elements as float32; return something other than 0 if one is not finite. */
KERNEL uint32_t load_bf16(const char *data, Py_ssize_t count, float *restrict out) {
    uint32_t bad = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, data + 2 * i, 2);
        uint32_t bits = (uint32_t)half << 16;
        bad |= (bits & INFINITE) == INFINITE;
        memcpy(out + i, &bits, 4);
    }
    return bad;
}

KERNEL uint32_t load_f16(const char *data, Py_ssize_t count, float *restrict out) {
    uint32_t bad = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, data + 2 * i, 2);
        /* The product is exact; it makes subnormal numbers normal. */
        float size = float_of((uint32_t)(half & 0x7fff) << 13) * 0x1p112f;
        bad |= (half & 0x7c00) == 0x7c00;
        out[i] = float_of(bits_of(size) | (uint32_t)(half & 0x8000) << 16);
    }
    return bad;
}

KERNEL uint32_t load_f32(const char *data, Py_ssize_t count, float *restrict out) {
    uint32_t bad = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, data + 4 * i, 4);
        bad |= (bits & INFINITE) == INFINITE;
        memcpy(out + i, &bits, 4);
    }
    return bad;
}

static uint32_t load(int kind, const char *data, Py_ssize_t count, float *out) {
    return kind == BF16 ? load_bf16(data, count, out) : kind == F16 ? load_f16(data, count, out) : load_f32(data, count, out);
}

/* Round to nearest, ties to even; the values are within the range of the type. */
static inline uint16_t rounded_to_bf16(float value) {
    uint32_t bits = bits_of(value);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

KERNEL void store_bf16(const float *values, Py_ssize_t count, char *restrict out) {
    for (Py_ssize_t i = 0; i < count; i++) {
        uint16_t half = rounded_to_bf16(values[i]);
        memcpy(out + 2 * i, &half, 2);
    }
}

KERNEL void store_f16(const float *values, Py_ssize_t count, char *restrict out) {
    for (Py_ssize_t i = 0; i < count; i++) {
        uint32_t bits = bits_of(values[i]), size = bits & 0x7fffffff;
        uint32_t normal = (size + 0xfff + (size >> 13 & 1) - (112u << 23)) >> 13;
        /* The last bit of a number from 0.5 on is worth as much as that of a subnormal half. */
        uint32_t subnormal = bits_of(float_of(size) + 0.5f) - 0x3f000000;
        uint16_t half = (uint16_t)((size < 0x38800000 ? subnormal : normal) | (bits >> 16 & 0x8000));
        memcpy(out + 2 * i, &half, 2);
    }
}

/* Return something other than 0 if a number is NaN or too large. */
KERNEL uint32_t beyond(const float *values, Py_ssize_t count, float most) {
    uint32_t bad = 0;
    for (Py_ssize_t i = 0; i < count; i++)
        bad |= !(values[i] <= most) | !(values[i] >= -most);
    return bad;
}
