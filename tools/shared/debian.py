"""Debian's packages as a source of kernels and of an emulator: downloaded and unpacked by the stock tools, never installed."""

import pathlib
import subprocess

ARCHIVE_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


class ToolError(Exception):
    """Something we rely on is missing or failed; the message says what and what to do."""


def output_of(command, **options):
    """Runs a tool and returns what it printed; its complaint becomes the error."""
    try:
        done = subprocess.run(command, capture_output=True, check=True, **options)
    except FileNotFoundError as error:
        raise ToolError(f"{command[0]} is missing: tools/setup installs it") from error
    except subprocess.CalledProcessError as error:
        complaint = error.stderr.decode(errors="replace").strip()
        raise ToolError(f"`{' '.join(map(str, command))}` failed: {complaint}") from error
    return done.stdout


def newest(meta_package, prefix):
    """The package beginning with `prefix` that `meta_package` depends on today."""
    for line in output_of(["apt-cache", "depends", "--important", meta_package]).decode().splitlines():
        word, _, name = line.strip().partition(": ")
        if word == "Depends" and name.startswith(prefix):
            return name
    raise ToolError(f"no package {meta_package} in the package lists: run `apt-get update`, then try again")


def candidate_version(package):
    """The version of `package` that apt would install."""
    return candidate_versions([package])[package]


def candidate_versions(packages):
    """The versions of `packages` that apt would install, by name."""
    versions, package = {}, None
    for line in output_of(["apt-cache", "policy", *packages]).decode().splitlines():
        word, _, version = line.strip().partition(": ")
        if line.endswith(":") and not line.startswith(" "):
            package = line[:-1]
        elif word == "Candidate" and version != "(none)":
            versions[package] = version
    missing = [package for package in packages if package not in versions]
    if missing:
        raise ToolError(f"no package {' '.join(missing)} in the package lists: run `apt-get update`, then try again")
    return versions


def unpack(packages, folder):
    """Downloads `packages` into `folder` and unpacks them to `folder`/tree. apt checks the archive's signature and hashes."""
    output_of(["apt-get", "download", *packages], cwd=folder)
    debs = sorted(folder.glob("*.deb"))
    if len(debs) != len(packages):
        raise ToolError(f"apt-get downloaded {len(debs)} files for {' '.join(packages)}")
    for deb in debs:
        output_of(["dpkg-deb", "--extract", deb, folder / "tree"])
        deb.unlink()
    return folder / "tree"


def release():
    """This Debian's code name."""
    for line in pathlib.Path("/etc/os-release").read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "VERSION_CODENAME":
            return value.strip('"')
    raise ToolError("/etc/os-release names no Debian release")


def mirror():
    """Where this machine gets its release's packages from."""
    fields = ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"]
    for line in output_of(fields).decode().splitlines():
        codename, _, uri = line.partition(" ")
        if codename == release():
            return uri
    raise ToolError(f"no package lists of {release()}: run `apt-get update`, then try again")


def unpack_from_suite(suite, packages, scratch, tree):
    """Downloads `packages` from another suite of the same mirror and unpacks them to `tree`.

    The suite's lists are kept in `scratch`: what this machine would install stays as it is. apt checks signatures and hashes as always.
    """
    sources = scratch / "sources.list"
    sources.write_text(f"deb [signed-by={ARCHIVE_KEYS}] {mirror()} {suite} main\n")
    for folder in ["lists/partial", "cache/archives/partial"]:
        (scratch / folder).mkdir(parents=True)
    options = {
        "Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": "/dev/null", "Dir::State::lists": scratch / "lists",
        "Dir::Cache": scratch / "cache", "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
    output_of([*apt, "update"])
    output_of([*apt, "download", *(f"{package}/{suite}" for package in packages)], cwd=scratch)
    for deb in scratch.glob("*.deb"):
        output_of(["dpkg-deb", "--extract", deb, tree])
