# SPDX-License-Identifier: Apache-2.0
"""One walk through an image: its trust stores, and the programs and packages that use them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from kubetls_sdk.diagnosis.image.root_directory import RootDirectory
from kubetls_sdk.diagnosis.image.roots import (
    MAX_STORE_BYTES,
    UncountableError,
    count_embedded,
    fingerprints,
)
from kubetls_sdk.diagnosis.image.store import (
    EMBEDDED,
    OTHER,
    Kind,
    Store,
    directory_of,
    kind_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet
    from typing import IO

__all__ = ("MAX_ENTRIES", "Survey", "survey")

MAX_ENTRIES = 1_000_000
MAX_READ_BYTES = 1024 * 1024 * 1024
_MAX_STORES = 10_000
_CHUNK_BYTES = 1024 * 1024
_MAX_METADATA_BYTES = 256 * 1024
_BEGINS_PEM = b"-----BEGIN "
_MANY = 5  # certificates in a file of any name make it a trust store
_MAYBE = re.compile(r"\.(pem|crt|cer|ca|bundle)$", re.IGNORECASE).search
_PROGRAM = re.compile(
    r"/s?bin/(curl|wget|git|openssl|node|nodejs|java|ruby|php|go|python3?|python3\.\d+)$"
).search
_METADATA = re.compile(r"/([^/]+)\.dist-info/METADATA$").search
_NEEDS_CERTIFI = re.compile(
    rb"^Requires-Dist: *certifi(?![\w.-])(?![^\n]*extra *==)", re.MULTILINE
).search


class Survey(NamedTuple):
    """What was found.

    Attributes:
        root: The image's root, as asked for.
        stores: By path.
        programs: Paths of programs that use them.
        certifi_users: Installed Python distributions that require certifi.
        problems: Why not everything was looked at; empty when it was.
    """

    root: str
    stores: tuple[Store, ...]
    programs: tuple[str, ...]
    certifi_users: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """All of it was looked at, and nothing unexpected is believed by default."""
        return not self.problems and all(store.is_clean for store in self.stores)


def survey(
    root: str | os.PathLike[str],
    *,
    expected: AbstractSet[str] = frozenset(),
    max_entries: int = MAX_ENTRIES,
) -> Survey:
    """Look through the root file system of an image, or a virtual environment.

    Args:
        root: Its directory.
        expected: SHA-256 of the certificates that may be there, such as the internal authorities.
        max_entries: Look at no more files.

    Raises:
        OSError: `root` is no directory, or cannot be opened.
    """
    with RootDirectory(root) as directory:
        return _Walk(directory, expected).run(os.fspath(root), max_entries)


@dataclass(slots=True)
class _Found:
    kind: Kind
    links: list[str]
    roots: set[str]
    count: int = 0  # of roots that have no fingerprint
    problem: str | None = None


class _Walk:
    def __init__(self, root: RootDirectory, expected: AbstractSet[str]) -> None:
        self._root = root
        self._expected = expected
        self._stores: dict[str, _Found] = {}
        self._paths: dict[tuple[int, int], str] = {}
        self._programs: list[str] = []
        self._users: list[str] = []
        self._problems: list[str] = []
        self._bytes_left = MAX_READ_BYTES

    def run(self, name: str, max_entries: int) -> Survey:
        """Look at everything, within the bounds."""
        entries = self._root.walk()
        for entry in islice(entries, max_entries):
            if entry.is_unreadable:
                self._problems.append(f"{entry.path}: cannot be listed")
            elif not entry.is_directory:
                self._look(entry.path)
            if self._bytes_left <= 0 or len(self._stores) + len(self._problems) > _MAX_STORES:
                self._problems.append("too much to look at: the rest was left out")
                break
        else:
            if next(entries, None) is not None:
                self._problems.append(f"more than {max_entries} files: the rest was left out")
        return Survey(
            root=name,
            stores=tuple(self._store(path) for path in sorted(self._stores)),
            programs=tuple(sorted(self._programs)),
            certifi_users=tuple(sorted(set(self._users))),
            problems=tuple(self._problems),
        )

    def _look(self, path: str) -> None:
        if _PROGRAM(path):
            self._programs.append(path)
        if metadata := _METADATA(path):
            self._look_at_package(path, metadata[1])
            return
        kind = kind_of(path)
        within = directory_of(path)
        if kind is not None:
            self._take_file(path, kind)
        elif within is not None:
            self._take_part(path, *within)
        elif _MAYBE(path):
            self._take_file(path, OTHER)

    def _look_at_package(self, path: str, name: str) -> None:
        try:
            with self._root.open(path) as file:
                text = self._read(file, _MAX_METADATA_BYTES)
        except OSError:
            return
        if _NEEDS_CERTIFI(text):
            self._users.append(name.replace("-", " ", 1))

    def _take_file(self, path: str, kind: Kind) -> None:
        """Count a file of its own, once, however many links lead to it."""
        found = _Found(kind, [], set())
        try:
            with self._root.open(path) as file:
                state = os.fstat(file.fileno())
                first = self._paths.setdefault((state.st_dev, state.st_ino), path)
                if first != path:
                    self._link(first, path)
                    return
                self._count(file, found)
        except FileNotFoundError:
            return  # a link to nowhere is believed by nobody
        except (OSError, UncountableError) as err:
            found.problem = _text(err)
        if kind is not OTHER or found.problem or len(found.roots) >= _MANY:
            self._stores[path] = found

    def _link(self, first: str, path: str) -> None:
        if first in self._stores:
            self._stores[first].links.append(path)

    def _take_part(self, path: str, directory: str, kind: Kind) -> None:
        """Count a file of a directory of certificates together with the others."""
        found = self._stores.setdefault(directory, _Found(kind, [], set()))
        try:
            with self._root.open(path) as file:
                self._count(file, found)
        except FileNotFoundError:
            return
        except (OSError, UncountableError) as err:
            found.problem = f"{path}: {_text(err)}"

    def _count(self, file: IO[bytes], found: _Found) -> None:
        if found.kind is EMBEDDED:
            found.count = count_embedded(self._chunks(file))
            return
        content = self._read(file, MAX_STORE_BYTES + 1)
        if len(content) > MAX_STORE_BYTES:
            raise UncountableError(f"more than {MAX_STORE_BYTES} bytes")
        if found.kind is not OTHER or _BEGINS_PEM in content:
            found.roots |= fingerprints(content)

    def _chunks(self, file: IO[bytes]) -> Iterator[bytes]:
        while self._bytes_left > 0 and (chunk := file.read(_CHUNK_BYTES)):
            self._bytes_left -= len(chunk)
            yield chunk

    def _read(self, file: IO[bytes], limit: int) -> bytes:
        content = b""
        while len(content) < limit and (chunk := file.read(limit - len(content))):
            content += chunk
        self._bytes_left -= len(content)
        return content

    def _store(self, path: str) -> Store:
        found = self._stores[path]
        is_known = found.problem is None
        return Store(
            path=path,
            kind=found.kind,
            links=sorted(found.links),
            roots=len(found.roots) + found.count if is_known else None,
            unexpected=len(found.roots - self._expected) + found.count if is_known else None,
            problem=found.problem,
        )


def _text(err: Exception) -> str:
    return (err.strerror or type(err).__name__) if isinstance(err, OSError) else str(err)
