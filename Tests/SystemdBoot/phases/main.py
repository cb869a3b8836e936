"""Runs the phases inside the container, in the order of their files' names."""
import glob
import json
import os
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

# Around every choice of phases: they install, start, stop and take away what the others need.
ALWAYS = ("install", "start", "stop", "purge")


class TimedResult(unittest.TextTestResult):
    """Says how long each test took, where its name stands."""

    def startTest(self, test):
        self.began = time.monotonic()
        super().startTest(test)

    def getDescription(self, test):
        phase = type(test).__module__.split("_", 2)[-1]
        return f"{phase}: {test.shortDescription() or test.id()}"

    def addSuccess(self, test):
        self.stream.write(f"{time.monotonic() - self.began:.1f} s ")
        super().addSuccess(test)


def main():
    with open("/out/settings.json", encoding="utf-8") as file:
        only = json.load(file)["only"]
    names = [os.path.basename(path)[:-3] for path in sorted(glob.glob(f"{HERE}/test_*.py"))]
    chosen = [name for name in names
              if only is None or name.endswith(ALWAYS) or only in name]
    suite = unittest.defaultTestLoader.loadTestsFromNames(chosen)
    runner = unittest.TextTestRunner(
        stream=sys.stdout, verbosity=2, resultclass=TimedResult, failfast=True)
    return 0 if runner.run(suite).wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
