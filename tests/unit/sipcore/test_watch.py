"""Which changes of a file are seen."""

from __future__ import annotations

import os
from pathlib import Path

from sipcore.watch import Signature, Watch, signature


def seen(path: Path) -> Signature | None:
    return signature(os.stat(path)) if path.exists() else None


def test_a_file_that_stays_is_no_news_and_one_that_is_replaced_is_news_once(tmp_path: Path) -> None:
    file, new = tmp_path / "c", tmp_path / "new"
    file.write_text("one")
    watch = Watch(seen(file))
    assert not watch.changed(seen(file))
    new.write_text("two")
    new.replace(file)
    assert watch.changed(seen(file))
    assert not watch.changed(seen(file))


def test_the_swapped_link_of_a_configmap_volume_is_seen(tmp_path: Path) -> None:
    for version in ("..1", "..2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "config.json").write_text("same length")
        os.utime(tmp_path / version / "config.json", (1, 1))
    (tmp_path / "..data").symlink_to("..1")
    file = tmp_path / "config.json"
    file.symlink_to("..data/config.json")
    watch = Watch(seen(file))
    (tmp_path / "..tmp").symlink_to("..2")
    (tmp_path / "..tmp").replace(tmp_path / "..data")
    assert watch.changed(seen(file))


def test_a_file_that_is_missing_for_a_moment_is_the_same_when_it_is_back(tmp_path: Path) -> None:
    file, aside = tmp_path / "c", tmp_path / "aside"
    file.write_text("one")
    watch = Watch(seen(file))
    file.rename(aside)
    assert not watch.changed(seen(file))
    aside.rename(file)
    assert not watch.changed(seen(file))
