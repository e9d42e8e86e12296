"""Checks that the files of packaging/ speak of the settings, metrics and packages that there are.

  packaging_test.py PROGRAM        a built ospnext
"""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging"
sys.path.insert(0, str(ROOT / "tools"))
from check_flags import flags_in_help  # noqa: E402

PROGRAM = pathlib.Path(sys.argv.pop(1)).resolve()
OWN_VALUES = {"model", "data", "drain_seconds"}  # where serve.yaml says that it is not the default
ON_EVERY_DEBIAN = {"libc6", "libgcc-s1"}


def text_of(name):
    return (PACKAGING / name).read_text(encoding="utf-8")


def run(*command):
    return subprocess.run([str(word) for word in command], check=False, capture_output=True,
                          text=True)


def plain(value):
    """A list of one value and the value alike, and 100.0 as 100."""
    return re.sub(r"\.0$", "", value.strip('[]"'))


def is_debian_12():
    release = pathlib.Path("/etc/os-release")
    return release.exists() and 'VERSION_ID="12"' in release.read_text(encoding="utf-8")


class Configuration(unittest.TestCase):
    def settings(self):
        """{key: value} of serve.yaml, which is flat."""
        return dict(re.findall(r"^(\w+): ?(.*)$", text_of("serve.yaml"), re.M))

    def test_it_has_every_setting_with_its_default(self):
        flags = flags_in_help(run(PROGRAM, "serve", "--help").stdout)
        defaults = {name.replace("-", "_"): value for name, value in flags.items()
                    if name != "new-key"}  # which prints and ends
        settings = self.settings()
        self.assertEqual(sorted(settings), sorted(defaults))
        for name in settings.keys() - OWN_VALUES:
            self.assertEqual(plain(settings[name]), plain(defaults[name]), name)

    def test_the_program_reads_it(self):
        with tempfile.TemporaryDirectory() as folder:
            done = run(PROGRAM, "serve", "--config", PACKAGING / "serve.yaml",
                       "--model", f"{folder}/nowhere", "--data", f"{folder}/data")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertRegex(done.stderr, "nowhere: no such directory or file")

    def test_the_unit_leaves_time_to_drain(self):
        minutes = int(re.search(r"TimeoutStopSec=(\d+)min", text_of("ospnext.service"))[1])
        self.assertLess(int(self.settings()["drain_seconds"]), 60 * minutes)


class Unit(unittest.TestCase):
    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd here")
    def test_systemd_understands_it(self):
        with tempfile.TemporaryDirectory() as folder:
            unit = pathlib.Path(folder) / "ospnext.service"
            unit.write_text(text_of(unit.name).replace("/usr/local/bin/ospnext", "/bin/true"))
            done = run("systemd-analyze", "verify", "--man=no", unit)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


class Monitoring(unittest.TestCase):
    def setUp(self):
        sources = [file.read_text(encoding="utf-8")
                   for file in sorted((ROOT / "src/server").rglob("*.cpp"))]
        metrics = (ROOT / "src/server/metrics.cpp").read_text(encoding="utf-8")
        self.metrics = set(re.findall(r'{"(ospnext_\w+)", {"(?:counter|gauge)"', metrics))
        self.labels = {"instance", "job"}.union(
            *(re.findall(r'(\w+)=\\"', source) for source in sources))

    def check(self, expressions):
        self.assertGreater(len(self.metrics), 5)
        for expression in expressions:
            for name in re.findall(r"\bospnext_\w+", expression):
                self.assertIn(name, self.metrics, expression)
            grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
            chosen = re.findall(r"(\w+)=~?\"", expression)
            for label in chosen + re.findall(r"\w+", " ".join(grouped)):
                self.assertIn(label, self.labels, expression)

    def test_rules_speak_of_metrics_that_there_are(self):
        text = text_of("prometheus_rules.yaml")
        expressions = re.findall(r"expr: (?:>-\n((?: {10}.*\n)+)|(.+))", text)
        self.assertEqual(len(expressions), text.count("expr:"))
        self.check(" ".join(pair) for pair in expressions)

    def test_rules_are_yaml(self):
        try:
            import yaml
        except ImportError:
            self.skipTest("no PyYAML here")
        groups = yaml.safe_load(text_of("prometheus_rules.yaml"))["groups"]
        for rule in groups[0]["rules"]:
            self.assertIn("expr", rule)
            self.assertTrue("record" in rule or rule["annotations"]["summary"], rule)

    def test_the_dashboard_speaks_of_metrics_that_there_are(self):
        dashboard = json.loads(text_of("grafana_dashboard.json"))
        panels = dashboard["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        for panel in panels:
            self.assertTrue(panel["targets"], panel["title"])
            self.check(target["expr"] for target in panel["targets"])

    def test_every_metric_is_on_the_dashboard(self):
        for name in self.metrics:
            self.assertIn(name, text_of("grafana_dashboard.json"))


class Container(unittest.TestCase):
    def setUp(self):
        self.recipe = text_of("Containerfile")
        listed = re.search(r"apt-get install [^&]*", self.recipe)[0]
        self.packages = set(re.findall(r"^ {6}(.*?)(?: \\| && \\)?$", listed, re.M)) - {""}
        self.packages = {name for line in self.packages for name in line.split()}

    def test_what_it_copies_is_in_the_repository(self):
        copied = re.findall(r"^COPY (?!--from)(.*) \S+$", self.recipe, re.M)
        self.assertGreater(len(copied), 4)
        for name in " ".join(copied).split():
            self.assertTrue((ROOT / name).exists(), name)

    @unittest.skipUnless(is_debian_12(), "its packages are those of Debian 12")
    def test_it_installs_every_library_that_the_program_needs(self):
        needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "--dynamic", PROGRAM).stdout)
        places = dict(re.findall(r"(\S+) => (/\S+)", run("ldd", PROGRAM).stdout))
        names = []  # dpkg knows some files with /usr before them, and some without
        for library in set(needed) & places.keys():
            if "/torch/" not in places[library]:
                place = places[library].removeprefix("/usr")
                names += [place, f"/usr{place}"]
        found = run("dpkg-query", "--search", *names).stdout
        owners = {library: package
                  for package, library in re.findall(r"^([^:]+):.*/(\S+)$", found, re.M)}
        self.assertGreater(len(owners), 5)
        self.assertLessEqual(set(owners.values()), self.packages | ON_EVERY_DEBIAN, owners)

    @unittest.skipUnless(is_debian_12() and shutil.which("apt-cache"), "not Debian 12")
    def test_debian_has_its_packages(self):
        known = set(run("apt-cache", "pkgnames", "lib").stdout.split())
        if len(known) < 1000:
            self.skipTest("no list of packages here; apt-get update brings it")
        self.assertLessEqual(self.packages - {"ca-certificates", "zlib1g"}, known)


if __name__ == "__main__":
    unittest.main()
