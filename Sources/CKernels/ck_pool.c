// A persistent pool of threads. The caller opens a job, works on it like everybody else, closes it
// and waits for those who joined; a thread that wakes too late finds the job closed and goes on
// waiting. Joining and leaving are single atomic steps: a step of the model opens some two
// hundred jobs, and no lock is taken for them while the threads still spin.
//
// Each thread begins with its own contiguous share of the items, so that it reads memory in one
// stream of its own, and then helps with the shares of others, chunk by chunk: a thread that is
// slowed down by a neighbour keeps nobody waiting for more than a chunk.
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ck_internal.h"

enum {
    SPIN_COUNT = 4000,   // pauses, about 100 us, before a thread without work sleeps
    YIELD_COUNT = 2000,  // pauses before the caller gives its core to a worker that lost its own
    CHUNKS_A_THREAD = 16,
};

// Items of one thread's share that nobody has taken yet.
struct share {
    _Alignas(64) atomic_size_t next;
    size_t end;
};

#define OPEN (UINT64_C(1) << 32)        // bit of `state`: a job can be joined
#define JOB (UINT64_C(1) << 33)         // added to `state` for each job
#define ACTIVE_MASK UINT64_C(0xffffffff)  // part of `state`: threads inside the job

struct ck_pool {
    // Counter of jobs, open bit, active threads. On a cache line of its own.
    _Alignas(64) _Atomic uint64_t state;
    // Written by the caller while no job is open and nobody is inside.
    _Alignas(64) size_t chunk;
    struct share *shares;  // [threads]
    ck_task task;
    void *context;
    _Alignas(64) _Atomic uint32_t signal;  // futex word: changes with every job
    _Atomic uint32_t sleepers;
    atomic_int stopping;
    size_t threads;
    pthread_t *handles;
};

struct worker {
    struct ck_pool *pool;
    size_t index;
};

static void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake_all(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, CK_THREADS_MAX, NULL, NULL, 0);
}

static void work(struct ck_pool *pool, size_t thread)
{
    size_t chunk = pool->chunk;
    for (size_t turn = 0; turn < pool->threads; turn++) {
        struct share *share = &pool->shares[(thread + turn) % pool->threads];
        while (atomic_load_explicit(&share->next, memory_order_relaxed) < share->end) {
            size_t first = atomic_fetch_add_explicit(&share->next, chunk, memory_order_relaxed);
            size_t last = ck_min(first + chunk, share->end);
            for (size_t item = first; item < last; item++) {
                pool->task(pool->context, item, thread);
            }
        }
    }
}

// Joins the job that is open, if any is.
static int join(struct ck_pool *pool)
{
    uint64_t state = atomic_load_explicit(&pool->state, memory_order_acquire);
    while (state & OPEN) {
        if (atomic_compare_exchange_weak_explicit(&pool->state, &state, state + 1,
                                                  memory_order_acquire, memory_order_acquire)) {
            return 1;
        }
    }
    return 0;
}

// Waits for a signal other than `seen`; returns it.
static uint32_t wait_for_job(struct ck_pool *pool, uint32_t seen)
{
    for (int spin = 0; spin < SPIN_COUNT; spin++) {
        uint32_t signal = atomic_load_explicit(&pool->signal, memory_order_acquire);
        if (signal != seen) return signal;
        pause_cpu();
    }
    atomic_fetch_add(&pool->sleepers, 1);
    uint32_t signal;
    while ((signal = atomic_load(&pool->signal)) == seen) futex_wait(&pool->signal, seen);
    atomic_fetch_sub(&pool->sleepers, 1);
    return signal;
}

static void *run_worker(void *argument)
{
    struct worker me = *(struct worker *)argument;
    free(argument);
    struct ck_pool *pool = me.pool;
    uint32_t seen = 0;
    for (;;) {
        seen = wait_for_job(pool, seen);
        if (atomic_load(&pool->stopping)) return NULL;
        if (!join(pool)) continue;
        work(pool, me.index);
        atomic_fetch_sub_explicit(&pool->state, 1, memory_order_release);
    }
}

struct ck_pool *ck_pool_create(size_t threads)
{
    if (threads == 0 || threads > CK_THREADS_MAX) return NULL;
    struct ck_pool *pool = aligned_alloc(64, ck_blocks(sizeof *pool, 64) * 64);
    if (!pool) return NULL;
    memset(pool, 0, sizeof *pool);
    pool->threads = 1;
    pool->handles = calloc(threads, sizeof *pool->handles);
    pool->shares = aligned_alloc(64, threads * sizeof *pool->shares);
    if (pool->shares) memset(pool->shares, 0, threads * sizeof *pool->shares);
    while (pool->handles && pool->shares && pool->threads < threads) {
        struct worker *worker = malloc(sizeof *worker);
        if (!worker) break;
        *worker = (struct worker){pool, pool->threads};
        if (pthread_create(&pool->handles[pool->threads], NULL, run_worker, worker) != 0) {
            free(worker);
            break;
        }
        pool->threads++;
    }
    if (pool->handles && pool->shares && pool->threads == threads) return pool;
    ck_pool_destroy(pool);
    return NULL;
}

void ck_pool_destroy(struct ck_pool *pool)
{
    atomic_store(&pool->stopping, 1);
    atomic_fetch_add(&pool->signal, 1);
    futex_wake_all(&pool->signal);
    for (size_t thread = 1; thread < pool->threads; thread++) {
        pthread_join(pool->handles[thread], NULL);
    }
    free(pool->shares);
    free(pool->handles);
    free(pool);
}

size_t ck_pool_threads(const struct ck_pool *pool) { return pool->threads; }

void ck_pool_run(struct ck_pool *pool, size_t items, ck_task task, void *context)
{
    if (pool->threads == 1 || items < 2) {
        for (size_t item = 0; item < items; item++) task(context, item, 0);
        return;
    }
    size_t chunk = items / (pool->threads * CHUNKS_A_THREAD);
    pool->task = task;
    pool->context = context;
    pool->chunk = chunk ? chunk : 1;
    for (size_t thread = 0; thread < pool->threads; thread++) {
        struct share *share = &pool->shares[thread];
        atomic_store_explicit(&share->next, items * thread / pool->threads, memory_order_relaxed);
        share->end = items * (thread + 1) / pool->threads;
    }
    atomic_fetch_add_explicit(&pool->state, JOB + OPEN, memory_order_release);
    atomic_fetch_add(&pool->signal, 1);
    if (atomic_load(&pool->sleepers) > 0) futex_wake_all(&pool->signal);

    work(pool, 0);

    // No overflow into the counter: OPEN was added above and is taken off once.
    uint64_t state = atomic_fetch_sub_explicit(&pool->state, OPEN, memory_order_acquire) - OPEN;
    for (int spin = 0; state & ACTIVE_MASK; spin++) {
        if (spin < YIELD_COUNT) pause_cpu();
        else sched_yield();
        state = atomic_load_explicit(&pool->state, memory_order_acquire);
    }
}
