"""What of the workspace's Rust is shipped, and what of it is code: without comments, without tests."""

import re
import subprocess

# Comments, strings and characters, in which braces and words mean nothing. A lifetime is no character.
OPAQUE = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)
    |(?P<string>\bb?r(?P<hashes>\#*)".*?"(?P=hashes)|\bb?"(?:\\.|[^"\\])*"|"(?:\\.|[^"\\])*")
    |(?P<character>'(?:\\[^\n]*?|[^'\\\n])')""",
    re.VERBOSE | re.DOTALL,
)
# What is compiled for tests alone.
FOR_TESTS = re.compile(r"#\[cfg\((?:test|any\(test,[^\]]*)\)\]")
MODULE = re.compile(r"\bmod (\w+);")
# In src/, and yet not in what is shipped: the bodies of fuzz targets, and a program that tests boot.
NOT_SHIPPED = ("fuzzing.rs", "aws-like-init.rs")
# Nor is a crate that replays the corpora of the fuzz targets.
FOR_TESTS_ALONE = "crates/corpus/"


def blank(text, filler=" "):
    """As many characters on as many lines."""
    return re.sub(r"[^\n]", filler, text)


def item_end(code, start):
    """Where the item that begins at `start` ends: at its semicolon, or at the brace that closes it."""
    depth = 0
    for position in range(start, len(code)):
        character = code[position]
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if character == "}" and depth == 0:
                return position + 1
        elif character == ";" and depth == 0:
            return position + 1
    return len(code)


def code_of(text):
    """The text without comments and tests, with strings and characters filled with x; every line stays in its place. And the
    names of the modules in other files that are for tests alone."""

    def replace(match):
        return blank(match[0]) if match["comment"] else blank(match[0], "x")

    code = OPAQUE.sub(replace, text)
    modules = []
    while attribute := FOR_TESTS.search(code):
        end = item_end(code, attribute.end())
        # Attributes may follow that one; their brackets are no braces, so the end is the item's all the same.
        modules += MODULE.findall(code[attribute.start() : end])
        code = code[: attribute.start()] + blank(code[attribute.start() : end]) + code[end:]
    return code, modules


def shipped(root):
    """The code of every file that ends in a program or a library: a dictionary from path to text and code."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.rs"], cwd=root, capture_output=True, text=True, check=True
    )
    files, tests = {}, []
    for name in listed.stdout.splitlines():
        path = root / name
        inside = path.relative_to(root).parts
        if "src" not in inside or inside[0] in ("tests", "fuzz") or path.name in NOT_SHIPPED or not path.exists() or name.startswith(FOR_TESTS_ALONE):
            continue
        text = path.read_text()
        code, modules = code_of(text)
        folder = path.parent if path.stem in ("lib", "main", "mod") else path.parent / path.stem
        tests += [folder / module for module in modules]
        files[path] = (text, code)
    return {
        path: content
        for path, content in files.items()
        if not any(path == module.with_suffix(".rs") or module in path.parents for module in tests)
    }
