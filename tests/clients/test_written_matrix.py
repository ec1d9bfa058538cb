"""The last file of this folder by its name: what all others have seen."""

from matrix import FAILS, FILE, Matrix


def test_the_page_of_what_works_is_the_committed_one(matrix: Matrix, whole: bool) -> None:
    """A run of all tests in which none has failed writes it anew; look at what `git diff` shows, and commit it. Any
    other run asks only that what was seen to work stands in it."""
    if whole:
        FILE.write_text(matrix.page())
        assert matrix.page() == matrix.committed, (
            "docs/compatibility.md was written anew: see `git diff`, and commit it"
        )
    else:
        cells = {cell for line in matrix.committed.splitlines() for cell in _cells(line)}
        assert {cell for row in matrix.rows() for cell in _cells(row)} <= cells


def _cells(row: str) -> set[tuple[str, str, int, str]]:
    """(client, path, column, what) of a row of the table; nothing of other lines."""
    if not row.startswith("| ") or row.startswith("| client"):
        return set()
    client, path, *cells = (cell.strip() for cell in row.strip("|").split("|"))
    return {
        (client, path, at, what)
        for at, cell in enumerate(cells)
        for what in cell.split(", ")
        if what and not what.endswith(FAILS)
    }
