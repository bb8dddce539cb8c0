/* Loops that the compiler makes vector code of, for several kinds of processors; which one runs is chosen when the library
 * is loaded.
 *
 * Sums are written with many lanes, `for (lane...) total[lane] += x[i + lane]`, because a compiler may not reorder additions
 * of floats by itself. So the result is the same on every processor too; the build turns contraction (a * b + c in one
 * rounding) off for the same reason. */
#ifndef NDFILE_TARGETS_H
#define NDFILE_TARGETS_H

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && __GNUC__ >= 12 && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* Not under sanitizers: the choice is made before they are ready. */
#define ND_TARGETS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define ND_TARGETS
#endif

/* What such a function is made of has to become part of it. */
#define ND_PART static inline __attribute__((always_inline))

#endif
