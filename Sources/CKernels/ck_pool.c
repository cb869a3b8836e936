// A persistent pool of threads. The caller opens a job, works on it like everybody else, closes it
// and waits for those who joined; a thread that wakes too late finds the job closed and sleeps on.
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "ck_internal.h"

enum { SPIN_COUNT = 1000 };  // about 25 us of pauses before a thread sleeps

struct ck_pool {
    pthread_mutex_t mutex;
    pthread_cond_t opened;
    pthread_cond_t finished;
    atomic_uint generation;  // of the latest job; written under `mutex`
    atomic_size_t next;      // next item to hand out
    atomic_size_t active;    // threads inside the job; written under `mutex`
    int open;                // guarded by `mutex`, like the rest
    int stopping;
    size_t items;
    size_t chunk;
    ck_task task;
    void *context;
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

static void work(struct ck_pool *pool, ck_task task, void *context, size_t items, size_t chunk,
                 size_t thread)
{
    for (;;) {
        size_t first = atomic_fetch_add_explicit(&pool->next, chunk, memory_order_relaxed);
        if (first >= items) return;
        size_t last = ck_min(first + chunk, items);
        for (size_t item = first; item < last; item++) task(context, item, thread);
    }
}

static void *run_worker(void *argument)
{
    struct worker me = *(struct worker *)argument;
    free(argument);
    struct ck_pool *pool = me.pool;
    unsigned seen = 0;
    for (;;) {
        for (int spin = 0; spin < SPIN_COUNT; spin++) {
            if (atomic_load_explicit(&pool->generation, memory_order_acquire) != seen) break;
            pause_cpu();
        }
        pthread_mutex_lock(&pool->mutex);
        while (!pool->stopping && atomic_load(&pool->generation) == seen) {
            pthread_cond_wait(&pool->opened, &pool->mutex);
        }
        seen = atomic_load(&pool->generation);
        if (pool->stopping) {
            pthread_mutex_unlock(&pool->mutex);
            return NULL;
        }
        if (!pool->open) {
            pthread_mutex_unlock(&pool->mutex);
            continue;
        }
        atomic_fetch_add(&pool->active, 1);
        ck_task task = pool->task;
        void *context = pool->context;
        size_t items = pool->items, chunk = pool->chunk;
        pthread_mutex_unlock(&pool->mutex);

        work(pool, task, context, items, chunk, me.index);

        pthread_mutex_lock(&pool->mutex);
        if (atomic_fetch_sub(&pool->active, 1) == 1) pthread_cond_signal(&pool->finished);
        pthread_mutex_unlock(&pool->mutex);
    }
}

struct ck_pool *ck_pool_create(size_t threads)
{
    if (threads == 0 || threads > CK_THREADS_MAX) return NULL;
    struct ck_pool *pool = calloc(1, sizeof *pool);
    if (!pool) return NULL;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->opened, NULL);
    pthread_cond_init(&pool->finished, NULL);
    pool->threads = 1;
    pool->handles = calloc(threads, sizeof *pool->handles);
    while (pool->handles && pool->threads < threads) {
        struct worker *worker = malloc(sizeof *worker);
        if (!worker) break;
        *worker = (struct worker){pool, pool->threads};
        if (pthread_create(&pool->handles[pool->threads], NULL, run_worker, worker) != 0) {
            free(worker);
            break;
        }
        pool->threads++;
    }
    if (pool->handles && pool->threads == threads) return pool;
    ck_pool_destroy(pool);
    return NULL;
}

void ck_pool_destroy(struct ck_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    pool->stopping = 1;
    pthread_cond_broadcast(&pool->opened);
    pthread_mutex_unlock(&pool->mutex);
    for (size_t thread = 1; thread < pool->threads; thread++) {
        pthread_join(pool->handles[thread], NULL);
    }
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->opened);
    pthread_mutex_destroy(&pool->mutex);
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
    size_t chunk = items / (pool->threads * 4);
    if (chunk == 0) chunk = 1;
    pthread_mutex_lock(&pool->mutex);
    pool->task = task;
    pool->context = context;
    pool->items = items;
    pool->chunk = chunk;
    pool->open = 1;
    atomic_store(&pool->next, 0);
    atomic_fetch_add(&pool->generation, 1);
    pthread_cond_broadcast(&pool->opened);
    pthread_mutex_unlock(&pool->mutex);

    work(pool, task, context, items, chunk, 0);

    for (int spin = 0; spin < SPIN_COUNT; spin++) {
        if (atomic_load_explicit(&pool->active, memory_order_acquire) == 0) break;
        pause_cpu();
    }
    pthread_mutex_lock(&pool->mutex);
    pool->open = 0;
    while (atomic_load(&pool->active) != 0) pthread_cond_wait(&pool->finished, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}
