"""Plants each fault that tools/check_commands.py knows and sees it reported.

  check_commands_test.py PROGRAM      a built ospnext
"""
import collections
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))
import check_commands  # noqa: E402

PROGRAM = sys.argv.pop(1)
SCHEDULE = "ospnext stage schedule --steps 4 --output levels.safetensors"
LAWFUL = {
    "README.md": f"# A program\n\n`ospnext stage schedule --steps N`:\n\n```sh\n{SCHEDULE}\n"
                 "ospnext inspect levels.safetensors \\\n    --json  # what is in it\n```\n",
    "CONTRIBUTING.md": "`make test`, `tools/check.py`, `cmake --build --preset cpu &&\n"
                       "build/cpu/tests/io_test`\n",
    "docs/deep/a.md": "# A\n\n    ospnext inspect Wan2.1-T2V-14B\n\nThe weights are Wan-AI's.\n\n"
                      "    x = y + z\n",
    "Makefile": "test:\n\ttrue\n",
    "CMakePresets.json": '{"name": "cpu"}',
    "tests/CMakeLists.txt": "ospnext_test(io_test TORCH)\n",
    "tools/check.py": "",
}


OTHERS = {name: text for name, text in LAWFUL.items() if not name.endswith(".md")}
PLANTED = {**OTHERS, "README.md": "", "CONTRIBUTING.md": ""}


def check(files):
    """(numbers by kind, what is wrong) in a tree of these files."""
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            file = pathlib.Path(root, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        verdicts = check_commands.check_tree(root, PROGRAM)
    wrong = [verdict for verdict in verdicts if verdict.kind == check_commands.WRONG]
    return collections.Counter(verdict.kind for verdict in verdicts), wrong


class CheckCommands(unittest.TestCase):
    def assert_reported(self, text, words):
        _, wrong = check({**PLANTED, "docs/planted.md": text})
        self.assertEqual(len(wrong), 1, wrong)
        self.assertTrue(wrong[0].place.startswith("docs/planted.md:"), wrong)
        self.assertIn(words, wrong[0].text)

    def assert_block_reported(self, command, words):
        self.assert_reported(f"Text.\n\n```sh\n{command}\n```\n", words)

    def test_lawful_documents_pass_and_are_counted(self):
        counts, wrong = check(LAWFUL)
        self.assertEqual(wrong, [])
        self.assertEqual(counts, {"run": 2, "flags": 2, "name": 4})

    def test_missing_file_is_reported(self):
        self.assert_block_reported("ospnext inspect models/gone", "models/gone")

    def test_file_that_only_another_document_makes_is_reported(self):
        files = {**PLANTED, "docs/a.md": LAWFUL["README.md"],
                 "docs/b.md": "    ospnext inspect levels.safetensors"}
        counts, wrong = check(files)
        self.assertEqual([verdict.place for verdict in wrong], ["docs/b.md:1"], wrong)
        self.assertEqual(counts["run"], 2)

    def test_unknown_flag_is_reported(self):
        self.assert_block_reported(SCHEDULE + " --stepz 3", "--stepz")

    def test_unknown_flag_beside_a_file_of_the_reader_is_reported(self):
        self.assert_block_reported("ospnext inspect Wan2.1-T2V-14B --jsn  # Wan-AI's", "--jsn")

    def test_unknown_flag_of_a_command_for_a_gpu_is_reported(self):
        self.assert_block_reported("ospnext train --device cuda --stepz 3  # on a GPU", "--stepz")

    def test_wrong_value_of_a_command_for_a_gpu_is_reported(self):
        self.assert_block_reported("ospnext train --device cuda --steps all  # on a GPU", "--steps")

    def test_missing_file_of_a_command_for_a_gpu_is_reported(self):
        self.assert_block_reported("ospnext train --device cuda --vae models/gone  # on a GPU",
                                   "models/gone")

    def test_wrong_subcommand_is_reported(self):
        self.assert_block_reported("ospnext inspct levels.safetensors", "inspct")

    def test_command_in_an_indented_block_is_reported(self):
        self.assert_reported("Text:\n\n    ospnext stage schedule --stepz 3\n", "--stepz")

    def test_unknown_program_in_an_indented_block_is_reported(self):
        self.assert_reported("Text:\n\n    opsnext inspect --json\n", "opsnext")

    def test_wrong_flag_in_a_sentence_is_reported(self):
        self.assert_reported("So `ospnext stage schedule\n--stepz N` says.\n", "--stepz")

    def test_wrong_flag_behind_a_launcher_is_reported(self):
        self.assert_reported("Or `torchrun --no-python ospnext generate --stepz N`.\n", "--stepz")

    def test_file_of_unsaid_owner_is_reported(self):
        self.assert_block_reported("ospnext generate --config osp_14b.yaml", "say so")

    def test_file_of_others_under_a_folder_of_ours_is_reported(self):
        self.assert_block_reported("ospnext generate --config configs/osp_14b.yaml  # OSP-Next's file",
                                   "not in the repository")

    def test_gpu_that_nobody_mentions_is_reported(self):
        self.assert_block_reported("ospnext train --device cuda", "say so")

    def test_words_of_another_section_do_not_count(self):
        self.assert_reported("Wan-AI's.\n\n# B\n\n    ospnext inspect Wan2.1-T2V-14B\n", "say so")

    def test_missing_script_target_preset_and_test_are_reported(self):
        for command in ("tools/gone.sh", "python3 tools/gone.py", "make gone",
                        "cmake --preset gone", "build/cpu/tests/gone_test"):
            self.assert_block_reported(command, "gone")

    def test_unknown_kind_is_reported(self):
        self.assert_block_reported("frobnicate README.md", "no kind")

    def test_pipe_is_reported(self):
        self.assert_block_reported("ospnext inspect README.md | head", "found |")

    def test_open_quotation_is_reported(self):
        self.assert_block_reported('ospnext generate --prompt "a', "quotation")

    def test_fence_without_language_is_reported(self):
        self.assert_reported(f"```\n{SCHEDULE}\n```\n", "names no language")


if __name__ == "__main__":
    unittest.main()
