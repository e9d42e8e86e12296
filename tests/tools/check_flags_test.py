"""Plants each fault that tools/check_flags.py knows and sees it reported."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))
import check_flags  # noqa: E402

HELP = """Train.
Usage: ospnext train [OPTIONS]

Options:
  -h,--help                   Print this help message and exit
  --config FILE               flag names and values; flags override it
  --output TEXT               folder that --steps do not name
  --steps INT=1000            optimizer steps
  --adaptive-clip [true|false]=false
                              follow the norms
  --sizes TEXT ...=["8x8","8x16"]
                              frame sizes
"""
ROWS = ("| `--output` | | folder |\n| `--steps` | `1000` | steps of AdamW |\n"
        "| `--adaptive-clip` | `false` | follows norms |\n"
        "| `--sizes` | `[\"8x8\",\"8x16\"]` | height x width |\n")


class CheckFlags(unittest.TestCase):
    def assert_reported(self, rows, words):
        found = check_flags.problems(HELP, rows)
        self.assertEqual(len(found), 1, found)
        self.assertIn(words, found[0])

    def test_help_is_read(self):
        self.assertEqual(check_flags.flags_in_help(HELP),
                         {"output": "", "steps": "1000", "adaptive-clip": "false",
                          "sizes": '["8x8","8x16"]'})

    def test_a_row_for_each_flag_passes(self):
        self.assertEqual(check_flags.problems(HELP, "# Flags\n\n" + ROWS), [])

    def test_each_fault_is_reported(self):
        self.assert_reported(ROWS.replace("| `--output` | | folder |\n", ""),
                             "no row for --output, whose default is nothing")
        self.assert_reported(ROWS + "| `--speed` | `1` | none |\n", "--speed, which")
        self.assert_reported(ROWS + "| `--steps` | `1000` | again |\n", "--steps twice")
        self.assert_reported(ROWS.replace("`1000`", "`100`"), "the default 100, expected 1000")
        self.assert_reported(ROWS.replace("| | folder", "| `run` | folder"), "expected nothing")
        self.assert_reported(ROWS.replace("steps of AdamW", ""), "--steps: found no meaning")
        self.assert_reported(ROWS + "| --steps | 1 | more |\n", "expected | `--flag`")


if __name__ == "__main__":
    unittest.main()
