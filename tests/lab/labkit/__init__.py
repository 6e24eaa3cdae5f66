"""Parts of the nested lab: the host's kernel, its initial file system, the emulated machine and the command's streams."""
