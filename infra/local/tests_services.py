"""Tests of the data's marker; `make check` runs them."""

import contextlib
import io
import tempfile
import unittest
from pathlib import Path

import services
from settings import Settings


class Marker(unittest.TestCase):
    """A clone's `.local/`, and the data that lies at its path."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = Path(folder.name, "home")
        self.data = self.home / "data"
        self.data.mkdir(parents=True)
        (self.data / "PG_VERSION").write_text("17\n")
        self.clones = Path(folder.name)

    def clone(self, name: str) -> Settings:
        state = self.clones / name
        state.mkdir(exist_ok=True)
        return Settings("dev", state, {})

    def start(self, settings: Settings) -> str:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            services.forget_data_of_others(settings, self.home, self.data)
        if not self.data.exists():
            self.data.mkdir()
            (self.data / "PG_VERSION").write_text("17\n")
        services.mark_data(settings, self.home)
        return said.getvalue()

    def test_data_of_an_earlier_clone_at_this_path_is_forgotten_with_one_line(self):
        self.start(self.clone("earlier"))
        (self.data / "rows").touch()
        said = self.start(self.clone("fresh"))
        self.assertFalse((self.data / "rows").exists())
        self.assertEqual(said.count("\n"), 1)
        self.assertIn("begins anew", said)

    def test_a_clone_keeps_its_own_data(self):
        self.start(self.clone("one"))
        (self.data / "rows").touch()
        self.assertEqual(self.start(self.clone("one")), "")
        self.assertTrue((self.data / "rows").exists())

    def test_data_without_a_marker_stays_only_with_the_clone_that_points_to_it(self):
        (self.data / "rows").touch()
        older = self.clone("older")
        (older.state / "postgres-home").write_text(f"{self.home}\n")
        self.assertEqual(self.start(older), "")
        self.assertTrue((self.data / "rows").exists())
        self.assertEqual(self.start(older), "")
        (self.home / "marker").unlink()
        self.start(self.clone("fresh"))
        self.assertFalse((self.data / "rows").exists())


if __name__ == "__main__":
    unittest.main()
