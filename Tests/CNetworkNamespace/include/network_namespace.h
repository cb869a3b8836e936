// Sockets in a network namespace, for tests that talk to servers there.
#ifndef PHALANX_NETWORK_NAMESPACE_H
#define PHALANX_NETWORK_NAMESPACE_H

// A TCP socket of IPv4 that lives in the namespace at `path`; the calling thread stays where it is.
// Returns a descriptor of the caller's, or a negative errno.
int network_namespace_socket(const char *path);

#endif
