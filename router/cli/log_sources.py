"""Which logs are read, and which of their lines."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from router.cli.log_names import declared
from router.cli.log_reader import Line
from router.fleet.files import Files


class Requests:
    """The requests' log; with a `name`, what was asked by it, or of the model that it is."""

    label = ""

    def __init__(self, files: Files, option: str | None, name: str | None) -> None:
        self._file = files.state_dir / "requests.log"
        self.missing = f"no requests in {self._file}; does the file say `log: {{access: false}}`?"
        self.expected = True
        self.chooses = name is not None
        known = declared(option) if name else {}
        self.remark = f"the file declares no model called '{name}'" if name and known and name not in known else ""
        own = name in known and known[name].own == name
        self._names = frozenset(known[name].names if name and own else (name,))
        self._held = b""

    def find(self) -> dict[int, Path]:
        return {0: self._file} if self._file.exists() else {}

    def choose(self, lines: Iterable[Line]) -> Iterator[Line]:
        """Whole ones, where it chooses: what has come of the last one waits for its rest."""
        for line in lines:
            if not self.chooses:
                yield line
                continue
            self._held += line.text
            if line.text.endswith(b"\n"):
                whole, self._held = self._held, b""
                if self._names & _names_in(whole):
                    yield line._replace(text=whole, begins=True)


class Replicas:
    """The logs of a model's replicas. `name` may be an alias or an adapter's, where the file is at hand."""

    chooses = False
    remark = ""

    def __init__(self, files: Files, option: str | None, name: str, replica: int | None) -> None:
        found = declared(option).get(name)
        self.label = found.own if found else name
        self.expected = found is not None and found.runs == "here"
        self._replica = replica
        self._pattern = files.log(self.label, 0)
        self._logs = files.logs
        which = self.label if replica is None else f"{self.label}#{replica}"
        known = ", ".join(sorted(files.models())) or "none; start the router with `router up`"
        self.missing = f"no log of {which} in {files.logs}; models with a log: {known}"
        if found and found.runs == "group":
            self.missing = f"'{name}' is a group: name one of {', '.join(found.members)}"
        elif found and found.runs == "elsewhere":
            self.missing = f"'{name}' runs elsewhere: it has no log here"

    def find(self) -> dict[int, Path]:
        """Those there are now, by number."""
        begin = self._pattern.name.removesuffix("0.log")
        numbers = {path.name[len(begin) : -4]: path for path in self._logs.glob(f"{begin}*.log")}
        found = {int(number): path for number, path in numbers.items() if number.isdecimal()}
        return found if self._replica is None else {n: path for n, path in found.items() if n == self._replica}

    def choose(self, lines: Iterable[Line]) -> Iterable[Line]:
        return lines


class _Asked(msgspec.Struct):
    """Of a record, the names in it."""

    model: str = ""
    asked: str = ""


_decode = msgspec.json.Decoder(_Asked).decode


def _names_in(line: bytes) -> set[str]:
    try:
        record = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):  # torn by the end of an earlier router
        return set()
    return {record.model, record.asked}
