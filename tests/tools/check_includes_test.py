"""Plants each violation that tools/check_includes.py knows and sees it reported."""
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))
import check_includes  # noqa: E402

LAWFUL = {
    "src/core/error.h": "#include <string>\n",
    "src/core/torch/shape.h": '#include <ATen/ATen.h>\n#include "core/error.h"\n',
    "src/io/readers/zip.cpp": '#include <zlib.h>\n#include "core/error.h"\n#include "io/readers/zip.h"\n',
    "src/io/weights.cpp": '#include <torch/torch.h>\n#include "io/readers/zip.h"\n',
    "src/kernels/norm.cu": '#include <cuda_bf16.h>\n#include "kernels/norm_launch.h"\n',
    "src/parallel/process_group.cpp": "#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>\n",
    "src/models/vae.cpp": '#include "kernels/norm.h"\n#include "models/vae.h"\n',
    "src/cli/main.cpp": '#include "engine/generate.h"\n',
}


def violations(planted):
    with tempfile.TemporaryDirectory() as root:
        for name, text in {**LAWFUL, **planted}.items():
            file = pathlib.Path(root, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return check_includes.check_tree(root)


class CheckIncludes(unittest.TestCase):
    def assert_reported(self, name, text, words):
        found = violations({name: text})
        self.assertEqual(len(found), 1, found)
        self.assertTrue(found[0].startswith(name + ":"), found)
        self.assertIn(words, found[0])

    def test_lawful_tree_passes(self):
        self.assertEqual(violations({}), [])

    def test_higher_level_is_reported(self):
        self.assert_reported("src/io/x.cpp", '#include "models/vae.h"\n', "only lower levels")

    def test_same_level_is_reported(self):
        self.assert_reported("src/data/x.cpp", '#include "models/vae.h"\n', "only lower levels")

    def test_indented_include_is_reported(self):
        self.assert_reported("src/core/torch/x.h", '\n #  include "io/weights.h"\n', "only lower levels")

    def test_c10d_outside_process_group_is_reported(self):
        self.assert_reported("src/train/x.cpp", "#include <torch/csrc/distributed/c10d/Store.hpp>\n", "c10d")

    def test_torch_in_cuda_file_is_reported(self):
        self.assert_reported("src/kernels/x.cu", "#include <ATen/ATen.h>\n", "without torch")

    def test_own_torch_header_in_cuda_file_is_reported(self):
        self.assert_reported("src/kernels/x.cu", '#include "core/torch/shape.h"\n', "without torch")

    def test_torch_in_readers_is_reported(self):
        self.assert_reported("src/io/readers/x.cpp", "#include <c10/util/Half.h>\n", "without torch")

    def test_torch_in_plain_core_is_reported(self):
        self.assert_reported("src/core/x.h", "#include <torch/torch.h>\n", "without torch")

    def test_folder_without_level_is_reported(self):
        self.assert_reported("src/utils/x.h", "#include <string>\n", "has no level")

    def test_long_file_is_reported(self):
        self.assert_reported("tests/x_test.cpp", "\n" * 501, "longer than 500")


if __name__ == "__main__":
    unittest.main()
