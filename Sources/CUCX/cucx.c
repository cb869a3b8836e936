#define _GNU_SOURCE
#include "cucx.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <ucp/api/ucp.h>

struct slot {
    enum cucx_state state;
    ucs_status_t status;
    size_t count;
    void *request;  // kept until the slot is used again; NULL if UCX needed none
};

struct peer {
    ucp_ep_h endpoint;
    ucs_status_t error;  // set by the error handler
    uint64_t send_tag;
    uint64_t receive_tag;
    struct slot sends[CUCX_SENDS];
    struct slot receive;
    struct slot closing;
};

struct cucx_group {
    ucp_context_h context;
    ucp_worker_h worker;
    ucp_address_t *address;
    size_t address_count;
    int event_fd;
    uint32_t peer_count;
    struct peer *peers;
    struct slot flush;
};

static void explain(char *error, const char *what, ucs_status_t status) {
    snprintf(error, CUCX_ERROR_BYTES, "%s: %s", what, ucs_status_string(status));
}

static ucs_status_t open_context(struct cucx_group *group, const char *net_devices,
                                 const char *transports, const char **what) {
    ucp_config_t *config;
    *what = "ucp_config_read";
    ucs_status_t status = ucp_config_read(NULL, NULL, &config);
    if (status != UCS_OK) return status;
    if (net_devices) {
        *what = "NET_DEVICES";
        status = ucp_config_modify(config, "NET_DEVICES", net_devices);
    }
    if (status == UCS_OK && transports) {
        *what = "TLS";
        status = ucp_config_modify(config, "TLS", transports);
    }
    if (status == UCS_OK) {
        ucp_params_t params = {
            .field_mask = UCP_PARAM_FIELD_FEATURES,
            .features = UCP_FEATURE_TAG | UCP_FEATURE_WAKEUP,
        };
        *what = "ucp_init";
        status = ucp_init(&params, config, &group->context);
    }
    ucp_config_release(config);
    return status;
}

static ucs_status_t open_worker(struct cucx_group *group, const char **what) {
    ucp_worker_params_t params = {
        .field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
        .thread_mode = UCS_THREAD_MODE_SERIALIZED,
    };
    *what = "ucp_worker_create";
    ucs_status_t status = ucp_worker_create(group->context, &params, &group->worker);
    if (status != UCS_OK) return status;
    *what = "ucp_worker_get_efd";
    status = ucp_worker_get_efd(group->worker, &group->event_fd);
    if (status != UCS_OK) return status;
    *what = "ucp_worker_get_address";
    return ucp_worker_get_address(group->worker, &group->address, &group->address_count);
}

struct cucx_group *cucx_open(const char *net_devices, const char *transports, char *error) {
    struct cucx_group *group = calloc(1, sizeof *group);
    if (!group) {
        snprintf(error, CUCX_ERROR_BYTES, "out of memory");
        return NULL;
    }
    const char *what;
    ucs_status_t status = open_context(group, net_devices, transports, &what);
    if (status == UCS_OK) status = open_worker(group, &what);
    if (status == UCS_OK) return group;
    explain(error, what, status);
    cucx_close(group, 0);
    return NULL;
}

const uint8_t *cucx_address(const struct cucx_group *group, size_t *count) {
    *count = group->address_count;
    return (const uint8_t *)group->address;
}

int cucx_set_peer_count(struct cucx_group *group, uint32_t count) {
    group->peers = calloc(count, sizeof *group->peers);
    if (!group->peers) return -1;
    group->peer_count = count;
    return 0;
}

static void on_endpoint_error(void *argument, ucp_ep_h endpoint, ucs_status_t status) {
    (void)endpoint;
    struct peer *peer = argument;
    peer->error = status == UCS_OK ? UCS_ERR_CONNECTION_RESET : status;
}

int cucx_connect(struct cucx_group *group, uint32_t index, const void *address, uint64_t send_tag,
                 uint64_t receive_tag, char *error) {
    struct peer *peer = &group->peers[index];
    peer->send_tag = send_tag;
    peer->receive_tag = receive_tag;
    ucp_ep_params_t params = {
        .field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER,
        .address = address,
        .err_mode = UCP_ERR_HANDLING_MODE_PEER,
        .err_handler = {.cb = on_endpoint_error, .arg = peer},
    };
    ucs_status_t status = ucp_ep_create(group->worker, &params, &peer->endpoint);
    if (status == UCS_OK) return 0;
    peer->endpoint = NULL;
    explain(error, "ucp_ep_create", status);
    return -1;
}

static void finish(struct slot *slot, ucs_status_t status, size_t count) {
    slot->status = status;
    slot->count = count;
    slot->state = status == UCS_OK ? CUCX_DONE : CUCX_FAILED;
}

static void on_sent(void *request, ucs_status_t status, void *user_data) {
    (void)request;
    finish(user_data, status, 0);
}

static void on_received(void *request, ucs_status_t status, const ucp_tag_recv_info_t *info,
                        void *user_data) {
    (void)request;
    finish(user_data, status, status == UCS_OK ? info->length : 0);
}

// Takes what a UCX operation returned: nothing more to do, an error, or a request that runs.
static void begin(struct slot *slot, ucs_status_ptr_t result, size_t count) {
    if (result == NULL) {
        finish(slot, UCS_OK, count);
    } else if (UCS_PTR_IS_ERR(result)) {
        finish(slot, UCS_PTR_STATUS(result), 0);
    } else {
        slot->request = result;
    }
}

void cucx_send(struct cucx_group *group, uint32_t index, uint32_t number, const void *bytes,
               size_t count) {
    struct peer *peer = &group->peers[index];
    struct slot *slot = &peer->sends[number];
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
        .cb.send = on_sent,
        .user_data = slot,
    };
    *slot = (struct slot){.state = CUCX_RUNNING};
    begin(slot, ucp_tag_send_nbx(peer->endpoint, bytes, count, peer->send_tag, &param), count);
}

void cucx_receive(struct cucx_group *group, uint32_t index, void *bytes, size_t count) {
    struct peer *peer = &group->peers[index];
    struct slot *slot = &peer->receive;
    if (slot->request) ucp_request_free(slot->request);
    // The callback alone tells the length, so it is wanted even for what has arrived already.
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                        UCP_OP_ATTR_FLAG_NO_IMM_CMPL,
        .cb.recv = on_received,
        .user_data = slot,
    };
    *slot = (struct slot){.state = CUCX_RUNNING};
    ucs_status_ptr_t result =
        ucp_tag_recv_nbx(group->worker, bytes, count, peer->receive_tag, UINT64_MAX, &param);
    begin(slot, result, 0);
}

static void forget(struct slot *slot) {
    if (slot->state == CUCX_RUNNING) return;
    if (slot->request) ucp_request_free(slot->request);
    *slot = (struct slot){.state = CUCX_IDLE};
}

void cucx_reset(struct cucx_group *group, uint32_t index) {
    struct peer *peer = &group->peers[index];
    for (int i = 0; i < CUCX_SENDS; i++) forget(&peer->sends[i]);
    forget(&peer->receive);
}

enum cucx_state cucx_send_state(const struct cucx_group *group, uint32_t index) {
    const struct peer *peer = &group->peers[index];
    enum cucx_state state = CUCX_DONE;
    for (int i = 0; i < CUCX_SENDS; i++) {
        if (peer->sends[i].state == CUCX_FAILED) return CUCX_FAILED;
        if (peer->sends[i].state == CUCX_RUNNING) state = CUCX_RUNNING;
    }
    return state;
}

enum cucx_state cucx_receive_state(const struct cucx_group *group, uint32_t index, size_t *count) {
    const struct slot *slot = &group->peers[index].receive;
    *count = slot->count;
    return slot->state;
}

const char *cucx_peer_error(const struct cucx_group *group, uint32_t index) {
    const struct peer *peer = &group->peers[index];
    if (peer->error != UCS_OK) return ucs_status_string(peer->error);
    for (int i = 0; i < CUCX_SENDS; i++) {
        if (peer->sends[i].state == CUCX_FAILED) return ucs_status_string(peer->sends[i].status);
    }
    if (peer->receive.state == CUCX_FAILED) return ucs_status_string(peer->receive.status);
    return NULL;
}

void cucx_flush(struct cucx_group *group) {
    forget(&group->flush);
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
        .cb.send = on_sent,
        .user_data = &group->flush,
    };
    group->flush = (struct slot){.state = CUCX_RUNNING};
    begin(&group->flush, ucp_worker_flush_nbx(group->worker, &param), 0);
}

enum cucx_state cucx_flush_state(const struct cucx_group *group) { return group->flush.state; }

uint32_t cucx_progress(struct cucx_group *group) { return ucp_worker_progress(group->worker); }

const char *cucx_wait(struct cucx_group *group, int64_t nanoseconds) {
    ucs_status_t status = ucp_worker_arm(group->worker);
    if (status == UCS_ERR_BUSY) return NULL;
    if (status != UCS_OK) return ucs_status_string(status);
    struct pollfd event = {.fd = group->event_fd, .events = POLLIN};
    struct timespec timeout = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    ppoll(&event, 1, &timeout, NULL);
    return NULL;
}

static int64_t now_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

// Works until the slot is not running any more or the time is up.
static void work_until_finished(struct cucx_group *group, struct slot *slot, int64_t end) {
    while (slot->state == CUCX_RUNNING) {
        if (ucp_worker_progress(group->worker)) continue;
        int64_t left = end - now_nanoseconds();
        if (left <= 0) return;
        // Closing has steps that raise no event, so the sleep is short.
        cucx_wait(group, left < 1000000 ? left : 1000000);
    }
}

static void close_endpoint(struct peer *peer) {
    if (!peer->endpoint) return;
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                        UCP_OP_ATTR_FIELD_FLAGS,
        .cb.send = on_sent,
        .user_data = &peer->closing,
        .flags = UCP_EP_CLOSE_FLAG_FORCE,
    };
    peer->closing = (struct slot){.state = CUCX_RUNNING};
    begin(&peer->closing, ucp_ep_close_nbx(peer->endpoint, &param), 0);
    peer->endpoint = NULL;
}

// What has not finished when the time is up ends with the worker, which is destroyed next.
static void close_endpoints(struct cucx_group *group, int64_t end) {
    for (uint32_t i = 0; i < group->peer_count; i++) {
        struct slot *receive = &group->peers[i].receive;
        if (receive->state == CUCX_RUNNING) ucp_request_cancel(group->worker, receive->request);
        close_endpoint(&group->peers[i]);
    }
    for (uint32_t i = 0; i < group->peer_count; i++) {
        struct peer *peer = &group->peers[i];
        work_until_finished(group, &peer->closing, end);
        for (int s = 0; s < CUCX_SENDS; s++) work_until_finished(group, &peer->sends[s], end);
        work_until_finished(group, &peer->receive, end);
        // Also if it still runs: UCX insists on having it back before the worker is destroyed.
        if (peer->closing.request) ucp_request_free(peer->closing.request);
        cucx_reset(group, i);
    }
    work_until_finished(group, &group->flush, end);
    forget(&group->flush);
}

void cucx_close(struct cucx_group *group, int64_t nanoseconds) {
    if (group->worker) {
        if (group->peers) close_endpoints(group, now_nanoseconds() + nanoseconds);
        if (group->address) ucp_worker_release_address(group->worker, group->address);
        ucp_worker_destroy(group->worker);
    }
    if (group->context) ucp_cleanup(group->context);
    free(group->peers);
    free(group);
}
