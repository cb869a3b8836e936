#include <openssl/ssl.h>
#include <openssl/err.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

// What OpenSSL offers as macros, which Swift cannot call.

// TLS 1.2 at least, no renegotiation, no compression; writes may be retried from another address.
static inline int co_ssl_ctx_configure(SSL_CTX *context) {
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return (int)SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
}

// Bytes that BIO_read would return.
static inline size_t co_bio_pending(BIO *bio) { return BIO_ctrl_pending(bio); }
