"""ModelScope, by its own library, which goes on by itself where an earlier download ended."""

import errno
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from modelscope_hub import HubApi, ProgressCallback
from modelscope_hub.errors import (
    AuthenticationError,
    FileDownloadError,
    HubError,
    NetworkError,
    NotExistError,
    PermissionDeniedError,
)

from router.downloads.asked import Asked
from router.downloads.held import cache_of, snapshot
from router.downloads.hub import File, Listing, PullFailed, Report


class ModelScope:
    name = "ModelScope"

    def __init__(self, wish: Asked) -> None:
        logging.getLogger("modelscope_hub").setLevel(logging.CRITICAL)  # it would run through the progress bar
        self.cache = cache_of(wish)
        self._wish = wish
        self._endpoint = wish.env.get("MODELSCOPE_ENDPOINT") or wish.env.get("MODELSCOPE_DOMAIN") or None
        self._token = wish.env.get("MODELSCOPE_API_TOKEN")

    def look(self) -> Listing:
        with self._faults():
            self._endpoint = self._api().resolve_endpoint_for_read(self._wish.id)
            found = self._api().list_repo_files(self._wish.id, "model", revision=self._wish.revision)
        folder = snapshot(self._wish)
        return Listing(
            self._wish.revision,
            tuple(
                File(each.path, each.size, _held(folder, each.path, each.size), each.sha256 or "")
                for each in found
                if not each.is_dir
            ),
        )

    def fetch(self, commit: str, files: Sequence[File], report: Report) -> Path:
        # The library tells of what is there of a part as if it came again.
        report(-sum(file.held for file in files if file.held < file.size))
        with self._faults():
            return Path(
                self._api().download_repo(
                    self._wish.id,
                    "model",
                    revision=commit,
                    cache_dir=self.cache,
                    file_list=[{"Path": file.path, "Size": file.size, "Sha256": file.digest} for file in files],
                    progress_callbacks=[_callback(report)],
                )
            )

    def _api(self) -> HubApi:
        return HubApi(endpoint=self._endpoint, token=self._token)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except FileDownloadError as error:
            first = next(iter(error.failed_files.values()), error)
            raise PullFailed(self._says(first)) from error
        except (HubError, OSError) as error:
            raise PullFailed(self._says(error)) from error

    def _says(self, error: BaseException) -> str:
        name, endpoint = self._wish.id, self._endpoint or "ModelScope"
        if isinstance(error, NotExistError):
            return f"no model {name} at {endpoint} in revision {self._wish.revision}, or a private one; check the id"
        if isinstance(error, AuthenticationError | PermissionDeniedError):
            return (
                f"{endpoint} refuses {name}: ask for access on its page, then set MODELSCOPE_API_TOKEN to a token of "
                "that account"
            )
        if isinstance(error, NetworkError):
            return f"cannot reach {endpoint}: {_root(error)}; check the network and HTTPS_PROXY. What has come is kept"
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return f"the disk of {self.cache} is full; make room, or set MODELSCOPE_CACHE to a folder on a larger one"
        if isinstance(error, OSError) and error.strerror:
            return f"cannot write into {self.cache}: {error.strerror}; set MODELSCOPE_CACHE to a folder of your own"
        return str(error).splitlines()[0]


def _root(error: BaseException) -> BaseException:
    """The fault below those that each layer makes of it, as their texts hold one another."""
    below = error.__cause__ or error.__context__
    return _root(below) if below else error


def _held(folder: Path | None, path: str, size: int) -> int:
    for place in (folder / path, folder / f"{path}.incomplete") if folder else ():
        if place.exists():
            return min(place.stat().st_size, size)
    return 0


def _callback(report: Report) -> type[ProgressCallback]:
    class Callback(ProgressCallback):
        def update(self, size: int) -> None:
            report(size)

    return Callback
