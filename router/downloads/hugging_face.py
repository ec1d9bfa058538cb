"""Hugging Face, by its own library, but for one thing: a file's content is fetched here, into the library's cache and
under its lock. The library throws away the part of a file that it has when it is stopped, and begins anew the next time
(huggingface_hub pull request 4228); a part may be of 50 GB."""

import errno
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from filelock import FileLock
from huggingface_hub import HfApi, constants, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, but not in `__all__`

from router.downloads.asked import Asked
from router.downloads.held import cache_of
from router.downloads.hub import File, Listing, PullFailed, Report

_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_AT_ONCE = 8
"""Files that come at the same time; the library's own number."""


class HuggingFace:
    name = "Hugging Face"

    def __init__(self, wish: Asked) -> None:
        logging.getLogger("huggingface_hub").setLevel(
            logging.CRITICAL
        )  # its warnings would run through the progress bar
        self.cache = cache_of(wish)
        self._wish = wish
        self._folder = self.cache / f"models--{wish.id.replace('/', '--')}"
        self._endpoint = wish.env.get("HF_ENDPOINT") or constants.ENDPOINT
        self._token = wish.env.get("HF_TOKEN") or None

    def look(self) -> Listing:
        with self._faults():
            api = HfApi(endpoint=self._endpoint, token=self._token)
            info = api.model_info(self._wish.id, revision=self._wish.revision, files_metadata=True)
        commit = info.sha or ""
        return Listing(commit, tuple(self._file(commit, each) for each in info.siblings or ()))

    def fetch(self, commit: str, files: Sequence[File], report: Report) -> Path:
        with self._faults(), ThreadPoolExecutor(_AT_ONCE) as pool:
            # The small ones first: with an index of the weights there, one sees what is still missing.
            ordered = sorted(files, key=lambda file: file.size)
            running = [pool.submit(self._fetch, commit, file, report) for file in ordered]
            done, waiting = wait(running, return_when=FIRST_EXCEPTION)
            for future in waiting:
                future.cancel()
            for future in done:
                future.result()
            self._name(commit)
        return self._folder / "snapshots" / commit

    def _file(self, commit: str, sibling: Any) -> File:
        said = (sibling.lfs.sha256 if sibling.lfs else sibling.blob_id) or ""
        digest = said if _DIGEST.fullmatch(said) else ""
        path, size = sibling.rfilename, sibling.size or 0
        if self._pointer(commit, path).exists() or (digest and self._blob(digest).exists()):
            return File(path, size, size, digest)
        part = self._part(digest)
        return File(path, size, min(part.stat().st_size, size) if digest and part.exists() else 0, digest)

    def _pointer(self, commit: str, path: str) -> Path:
        return self._folder / "snapshots" / commit / path

    def _blob(self, digest: str) -> Path:
        return self._folder / "blobs" / digest

    def _part(self, digest: str) -> Path:
        """Named as the library's older versions do (0.36), which go on from it as well."""
        return self._folder / "blobs" / f"{digest}.incomplete"

    def _fetch(self, commit: str, file: File, report: Report) -> None:
        if self._pointer(commit, file.path).exists():
            return
        # What is larger is served by Xet alone, which the library speaks. A mirror may not know digests.
        if file.digest and file.size <= constants.MAX_HTTP_DOWNLOAD_SIZE:
            self._fetch_blob(commit, file, report)
        hf_hub_download(
            self._wish.id,
            file.path,
            revision=commit,
            cache_dir=self.cache,
            endpoint=self._endpoint,
            token=self._token,
            tqdm_class=_bar(report),
        )

    def _fetch_blob(self, commit: str, file: File, report: Report) -> None:
        """The content alone: the library finds it, and makes of it what belongs into the cache."""
        blob, part = self._blob(file.digest), self._part(file.digest)
        lock = self.cache / ".locks" / self._folder.name / f"{file.digest}.lock"
        for folder in (blob.parent, lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, mode=0o664):  # as the library makes it
            if blob.exists():
                return
            with part.open("ab") as output:
                before = output.tell()
                http_get(
                    hf_hub_url(self._wish.id, file.path, revision=commit, endpoint=self._endpoint),
                    output,
                    resume_size=before,
                    headers=build_hf_headers(token=self._token),
                    expected_size=file.size,
                    tqdm_class=_bar(report),
                )
            if before:
                _verify(part, file)
            part.rename(blob)

    def _name(self, commit: str) -> None:
        """Says in the cache which commit the revision is, for those that look there without asking the hub. Done last,
        so that until then it leads to what was complete before."""
        if self._wish.revision != commit:
            ref = self._folder / "refs" / self._wish.revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            new = ref.with_name(f"{ref.name}.{os.getpid()}")
            new.write_text(commit)
            new.replace(ref)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (HfHubHTTPError, httpx2.HTTPError, OSError, ValueError) as error:
            raise PullFailed(self._says(error)) from error

    def _says(self, error: Exception) -> str:
        if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
            return self._says(error.__cause__)
        if isinstance(error, HfHubHTTPError):
            return self._says_answer(error)
        if isinstance(error, httpx2.HTTPError):
            return (
                f"cannot reach {self._endpoint}: {error}; check the network and HTTPS_PROXY, or set HF_ENDPOINT to a "
                "mirror. What has come is kept"
            )
        return self._says_system(error)

    def _says_answer(self, error: HfHubHTTPError) -> str:
        name, endpoint, status = self._wish.id, self._endpoint, error.response.status_code
        if isinstance(error, GatedRepoError):
            terms = f"accept its terms at {endpoint}/{name}"
            return f"{name} is gated: {terms}, then set HF_TOKEN to a token of that account"
        if isinstance(error, RevisionNotFoundError):
            return f"{name} has no revision {self._wish.revision}; check `revision`"
        if isinstance(error, RepositoryNotFoundError):
            return f"no model {name} at {endpoint}, or a private one; check the id, or set HF_TOKEN"
        if status in (401, 403):
            return f"{endpoint} refuses {name} ({status}); set HF_TOKEN to a token that may read it"
        return f"{endpoint} answers {name} with {status}; try again later. What has come is kept"

    def _says_system(self, error: Exception) -> str:
        if isinstance(error, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set; unset it for the download"
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return f"the disk of {self.cache} is full; make room, or set HF_HOME to a folder on a larger one"
        if isinstance(error, OSError) and error.strerror:
            return f"cannot write into {self.cache}: {error.strerror}; set HF_HOME to a folder of your own"
        return str(error).splitlines()[0]


def _verify(part: Path, file: File) -> None:
    """What was put together of several downloads has to be the file; it is removed, and PullFailed raised, if not."""
    if len(file.digest) != len(hashlib.sha256().hexdigest()):
        return  # of a small file the hub gives git's own digest
    with part.open("rb") as whole:
        digest = hashlib.file_digest(whole, "sha256").hexdigest()
    if digest != file.digest:
        part.unlink()
        raise PullFailed(f"{file.path} was damaged on disk, and has been removed; run `router pull` again")


def _bar(report: Report) -> Any:
    """A class that the library takes for tqdm."""

    class Bar:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, count: float | None = 1) -> None:
            report(int(count or 0))

        def __getattr__(self, _: str) -> Callable[..., None]:
            return lambda *_, **__: None

    return Bar
