"""Plants each violation that tools/measure_sources.py knows and sees it reported."""
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))
import measure_sources  # noqa: E402

LAWFUL = {
    "README.md": "# A title\n\n| a table may be as wide as it must |" + " x |" * 40 + "\n",
    "docs/a.md": "```sh\n" + "a command " * 12 + "\n```\n[a link](" + "x" * 120 + ")\n",
    "src/core/a.cpp": "// What it is.\nint one(int x) {\n  return x;\n}\n",
    "src/core/b.cpp": "at::Tensor f(at::Tensor x) {\n  return x.permute({1, 0});  // [T, B]\n}\n",
}


def violations(planted):
    with tempfile.TemporaryDirectory() as root:
        for name, text in {**LAWFUL, **planted}.items():
            file = pathlib.Path(root, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return measure_sources.violations(pathlib.Path(root))


class MeasureSources(unittest.TestCase):
    def assert_reported(self, name, text, words):
        found = violations({name: text})
        self.assertEqual(len(found), 1, found)
        self.assertTrue(found[0].startswith(name + ":"), found)
        self.assertIn(words, found[0])

    def test_lawful_tree_passes(self):
        self.assertEqual(violations({}), [])

    def test_long_comment_is_reported(self):
        self.assert_reported("src/core/c.h", "// " + "word " * 20 + "\n", "100 columns")

    def test_long_trailing_comment_is_reported(self):
        self.assert_reported("tests/c.cpp", "int x;  // " + "word " * 20 + "\n", "100 columns")

    def test_long_line_of_markdown_is_reported(self):
        self.assert_reported("docs/b.md", "word " * 21 + "\n", "100 columns")

    def test_long_function_is_reported(self):
        body = "void f() {\n" + "  g();\n" * 60 + "}\n"
        self.assert_reported("src/core/c.cpp", body, "f has 62 lines")

    def test_long_function_of_a_class_is_reported(self):
        body = "struct A {\n  void f() {\n" + "    g();\n" * 60 + "  }\n};\n"
        self.assert_reported("src/core/c.cpp", body, "f has 62 lines")

    def test_moved_axes_without_shape_are_reported(self):
        self.assert_reported("src/core/c.cpp", "auto y = x.transpose(1, 2);\n", "moves axes")

    def test_shape_at_the_end_of_a_statement_counts(self):
        text = "auto y = x.view({a, b})\n             .transpose(1, 2);  // [b, a]\n"
        self.assertEqual(violations({"src/core/c.cpp": text}), [])


if __name__ == "__main__":
    unittest.main()
