"""SourceIndex: which Verilog files a module needs, found by the names they mention."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from adaqat_hw.errors import ConfigError
from adaqat_hw.schema import sha256_file

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_STRING = re.compile(r'"(?:\\.|[^"\\\n])*"')
_DECLARATION = re.compile(
    r"^\s*(?:module|package|interface)\s+(?:automatic\s+|static\s+)?(\w+)", re.MULTILINE
)
_WORD = re.compile(r"[A-Za-z_]\w*")


class SourceIndex:
    """Verilog files by the modules and packages they declare.

    A file needs another when it mentions a name that the other declares. That can name one
    file too many, which harms nothing, but never one too few.

    Args:
        files: the files to choose from; equal files of one name count once.

    Raises:
        ConfigError: a file that cannot be read, or two different files of one name.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._file_of: dict[str, Path] = {}
        self._mentions: dict[Path, set[str]] = {}
        by_name: dict[str, Path] = {}
        for path in files:
            known = by_name.get(path.name)
            if known is not None:
                if known != path and sha256_file(known) != sha256_file(path):
                    raise ConfigError(
                        f"Two different source files are named {path.name!r}: {str(known)!r} and "
                        f"{str(path)!r}; make the build again."
                    )
                continue
            by_name[path.name] = path
            text = _plain(path)
            self._mentions[path] = set(_WORD.findall(text))
            for name in _DECLARATION.findall(text):
                other = self._file_of.setdefault(name, path)
                if other != path:
                    raise ConfigError(
                        f"The module {name!r} is declared in {str(other)!r} and in {str(path)!r}."
                    )

    def __contains__(self, name: str) -> bool:
        return name in self._file_of

    @property
    def names(self) -> set[str]:
        """Names of all declared modules and packages."""
        return set(self._file_of)

    def needed_by(self, name: str) -> list[Path]:
        """Return the files that module ``name`` needs, what is needed before what needs it."""
        order: list[Path] = []
        seen: set[Path] = set()

        def visit(path: Path) -> None:
            if path in seen:
                return
            seen.add(path)
            for other in sorted(self._mentions[path] & self._file_of.keys()):
                visit(self._file_of[other])
            order.append(path)

        if name not in self._file_of:
            raise ConfigError(f"No source file declares the module {name!r}.")
        visit(self._file_of[name])
        return order


def _plain(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"The source file {str(path)!r} cannot be read ({exc}); make the build again."
        ) from exc
    return _STRING.sub('""', _COMMENT.sub(" ", text))
