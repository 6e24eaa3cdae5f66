//! Virtio queues and devices, and the mmio transport.
