//! virtio-vsock: packets, connections, credit, and what answers at the host's end.
