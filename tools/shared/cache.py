"""Where downloaded and built things are kept, and how two runs avoid making the same one twice."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import sys
import tempfile


def cache_folder():
    """The project's cache: $ENCLAVE_CACHE_DIR, else the user's cache folder."""
    if chosen := os.environ.get("ENCLAVE_CACHE_DIR"):
        return pathlib.Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "enclave"


def say(who, text):
    """Progress for people: stderr, because stdout belongs to results."""
    print(f"{who}: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(folder):
    """Holds `folder` for one process at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_once(target, make):
    """Returns `target`, a folder, after `make(folder)` has filled it; a half-made one is never seen."""
    if target.exists():
        return target
    with locked(target.parent):
        if not target.exists():
            draft = pathlib.Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))
            try:
                make(draft)
                draft.chmod(0o755)
                draft.rename(target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return target


def point_to(link, name):
    """Makes the symbolic link `link` say `name`, in one step."""
    draft = link.with_name(f".{link.name}.{name}")
    draft.unlink(missing_ok=True)
    draft.symlink_to(name)
    draft.rename(link)
