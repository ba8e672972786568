/* Philox4x32-10 and Box-Muller in the subset of C that CUDA and a host compiler share.
 *
 * The same operations in the same order as philox.py, each rounded on its own: the device intrinsics forbid the
 * compiler to contract a product and a sum, and the host compiler gets -ffp-contract=off. No function of a
 * mathematical library is called. On the host, a block of threads is a loop, so that the very kernels that run on the
 * device are tested without one. The constants (V_SCALE, LOG_0, ...) come from philox.py, in front of this text.
 */

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define VB_FN static __device__ __forceinline__
#define VB_KERNEL extern "C" __global__ void __launch_bounds__(256)
#define VB_SHARED __shared__
#define VB_SYNC __syncthreads()
#define VB_BLOCKS(b, first, last) for (vb_int b = (first) + blockIdx.x; b < (last); b += gridDim.x)
#define VB_THREADS(t, n) for (int t = threadIdx.x; t < (n); t += blockDim.x)
#define VB_MULF(a, b) __fmul_rn(a, b)
#define VB_ADDF(a, b) __fadd_rn(a, b)
#define VB_MULD(a, b) __dmul_rn(a, b)
#define VB_ADDD(a, b) __dadd_rn(a, b)
#define VB_SQRTF(a) __fsqrt_rn(a)
#define VB_FROM_U32(a) __uint2float_rn(a)
#define VB_FROM_I32(a) __int2float_rn(a)
#define VB_BITS(a) __float_as_uint(a)
#define VB_FLOAT(a) __uint_as_float(a)
#define VB_HIGH(a, b) __umulhi(a, b)
typedef long long vb_int;
typedef unsigned int vb_u32;
typedef unsigned long long vb_u64;
#else
#include <stdint.h>
#define VB_FN static inline
#define VB_KERNEL void
#define VB_SHARED
#define VB_SYNC ((void)0)
#define VB_BLOCKS(b, first, last) for (vb_int b = (first); b < (last); b++)
#define VB_THREADS(t, n) for (int t = 0; t < (n); t++)
#define VB_MULF(a, b) ((float)((a) * (b)))
#define VB_ADDF(a, b) ((float)((a) + (b)))
#define VB_MULD(a, b) ((a) * (b))
#define VB_ADDD(a, b) ((a) + (b))
#define VB_SQRTF(a) __builtin_sqrtf(a)
#define VB_FROM_U32(a) ((float)(a))
#define VB_FROM_I32(a) ((float)(a))
typedef int64_t vb_int;
typedef uint32_t vb_u32;
typedef uint64_t vb_u64;
#define VB_HIGH(a, b) ((vb_u32)(((vb_u64)(a) * (b)) >> 32))
VB_FN vb_u32 VB_BITS(float a) { vb_u32 w; __builtin_memcpy(&w, &a, 4); return w; }
VB_FN float VB_FLOAT(vb_u32 w) { float a; __builtin_memcpy(&a, &w, 4); return a; }
#endif

enum { VB_RADEMACHER, VB_NORMAL, VB_SPHERE, VB_COORDINATE, VB_BLOCK, VB_ROW32, VB_ROW64 };
enum { VB_TILE = 2048, VB_SUM_LANES = 64, VB_AT_ONCE = 16, VB_BLOCK_SIZE = 256 };

/* A direction: kind, counter words besides the block, key, address of its mask or stored row, and its support a..b,
 * where b > size means that it wraps around to 0..b-size. */
typedef struct {
    vb_int law, place, a, b, size;
    vb_u32 c1, c2, c3, k0, k1;
} vb_direction;

/* Columns of a table row: law, step, index, tag, place, a, b; the index of BLOCK is that of its sign stream. */
VB_FN vb_direction vb_decode(const vb_int *row, vb_int size, vb_u64 seed) {
    vb_direction u;
    u.law = row[0];
    u.c1 = (vb_u32)row[2];
    u.c2 = (vb_u32)row[1];
    u.c3 = (vb_u32)(row[3] << 24 | row[1] >> 32);
    u.place = row[4];
    u.a = row[5];
    u.b = row[6];
    u.size = size;
    u.k0 = (vb_u32)seed;
    u.k1 = (vb_u32)(seed >> 32);
    return u;
}

VB_FN int vb_inside(const vb_direction *u, vb_int e) { return (e >= u->a && e < u->b) || e < u->b - u->size; }

/* Whether a direction touches a tile. */
VB_FN int vb_meets(const vb_direction *u, vb_int tile) {
    vb_int first = VB_TILE * tile, last = first + VB_TILE;
    return (u->a < last && u->b > first) || first < u->b - u->size;
}

VB_FN int vb_is_sign(const vb_direction *u) { return u->law == VB_RADEMACHER || u->law == VB_BLOCK; }

VB_FN int vb_is_normal(const vb_direction *u) { return u->law == VB_NORMAL || u->law == VB_SPHERE; }

VB_FN void vb_philox(vb_u32 w[4], vb_u32 c0, const vb_direction *u) {
    vb_u32 c1 = u->c1, c2 = u->c2, c3 = u->c3, k0 = u->k0, k1 = u->k1;
    for (int round = 0; round < 10; round++) {
        vb_u32 high0 = VB_HIGH(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        vb_u32 high1 = VB_HIGH(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    w[0] = c0;
    w[1] = c1;
    w[2] = c2;
    w[3] = c3;
}

/* value * t + c */
VB_FN float vb_step(float value, float t, float c) { return VB_ADDF(VB_MULF(value, t), c); }

VB_FN void vb_normal_pair(vb_u32 radius, vb_u32 angle, float *first, float *second) {
    float v = vb_step(VB_FROM_U32(radius), V_SCALE, V_OFFSET);
    vb_u32 bits = VB_BITS(v) - 0x3F3504F3u;
    float exponent = VB_FROM_I32((int)bits >> 23);
    float t = VB_ADDF(VB_FLOAT((bits & 0x007FFFFFu) + 0x3F3504F3u), -1.0f);
    float square = VB_MULF(t, t);
    float p = LOG_8;
    p = vb_step(p, t, LOG_7);
    p = vb_step(p, t, LOG_6);
    p = vb_step(p, t, LOG_5);
    p = vb_step(p, t, LOG_4);
    p = vb_step(p, t, LOG_3);
    p = vb_step(p, t, LOG_2);
    p = vb_step(p, t, LOG_1);
    p = vb_step(p, t, LOG_0);
    float tail = VB_ADDF(VB_MULF(VB_MULF(t, square), p), square);
    float log2 = VB_ADDF(VB_MULF(exponent, LOG_E), VB_ADDF(tail, -VB_ADDF(t, t)));
    float r = VB_SQRTF(log2);
    float a = VB_MULF(VB_FROM_I32((int)(angle << 2)), ANGLE);
    square = VB_MULF(a, a);
    float sine = vb_step(vb_step(SIN_2, square, SIN_1), square, SIN_0);
    sine = VB_ADDF(VB_MULF(VB_MULF(a, square), sine), a);
    float cosine = vb_step(vb_step(COS_2, square, COS_1), square, COS_0);
    cosine = VB_ADDF(VB_MULF(VB_MULF(square, square), cosine), VB_ADDF(1.0f, -VB_MULF(0.5f, square)));
    r = VB_FLOAT(VB_BITS(r) ^ (angle & 0x80000000u));
    int swap = (angle & 0x40000000u) != 0;
    *first = VB_MULF(r, swap ? sine : cosine);
    *second = VB_MULF(r, swap ? cosine : sine);
}

/* The four elements of one counter: element k belongs to coordinate vb_normal_at(counter, k). */
VB_FN void vb_normals(float z[4], vb_int counter, const vb_direction *u) {
    vb_u32 w[4];
    vb_philox(w, (vb_u32)counter, u);
    vb_normal_pair(w[0], w[1], z, z + 1);
    vb_normal_pair(w[2], w[3], z + 2, z + 3);
}

VB_FN vb_int vb_normal_at(vb_int counter, int k) { return counter / 32 * 128 + 32 * k + counter % 32; }

/* The sign of element e of a tile, 1 or -1, from the 64 words of the tile. */
VB_FN float vb_sign(const vb_u32 *words, int e) { return words[e / 32] >> (e % 32) & 1u ? -1.0f : 1.0f; }

/* Write the four words of counter c of a tile. */
VB_FN void vb_sign_words(vb_u32 *words, vb_int tile, int c, const vb_direction *u) {
    vb_philox(words + 4 * c, (vb_u32)(16 * tile + c), u);
}

VB_FN float vb_masked(const vb_direction *u, vb_int e, float value) {
    return u->place ? VB_MULF(value, (float)((const unsigned char *)u->place)[e]) : value;
}
