# SPDX-License-Identifier: Apache-2.0
"""Check the language of documentation, help, messages, docstrings and comments.

    python tools/lib/plain_language.py              compare each directory with its limit
    python tools/lib/plain_language.py --list PATH  print each finding under PATH
    python tools/lib/plain_language.py --lower      lower the limits to today's counts

The limits are in plain_language.json. A directory without a limit must have no finding, and a
limit may only fall. Prose is a ``.rst``, ``.inc`` or ``.yaml`` file, a docstring, a comment, or a
string of at least three words in Python code.
"""

import ast
import collections
import io
import json
import pathlib
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent.parent
LIMITS = pathlib.Path(__file__).with_suffix(".json")

#: Phrase to avoid -> advice.
RULES = {
    r"\b(tell|tells|told|telling)\b": "report, log, send, store, return or show",
    r"\b(nobody|somebody|anybody|whoever|whatever|whichever)\b": "name the operator or the part",
    r"\bwhat (is|was|are|were|has|had|may|can|must|happens|should)\b(?![^.?]*\?)": "use the noun",
    r"\b(of|from|for|by|in|on|under|at|to|with|after|before) which\b": "write two sentences",
    r"\b(anew|of late|as ever|in vain|all the same|long since|for ever|any more)\b": "again",
    r"(?<!there )\b(is|are|was|were) (no|none)\b(?! (longer|more than))": "is not a",
    r"(?:^|[.!?]\s+)(Who|Whose|What|Whoever|Nobody|Somebody|None|All)\b": "start with a subject",
    r"\bin all(?=[.,;:)]|$)": "in total",
    r"\b(least|greatest|most) seconds\b|\bseconds between\b": "interval, minimum or maximum",
    r"\bbetween two\b": "interval",
    r"\b(knows|notices|learns)\b": "a program does not know",
    r"\blooks (at|for|after|whether|again)\b": "check, read or query",
    r"\btime lines?\b": "timeline",
    r"\bby hand\b": "operator request, or manually",
    r"\b(fuse|fuses|blown)\b": "circuit breaker",
    r"\b(retelling|retellings|sift|sifts)\b": "duplicate report",
    r"\b(gate|gates)\b": "admission check",
    r"\b(mismatch|mismatches)\b": "drift",
    r"^(Whether|Keep (what|the parts))\b": "imperative verb with an object",
}
COMPILED = [
    (re.compile(pattern, re.I if pattern[0] == "\\" else 0), advice)
    for pattern, advice in RULES.items()
]


def tracked_files() -> list[pathlib.Path]:
    """Return the files of the checkout that git tracks or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(
        command, cwd=CHECKOUT, check=True, capture_output=True, text=True
    ).stdout
    return [path for name in names.splitlines() if (path := CHECKOUT / name).is_file()]


def directory_of(path: pathlib.Path) -> str:
    """Return the directory whose limit applies to a file."""
    parts = path.relative_to(CHECKOUT).parts
    if len(parts) == 1:
        return parts[0]
    depth = 3 if parts[:2] in (("vmmonitor", "engine"), ("vmmonitor", "tests")) else 2
    return "/".join(parts[: min(depth, len(parts) - 1)])


def python_prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of each docstring, comment and message of a Python file."""
    for node in ast.walk(ast.parse(source)):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and len(text.split()) >= 3:
            yield node.lineno, text  # type: ignore[attr-defined]
    block: list[str] = []
    start = previous = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != previous + 1:
            yield start, " ".join(block)
            block = []
        if not block:
            start = token.start[0]
        block.append(token.string.lstrip("#: "))
        previous = token.start[0]
    if block:
        yield start, " ".join(block)


def text_prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of each paragraph of a text file, without literal blocks."""
    lines = source.splitlines()
    block: list[str] = []
    start = 0
    literal: int | None = None
    for number, line in enumerate([*lines, ""], 1):
        indent = len(line) - len(line.lstrip())
        if literal is not None:
            if not line.strip() or indent > literal:
                continue
            literal = None
        if line.strip():
            if not block:
                start = number
            block.append(line.strip().lstrip("#").strip())
        if block and (not line.strip() or line.rstrip().endswith("::")):
            yield start, " ".join(block)
            block = []
        if line.rstrip().endswith("::") or re.match(
            r"\s*\.\. (code-block|literalinclude|parsed)", line
        ):
            literal = indent


def findings(path: pathlib.Path) -> Iterator[tuple[int, str, str]]:
    """Yield (line, phrase, advice) for each finding in a file."""
    source = path.read_text(encoding="utf-8")
    prose = python_prose(source) if path.suffix == ".py" else text_prose(source)
    for line, text in prose:
        plain = re.sub(r"``[^`]*``|`[^`]*`|:\w+:`[^`]*`", "`x`", " ".join(text.split()))
        for pattern, advice in COMPILED:
            for match in pattern.finditer(plain):
                yield line, match.group().strip(". "), advice


def is_checked(path: pathlib.Path) -> bool:
    """Return whether a file's language is checked."""
    return (
        path.suffix in (".py", ".rst", ".inc", ".yaml", ".yml")
        and path != pathlib.Path(__file__).resolve()
    )


def main(arguments: list[str]) -> int:
    """Print the findings or the directories above their limit; return the exit code."""
    files = [path for path in tracked_files() if is_checked(path)]
    if arguments[:1] == ["--list"]:
        wanted = [(CHECKOUT / name).resolve() for name in arguments[1:]] or [CHECKOUT]
        for path in files:
            if any(path == place or place in path.parents for place in wanted):
                for line, phrase, advice in findings(path):
                    print(f"{path.relative_to(CHECKOUT)}:{line}: {phrase!r}: {advice}")
        return 0
    counts = collections.Counter({directory_of(path): 0 for path in files})
    for path in files:
        counts[directory_of(path)] += sum(1 for _ in findings(path))
    limits = json.loads(LIMITS.read_text()) if LIMITS.exists() else None
    if arguments == ["--lower"]:
        kept = {place: count for place, count in sorted(counts.items()) if count}
        if limits is not None:
            kept = {place: min(count, limits.get(place, 0)) for place, count in kept.items()}
        LIMITS.write_text(json.dumps(kept, indent=1) + "\n")
        return 0
    above = {
        place: count for place, count in counts.items() if count > (limits or {}).get(place, 0)
    }
    for place, count in sorted(above.items()):
        print(
            f"{place}: {count} findings, the limit is {(limits or {}).get(place, 0)};"
            f" list them with --list {place}"
        )
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
