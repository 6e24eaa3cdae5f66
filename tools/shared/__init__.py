"""What the lab and the guest kernel's build have in common: the cache and Debian's packages."""
