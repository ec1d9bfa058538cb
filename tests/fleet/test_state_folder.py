"""A state folder that others can write to: they could lay links where the router writes."""

from pathlib import Path

from running import Up, fake


def test_one_that_everybody_may_write_in_is_refused(up: Up, tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "folder"
    victim.write_text("precious")
    folder.mkdir(mode=0o755)
    up.state_dir.mkdir()
    (up.state_dir / "router.lock").symlink_to(victim)
    (up.state_dir / "logs").symlink_to(folder)
    up.state_dir.chmod(0o777)
    ended = up.write({"m": fake()}).cli("up")
    problem = f"cannot keep its state in {up.state_dir}: everybody may write in it; set another `state_dir`"
    assert (ended.returncode, ended.stderr) == (1, f"router: {problem}\n")
    assert victim.read_text() == "precious"
    assert folder.stat().st_mode & 0o777 == 0o755
    assert not list(folder.iterdir())
