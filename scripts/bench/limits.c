// Measures what this machine can do at most: reads from memory, int8 dot products (AVX-512 VNNI)
// and bfloat16 dot products (AVX-512 BF16), for the given cores at once. bench/limits.py compiles
// it with -O3 -march=native and runs it.
//
//   limits SECONDS CORE...     one thread a core; prints one JSON object a line
//
// A multiply-add counts as two operations. Reads go over memory that is far larger than any cache.
// Every figure is the best of several passes, because it serves as a limit.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

enum { passes = 5, accumulators = 12, maximum_threads = 256 };

// One statement for each accumulator: an array of them would live in memory, not in registers.
#define EACH(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11)

static const size_t buffer_bytes = (size_t)512 << 20;

typedef double (*measurement)(uint8_t *buffer, double seconds);

struct thread {
    pthread_t id;
    int core;
    double seconds;
    measurement measure;
    uint8_t *buffer;
    pthread_barrier_t *start;
    double best[passes];
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

#if defined(__AVX512F__)

/// Gigabytes a second; `streams` places of the buffer are read in turn.
static double read_streams(const uint8_t *buffer, double seconds, size_t streams)
{
    const size_t share = buffer_bytes / streams;
    const double start = now();
    double end = start, bytes = 0;
    __m512i sum[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                      _mm512_setzero_si512()};
    size_t offset = 0;
    do {
        const size_t stop = offset + ((size_t)16 << 20) / streams;
        for (; offset < stop; offset += 256) {
            for (size_t stream = 0; stream < streams; stream++) {
                const uint8_t *place = buffer + stream * share + offset;
                for (size_t line = 0; line < 4; line++) {
                    sum[line] = _mm512_or_si512(
                        sum[line], _mm512_load_si512((const void *)(place + 64 * line)));
                }
            }
        }
        bytes += 16 << 20;
        if (offset == share) { offset = 0; }
        end = now();
    } while (end - start < seconds);
    for (size_t line = 1; line < 4; line++) { sum[0] = _mm512_or_si512(sum[0], sum[line]); }
    // The loads must not be optimised away.
    __asm__ volatile("" : : "v"(sum[0]));
    return 1e-9 * bytes / (end - start);
}

static double read_one(uint8_t *buffer, double seconds)
{
    return read_streams(buffer, seconds, 1);
}

static double read_four(uint8_t *buffer, double seconds)
{
    return read_streams(buffer, seconds, 4);
}

#endif

#if defined(__AVX512VNNI__)

/// Billions of int8 operations a second, from registers.
static double vnni(uint8_t *buffer, double seconds)
{
    const __m512i left = _mm512_load_si512((const void *)buffer);
    const __m512i right = _mm512_load_si512((const void *)(buffer + 64));
#define BEGIN(i) __m512i sum##i = left;
#define ADD(i)                                                                                     \
    sum##i = _mm512_dpbusd_epi32(sum##i, left, right);                                             \
    __asm__ volatile("" : "+v"(sum##i));
    EACH(BEGIN)
    const double start = now();
    double end = start, operations = 0;
    do {
        for (int repeat = 0; repeat < 100000; repeat++) { EACH(ADD) }
        operations += 2.0 * 64 * accumulators * 100000;
        end = now();
    } while (end - start < seconds);
#undef BEGIN
#undef ADD
    return 1e-9 * operations / (end - start);
}

#endif

#if defined(__AVX512BF16__)

/// Billions of bfloat16 operations a second, from registers.
static double bf16(uint8_t *buffer, double seconds)
{
    const __m512bh left = (__m512bh)_mm512_load_si512((const void *)buffer);
    const __m512bh right = (__m512bh)_mm512_load_si512((const void *)(buffer + 64));
#define BEGIN(i) __m512 sum##i = _mm512_set1_ps(1);
#define ADD(i)                                                                                     \
    sum##i = _mm512_dpbf16_ps(sum##i, left, right);                                                \
    __asm__ volatile("" : "+v"(sum##i));
    EACH(BEGIN)
    const double start = now();
    double end = start, operations = 0;
    do {
        for (int repeat = 0; repeat < 100000; repeat++) { EACH(ADD) }
        operations += 2.0 * 32 * accumulators * 100000;
        end = now();
    } while (end - start < seconds);
#undef BEGIN
#undef ADD
    return 1e-9 * operations / (end - start);
}

#endif

static void *run(void *argument)
{
    struct thread *thread = argument;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(thread->core, &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) != 0) {
        fprintf(stderr, "limits: cannot run on core %d\n", thread->core);
        exit(1);
    }
    for (int pass = 0; pass < passes; pass++) {
        pthread_barrier_wait(thread->start);
        thread->best[pass] = thread->measure(thread->buffer, thread->seconds / passes);
    }
    return NULL;
}

/// Prints the best pass, summed over the threads.
static double measure(struct thread *threads, int count, measurement function)
{
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)count);
    for (int i = 0; i < count; i++) {
        threads[i].measure = function;
        threads[i].start = &start;
        if (pthread_create(&threads[i].id, NULL, run, &threads[i]) != 0) {
            fprintf(stderr, "limits: cannot start a thread\n");
            exit(1);
        }
    }
    for (int i = 0; i < count; i++) { pthread_join(threads[i].id, NULL); }
    pthread_barrier_destroy(&start);
    double best = 0;
    for (int pass = 0; pass < passes; pass++) {
        double sum = 0;
        for (int i = 0; i < count; i++) { sum += threads[i].best[pass]; }
        if (sum > best) { best = sum; }
    }
    return best;
}

static void print(const char *name, int threads, double value)
{
    printf("{\"name\": \"%s\", \"threads\": %d, \"giga_per_second\": %.2f}\n", name, threads,
           value);
}

int main(int count, char **arguments)
{
    static struct thread threads[maximum_threads];
    const int cores = count - 2;
    if (cores < 1 || cores > maximum_threads) {
        fprintf(stderr, "usage: limits SECONDS CORE...\n");
        return 2;
    }
    for (int i = 0; i < cores; i++) {
        void *buffer = mmap(NULL, buffer_bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (buffer == MAP_FAILED) {
            perror("limits: cannot map its buffer");
            return 1;
        }
        // Fewer misses of the address cache; a refusal only makes the figure smaller.
        (void)madvise(buffer, buffer_bytes, MADV_HUGEPAGE);
        for (size_t at = 0; at < buffer_bytes; at++) { ((uint8_t *)buffer)[at] = 1; }
        threads[i].buffer = buffer;
        threads[i].core = atoi(arguments[2 + i]);
        threads[i].seconds = atof(arguments[1]);
    }
#if defined(__AVX512F__)
    const double one = measure(threads, cores, read_one);
    const double four = measure(threads, cores, read_four);
    print("read", cores, one > four ? one : four);
#endif
#if defined(__AVX512VNNI__)
    print("vnni", cores, measure(threads, cores, vnni));
#endif
#if defined(__AVX512BF16__)
    print("bf16", cores, measure(threads, cores, bf16));
#endif
    return 0;
}
