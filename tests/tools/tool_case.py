"""A test case that calls main() of a tool in tools/, with a folder of its own."""
import contextlib
import io
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))


class ToolCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def call(self, tool, *arguments):
        """Exit status, what is printed, and what is printed as an error."""
        words = [tool.__name__, *map(str, arguments)]
        with (mock.patch.object(sys, "argv", words), contextlib.redirect_stdout(io.StringIO()) as out,
              contextlib.redirect_stderr(io.StringIO()) as errors):
            return tool.main(), out.getvalue(), errors.getvalue()
