/* The kernels for one float type: REAL, with NAME(n) the name of a kernel and MUL, ADD its rounded operations.
 *
 * A block of 256 threads takes a tile of 2048 elements. Arrays that are tiles of a vector hold coordinates lo..hi.
 */

/* The element of a direction that is neither sign nor normal, in REAL. */
VB_FN REAL NAME(vb_other)(const vb_direction *u, vb_int e) {
    if (u->law == VB_ROW32) return (REAL)((const float *)u->place)[e];
    if (u->law == VB_ROW64) return (REAL)((const double *)u->place)[e];
    return (REAL)vb_masked(u, e, 1.0f);
}

VB_FN void NAME(vb_move)(const REAL *x, REAL *out, REAL h, vb_int lo, vb_int hi, vb_int e, const vb_direction *u, REAL value) {
    if (e >= lo && e < hi) out[e - lo] = vb_inside(u, e) ? ADD(x[e - lo], MUL(h, value)) : x[e - lo];
}

/* Write x + h * u for one tile; words is shared scratch. */
VB_FN void NAME(vb_move_tile)(
    const REAL *x, REAL *out, REAL h, vb_int lo, vb_int hi, vb_int tile, const vb_direction *u, vb_u32 *words
) {
    if (vb_is_normal(u)) {
        VB_THREADS(t, 512) {
            float z[4];
            vb_int counter = 512 * tile + t;
            vb_normals(z, counter, u);
            for (int k = 0; k < 4; k++) {
                vb_int e = vb_normal_at(counter, k);
                if (e < hi) NAME(vb_move)(x, out, h, lo, hi, e, u, (REAL)vb_masked(u, e, z[k]));
            }
        }
        return;
    }
    int sign = vb_is_sign(u);
    if (sign) {
        VB_THREADS(t, 16) { vb_sign_words(words, tile, t, u); }
        VB_SYNC;
    }
    VB_THREADS(t, VB_TILE) {
        vb_int e = VB_TILE * tile + t;
        if (e >= lo && e < hi) {
            REAL value = !vb_inside(u, e) ? (REAL)0
                : sign ? (REAL)vb_masked(u, e, vb_sign(words, t)) : NAME(vb_other)(u, e);
            NAME(vb_move)(x, out, h, lo, hi, e, u, value);
        }
    }
    VB_SYNC;
}

VB_KERNEL NAME(perturb)(
    const REAL *x, REAL *out, REAL h, vb_int lo, vb_int hi, vb_int size, vb_u64 seed,
    vb_int law, vb_int step, vb_int index, vb_int tag, vb_int place, vb_int a, vb_int b
) {
    VB_SHARED vb_u32 words[64];
    vb_int row[7] = {law, step, index, tag, place, a, b};
    vb_direction u = vb_decode(row, size, seed);
    VB_BLOCKS(tile, lo / VB_TILE, (hi + VB_TILE - 1) / VB_TILE) {
        NAME(vb_move_tile)(x, out, h, lo, hi, tile, &u, words);
    }
}

VB_KERNEL NAME(perturb_pair)(
    const REAL *x, REAL *plus, REAL *minus, REAL h, vb_int lo, vb_int hi, vb_int size, vb_u64 seed,
    vb_int law, vb_int step, vb_int index, vb_int tag, vb_int place, vb_int a, vb_int b
) {
    VB_SHARED vb_u32 words[64];
    vb_int row[7] = {law, step, index, tag, place, a, b};
    vb_direction u = vb_decode(row, size, seed);
    VB_BLOCKS(tile, lo / VB_TILE, (hi + VB_TILE - 1) / VB_TILE) {
        NAME(vb_move_tile)(x, plus, h, lo, hi, tile, &u, words);
        NAME(vb_move_tile)(x, minus, -h, lo, hi, tile, &u, words);
    }
}

/* Row k of out, k < rows, is x + hs[k] * u_k; table has 8 columns. */
VB_KERNEL NAME(perturb_rows)(
    const REAL *x, REAL *out, const double *hs, vb_int rows, vb_int size, vb_u64 seed, const vb_int *table
) {
    VB_SHARED vb_u32 words[64];
    vb_int tiles = (size + VB_TILE - 1) / VB_TILE;
    VB_BLOCKS(work, 0, tiles * rows) {
        vb_int k = work / tiles;
        vb_direction u = vb_decode(table + 8 * k, size, seed);
        NAME(vb_move_tile)(x, out + k * size, (REAL)hs[k], 0, size, work % tiles, &u, words);
    }
}

VB_KERNEL NAME(fill)(
    REAL *out, vb_int lo, vb_int hi, vb_int size, vb_u64 seed,
    vb_int law, vb_int step, vb_int index, vb_int tag, vb_int place, vb_int a, vb_int b
) {
    VB_SHARED vb_u32 words[64];
    vb_int row[7] = {law, step, index, tag, place, a, b};
    vb_direction u = vb_decode(row, size, seed);
    int sign = vb_is_sign(&u);
    VB_BLOCKS(tile, lo / VB_TILE, (hi + VB_TILE - 1) / VB_TILE) {
        if (vb_is_normal(&u)) {
            VB_THREADS(t, 512) {
                float z[4];
                vb_int counter = 512 * tile + t;
                vb_normals(z, counter, &u);
                for (int k = 0; k < 4; k++) {
                    vb_int e = vb_normal_at(counter, k);
                    if (e >= lo && e < hi) out[e - lo] = (REAL)vb_masked(&u, e, z[k]);
                }
            }
            continue;
        }
        if (sign) {
            VB_THREADS(t, 16) { vb_sign_words(words, tile, t, &u); }
            VB_SYNC;
        }
        VB_THREADS(t, VB_TILE) {
            vb_int e = VB_TILE * tile + t;
            if (e >= lo && e < hi)
                out[e - lo] = !vb_inside(&u, e) ? (REAL)0
                    : sign ? (REAL)vb_masked(&u, e, vb_sign(words, t)) : NAME(vb_other)(&u, e);
        }
        VB_SYNC;
    }
}

/* Add c * u to the sums of a tile, and mark what it touches; not for plain signs. */
VB_FN void NAME(vb_add_other)(REAL *sums, unsigned char *touched, REAL c, vb_int tile, vb_int hi, const vb_direction *u) {
    if (vb_is_normal(u)) {
        VB_THREADS(t, 512) {
            float z[4];
            vb_int counter = 512 * tile + t;
            vb_normals(z, counter, u);
            for (int k = 0; k < 4; k++) {
                vb_int e = vb_normal_at(counter, k);
                int i = (int)(e - VB_TILE * tile);
                if (e < hi) {
                    sums[i] = ADD(sums[i], MUL(c, (REAL)vb_masked(u, e, z[k])));
                    touched[i] = 1;
                }
            }
        }
    } else {
        VB_THREADS(t, VB_TILE) {
            vb_int e = VB_TILE * tile + t;
            if (e < hi && vb_inside(u, e)) {
                sums[t] = ADD(sums[t], MUL(c, NAME(vb_other)(u, e)));
                touched[t] = 1;
            }
        }
    }
    VB_SYNC;
}

/* Add the n <= 16 sign directions chosen from the table, in order; words is shared scratch for 16 times 64 words. */
VB_FN void NAME(vb_add_signs)(
    REAL *sums, unsigned char *touched, const double *coefs, vb_int tile, vb_int hi, int n, const int *chosen,
    int plain, const vb_int *table, vb_int size, vb_u64 seed, vb_u32 *words
) {
    VB_THREADS(t, 16 * n) {
        vb_direction u = vb_decode(table + 8 * chosen[t / 16], size, seed);
        vb_sign_words(words + 64 * (t / 16), tile, t % 16, &u);
    }
    VB_SYNC;
    VB_THREADS(t, VB_TILE) {
        vb_int e = VB_TILE * tile + t;
        if (e < hi) {
            REAL sum = sums[t];
            for (int j = 0; j < n; j++) {
                REAL c = (REAL)coefs[chosen[j]];
                if (plain) {
                    sum = ADD(sum, words[64 * j + t / 32] >> (t % 32) & 1u ? -c : c);
                    continue;
                }
                vb_direction u = vb_decode(table + 8 * chosen[j], size, seed);
                if (!vb_inside(&u, e)) continue;
                sum = ADD(sum, MUL(c, (REAL)vb_masked(&u, e, vb_sign(words + 64 * j, t))));
                touched[t] = 1;
            }
            sums[t] = sum;
            if (plain) touched[t] = 1;
        }
    }
    VB_SYNC;
}

/* out += sum_k weights[k] g_k + sum_j coefs[j] u_j; places holds the addresses of the g_k. */
VB_KERNEL NAME(accumulate)(
    REAL *out, vb_int lo, vb_int hi, vb_int size, vb_u64 seed, vb_int terms, const double *coefs,
    const vb_int *table, vb_int dense, const double *weights, const vb_int *places
) {
    VB_SHARED vb_u32 words[64 * VB_AT_ONCE];
    VB_SHARED REAL sums[VB_TILE];
    VB_SHARED unsigned char touched[VB_TILE];
    VB_BLOCKS(tile, lo / VB_TILE, (hi + VB_TILE - 1) / VB_TILE) {
        VB_THREADS(t, VB_TILE) {
            vb_int e = VB_TILE * tile + t;
            REAL sum = 0;
            if (e >= lo && e < hi)
                for (vb_int k = 0; k < dense; k++)
                    sum = ADD(sum, MUL((REAL)weights[k], ((const REAL *)places[k])[e]));
            sums[t] = sum;
            touched[t] = dense > 0;
        }
        VB_SYNC;
        for (int j = 0; j < terms;) {
            int chosen[VB_AT_ONCE], n = 0, plain = 1;
            for (; j < terms && n < VB_AT_ONCE; j++) {
                vb_direction u = vb_decode(table + 8 * j, size, seed);
                if (!vb_meets(&u, tile)) continue;
                if (!vb_is_sign(&u)) break;
                plain = plain && u.law == VB_RADEMACHER && !u.place;
                chosen[n++] = j;
            }
            if (n > 0) {
                NAME(vb_add_signs)(
                    sums, touched, coefs, tile, hi, n, chosen, plain, table, size, seed, words
                );
            } else if (j < terms) {
                vb_direction u = vb_decode(table + 8 * j, size, seed);
                NAME(vb_add_other)(sums, touched, (REAL)coefs[j], tile, hi, &u);
                j++;
            }
        }
        VB_THREADS(t, VB_TILE) {
            vb_int e = VB_TILE * tile + t;
            if (e >= lo && e < hi && touched[t]) out[e - lo] = ADD(out[e - lo], sums[t]);
        }
        VB_SYNC;
    }
}

/* Write the products of a tile with a direction, or of the direction with itself, to 2048 shared doubles. */
VB_FN void NAME(vb_products)(
    const REAL *x, int own, vb_int tile, const vb_direction *u, vb_u32 *words, double *products
) {
    if (vb_is_normal(u)) {
        VB_THREADS(t, 512) {
            float z[4];
            vb_int counter = 512 * tile + t;
            vb_normals(z, counter, u);
            for (int k = 0; k < 4; k++) {
                vb_int e = vb_normal_at(counter, k);
                if (e < u->size) {
                    double value = (double)vb_masked(u, e, z[k]);
                    products[e - VB_TILE * tile] = VB_MULD(own ? value : (double)x[e], value);
                } else {
                    products[e - VB_TILE * tile] = 0.0;
                }
            }
        }
        VB_SYNC;
        return;
    }
    int sign = vb_is_sign(u);
    if (sign) {
        VB_THREADS(t, 16) { vb_sign_words(words, tile, t, u); }
        VB_SYNC;
    }
    VB_THREADS(t, VB_TILE) {
        vb_int e = VB_TILE * tile + t;
        double value = 0.0, product = 0.0;
        if (e < u->size && vb_inside(u, e)) {
            if (sign) value = (double)vb_masked(u, e, vb_sign(words, t));
            else if (u->law == VB_ROW64) value = ((const double *)u->place)[e];
            else if (u->law == VB_ROW32) value = (double)((const float *)u->place)[e];
            else value = (double)vb_masked(u, e, 1.0f);
            product = VB_MULD(own ? value : (double)x[e], value);
        }
        products[t] = product;
    }
    VB_SYNC;
}

/* Sum 2048 shared products: 64 lanes, then by halves; the sum is left in lanes[0]. */
#ifndef VB_SUM_DEFINED
#define VB_SUM_DEFINED
VB_FN void vb_sum(const double *products, double *lanes) {
    VB_THREADS(t, VB_SUM_LANES) {
        double sum = 0.0;
        for (int i = 0; i < VB_TILE / VB_SUM_LANES; i++) sum = VB_ADDD(sum, products[VB_SUM_LANES * i + t]);
        lanes[t] = sum;
    }
    VB_SYNC;
    for (int width = VB_SUM_LANES / 2; width > 0; width /= 2) {
        VB_THREADS(t, width) { lanes[t] = VB_ADDD(lanes[t], lanes[t + width]); }
        VB_SYNC;
    }
}

/* totals[j] += sums[t][j] for every tile t, in order. */
VB_KERNEL sum_tiles(const double *sums, vb_int tiles, vb_int terms, double *totals) {
    VB_BLOCKS(first, 0, (terms + VB_BLOCK_SIZE - 1) / VB_BLOCK_SIZE) {
        VB_THREADS(t, VB_BLOCK_SIZE) {
            vb_int j = VB_BLOCK_SIZE * first + t;
            if (j < terms) {
                double total = totals[j];
                for (vb_int tile = 0; tile < tiles; tile++) total = VB_ADDD(total, sums[tile * terms + j]);
                totals[j] = total;
            }
        }
    }
}
#endif

/* sums[t - first][j] = sum of the products of tile t with direction j, or of direction j with itself. */
VB_KERNEL NAME(project_tiles)(
    const REAL *x, vb_int size, vb_u64 seed, vb_int terms, const vb_int *table, vb_int own,
    vb_int first, vb_int tiles, double *sums
) {
    VB_SHARED vb_u32 words[64];
    VB_SHARED double products[VB_TILE];
    VB_SHARED double lanes[VB_SUM_LANES];
    VB_BLOCKS(work, 0, tiles * terms) {
        vb_int tile = first + work / terms, j = work % terms;
        vb_direction u = vb_decode(table + 8 * j, size, seed);
        NAME(vb_products)(x, own, tile, &u, words, products);
        vb_sum(products, lanes);
        VB_THREADS(t, 1) { sums[(tile - first) * terms + j] = lanes[0]; }
        VB_SYNC;
    }
}

VB_KERNEL NAME(dot_tiles)(const REAL *x, const REAL *y, vb_int size, vb_int first, vb_int tiles, double *sums) {
    VB_SHARED double products[VB_TILE];
    VB_SHARED double lanes[VB_SUM_LANES];
    VB_BLOCKS(tile, first, first + tiles) {
        VB_THREADS(t, VB_TILE) {
            vb_int e = VB_TILE * tile + t;
            products[t] = e < size ? VB_MULD((double)x[e], (double)y[e]) : 0.0;
        }
        VB_SYNC;
        vb_sum(products, lanes);
        VB_THREADS(t, 1) { sums[tile - first] = lanes[0]; }
        VB_SYNC;
    }
}
